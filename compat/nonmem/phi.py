"""The ``.phi`` file: each subject's random effects, their conditional covariance and objective.

And the ``.phm`` file, which has a row for each subpopulation of a mixture.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ...engine.fit import Fit
from ..files import write_whole
from .file_layout import block, layout_of
from .titles import EXPECTATION_METHODS, fit_line, objective_label, triangle

Array = NDArray[np.float64]


def write_phi(fits: Sequence[Fit], path: Path) -> Path:
    """Write the ``.phi`` file, a block for each step.

    ``ETA(i)`` are the random effects that tables and shrinkage use, ``ETC(i,j)`` the conditional
    covariance; the EM methods have ``PHI(i)`` = MU_i + ETA(i) and ``PHC(i,j)`` instead (but for PHITYPE=1).
    ``OBJ`` sums to the objective. A subject without observations has a row of zeros, and so have all after
    FO, whose objective knows no random effects: those of POSTHOC are in tables, as in NONMEM.
    """
    lines = [line for fit in fits for line in _block(fit)]
    return write_whole(path, "\n".join(lines) + "\n")


def _block(fit: Fit) -> list[str]:
    n_etas = fit.model.n_etas
    sampled = fit.method in EXPECTATION_METHODS
    with_mu = sampled and fit.shows_phi
    names = [f"{'PHI' if with_mu else 'ETA'}({i + 1})" for i in range(n_etas)]
    square = triangle("PHC" if with_mu else "ETC", n_etas)
    layout = layout_of(fit)
    rows = []
    individuals = fit.individuals
    effects = individuals.ebe
    if sampled and fit.method != "its":
        effects = individuals.cond_mean
    if with_mu:
        effects = typical_values(fit) + effects
    lower = np.tril_indices(n_etas)
    observed = observed_subjects(fit)
    for k, subject_id in enumerate(fit.data.ids):
        shown = observed[k] and fit.method not in ("fo", "foi")
        values = np.concatenate([effects[k], individuals.cond_cov[k][lower]]) * shown
        contribution = float(individuals.objective[k]) if observed[k] else 0.0
        head = [layout.first(k + 1), layout.identifier(float(subject_id))]
        rows.append([*head, *layout.reals(values), layout.objective(contribution)])
    columns = ["SUBJECT_NO", "ID", *names, *square, objective_label(fit.method)]
    return block(layout, fit_line(fit), columns, rows)


def write_phm(fits: Sequence[Fit], path: Path) -> Path | None:
    """Write the ``.phm`` file of mixtures: a row for each subject and subpopulation; None without mixtures.

    ``PMIX`` is the probability that the subject belongs there; random effects, covariance and objective are
    those it has there.
    """
    lines = [line for fit in fits if fit.subpopulations is not None for line in _mixed_block(fit)]
    return write_whole(path, "\n".join(lines) + "\n") if lines else None


def _mixed_block(fit: Fit) -> list[str]:
    parts = fit.subpopulations
    assert parts is not None
    sampled = fit.method in EXPECTATION_METHODS and fit.shows_phi
    mu = typical_values(fit) if sampled else 0.0
    n_etas = fit.model.n_etas
    names = [f"{'PHI' if sampled else 'ETA'}({i + 1})" for i in range(n_etas)]
    square = triangle("PHC" if sampled else "ETC", n_etas)
    columns = ["SUBJECT_NO", "ID", "SUBPOP", "PMIX", *names, *square, objective_label(fit.method)]
    layout = layout_of(fit)
    rows = []
    lower = np.tril_indices(n_etas)
    effects = parts.eta + mu
    for k, subject_id in enumerate(fit.data.ids):
        for m in range(len(parts.eta)):
            values = np.concatenate(
                [[parts.probabilities[k, m]], effects[m, k], parts.covariance[m, k][lower]]
            )
            head = [layout.first(k + 1), layout.identifier(float(subject_id)), layout.count(m + 1)]
            rows.append([*head, *layout.reals(values), layout.objective(float(parts.objective[m, k]))])
    return block(layout, fit_line(fit), columns, rows)


def typical_values(fit: Fit) -> Array:
    """Return the values of the variables MU_1, MU_2... of the model (id eta), zero where it has no such one.

    As in NONMEM the name makes the reference; a value that changes is that of the subject's first record.
    """
    first = np.unique(fit.data.subject, return_index=True)[1]
    mu = np.zeros((fit.n_subjects, fit.model.n_etas))
    for k in range(fit.model.n_etas):
        name = f"MU_{k + 1}"
        if name in fit.table.columns:
            mu[:, k] = fit.table[name].to_numpy(dtype=float)[first]
    return mu


def observed_subjects(fit: Fit) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """Return True for every subject that has an observation."""
    counts = np.bincount(fit.data.subject[fit.data.is_observation], minlength=fit.data.n_subjects)
    return np.asarray(counts > 0)
