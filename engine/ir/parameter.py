"""Population parameters: fixed effects and the covariance blocks of random effects."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from .span import Span


@dataclass(frozen=True)
class ThetaParameter:
    """A fixed effect: initial value, bounds, label.

    ``value_span`` is the place of the initial value itself, for writers that update it.
    """

    name: str  # "THETA1", "ka_pop"
    initial: float
    lower: float = -math.inf
    upper: float = math.inf
    fixed: bool = False
    label: str = ""  # from the comment or name the user gave
    span: Span | None = field(default=None, compare=False, repr=False)
    value_span: Span | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True)
class CovarianceBlock:
    """A block of a random-effect covariance matrix (variances and covariances, never SDs).

    ``values`` is the lower triangle row by row; ``first`` the index (from 1) of its first random
    effect. A diagonal record of n values is n blocks of size 1. ``same_as`` is the position (from 0, in
    the tuple of blocks) of the block whose value this one repeats (inter-occasion variability);
    such a block has no free parameter of its own.
    """

    first: int
    size: int
    values: tuple[float, ...]
    fixed: bool = False
    same_as: int | None = None
    labels: tuple[str, ...] = ()
    span: Span | None = field(default=None, compare=False, repr=False)
    value_spans: tuple[Span | None, ...] = field(default=(), compare=False, repr=False)

    def element(self, row: int, column: int) -> float:
        """Return the initial value at ``row``, ``column`` (from 0, within the block)."""
        if row < column:
            row, column = column, row
        return self.values[row * (row + 1) // 2 + column]


def dimension(blocks: tuple[CovarianceBlock, ...]) -> int:
    """Return the number of random effects that ``blocks`` cover."""
    return sum(block.size for block in blocks)


def matrix(blocks: tuple[CovarianceBlock, ...]) -> list[list[float]]:
    """Return the full initial covariance matrix as nested lists, zero outside the blocks."""
    n = dimension(blocks)
    full = [[0.0] * n for _ in range(n)]
    for block in blocks:
        for i in range(block.size):
            for j in range(block.size):
                full[block.first - 1 + i][block.first - 1 + j] = block.element(i, j)
    return full
