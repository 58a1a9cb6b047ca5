"""Blocks with zero covariances, which NONMEM keeps at zero where they form a band."""

from __future__ import annotations

from ...engine.ir.parameter import CovarianceBlock
from .context import Context


def note_bands(context: Context, blocks: tuple[CovarianceBlock, ...]) -> None:
    """Say that zeros inside a block are estimated: the model has no constraint for them."""
    for block in blocks:
        if block.fixed or block.same_as is not None:
            continue
        zeros = [(i, j) for i in range(block.size) for j in range(i) if block.element(i, j) == 0.0]
        if zeros:
            context.notice(
                "NONMEM keeps covariances at zero that begin at zero in a block (band matrix); "
                "here all covariances of the block are estimated",
                block.span,
            )
