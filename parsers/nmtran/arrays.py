"""Arrays: elements as variables of their own, computed indices as choices between them.

The IR has no arrays. An element is a variable named ``"X(3)"`` or ``"X(3,2)"``; an index that is computed
becomes a binary choice on its value, so depth grows with the logarithm of the size only.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

from ...engine.ir.expression import (
    Binary,
    Call,
    Compare,
    Conditional,
    Expression,
    Negative,
    Number,
    Variable,
)
from ...engine.ir.span import Span
from ...engine.ir.statement import Assign, If, Statement


def element_name(array: str, indices: Sequence[int]) -> str:
    """Return the name of an element."""
    return f"{array}({','.join(map(str, indices))})"


def element_names(array: str, sizes: Sequence[int]) -> tuple[str, ...]:
    """Return the names of all elements, the last index running fastest."""
    return tuple(element_name(array, indices) for indices in product(*(range(1, n + 1) for n in sizes)))


def flat_index(indices: Sequence[Expression], sizes: Sequence[int]) -> Expression:
    """Return the position from 1 in :func:`element_names` of an element with computed indices."""
    if len(sizes) == 1:
        return indices[0]
    first = Binary("-", as_whole(indices[0], set()), Number(1.0))
    return Binary("+", Binary("*", first, Number(float(sizes[1]))), indices[1])


def choose(index: Expression, choices: Sequence[Expression], span: Span | None, first: int = 1) -> Expression:
    """Return the element of ``choices`` (numbered from ``first``) at the whole part of ``index``."""
    if len(choices) == 1:
        return choices[0]
    middle = len(choices) // 2
    return Conditional(
        Compare("<", index, Number(float(first + middle))),
        choose(index, choices[:middle], span, first),
        choose(index, choices[middle:], span, first + middle),
        span=span,
    )


def assign_chosen(
    index: Expression, names: Sequence[str], value: Expression, span: Span | None, first: int = 1
) -> Statement:
    """Return the statement that assigns ``value`` to the one of ``names`` at the whole part of ``index``."""
    if len(names) == 1:
        return Assign(names[0], value, span=span)
    middle = len(names) // 2
    low = assign_chosen(index, names[:middle], value, span, first)
    high = assign_chosen(index, names[middle:], value, span, first + middle)
    return If(((Compare("<", index, Number(float(first + middle))), (low,)),), (high,), span=span)


def as_whole(value: Expression, integers: set[str]) -> Expression:
    """Return ``value`` cut to a whole number, as it is where it cannot be anything else."""
    return value if _is_whole(value, integers) else Call("int", (value,), span=value.span)


def _is_whole(node: Expression, integers: set[str]) -> bool:
    match node:
        case Number(value):
            return value == value // 1
        case Variable(name):
            return name in integers
        case Negative(operand):
            return _is_whole(operand, integers)
        case Binary("+" | "-" | "*", left, right):
            return _is_whole(left, integers) and _is_whole(right, integers)
        case Call("int"):
            return True
    return False
