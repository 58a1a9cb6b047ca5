"""The iterations of a run as the rows of output files: numbers, and estimates on the final model."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ...engine.estimate import Estimate
from ...engine.fit import Fit, Iteration


def row_numbers(history: tuple[Iteration, ...]) -> list[int]:
    """Return the printed number of each iteration.

    Burn-in counts up to 0, the rest from 1, as stochastic methods of legacy engines count. Without a
    burn-in the first row is 0, so that every table has the row 0 which readers ask for.
    """
    burn_in = sum(1 for iteration in history if iteration.phase == "burn-in")
    return [k - max(burn_in - 1, 0) for k in range(len(history))]


def project(fit: Fit, iteration: Iteration) -> Iteration:
    """Return ``iteration`` with the thetas of the final model in their order.

    The run model has one theta for each candidate effect after those of the base model; those of
    effects that are out at the end have no place in the final model.
    """
    if fit.selection is None:
        return iteration
    n_base, n_final = len(fit.base_model.thetas), len(fit.model.thetas)
    theta = iteration.estimate.theta
    if len(theta) != n_base + len(fit.selection.results):
        assert len(theta) == n_final, f"{len(theta)} thetas in an iteration fit neither model"
        return iteration
    final = np.zeros(n_final)
    final[:n_base] = theta[:n_base]
    for k, result in enumerate(fit.selection.results):
        if result.theta is not None:
            final[result.theta - 1] = theta[n_base + k]
    estimate = Estimate(final, iteration.estimate.omega, iteration.estimate.sigma)
    return replace(iteration, estimate=estimate)
