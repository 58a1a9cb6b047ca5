"""Random expressions and statements, as hypothesis strategies."""

from __future__ import annotations

from collections.abc import Sequence
from typing import get_args

from hypothesis import strategies as st

from elbomix.engine.ir.expression import (
    Binary,
    BinaryOperator,
    Call,
    Compare,
    Comparison,
    Expression,
    Logical,
    Negative,
    Not,
    Number,
    Variable,
)
from elbomix.engine.ir.statement import Assign, If, Statement, assignments

SMOOTH = ("exp", "log", "log10", "sqrt", "sin", "cos", "tan", "asin", "acos", "atan", "sinh", "cosh", "tanh")
SMOOTH_TOO = ("phi", "logit", "invlogit")
NUMBERS = st.sampled_from([-2.0, -1.0, -0.5, 0.0, 0.3, 0.5, 1.0, 1.7, 2.0, 3.0])
OPERATORS: tuple[BinaryOperator, ...] = get_args(BinaryOperator)
COMPARISONS: tuple[Comparison, ...] = get_args(Comparison)


def values(
    leaves: Sequence[Expression], one: Sequence[str], two: Sequence[str] = (), size: int = 8
) -> st.SearchStrategy[Expression]:
    """Expressions over ``leaves``, with functions of ``one`` and ``two`` arguments."""
    start: st.SearchStrategy[Expression] = st.one_of(st.sampled_from(list(leaves)), NUMBERS.map(Number))

    def grow(inner: st.SearchStrategy[Expression]) -> st.SearchStrategy[Expression]:
        options: list[st.SearchStrategy[Expression]] = [
            st.builds(Binary, st.sampled_from(OPERATORS), inner, inner),
            st.builds(Negative, inner),
            st.builds(lambda name, a: Call(name, (a,)), st.sampled_from(list(one)), inner),
        ]
        if two:
            options.append(
                st.builds(lambda name, a, b: Call(name, (a, b)), st.sampled_from(list(two)), inner, inner)
            )
        return st.one_of(options)

    return st.recursive(start, grow, max_leaves=size)


def conditions(inner: st.SearchStrategy[Expression]) -> st.SearchStrategy[Expression]:
    """Comparisons of ``inner`` expressions, joined by and, or, not."""
    single: st.SearchStrategy[Expression] = st.builds(Compare, st.sampled_from(COMPARISONS), inner, inner)
    return st.recursive(
        single,
        lambda c: st.one_of(st.builds(Logical, st.sampled_from(["and", "or"]), c, c), st.builds(Not, c)),
        max_leaves=3,
    )


@st.composite
def programs(
    draw: st.DrawFn, leaves: Sequence[Expression], data: Sequence[Expression], one: Sequence[str]
) -> tuple[Statement, ...]:
    """Assignments and conditionals on ``data``, with names assigned again; ``Y`` comes last."""
    names: list[str] = ["A"]
    statements: list[Statement] = [Assign("A", draw(values(leaves, one, size=4)))]

    def body(count: int) -> tuple[Assign, ...]:
        out = []
        for _ in range(count):
            target = draw(st.sampled_from(["A", "B", "C"]))
            known = [Variable(n) for n in names]
            out.append(Assign(target, draw(values([*leaves, *known], one, size=4))))
        return tuple(out)

    for _ in range(draw(st.integers(1, 3))):
        if draw(st.booleans()):
            made: Statement = body(1)[0]
        else:
            test = conditions(values(data, (), size=1) if not one else values(data, ("abs",), size=2))
            branches = tuple(
                (draw(test), body(draw(st.integers(1, 2)))) for _ in range(draw(st.integers(1, 2)))
            )
            made = If(branches, body(draw(st.integers(0, 1))))
        statements.append(made)
        for part in assignments((made,)):
            if part.target not in names:
                names.append(part.target)
    known = [Variable(n) for n in names]
    statements.append(Assign("Y", draw(values([*leaves, *known], one, size=5))))
    return tuple(statements)
