"""The IR as text a person can read."""

from __future__ import annotations

import math
from collections.abc import Iterable

from .compartment import Dynamics, LinearDynamics
from .dataset import Inputs, RowCondition
from .expression import (
    Amount,
    Binary,
    Call,
    Column,
    Compare,
    Conditional,
    Eps,
    Eta,
    Expression,
    Known,
    Logical,
    Negative,
    Not,
    Number,
    Theta,
    Time,
    Variable,
)
from .model import Model
from .parameter import CovarianceBlock, ThetaParameter
from .statement import Assign, Draw, Reject, Statement, While

# Binding strength; the operand of a weaker operator needs parentheses.
_OR, _AND, _NOT, _COMPARE, _SUM, _NEGATIVE, _TERM, _POWER, _ATOM = range(9)
_STRENGTH = {"+": _SUM, "-": _SUM, "*": _TERM, "/": _TERM, "**": _POWER}


def show(model: Model) -> str:
    """Return a printout of the whole model, section by section."""
    sections = [
        ("model", [f"title: {model.title}", f"language: {model.language}"]),
        ("inputs", _inputs(model.inputs)),
        ("parameters", [_theta(i, t) for i, t in enumerate(model.thetas, start=1)]),
        ("random effects", [*_blocks("omega", "eta", model.omega), *_blocks("sigma", "eps", model.sigma)]),
        *([("priors", _priors(model))] if model.prior is not None else []),
        ("individual", [*_individual(model), *_statements(model.individual)]),
        ("dynamics", _dynamics(model.dynamics)),
        ("observations", _observations(model)),
        ("outputs", _outputs(model)),
        ("tasks", _tasks(model)),
    ]
    lines: list[str] = []
    for name, content in sections:
        lines.append(f"{name}:")
        lines += [f"  {line}" for line in content or ["none"]]
    return "\n".join(lines) + "\n"


def infix(node: Expression) -> str:
    """Return ``node`` in infix notation with the fewest parentheses.

    Precedence is that of Fortran: a leading minus binds looser than ``*`` and ``**`` groups from the right.
    """
    return _infix(node)[0]


def _infix(node: Expression) -> tuple[str, int]:
    match node:
        case Number(value):
            return (_number(value), _ATOM) if value >= 0 else (_number(value), _NEGATIVE)
        case Theta(index):
            return f"theta({index})", _ATOM
        case Eta(index):
            return f"eta({index})", _ATOM
        case Eps(index):
            return f"eps({index})", _ATOM
        case Column(name):
            return f"data.{name}", _ATOM
        case Variable(name):
            return name, _ATOM
        case Amount(compartment):
            return f"amount({compartment})", _ATOM
        case Time():
            return "time", _ATOM
        case Known(quantity, index):
            return (f"{quantity}({index})" if index else quantity), _ATOM
        case Conditional(condition, then, otherwise):
            return f"({infix(then)} if {infix(condition)} else {infix(otherwise)})", _ATOM
        case Negative(operand):
            return f"-{_grouped(operand, _TERM)}", _NEGATIVE
        case Binary(operator, left, right):
            return _binary(operator, left, right)
        case Call(function, arguments):
            return f"{function}({', '.join(infix(a) for a in arguments)})", _ATOM
        case Compare(operator, left, right):
            return f"{_grouped(left, _SUM)} {operator} {_grouped(right, _SUM)}", _COMPARE
        case Logical(operator, left, right):
            strength = _AND if operator == "and" else _OR
            return f"{_grouped(left, strength)} {operator} {_grouped(right, strength + 1)}", strength
        case Not(operand):
            return f"not {_grouped(operand, _NOT)}", _NOT
    raise AssertionError(f"unknown expression {node!r}")


def _binary(operator: str, left: Expression, right: Expression) -> tuple[str, int]:
    strength = _STRENGTH[operator]
    if operator == "**":  # groups from the right
        return f"{_grouped(left, _ATOM)}**{_grouped(right, _POWER)}", strength
    # a leading minus may open a sum but not stand inside one
    first = _grouped(left, _SUM if strength == _SUM else _TERM)
    space = " " if strength == _SUM else ""
    return f"{first}{space}{operator}{space}{_grouped(right, strength + 1, _TERM)}", strength


def _grouped(node: Expression, weakest: int, at_least: int = 0) -> str:
    text, strength = _infix(node)
    return text if strength >= max(weakest, at_least) else f"({text})"


def _number(value: float) -> str:
    if math.isinf(value):
        return "inf" if value > 0 else "-inf"
    short = f"{value:g}"
    return short if float(short) == value else repr(value)


def _statements(statements: tuple[Statement, ...]) -> list[str]:
    lines: list[str] = []
    for statement in statements:
        if isinstance(statement, Assign):
            lines.append(f"{statement.target} = {infix(statement.value)}")
            continue
        if isinstance(statement, While):
            lines.append(f"while {infix(statement.condition)}:")
            lines += [f"  {line}" for line in _statements(statement.body)]
            continue
        if isinstance(statement, Reject):
            lines.append(f"{'stop' if statement.fatal else 'reject'} {statement.code}")
            continue
        if isinstance(statement, Draw):
            targets = f" {', '.join(statement.targets)}" if statement.targets else ""
            lines.append(f"draw {statement.kind}{targets} from stream {statement.source}")
            continue
        word = "if"
        for condition, body in statement.branches:
            lines.append(f"{word} {infix(condition)}:")
            lines += [f"  {line}" for line in _statements(body)]
            word = "else if"
        if statement.otherwise:
            lines.append("else:")
            lines += [f"  {line}" for line in _statements(statement.otherwise)]
    return lines


def _individual(model: Model) -> list[str]:
    lines = [] if model.individual_call == "record" else [f"run once per {model.individual_call}"]
    if model.kept:
        lines.append(f"kept from record to record: {', '.join(model.kept)}")
    if model.mixture is not None:
        lines.append(f"{model.mixture.n} subpopulations:")
        lines += [f"  {line}" for line in _statements(model.mixture.statements)]
    return lines


def _inputs(inputs: Inputs) -> list[str]:
    rows = inputs.rows
    lines = [f"file: {inputs.file}", f"comment lines: {rows.comment or 'none'}"]
    lines += [f"ignore where {_condition(inputs, c)}" for c in rows.ignore]
    lines += [f"accept where {_condition(inputs, c)}" for c in rows.accept]
    if rows.limit is not None:
        lines.append(f"at most {rows.limit} records")
    if rows.until_change is not None:
        lines.append(f"records until {inputs.columns[rows.until_change].name} changes")
    if rows.null != 0:
        lines.append(f"empty fields count as {_number(rows.null)}")
    if rows.missing_code is not None:
        lines.append(f"missing where {_number(rows.missing_code)}")
    for i, column in enumerate(inputs.columns, start=1):
        aliases = f" (also {', '.join(column.aliases)})" if column.aliases else ""
        lines.append(f"column {i}: {column.name} {column.role}{aliases}")
    return lines


def _condition(inputs: Inputs, condition: RowCondition) -> str:
    value = condition.value if condition.numeric else f"'{condition.value}'"
    return f"{inputs.columns[condition.column].name} {condition.operator} {value}"


def _theta(number: int, theta: ThetaParameter) -> str:
    bounds = f" in ({_number(theta.lower)}, {_number(theta.upper)})"
    free = math.isinf(theta.lower) and math.isinf(theta.upper)
    return (
        f"theta({number}) {theta.name} = {_number(theta.initial)}"
        f"{'' if free else bounds}{' fixed' if theta.fixed else ''}{_label(theta.label)}"
    )


def _label(label: str) -> str:
    return f"  # {label}" if label else ""


def _blocks(matrix: str, effect: str, blocks: tuple[CovarianceBlock, ...]) -> list[str]:
    lines = []
    for block in blocks:
        last = block.first + block.size - 1
        members = f"{effect}({block.first})" if block.size == 1 else f"{effect}({block.first}..{last})"
        if block.same_as is not None:
            lines.append(f"{matrix} {members} same as {effect}({blocks[block.same_as].first})")
            continue
        fixed = " fixed" if block.fixed else ""
        values = f" = {_number(block.values[0])}" if block.size == 1 else ""
        labels = ", ".join(label for label in block.labels if label)
        lines.append(f"{matrix} {members}{values}{fixed}{_label(labels)}")
        if block.size > 1:
            lines += [
                "  " + " ".join(_number(block.element(i, j)) for j in range(i + 1)) for i in range(block.size)
            ]
    return lines


def _dynamics(dynamics: Dynamics | None) -> list[str]:
    if dynamics is None:
        return []
    lines = []
    for i, compartment in enumerate(dynamics.compartments, start=1):
        modifiers = [
            f"{word} {infix(value)}"
            for word, value in (
                ("scale", compartment.scale),
                ("bioavailability", compartment.bioavailability),
                ("lag", compartment.lag),
                ("rate", compartment.rate),
                ("duration", compartment.duration),
                ("initial", compartment.initial),
            )
            if value is not None
        ]
        modifiers += ["off at first"] * compartment.initially_off + ["equilibrium"] * compartment.equilibrium
        modifiers += ["doses by default"] * (i == dynamics.default_dose)
        modifiers += ["observed by default"] * (i == dynamics.default_observation)
        lines.append(f"compartment {i} {compartment.name}" + _listed(modifiers))
    if (output := dynamics.output) is not None:
        modifiers = [
            f"{word} {infix(value)}"
            for word, value in (("scale", output.scale), ("fraction", output.fraction))
            if value is not None
        ]
        lines.append(f"compartment {len(dynamics.compartments) + 1} (output){_listed(modifiers)}")
    lines += [f"model time {i}: {infix(t)}" for i, t in enumerate(dynamics.model_times, start=1)]
    if isinstance(dynamics, LinearDynamics):
        for transfer in dynamics.transfers:
            target = str(transfer.target) if transfer.target else "out"
            lines.append(f"transfer {transfer.source} -> {target}: {infix(transfer.rate)}")
        return lines
    stiff = ", stiff" if dynamics.stiff else ""
    tolerances = f"{dynamics.relative_tolerance:g}, absolute {dynamics.absolute_tolerance:g}"
    start = "" if dynamics.start is None else f", from time {infix(dynamics.start)}"
    lines.append(f"differential equations, tolerance {tolerances}{stiff}{start}:")
    return lines + [f"  {line}" for line in _statements(dynamics.statements)]


def _priors(model: Model) -> list[str]:
    prior = model.prior
    if prior is None:
        return []
    if prior.transformed:
        return [f"normal on the transformed parameters, from {prior.source or 'an earlier run'}"]
    lines: list[str] = []
    if prior.theta is not None:
        means = ", ".join(_number(m) for m in prior.theta.mean)
        lines += [f"theta normal with mean {means}", *_blocks("covariance", "theta", prior.theta.covariance)]
    for name, effect, blocks in (("omega", "eta", prior.omega), ("sigma", "eps", prior.sigma)):
        for block in blocks:
            degrees = _number(block.degrees_of_freedom)
            lines.append(f"{name} inverse Wishart with {degrees} degrees of freedom and mode")
            lines += [f"  {line}" for line in _blocks(name, effect, (block.mode,))]
    return lines


def _listed(words: Iterable[str]) -> str:
    text = ", ".join(words)
    return f": {text}" if text else ""


def _observations(model: Model) -> list[str]:
    observation = model.observation
    prediction = observation.prediction
    kind = {"normal": "", "likelihood": " (likelihood)", "minus_two_ll": " (minus two log-likelihood)"}
    lines = [f"response: {observation.response}{kind[observation.kind]}"]
    if observation.flag is not None:
        lines.append(f"kind: {observation.flag} (0 normal, 1 likelihood, 2 minus two log-likelihood)")
    if observation.level is not None:
        lines.append(f"eps shared within equal {observation.level}")
    if prediction is not None:
        lines.append(f"{prediction} = amount / scale in the observed compartment")
    return lines + _statements(observation.statements)


def _outputs(model: Model) -> list[str]:
    lines = []
    for table in model.tables:
        words = [f"header {table.headers}", f"rows {table.rows}", f"format {table.format}"]
        words += ["no title"] * (not table.title) + ["no labels"] * (not table.labels)
        words += ["appended"] * table.appended + ["printed"] * table.print_in_report
        lines.append(f"table {table.file or '(report)'}: {', '.join(words)}")
        lines.append("  " + " ".join(table.items))
    return lines


def _tasks(model: Model) -> list[str]:
    lines = []
    for i, task in enumerate(model.estimations, start=1):
        only = ", evaluate only" if task.evaluate_only else ""
        lines.append(f"estimation {i}: {task.method}{only}{_options(task.options)}")
    if model.covariance is not None:
        eigenvalues = ", eigenvalues" if model.covariance.print_eigenvalues else ""
        lines.append(f"covariance{eigenvalues}{_options(model.covariance.options)}")
    if model.simulation is not None:
        lines.append(f"simulation, {model.simulation.replicates} times{_options(model.simulation.options)}")
    lines += [f"{task.name}{_options(task.options)}" for task in model.other_tasks]
    lines += [f"note: {notice.message}" for notice in model.notices]
    return lines


def _options(options: tuple[tuple[str, str], ...]) -> str:
    return _listed(f"{name}={value}" if value else name for name, value in options)
