"""The structural model: from equations and macros to individual statements, dynamics and predictions."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from ...engine.ir.compartment import Compartment, Dynamics, LinearDynamics, OdeDynamics, Transfer
from ...engine.ir.expression import (
    Amount,
    Binary,
    Column,
    Compare,
    Conditional,
    Expression,
    Negative,
    Number,
    Time,
    Variable,
    walk,
)
from ...engine.ir.span import Span
from ...engine.ir.statement import Assign, Statement, transform_statements
from .context import Context, suggest
from .covariates import lower_line
from .longitudinal import Longitudinal
from .lower_expression import PREDEFINED, ExpressionLowering, simple_sum
from .lower_inputs import DataFile
from .macros import MACROS, Input, Macro, MacroLowering, System, read_macro
from .ordering import in_order, is_moving, moving, names_of, needed, targets
from .reading import Route
from .syntax import Apply, Assignment, Line, assigned, word
from .syntax import Conditional as If

# Monolix's own (1e-3 and 1e-6, for stiff systems 1e-6 and 1e-9) leave errors of up to some percent in what
# it prints; ours stay below its six digits.
RELATIVE_TOLERANCE = 1e-8
ABSOLUTE_TOLERANCE = 1e-10


@dataclass
class Structure:
    """``individual`` statements, ``dynamics``, routes of doses, and the equations of predictions in order.

    ``known`` are the variables that observations may refer to.
    """

    individual: list[Statement] = field(default_factory=list)
    dynamics: Dynamics | None = None
    routes: tuple[Route, ...] = ()
    equations: list[Statement] = field(default_factory=list)
    known: set[str] = field(default_factory=set)
    amounts: dict[str, Expression] = field(default_factory=dict)

    def predictions(self, wanted: set[str], time: str) -> tuple[Statement, ...]:
        """Return the statements that compute ``wanted`` at a record; ``time`` is its column."""
        return at_records(tuple(needed(self.equations, wanted)), time)


def at_records(statements: tuple[Statement, ...], time: str) -> tuple[Statement, ...]:
    """Return ``statements`` with the running time replaced by that of the record."""
    return transform_statements(
        statements, lambda node: Column(time, span=node.span) if isinstance(node, Time) else node
    )


@dataclass
class _Draft:
    """The lines of a model, sorted by what they are."""

    plain: list[Line] = field(default_factory=list)
    slopes: dict[str, Assignment] = field(default_factory=dict)
    macros: list[Macro] = field(default_factory=list)
    results: list[str] = field(default_factory=list)  # of pkmodel, well formed or not
    start: Assignment | None = None
    stiff: bool = False


def lower_structure(context: Context, model: Longitudinal, data: DataFile) -> Structure:
    """Return the structural model in ``model``."""
    draft = _sort_lines(context, model.lines)
    kinetics = MacroLowering(context, draft.macros, list(draft.slopes))
    names = {**PREDEFINED, **model.names, **kinetics.declare()}
    named = {target.text for target in assigned(draft.plain)} | {*draft.results, *kinetics.results}
    for target in assigned(draft.plain):
        if target.text in model.names or target.text in kinetics.system.amounts:
            context.error(f"{target.text} is an input or a state and cannot be assigned", target.span)
        elif target.text in PREDEFINED:
            context.error(f"{target.text} is predefined and cannot be assigned", target.span)
    names |= {name: Variable(name) for name in named}
    lowering = ExpressionLowering(context, names, model.missing)
    system = kinetics.lower(lowering)
    statements: list[Statement] = [*system.definitions]
    statements += [s for line in draft.plain if (s := lower_line(lowering, line)) is not None]
    ordered = in_order(context, statements)
    found = Structure(known={*named, *model.names}, amounts=kinetics_amounts(system))
    changing = moving(ordered)
    found.individual = [s for s in ordered if not targets(s) & changing]
    found.equations = [s for s in ordered if targets(s) & changing]
    if system.names:
        _check_still(context, system, changing)
        found.dynamics = _dynamics(context, draft, system, lowering, ordered, found, changing)
        _modify(context, found, system, data)
    elif draft.start is not None:
        context.notice("the start of integration has no effect without equations", draft.start.span)
    return found


def kinetics_amounts(system: System) -> dict[str, Expression]:
    """Return the amounts and states by name."""
    return {name: Amount(number) for name, number in system.amounts.items()}


def _sort_lines(context: Context, lines: list[Line]) -> _Draft:
    draft = _Draft()
    for line in lines:
        if isinstance(line, Apply):
            if line.name not in MACROS or line.name == "pkmodel":
                context.error(f"there is no macro {line.name}", line.span, suggest(line.name, MACROS))
            elif (macro := read_macro(context, line)) is not None:
                draft.macros.append(macro)
        elif isinstance(line, If):
            for target in assigned((line,)):
                if target.text.startswith("ddt_"):
                    context.error(
                        f"{target.text} inside a condition is not possible",
                        target.span,
                        "use a variable for it",
                    )
            draft.plain.append(line)
        elif isinstance(line.value, Apply) and line.value.name == "pkmodel":
            draft.results += [target.text for target in line.targets]
            macro = read_macro(context, line.value, line.targets)
            if any(m.name == "pkmodel" for m in draft.macros):
                context.error("a second pkmodel", line.span, "a model has one; use the macros of PK:")
            elif macro is not None:
                draft.macros.append(macro)
        else:
            _sort_assignment(context, draft, line)
    return draft


def _sort_assignment(context: Context, draft: _Draft, line: Assignment) -> None:
    name = line.targets[0].text
    if name.startswith("ddt_"):
        if name[4:] in draft.slopes:
            context.error(f"a second equation for {name[4:]}", line.span)
        draft.slopes[name[4:]] = line
    elif name in ("t0", "t_0"):
        draft.start = line
    elif name == "odeType":
        kind = (word(line.value) or "").lower()
        if kind not in ("stiff", "nonstiff"):
            context.error(f"unknown odeType '{kind}'", line.value.span, "stiff or nonStiff")
        draft.stiff = kind == "stiff"
    else:
        draft.plain.append(line)


def _check_still(context: Context, system: System, changing: set[str]) -> None:
    """Report rates and modifiers that change with time or state: the IR's are individual parameters."""
    for entry in system.inputs:
        for value in (entry.bioavailability, entry.lag, entry.duration):
            if value is not None and is_moving(walk(value), changing):
                context.error("this depends on time or on the state of the system", value.span or entry.span)


def _dynamics(
    context: Context,
    draft: _Draft,
    system: System,
    lowering: ExpressionLowering,
    ordered: list[Statement],
    found: Structure,
    changing: set[str],
) -> Dynamics:
    initial = {number: f"{name}_0" for name, number in system.amounts.items() if f"{name}_0" in found.known}
    for name in initial.values():
        if name in changing:
            place = next(s.span for s in ordered if name in targets(s))
            context.error(f"{name} depends on time or on the state of the system", place)
    compartments = tuple(
        Compartment(name, initial=Variable(initial[i]) if i in initial else None)
        for i, name in enumerate(system.names, start=1)
    )
    dose = system.inputs[0].compartment if system.inputs else 1
    observed = _observed(system)
    rates = [rate for _, _, rate in system.transfers]
    linear = not draft.slopes and not system.slopes
    if linear and not any(is_moving(walk(rate), changing) for rate in rates):
        if draft.start is not None:
            context.notice("the start of integration has no effect: the system is linear", draft.start.span)
        transfers = tuple(Transfer(*transfer) for transfer in system.transfers)
        return LinearDynamics(compartments, transfers, dose, observed, span=_place(draft))
    slopes = [
        Assign(f"DADT({i})", _slope(i, system, draft, lowering), span=_slope_span(system.names[i - 1], draft))
        for i in range(1, len(system.names) + 1)
    ]
    wanted = {name for slope in slopes for name in names_of(slope.value)}
    start = None
    if draft.start is not None:
        start = lowering.value(draft.start.value)
        if is_moving(walk(start), changing):
            context.error("the start of integration depends on time or state", draft.start.span)
    return OdeDynamics(
        compartments,
        (*needed(found.equations, wanted), *slopes),
        dose,
        observed,
        RELATIVE_TOLERANCE,
        ABSOLUTE_TOLERANCE,
        draft.stiff,
        start=start,
        span=_place(draft),
    )


def _observed(system: System) -> int:
    """Return the compartment whose concentration is defined first, else the first."""
    for definition in system.definitions:
        for node in walk(definition.value):
            if isinstance(node, Amount):
                return node.compartment
    return 1


def _slope(number: int, system: System, draft: _Draft, lowering: ExpressionLowering) -> Expression:
    """Return the derivative of one amount: its own equation, and what macros move."""
    terms: list[Expression] = []
    name = next((name for name, n in system.amounts.items() if n == number and name in draft.slopes), None)
    if name is not None:
        terms.append(lowering.value(draft.slopes[name].value))
    for source, target, rate in system.transfers:
        flow = Binary("*", rate, Amount(source))
        if target == number:
            terms.append(flow)
        if source == number:
            terms.append(Negative(flow))
    for compartment, slope in system.slopes:
        if compartment == number:
            negative = isinstance(slope, Binary) and slope.operator == "-" and slope.left == Number(0.0)
            terms.append(Negative(slope.right) if negative and isinstance(slope, Binary) else slope)
    return simple_sum(terms)


def _slope_span(name: str, draft: _Draft) -> Span | None:
    return draft.slopes[name].span if name in draft.slopes else _place(draft)


def _place(draft: _Draft) -> Span | None:
    spans = [macro.span for macro in draft.macros] + [line.span for line in draft.slopes.values()]
    return spans[0] if spans else None


def _modify(context: Context, found: Structure, system: System, data: DataFile) -> None:
    """Give each compartment the modifiers of the doses that enter it, and note the routes of doses."""
    assert found.dynamics is not None
    used = list(system.inputs)
    if data.administration is None:
        for entry in used:
            if entry.adm != 1:
                context.notice(
                    f"administration {entry.adm} has no doses: the data have no such column", entry.span
                )
        used = [entry for entry in used if entry.adm == 1]
    compartments = list(found.dynamics.compartments)
    for i, compartment in enumerate(compartments, start=1):
        inside = [entry for entry in used if entry.compartment == i]
        if inside:
            compartments[i - 1] = replace(
                compartment,
                bioavailability=_by_route(context, inside, "bioavailability", Number(1.0), data),
                lag=_by_route(context, inside, "lag", Number(0.0), data),
                duration=_by_route(context, inside, "duration", Number(0.0), data),
            )
    found.dynamics = replace(found.dynamics, compartments=tuple(compartments))
    found.routes = tuple(Route(e.adm, e.compartment, e.kind) for e in used)


def _by_route(
    context: Context, inputs: list[Input], modifier: str, neutral: Expression, data: DataFile
) -> Expression | None:
    """Return the modifier of one compartment: by the administration of the dose where routes differ."""
    values: list[Expression | None] = [getattr(entry, modifier) for entry in inputs]
    if modifier == "duration":
        inputs = [entry for entry in inputs if entry.duration is not None]
        values = [entry.duration for entry in inputs]
    if len(set(values)) <= 1:
        return values[0] if values else None
    if len({entry.adm for entry in inputs}) < len(inputs) or data.administration is None:
        context.error(
            f"two routes of one administration enter the same compartment with different {modifier}",
            inputs[-1].span,
            "not supported yet: give them different administrations",
        )
        return None
    result = values[-1] if values[-1] is not None else neutral
    for entry, value in zip(inputs[-2::-1], values[-2::-1], strict=True):
        holds = Compare("==", Column(data.administration), Number(float(entry.adm)))
        result = Conditional(holds, value if value is not None else neutral, result, span=entry.span)
    return result
