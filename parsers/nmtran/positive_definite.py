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
# From the shifts that NONMEM 7 reports: how small an eigenvalue may be beside the smallest variance, and how
# much more than what is lacking is added.
_SMALLEST = 1e-6
_FACTOR = 1.1


def shift_diagonals(context: Context, blocks: tuple[CovarianceBlock, ...]) -> tuple[CovarianceBlock, ...]:
    """Return ``blocks`` with the diagonal raised where the smallest eigenvalue is next to nothing."""
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
    smallest, least = float(np.linalg.eigvalsh(full)[0]), float(diagonal.min())
    if smallest >= _SMALLEST * least or -smallest > _MOST * least:
        return 0.0  # definite; or no matter of printed digits: an error
    return _FACTOR * max(_SMALLEST * least, -smallest)


def _raised(block: CovarianceBlock, shift: float) -> tuple[float, ...]:
    values = list(block.values)
    for i in range(block.size):
        values[i * (i + 3) // 2] += shift
    return tuple(values)
