"""All code records of a problem, lowered together: who assigns what is known to all of them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Literal, cast

from ...engine.ir.dataset import Inputs
from ...engine.ir.expression import Column, Expression, Time, Variable
from ...engine.ir.held_variables import held_variables
from ...engine.ir.prior import Mixture
from ...engine.ir.running_extremes import followed
from ...engine.ir.statement import Assign, Statement, assignments, expressions, transform_statements
from ...engine.ir.task import TableTask
from .context import Context
from .initialisation import lower_initialisation
from .lower_code import CodeLowering, targets
from .lower_parameters import Parameters
from .mixture import lower_mixture
from .parse_code import parse_code
from .replace import Abbreviations
from .surroundings import Surroundings
from .syntax import CodeLine

# In the order in which they are lowered: each sees the variables of those before it.
_RECORDS = ("MIX", "PRED", "PK", "AESINITIAL", "DES", "AES", "ERROR")
_FLAG = "F_FLAG"


@dataclass(frozen=True)
class Code:
    """What the code records say: the parts of the model, and the names they define.

    ``slopes`` are $DES and $AES; ``inner`` the variables of these that are no variables of a record.
    ``derivatives`` says which derivative of the prediction (G11, HH(1,2)...) a name stands for in tables.
    """

    individual: tuple[Statement, ...]
    slopes: tuple[Statement, ...]
    observed: tuple[Statement, ...]
    mixture: Mixture | None
    flag: str | None
    individual_call: Literal["record", "dose", "first"]
    keeps_at_observations: bool
    variables: tuple[str, ...]
    inner: frozenset[str]
    derivatives: dict[str, str]


def parse_code_records(context: Context) -> dict[str, list[CodeLine]]:
    """Return the syntax trees of all code records by name; pieces of one record are joined."""
    return {
        name: [line for lines in context.parse(parse_code, name) for line in lines]
        for name in (*_RECORDS, "INFN")
    }


def lower_code_records(
    context: Context,
    code: dict[str, list[CodeLine]],
    inputs: Inputs,
    parameters: Parameters,
    abbreviations: Abbreviations,
    compartments: tuple[str, ...] = (),
    sources: dict[int, str] | None = None,
    asked: Collection[str] = (),
) -> Code:
    """Return the model that the code records describe.

    ``sources`` says how the random numbers of each source are distributed (``"uniform"``, ``"normal"``);
    ``asked`` are the names that tables ask for, so that variables of $DES among them get a value at records.
    """
    outside = Surroundings(
        context,
        inputs,
        parameters,
        abbreviations,
        tuple(name.upper() for name in compartments),
        sources=sources or {},
    )
    for name in (*_RECORDS, "INFN"):
        if name not in ("DES", "AES"):
            written = ("A_0" + t[1:] if name == "AESINITIAL" else t for t in targets(code[name]))
            outside.everywhere |= {target: name for target in written if target not in outside.everywhere}
    present = [name for name in _RECORDS if context.stream.of(name)]
    mixture = lower_mixture(outside, code["MIX"]) if "MIX" in present else None
    outside.subpopulations = mixture.n if mixture is not None else 0
    initial: tuple[Statement, ...] = ()
    if context.stream.of("INFN"):
        initial = lower_initialisation(outside, code["INFN"])
    lowered = {name: CodeLowering(outside, name).lower(code[name]) for name in present if name != "MIX"}
    if outside.reads_mixture and mixture is not None:
        initial = (*mixture.statements, *initial)
    individual = (*lowered.get("PK", ()), *lowered.get("AESINITIAL", ()))
    slopes = (*lowered.get("DES", ()), *lowered.get("AES", ()))
    held = held_variables(slopes, {a.target for a in assignments(individual)})
    extremes = followed(slopes)
    steps = {name: span for name, span in held.items() if name not in extremes}
    for name, span in {name.partition("(")[0]: span for name, span in steps.items()}.items():
        message = (
            f"{name} keeps its value where the equations do not set it, that of the latest time at which"
        )
        outside.context.notice(f"{message} they did; NONMEM's is that of some last step of its solver", span)
    observed = lowered.get("PRED", lowered.get("ERROR", ()))
    _check_followed(outside, individual, slopes, observed)
    if "PRED" in lowered:
        observed = (*initial, *observed)
    else:
        individual = (*initial, *individual)
    observed = (*observed, *_simulated(outside, observed))
    observed = (*_at_records(outside, slopes, observed, asked), *observed)
    given = {statement.target for statement in assignments(observed)}
    return Code(
        individual,
        slopes,
        observed,
        mixture,
        _FLAG if _FLAG in given else None,
        cast("Literal['record', 'dose', 'first']", outside.individual_call),
        outside.keeps_at_observations,
        tuple(outside.variables),
        frozenset(outside.inner - outside.variables.keys()),
        outside.derivatives,
    )


def renamed(table: TableTask, names: Mapping[str, str]) -> TableTask:
    """Return ``table`` with the engine's own names for items that ``names`` has others for."""
    items = []
    for item in table.items:
        label, _, name = item.rpartition("=")
        items.append(f"{label or name}={names[name]}" if name in names else item)
    return replace(table, items=tuple(items))


def _simulated(outside: Surroundings, observed: tuple[Statement, ...]) -> tuple[Statement, ...]:
    """Return the assignment of Y where the code makes nothing but the data of a simulation."""
    data = outside.inputs.with_role("dv")
    made = {statement.target for statement in assignments(observed)}
    if "Y" in made or data is None or data.name not in outside.shadows:
        return ()
    place = next((s.span for s in assignments(observed) if s.target == data.name), None)
    outside.context.notice(f"Y is not assigned: it is {data.name}, simulated by the code itself", place)
    return (Assign("Y", Variable(data.name)),)


def _check_followed(
    outside: Surroundings,
    individual: tuple[Statement, ...],
    slopes: tuple[Statement, ...],
    observed: tuple[Statement, ...],
) -> None:
    """Check the largest and smallest values so far that $DES keeps, and what else it keeps in COM."""
    follows = followed(slopes)
    assigned = {a.target for a in assignments(individual)}
    for statement in assignments(slopes):
        name = statement.target
        if name.startswith("COM(") and name not in follows and name in assigned:
            outside.context.error(
                f"{name} is assigned in $PK and cannot change in $DES, unless it is the largest or smallest "
                "value so far",
                statement.span,
                "IF (X.GT.COM(1)) COM(1)=X, and COM(1) read nowhere else in $DES",
            )
    for statement in assignments(observed):
        if statement.target in follows:
            outside.context.error(
                f"{statement.target} follows the solution in $DES and cannot change in $ERROR",
                statement.span,
                "set its first value in $PK; only COM(n) can be assigned both there and in $DES",
            )
    for node in expressions(individual):
        if isinstance(node, Variable) and node.name in follows:
            outside.context.error(
                f"{node.name} follows the solution in $DES, which $PK cannot see", node.span
            )


def _at_records(
    outside: Surroundings,
    slopes: tuple[Statement, ...],
    observed: tuple[Statement, ...],
    asked: Collection[str],
) -> tuple[Statement, ...]:
    """Return statements that compute the variables of $DES at each record, where anything asks for them."""
    own = {statement.target for statement in assignments(observed)}
    wanted = outside.inner_read | {name for name in outside.inner if name in asked and name not in own}
    wanted -= followed(slopes).keys()
    time = outside.inputs.with_role("time")
    if not wanted or time is None:
        return ()
    place = next((s.span for s in assignments(slopes) if s.target in wanted), None)
    listed = ", ".join(sorted(wanted))
    outside.context.notice(f"outside $DES, {listed}: the value at the time of the record", place)
    outside.variables |= {name: "DES" for name in outside.inner if name not in outside.variables}

    def at_record(node: Expression) -> Expression:
        return Column(time.name, span=node.span) if isinstance(node, Time) else node

    return transform_statements(_needed(slopes, wanted), at_record)


def _needed(statements: tuple[Statement, ...], wanted: set[str]) -> tuple[Statement, ...]:
    """Return those of ``statements`` that ``wanted`` depends on, without derivatives."""
    needed, kept = set(wanted), list[Statement]()
    for statement in reversed(statements):
        made = {a.target for a in assignments((statement,))}
        if not made & needed:
            continue
        kept.append(statement)
        needed |= {node.name for node in expressions((statement,)) if isinstance(node, Variable)}
    return tuple(reversed(kept))
