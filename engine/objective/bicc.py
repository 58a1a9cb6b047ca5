"""The corrected Bayesian information criterion, as Monolix counts it."""

from __future__ import annotations

import math

from ..estimate import is_fixed, names
from ..ir.dataset import DataSet
from ..ir.model import Model
from ..mu_design import MuDesign


def penalty(model: Model, mu: MuDesign, data: DataSet) -> float:
    """Return BICc minus -2 log-likelihood.

    log(N) for every omega (variance or covariance) and every covariate coefficient, log(N_tot) for every
    other theta and every residual-error parameter; N subjects, N_tot observations. Fixed
    parameters do not count.
    """
    coefficients = {t.theta for t in mu.terms if t.design.size and (t.design != t.design[0]).any()}
    by_subject, by_observation = 0, 0
    repeated = _repeated_elements(model)
    for name, fixed in zip(names(model), is_fixed(model), strict=True):
        if fixed or name in repeated:
            continue
        if name.startswith("OMEGA") or (name.startswith("THETA") and int(name[5:]) - 1 in coefficients):
            by_subject += 1
        else:
            by_observation += 1
    return math.log(data.n_subjects) * by_subject + math.log(data.n_observations) * by_observation


def _repeated_elements(model: Model) -> set[str]:
    """Return the covariance elements that repeat another block and so are no parameters."""
    repeated = set()
    for letter, blocks in (("OMEGA", model.omega), ("SIGMA", model.sigma)):
        for block in blocks:
            if block.same_as is None:
                continue
            for i in range(block.size):
                for j in range(i + 1):
                    repeated.add(f"{letter}({block.first + i},{block.first + j})")
    return repeated
