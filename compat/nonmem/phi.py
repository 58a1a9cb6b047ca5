"""The ``.phi`` file: each subject's random effects, their conditional covariance and objective."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ...engine.fit import Fit
from ..files import write_whole
from .numbers import ADDITIONAL, integer, objective
from .titles import fit_title, label_line, table_line, triangle


def write_phi(fit: Fit, path: Path) -> Path:
    """Write the ``.phi`` file.

    ``ETA(i)`` are the conditional modes, the same values that tables and shrinkage use; ``ETC(i,j)`` the
    conditional covariance; ``OBJ`` sums to the OFV. A subject without observations has a row of zeros.
    """
    n_etas = fit.model.n_etas
    labels = [f"ETA({i + 1})" for i in range(n_etas)]
    lines = [
        table_line(fit_title(fit)),
        label_line(["SUBJECT_NO", "ID", *labels, *triangle("ETC", n_etas), "OBJ"]),
    ]
    individuals = fit.individuals
    lower = np.tril_indices(n_etas)
    observed = observed_subjects(fit)
    for k, subject_id in enumerate(fit.data.ids):
        values = np.concatenate([individuals.ebe[k], individuals.cond_cov[k][lower]]) * observed[k]
        reals = "".join(" " + ADDITIONAL.number(float(v)) for v in values)
        contribution = float(individuals.objective[k]) if observed[k] else 0.0
        lines.append(integer(k + 1) + integer(float(subject_id)) + reals + objective(contribution))
    return write_whole(path, "\n".join(lines) + "\n")


def observed_subjects(fit: Fit) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """Return True for every subject that has an observation."""
    counts = np.bincount(fit.data.subject[fit.data.is_observation], minlength=fit.data.n_subjects)
    return np.asarray(counts > 0)
