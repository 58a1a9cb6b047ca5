"""The ``.grd`` file: gradients of the objective along a deterministic search."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ...engine.fit import Fit
from ..files import write_whole
from .iterations import printed, row_numbers
from .numbers import ADDITIONAL, integer
from .titles import fit_line, label_line


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
        lines += [fit_line(fit), label_line(["ITERATION", *labels])]
        for k in printed(fit):
            if k < len(gradients):
                reals = "".join(" " + ADDITIONAL.number(float(v)) for v in gradients[k])
                lines.append(integer(numbers[k]) + reals)
    return write_whole(path, "\n".join(lines) + "\n") if lines else None
