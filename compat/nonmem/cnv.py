"""The ``.cnv`` file: the convergence test of stochastic methods on their last iterations."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ...engine.fit import Fit
from ..files import write_whole
from .ext import parameter_labels
from .file_layout import block, layout_of, parameter_order
from .titles import fit_line, objective_label

MEAN = -2000000000  # rows: mean, SD, p-value of a linear trend, alpha of the test


def write_cnv(fits: Sequence[Fit], path: Path) -> Path | None:
    """Write the ``.cnv`` file, a block for each step that was tested; None where none was."""
    lines: list[str] = []
    for fit in fits:
        test = fit.convergence
        if test is None or not test.tested:
            continue
        layout = layout_of(fit)
        order = parameter_order(fit, layout)
        labels = parameter_labels(len(fit.model.thetas), fit.model.n_eps, fit.model.n_etas)
        columns = ["ITERATION", *(labels[k] for k in order), objective_label(fit.method)]
        alpha = np.full(len(test.mean), test.alpha)
        rows = [
            [layout.first(MEAN - k), *layout.reals(values[order]), layout.objective(float(values[-1]))]
            for k, values in enumerate((test.mean, test.sd, test.p_value, alpha))
        ]
        lines += block(layout, fit_line(fit, with_goal=True), columns, rows)
    return write_whole(path, "\n".join(lines) + "\n") if lines else None
