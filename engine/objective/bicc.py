"""The corrected Bayesian information criterion, as Monolix counts it."""

from __future__ import annotations

import math
from typing import Protocol, runtime_checkable

from ..estimate import is_fixed, is_repeated, names
from ..ir.dataset import DataSet
from ..ir.model import Model
from ..mu_model import MuTermColumn


@runtime_checkable
class Mu(Protocol):
    """Mu of every subject, known by its terms."""

    terms: list[MuTermColumn]


def penalty(model: Model, mu: Mu, data: DataSet) -> float:
    """Return BICc minus -2 log-likelihood.

    log(N) for every omega (variance or covariance) and every covariate coefficient, log(N_tot) for every
    other theta and every residual-error parameter; N subjects, N_tot observations. Fixed
    parameters do not count.
    """
    coefficients = {t.theta for t in mu.terms if t.design.size and (t.design != t.design[0]).any()}
    by_subject, by_observation = 0, 0
    free = ~is_fixed(model) & ~is_repeated(model)
    for name, counts in zip(names(model), free, strict=True):
        if not counts:
            continue
        if name.startswith("OMEGA") or (name.startswith("THETA") and int(name[5:]) - 1 in coefficients):
            by_subject += 1
        else:
            by_observation += 1
    return math.log(data.n_subjects) * by_subject + math.log(data.n_observations) * by_observation
