"""What is to be said of the conditional modes at which a search ended."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..inner.mode import lesser_modes
from ..ir.task import Method
from ..objective.evaluation import Evaluation
from ..objective.population import Population

DEGENERATE = 0.02  # least posterior precision relative to that of the prior
LESSER = 0.01  # -2 log density above a better mode from which on it is told
EXACT: tuple[Method, ...] = ("laplace", "laplacei")  # with exact second derivatives


def mode_warnings(population: Population, method: Method, evaluation: Evaluation, glance: bool) -> list[str]:
    """Return warnings of modes that are not certain, almost flat or, with a ``glance``, not the best ones."""
    warnings = []
    lost = np.flatnonzero(~evaluation.converged)
    if len(lost):
        warnings.append(
            f"the conditional modes of {len(lost)} subjects are not certain: ID {_listed(population, lost)}"
        )
    flat = np.flatnonzero(is_degenerate(evaluation, 2.0 * DEGENERATE))
    if method in EXACT and len(flat):
        warnings.append(
            f"the posterior of {len(flat)} subjects is almost flat in some direction (ID "
            f"{_listed(population, flat)}): there the Laplace approximation does not hold, and the objective "
            "falls without limit; compare the likelihood by importance sampling (METHOD=IMP EONLY=1)"
        )
    if glance:
        warnings += _lesser(population, method, evaluation)
    return warnings


def is_degenerate(evaluation: Evaluation, least: float = DEGENERATE) -> NDArray[np.bool_]:
    """Return the subjects [id] whose posterior is almost flat in some direction at its mode.

    Where a mode is about to vanish, log|H| of the Laplace approximation falls without limit: a search must
    not be drawn there. Expected informations (FOCE) never get there, exact second derivatives do.
    """
    active = np.flatnonzero(evaluation.precision.diagonal(axis1=-2, axis2=-1).any((0, 1)))
    if not len(active):
        return np.zeros(len(evaluation.by_subject), dtype=bool)
    root = np.linalg.cholesky(evaluation.estimate.omega[np.ix_(active, active)])
    precision = evaluation.precision[:, :, active[:, None], active]
    relative = np.linalg.eigvalsh(root.T @ precision @ root)[..., 0]
    own: NDArray[np.bool_] = relative[evaluation.best, np.arange(len(evaluation.by_subject))] < least
    return own


def _lesser(population: Population, method: Method, evaluation: Evaluation) -> list[str]:
    """Return a warning where a glance finds conditional modes better than those of the fit.

    It does not go on from them: that would be another estimate than that of modes sought from eta = 0.
    """
    if method in ("fo", "foi") or population.nesting is not None:
        return []
    above = np.stack(
        [
            lesser_modes(likelihood, evaluation.estimate, modes, interaction=method in ("focei", "laplacei"))
            for likelihood, modes in zip(population.likelihoods, evaluation.modes, strict=True)
        ]
    )[evaluation.best, np.arange(population.n_subjects)]
    worse = np.flatnonzero(above > LESSER)
    if not len(worse):
        return []
    return [
        f"{len(worse)} subjects have better conditional modes than those of this fit: ID "
        f"{_listed(population, worse)} (-2 log density lower by up to {above.max():.2f}); a search for them "
        "(MCETA=10) may end at other estimates"
    ]


def _listed(population: Population, subjects: NDArray[np.intp]) -> str:
    return ", ".join(f"{population.data.ids[i]:g}" for i in subjects[:5])
