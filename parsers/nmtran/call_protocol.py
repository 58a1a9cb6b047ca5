"""When $PK and $ERROR are called: CALLFL and the phrases in parentheses."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import replace

from ...engine.ir.dataset import Inputs
from ...engine.ir.expression import Column, Compare, Expression, Logical, Number
from ...engine.ir.statement import Assign, If, Statement, While
from .surroundings import Surroundings
from .syntax import Assignment, Foreign, Literal, Unary

_EVERY = "is computed at every record"
# words of a phrase -> value of CALLFL in $PK, and in $ERROR
_PHRASES: tuple[tuple[str, int | None, int | None], ...] = (
    (r"ONCE|PER\s*(INDIVIDUAL|IND)|INDIVIDUAL\s*REC", 1, 1),
    (r"ADDITIONAL|LAGGED|NON-?\s*EVENT", -2, None),
    (r"NEW\s*(EVENT)?\s*TIME", 0, None),
    (r"OBS", None, 0),
    (r"EVERY", -1, -1),
)


def lower_callfl(outside: Surroundings, record: str, line: Assignment) -> None:
    """Take the pseudo-assignment ``CALLFL=n``."""
    match line.value:
        case Literal("0" | "1" as text):
            value = int(text)
        case Unary("-", Literal("1" | "2" as text)):
            value = -int(text)
        case _:
            outside.context.error("CALLFL must be -2, -1, 0 or 1", line.span)
            return
    _choose(outside, record, value, line)


def lower_protocol_phrase(outside: Surroundings, record: str, line: Foreign) -> None:
    """Take a phrase such as ``(OBSERVATIONS ONLY)`` or ``(CALL ONCE PER INDIVIDUAL RECORD)``."""
    column = {"PK": 0, "ERROR": 1}.get(record)
    for pattern, *values in _PHRASES if column is not None else ():
        value = values[column] if column is not None else None
        if value is not None and re.search(pattern, line.text, re.IGNORECASE):
            _choose(outside, record, value, line)
            return
    outside.context.error(
        f"this phrase is none that says when ${record} is called",
        line.span,
        "in $PK: (EVERY EVENT), (NEW TIME), (ONCE PER INDIVIDUAL RECORD), (ADDITIONAL AND LAGGED DOSES)"
        if record == "PK"
        else "",
    )


def _choose(outside: Surroundings, record: str, value: int, line: Assignment | Foreign) -> None:
    if record == "PK" and value == -2:
        outside.individual_call = "dose"
    elif record == "PK" and value == 1:
        outside.individual_call = "first"
    elif value == 0 and record == "PK":
        outside.context.notice(f"$PK {_EVERY}, those at the same time as the one before too", line.span)
    elif value == 0:
        outside.keeps_at_observations = True
        outside.context.notice(f"${record} {_EVERY}, but keeps values at observations alone", line.span)
    elif value == 1:
        outside.context.notice(f"${record} {_EVERY}", line.span)


def keeping_at_observations(
    statements: tuple[Statement, ...], kept: Collection[str], inputs: Inputs
) -> tuple[Statement, ...]:
    """Return ``statements`` with variables of ``kept`` assigned at observation events (EVID 0) alone.

    So code that a legacy engine does not run at other events leaves there no other values behind.
    """
    call = inputs.with_role("call")
    here: Expression = Compare("==", Column("EVID"), Number(0.0))
    for forced in (1.0, 3.0) if call is not None else ():
        assert call is not None
        here = Logical("or", here, Compare("==", Column(call.name), Number(forced)))

    def guarded(part: tuple[Statement, ...]) -> tuple[Statement, ...]:
        found: list[Statement] = []
        for statement in part:
            match statement:
                case Assign(target) if target in kept:
                    found.append(If(((here, (statement,)),), span=statement.span))
                case If():
                    branches = tuple((condition, guarded(body)) for condition, body in statement.branches)
                    found.append(
                        replace(statement, branches=branches, otherwise=guarded(statement.otherwise))
                    )
                case While():
                    found.append(replace(statement, body=guarded(statement.body)))
                case _:
                    found.append(statement)
        return tuple(found)

    return guarded(statements)
