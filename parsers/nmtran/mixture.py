"""$MIX: how many subpopulations there are, and how probable each is."""

from __future__ import annotations

from collections.abc import Iterator

from ...engine.ir.prior import Mixture
from ...engine.ir.statement import assignments
from .context import Context
from .lower_code import CodeLowering
from .numbers import whole
from .surroundings import Surroundings
from .syntax import Assignment, CodeLine, Conditional, Literal, Name

_MOST = 999


def lower_mixture(outside: Surroundings, lines: list[CodeLine]) -> Mixture | None:
    """Return the mixture that $MIX describes, or None where it does not."""
    context = outside.context
    head = context.stream.of("MIX")[0]
    n = _count(context, lines)
    statements = CodeLowering(outside, "MIX").lower(lines)
    if n is None:
        return None
    given = {statement.target for statement in assignments(statements)}
    missing = [f"P({i})" for i in range(1, n + 1) if f"P({i})" not in given]
    if missing:
        context.error(f"$MIX does not assign {' and '.join(missing)}", head.head, f"NSPOP is {n}")
        return None
    return Mixture(n, statements, span=context.stream.span(head))


def _count(context: Context, lines: list[CodeLine]) -> int | None:
    found = list(_counts(lines))
    if not found:
        context.error("$MIX does not assign NSPOP", context.stream.of("MIX")[0].head, "e.g. NSPOP=2")
        return None
    number = whole(found[-1].value.text) if isinstance(found[-1].value, Literal) else None
    if number is None or not 1 <= number <= _MOST:
        context.error(f"NSPOP must be a whole number from 1 to {_MOST}", found[-1].span)
        return None
    return number


def _counts(lines: list[CodeLine] | tuple[CodeLine, ...]) -> Iterator[Assignment]:
    for line in lines:
        match line:
            case Assignment(Name("NSPOP")):
                yield line
            case Conditional():
                for _, body in line.branches:
                    yield from _counts(body)
                yield from _counts(line.otherwise)
