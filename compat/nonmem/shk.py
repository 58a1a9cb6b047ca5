"""The ``.shk`` file: etabar, its test, and shrinkage, a row for each kind."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ...engine.fit import Fit
from ..files import write_whole
from .numbers import ADDITIONAL, integer
from .phi import observed_subjects
from .titles import fit_title, label_line, table_line


def write_shk(fit: Fit, path: Path) -> Path:
    """Write the ``.shk`` file, types 1 to 10.

    Types: 1 etabar, 2 its standard error, 3 p-value, 4/8 eta shrinkage (SD/variance scale, %),
    5/10 residual shrinkage (packed to the left by number; at most as many as there are etas),
    6/9 shrinkage by conditional variances, 7 number of subjects.
    """
    shrinkage = fit.shrinkage
    n_etas = fit.model.n_etas
    rows = {
        1: shrinkage.etabar,
        2: shrinkage.etabar_se,
        3: shrinkage.etabar_p,
        4: shrinkage.eta_sd,
        5: shrinkage.eps_sd,
        6: shrinkage.ebv_sd,
        7: np.full(n_etas, float(observed_subjects(fit).sum())),
        8: shrinkage.eta_var,
        9: shrinkage.ebv_var,
        10: shrinkage.eps_var,
    }
    labels = label_line(["TYPE", "SUBPOP", *[f"ETA({i + 1})" for i in range(n_etas)]])
    # readers want the first label in the first column
    lines = [table_line(fit_title(fit)), labels.replace(" TYPE", "TYPE ", 1)]
    for kind, values in rows.items():
        fields = np.zeros(n_etas)
        fields[: len(values)] = values[:n_etas]
        reals = "".join(" " + ADDITIONAL.number(float(v)) for v in fields)
        lines.append(integer(kind) + integer(1) + reals)
    return write_whole(path, "\n".join(lines) + "\n")
