"""The ``.grd`` file: gradients of the objective along a deterministic search."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ...engine.fit import Fit
from ..files import write_whole
from .file_layout import block, layout_of
from .iterations import printed, row_numbers
from .titles import fit_line


def write_grd(fits: Sequence[Fit], path: Path) -> Path | None:
    """Write the ``.grd`` file, a block for each step that searched; None where none did.

    Columns are the estimated parameters in the order THETA, OMEGA, SIGMA, as they were searched
    (transformed and scaled); rows the iterations of the ``.ext`` file.
    """
    lines: list[str] = []
    for fit in fits:
        if fit.search is None or not len(fit.search.gradients):
            continue
        gradients, numbers = fit.search.gradients, row_numbers(fit)
        labels = [f"GRD({k + 1})" for k in range(gradients.shape[1])]
        layout = layout_of(fit)
        shown = [k for k in printed(fit) if k < len(gradients)]
        rows = [[layout.first(numbers[k]), *layout.reals(gradients[k])] for k in shown]
        lines += block(layout, fit_line(fit), ["ITERATION", *labels], rows)
    return write_whole(path, "\n".join(lines) + "\n") if lines else None
