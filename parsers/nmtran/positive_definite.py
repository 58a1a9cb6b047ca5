"""Initial covariance blocks that are barely not positive definite: made so as NONMEM makes them.

Values copied from a print lose digits, and a matrix of them may lose its definiteness. A block further off is
an error.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ...engine.ir.parameter import CovarianceBlock
from .context import Context

_MOST = 0.05  # of the smallest variance: what values rounded in print can be short of
# From the shifts that NONMEM 7 reports: beyond the smallest eigenvalue, or beyond this part of the smallest
# variance where the eigenvalue is nearer to zero.
_FACTOR = 1.1
_LEAST = 1e-6


def shift_diagonals(context: Context, blocks: tuple[CovarianceBlock, ...]) -> tuple[CovarianceBlock, ...]:
    """Return ``blocks`` with the diagonal raised where the smallest eigenvalue is zero or barely negative."""
    shifted: list[CovarianceBlock] = []
    for block in blocks:
        shift = _shift(block) if block.same_as is None else 0.0
        if shift > 0:
            context.notice(
                f"this block is not positive definite: {shift:.4e} is added to its diagonal", block.span
            )
            block = replace(block, values=_raised(block, shift))
        elif block.same_as is not None:
            block = replace(block, values=shifted[block.same_as].values)
        shifted.append(block)
    return tuple(shifted)


def _shift(block: CovarianceBlock) -> float:
    full = np.array([[block.element(i, j) for j in range(block.size)] for i in range(block.size)])
    diagonal = np.diag(full)
    if block.size == 1 or not np.isfinite(full).all() or (diagonal <= 0).any():
        return 0.0  # a variance is wrong, not the block
    smallest = float(np.linalg.eigvalsh(full)[0])
    rounding = block.size * np.finfo(float).eps * float(diagonal.max())
    if -smallest > _MOST * float(diagonal.min()):
        return 0.0  # no matter of printed digits: an error
    if smallest > rounding:
        return 0.0
    return _FACTOR * max(-smallest, _LEAST * float(diagonal.min()))


def _raised(block: CovarianceBlock, shift: float) -> tuple[float, ...]:
    values = list(block.values)
    for i in range(block.size):
        values[i * (i + 3) // 2] += shift
    return tuple(values)
