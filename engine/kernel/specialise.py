"""A model made ready for its kernel: constants folded, dead code removed, linear systems recognised."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import NoReturn

from ..failure import ModelFailure
from ..ir.compartment import OdeDynamics
from ..ir.expression import (
    Amount,
    Binary,
    Column,
    Compare,
    Conditional,
    Eps,
    Expression,
    Known,
    Logical,
    Negative,
    Not,
    Number,
    Time,
    Variable,
    walk,
)
from ..ir.model import Model
from ..ir.running_extremes import followed
from ..ir.span import Span
from ..ir.statement import (
    Assign,
    Draw,
    If,
    Reject,
    Statement,
    While,
    conditions,
    expressions,
    flatten,
    transform_statements,
)
from .layout import asked_variables, assigned, dynamic_expressions, restarts, start_of
from .linear.linear_ode import as_linear

ESTIMATION = 2


def specialise(
    model: Model, reason: int = ESTIMATION, wanted: Iterable[str] | None = (), recognise: bool = True
) -> Model:
    """Return ``model`` for one reason to run (Known ``icall``), in the form that its kernel is written from.

    Unless ``recognise`` is False linear differential equations become linear dynamics. Variables of the
    right-hand side that the observation model, tables or ``wanted`` read are computed in the observation
    model from the amounts at the record; ``wanted`` as in :func:`.layout.layout`.
    """

    def change(node: Expression) -> Expression:
        if isinstance(node, Known) and node.quantity == "icall":
            return Number(float(reason))
        return _decided(node)

    def specialised(statements: tuple[Statement, ...]) -> tuple[Statement, ...]:
        return simplified(transform_statements(statements, change))

    observation = replace(model.observation, statements=specialised(model.observation.statements))
    model = model.replace(individual=specialised(model.individual), observation=observation)
    if isinstance(model.dynamics, OdeDynamics):
        statements = specialised(model.dynamics.statements)
        model = model.replace(dynamics=replace(model.dynamics, statements=statements))
        model = _with_variables_of_equations(model, wanted)
        extremes = extremes_read(model, wanted)
        model = _restarting(model, extremes)
        assert isinstance(model.dynamics, OdeDynamics)
        names = (
            *(f"DADT({i + 1})" for i in range(len(model.dynamics.compartments))),
            *_equilibrium(model.dynamics),
            *extremes,
        )
        statements = needed_statements(model.dynamics.statements, names)
        ode = replace(model.dynamics, statements=statements)
        linear = as_linear(ode) if recognise and not extremes else None
        model = model.replace(dynamics=linear or ode)
    model = _with_shared_memory(model, wanted)
    if wanted is not None:
        return model
    observation = model.observation
    return model.replace(observation=replace(observation, statements=_of_likelihood(model)))


def _of_likelihood(model: Model) -> tuple[Statement, ...]:
    """Return the statements of the observation model that a likelihood needs."""
    observation = model.observation
    read = {observation.response, *((observation.flag,) if observation.flag else ()), *model.kept}
    return needed_statements(observation.statements, read)


def _equilibrium(dynamics: OdeDynamics) -> list[str]:
    return [f"E({i})" for i, c in enumerate(dynamics.compartments, start=1) if c.equilibrium]


def _decided(node: Expression) -> Expression:
    """Return ``node``, a choice whose condition is known replaced by the case taken."""
    if isinstance(node, Conditional):
        holds = truth(node.condition)
        if holds is not None:
            return node.then if holds else node.otherwise
    return node


def truth(condition: Expression) -> bool | None:
    """Return whether a condition on constants holds; None where it depends on anything else."""
    match condition:
        case Compare(operator, left, right):
            a, b = _constant(left), _constant(right)
            if a is None or b is None:
                return None
            return {"==": a == b, "!=": a != b, "<": a < b, "<=": a <= b, ">": a > b, ">=": a >= b}[operator]
        case Logical(operator, left, right):
            sides = (truth(left), truth(right))
            decisive = operator == "or"
            if decisive in sides:
                return decisive
            return None if None in sides else not decisive
        case Not(operand):
            inner = truth(operand)
            return None if inner is None else not inner
    return None


def _constant(node: Expression) -> float | None:
    match node:
        case Number(value):
            return value
        case Negative(operand):
            inner = _constant(operand)
            return None if inner is None else -inner
        case Binary("+" | "-" | "*" as operator, left, right):
            a, b = _constant(left), _constant(right)
            if a is None or b is None:
                return None
            return {"+": a + b, "-": a - b, "*": a * b}[operator]
    return None


def simplified(statements: tuple[Statement, ...]) -> tuple[Statement, ...]:
    """Return ``statements`` without what does nothing: branches and loops never taken, ``X = X``."""
    result: list[Statement] = []
    for statement in statements:
        if isinstance(statement, While):
            if truth(statement.condition) is not False:
                result.append(replace(statement, body=simplified(statement.body)))
        elif isinstance(statement, If):
            branches = []
            otherwise = statement.otherwise
            for condition, body in statement.branches:
                holds = truth(condition)
                if holds:
                    otherwise = body
                    break
                if holds is None:
                    branches.append((condition, simplified(body)))
            otherwise = simplified(otherwise)
            if branches:
                result.append(replace(statement, branches=tuple(branches), otherwise=otherwise))
            else:
                result += otherwise
        elif not (isinstance(statement, Assign) and statement.value == Variable(statement.target)):
            result.append(statement)
    return tuple(result)


def needed_statements(
    statements: tuple[Statement, ...], wanted: Iterable[str], rejections: bool = True
) -> tuple[Statement, ...]:
    """Return ``statements`` less what neither ``wanted`` nor, with ``rejections``, a rejection needs."""
    if not rejections:
        statements = _without_rejections(statements)
    needed = set(wanted)
    while True:
        found = _reads(statements, needed)
        if found <= needed:
            return _filtered(statements, needed)
        needed |= found


def _reads(statements: tuple[Statement, ...], needed: set[str]) -> set[str]:
    """Return the variables that assignments of ``needed`` ones read, and the conditions around them."""
    found: set[str] = set()
    for statement in flatten(statements):
        if isinstance(statement, Assign):
            nodes = [statement.value] if statement.target in needed else []
        else:
            nodes = list(conditions(statement)) if _matters(statement, needed) else []
        found |= {part.name for node in nodes for part in walk(node) if isinstance(part, Variable)}
    return found


def _matters(statement: Statement, needed: set[str]) -> bool:
    for part in flatten((statement,)):
        if isinstance(part, Reject) or (isinstance(part, Assign) and part.target in needed):
            return True
        if isinstance(part, Draw) and (not part.targets or needed & set(part.targets)):
            return True
    return False


def _without_rejections(statements: tuple[Statement, ...]) -> tuple[Statement, ...]:
    result: list[Statement] = []
    for statement in statements:
        if isinstance(statement, If):
            branches = tuple((c, _without_rejections(body)) for c, body in statement.branches)
            otherwise = _without_rejections(statement.otherwise)
            result.append(replace(statement, branches=branches, otherwise=otherwise))
        elif isinstance(statement, While):
            result.append(replace(statement, body=_without_rejections(statement.body)))
        elif not isinstance(statement, Reject):
            result.append(statement)
    return tuple(result)


def _filtered(statements: tuple[Statement, ...], needed: set[str]) -> tuple[Statement, ...]:
    result: list[Statement] = []
    for statement in statements:
        if not _matters(statement, needed):
            continue
        if isinstance(statement, If):
            branches = tuple((c, _filtered(body, needed)) for c, body in statement.branches)
            result.append(
                replace(statement, branches=branches, otherwise=_filtered(statement.otherwise, needed))
            )
        elif isinstance(statement, While):
            result.append(replace(statement, body=_filtered(statement.body, needed)))
        else:
            result.append(statement)
    return tuple(result)


def _with_variables_of_equations(model: Model, wanted: Iterable[str] | None) -> Model:
    """Return ``model`` with what the observation reads of the right-hand side computed at the record."""
    dynamics, observation = model.dynamics, model.observation
    assert isinstance(dynamics, OdeDynamics)
    elsewhere = {*assigned(model.individual), *assigned(observation.statements), observation.prediction}
    elsewhere |= followed(dynamics.statements).keys()
    own = [n for n in assigned(dynamics.statements) if n not in elsewhere]
    read = {n.name for n in expressions(observation.statements) if isinstance(n, Variable)}
    asked = asked_variables(model, wanted)
    names = [n for n in own if n in read or n.upper() in asked]
    if not names:
        return model
    time = model.inputs.with_role("time")

    def at_record(node: Expression) -> Expression:
        if isinstance(node, Time):
            if time is None:
                raise ModelFailure(
                    f"{names[0]} depends on time, and the data have no time column.",
                    dynamics.span,
                    "add a TIME column",
                )
            return Column(time.name)
        return node

    before = transform_statements(needed_statements(dynamics.statements, names), at_record)
    return model.replace(observation=replace(observation, statements=(*before, *observation.statements)))


def extremes_read(model: Model, wanted: Iterable[str] | None) -> list[str]:
    """Return the running extremes and companions that the observation model or tables read."""
    assert isinstance(model.dynamics, OdeDynamics)
    found = followed(model.dynamics.statements) if model.language == "nmtran" else {}
    if not found:
        return []
    statements = _of_likelihood(model) if wanted is None else model.observation.statements
    read = {n.name for n in expressions(statements) if isinstance(n, Variable)}
    asked = asked_variables(model, wanted)
    return [name for name in found if name in read or name.upper() in asked]


def _restarting(model: Model, names: list[str]) -> Model:
    """Return ``model`` with what the individual model assigns to ``names`` in variables of its own.

    A followed variable goes on with its value where the individual model does not assign it.
    """
    own = [name for name in names if name in assigned(model.individual)]

    def restarted(statements: tuple[Statement, ...]) -> Iterator[Statement]:
        for statement in statements:
            if isinstance(statement, Assign) and statement.target in own:
                yield replace(statement, target=start_of(statement.target))
                yield Assign(restarts(statement.target), Number(1.0))
            elif isinstance(statement, If):
                branches = tuple((c, tuple(restarted(body))) for c, body in statement.branches)
                yield replace(statement, branches=branches, otherwise=tuple(restarted(statement.otherwise)))
            elif isinstance(statement, While):
                yield replace(statement, body=tuple(restarted(statement.body)))
            else:
                yield statement

    before = [Assign(of(name), Number(0.0)) for name in own for of in (start_of, restarts)]
    return model.replace(individual=(*before, *restarted(model.individual)))


def _with_shared_memory(model: Model, wanted: Iterable[str] | None) -> Model:
    """Return ``model`` with variables kept from record to record computed where they are read.

    The individual model of all records is run before the first observation model. What it reads that the
    observation model kept is therefore computed at its own end, too, where that needs no amounts.
    """
    observation = model.observation
    later = set(assigned(observation.statements)) & set(model.kept)
    if not later or model.dynamics is None:
        return model
    dynamic = {
        part.name for e in dynamic_expressions(model) for part in walk(e) if isinstance(part, Variable)
    }
    if isinstance(model.dynamics, OdeDynamics):
        dynamic |= {n.name for n in expressions(model.dynamics.statements) if isinstance(n, Variable)}
    asked = asked_variables(model, wanted)
    read = {n.name for n in expressions(observation.statements) if isinstance(n, Variable)}
    tabled = {n for n in assigned(model.individual) if n.upper() in asked}
    live = needed_statements(model.individual, dynamic | read | tabled)
    crossing = later & {n.name for n in expressions(live) if isinstance(n, Variable)}
    individual = model.individual
    if crossing:
        individual = (*individual, *_memory(model, crossing, dynamic))
    statements = observation.statements
    if later & set(assigned(model.individual)):
        statements = (*model.individual, *statements)
    return model.replace(individual=individual, observation=replace(observation, statements=statements))


def _memory(model: Model, names: set[str], dynamic: set[str]) -> tuple[Statement, ...]:
    """Return the statements of the observation model that give ``names``; they must not need amounts."""
    memory = needed_statements(model.observation.statements, names, rejections=False)
    own = {*assigned(model.individual), *assigned(memory), *model.kept}
    for node in expressions(memory):
        later = isinstance(node, Amount | Eps) or (isinstance(node, Variable) and node.name not in own)
        if later:
            _refuse_memory(names, node.span)
    if dynamic & set(assigned(memory)):
        _refuse_memory(names, model.observation.span)
    return memory


def _refuse_memory(names: set[str], span: Span | None) -> NoReturn:
    some = ", ".join(sorted(names))
    raise ModelFailure(
        f"The individual model reads {some} as the observation model of the record before left it, and that "
        "depends on amounts.",
        span,
        f"compute {some} in the individual model",
    )
