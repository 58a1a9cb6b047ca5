"""$INFN: code that runs before and after all records."""

from __future__ import annotations

from ...engine.ir.expression import Compare, Known, Number
from ...engine.ir.statement import If, Statement
from .lower_code import CodeLowering
from .surroundings import Surroundings
from .syntax import CodeLine, Conditional, Foreign, Infix, Literal, Loop, Name, Node

_MIRRORED = {"==": "==", "<": ">", "<=": ">=", ">": "<", ">=": "<="}


def lower_initialisation(outside: Surroundings, lines: list[CodeLine]) -> tuple[Statement, ...]:
    """Return what $INFN does to the model: statements for the first record of each subject.

    What it does when all is over (ICALL 3), and what it writes, has no effect on the fit and is noted.
    """
    head = outside.context.stream.of("INFN")[0].head
    kept, dropped = _before_records(lines)
    if dropped:
        outside.context.notice("$INFN is not run after the last record (ICALL 3)", head)
    statements = CodeLowering(outside, "INFN").lower(kept)
    if not statements:
        return ()
    return (If(((Compare("!=", Known("newind"), Number(2.0)), statements),)),)


def _before_records(lines: list[CodeLine]) -> tuple[list[CodeLine], bool]:
    """Return what can run before the first record, and whether anything cannot."""
    kept: list[CodeLine] = []
    dropped = False
    for line in lines:
        if isinstance(line, Conditional) and len(line.branches) == 1 and not line.otherwise:
            condition, body = line.branches[0]
            if _is_final(condition) or _only_output(body):
                dropped = True
                continue
        kept.append(line)
    return kept, dropped


def _only_output(lines: tuple[CodeLine, ...]) -> bool:
    return all(
        isinstance(line, Foreign) or (isinstance(line, Loop) and _only_output(line.body)) for line in lines
    )


def _is_final(condition: Node) -> bool:
    """Tell whether ``condition`` holds at ICALL 3 only."""
    if not isinstance(condition, Infix):
        return False
    if condition.operator == "and":
        return _is_final(condition.left) or _is_final(condition.right)
    operator, left, right = condition.operator, condition.left, condition.right
    if isinstance(right, Name):
        operator, left, right = _MIRRORED.get(operator, ""), right, left
    asked = (operator, right.text) if isinstance(right, Literal) else ("", "")
    final = asked in (("==", "3"), (">", "2"), (">=", "2"), (">=", "3"), (">", "1"))
    return left == Name("ICALL", condition.span) and final
