"""The iterations of a run as the rows of output files: numbers, and estimates on the final model."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ...engine.estimate import Estimate
from ...engine.fit import Fit
from ...engine.iteration import Iteration


def row_numbers(fit: Fit) -> list[int]:
    """Return the printed number of each iteration of the history.

    Methods number their own iterations. Those of the VAE restart in each phase: its burn-in counts up to 0,
    the rest from 1, as stochastic methods of legacy engines count; without a burn-in the first row is 0.
    """
    if fit.method != "vae":
        return [iteration.number for iteration in fit.history]
    burn_in = sum(1 for iteration in fit.history if iteration.phase == "burn-in")
    return [k - max(burn_in - 1, 0) for k in range(len(fit.history))]


def printed(fit: Fit) -> list[int]:
    """Return the positions in the history of the iterations that files show.

    These are the first one, the last one, number 0, and all whose number is a multiple of ``print_interval``.
    """
    numbers, interval, last = row_numbers(fit), max(fit.print_interval, 1), len(fit.history) - 1
    return [k for k, number in enumerate(numbers) if k in (0, last) or number % interval == 0]


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
