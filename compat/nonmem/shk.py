"""The ``.shk`` file: etabar, its test, and shrinkage, a row for each kind."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ...engine.fit import Fit
from ...engine.individuals import Shrinkage
from ..files import write_whole
from .file_layout import FileLayout, layout_of
from .phi import observed_subjects
from .titles import fit_line


def write_shk(fits: Sequence[Fit], path: Path) -> Path:
    """Write the ``.shk`` file, types 1 to 11, a block for each step.

    Types: 1 etabar, 2 its standard error, 3 p-value, 4/8 eta shrinkage (SD/variance scale, %),
    5/10 residual shrinkage (packed to the left by number; at most as many as there are etas),
    6/9 shrinkage by conditional variances, 7 number of subjects, 11 relative information where the method has
    it. Of a mixture all of them for each subpopulation.
    """
    lines = [line for fit in fits for line in _block(fit)]
    return write_whole(path, "\n".join(lines) + "\n")


def shrinkages(fit: Fit) -> list[tuple[Shrinkage, NDArray[np.int64]]]:
    """Return the shrinkage of each subpopulation (one without a mixture), and of how many subjects."""
    parts = (fit.shrinkage,) if fit.subpopulations is None else fit.subpopulations.shrinkage
    everybody = np.full(fit.model.n_etas, int(observed_subjects(fit).sum()))
    return [(part, everybody if part.count is None else part.count) for part in parts]


def _block(fit: Fit) -> list[str]:
    layout = layout_of(fit)
    labels = layout.labels(["TYPE", "SUBPOP", *[f"ETA({i + 1})" for i in range(fit.model.n_etas)]])
    # readers want the first label in the first column
    lines = layout.head(fit_line(fit), labels.replace(" TYPE", "TYPE ", 1))
    for number, (shrinkage, count) in enumerate(shrinkages(fit), start=1):
        lines += [_row(layout, kind, number, values) for kind, values in _kinds(shrinkage, count).items()]
    return lines


def _kinds(shrinkage: Shrinkage, count: NDArray[np.int64]) -> dict[int, NDArray[np.float64]]:
    n_etas = len(shrinkage.etabar)
    rows: dict[int, NDArray[np.float64]] = {
        1: shrinkage.etabar,
        2: shrinkage.etabar_se,
        3: shrinkage.etabar_p,
        4: shrinkage.eta_sd,
        5: shrinkage.eps_sd,
        6: shrinkage.ebv_sd,
        7: count.astype(float),
        8: shrinkage.eta_var,
        9: shrinkage.ebv_var,
        10: shrinkage.eps_var,
    }
    if shrinkage.relative_information is not None:
        rows[11] = shrinkage.relative_information
    packed = {}
    for kind, values in rows.items():
        packed[kind] = np.zeros(n_etas)
        packed[kind][: len(values)] = values[:n_etas]
    return packed


def _row(layout: FileLayout, kind: int, subpopulation: int, values: NDArray[np.float64]) -> str:
    return layout.line([layout.first(kind), layout.count(subpopulation), *layout.reals(values)])
