"""A start from naive pooling: all subjects at the typical values, as if they were one.

Far initial estimates are brought within reach before any individual is looked at (Sheiner and Beal 1980,
"naive pooled data"). The start is kept where the first-order marginal likelihood prefers it.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ..estimate import Array, Estimate
from ..objective.joint import Joint, log_likelihood
from ..objective.linearised import linearised_likelihood
from ..parameterisation import Parameterisation
from .bfgs import minimise

MAX_ITERATIONS = 60


def pooled_start(joint: Joint, start: Estimate, held: list[int]) -> Estimate:
    """Return ``start`` with thetas moved to the pooled optimum, or ``start`` itself where that is better.

    ``held`` thetas (from 0: covariate effects yet to be selected) stay.
    """
    parameterisation = Parameterisation(joint.model)
    origin = parameterisation.pack(start)
    thetas = [p for p, j in enumerate(parameterisation.free_thetas) if j not in held]
    sigmas = parameterisation.sigma_positions
    moving = thetas + sigmas
    if not thetas:
        return start
    eta = torch.zeros(1, joint.n_subjects, joint.model.n_etas, dtype=torch.float64)
    index = torch.tensor(moving)

    def objective(part: Array) -> tuple[float, Array]:
        free = torch.from_numpy(np.asarray(part, dtype=float)).requires_grad_()
        theta, _, sigma = parameterisation.unpack(torch.from_numpy(origin).index_put((index,), free))
        prediction = joint.decoder.predict(theta, eta, sigma)
        value = -2.0 * log_likelihood(prediction, joint.batch).sum()
        (gradient,) = torch.autograd.grad(value, free)
        if not bool(torch.isfinite(value)) or not bool(torch.isfinite(gradient).all()):
            return np.inf, np.zeros(len(part))
        return float(value.detach()), gradient.numpy()

    best = minimise(objective, origin[moving], max_iterations=MAX_ITERATIONS).point
    moved = origin.copy()
    moved[thetas] = best[: len(thetas)]
    pooled = parameterisation.estimate(moved)
    candidate = Estimate(pooled.theta, start.omega, start.sigma)
    return candidate if _first_order(joint, candidate) < _first_order(joint, start) else start


def _first_order(joint: Joint, estimate: Estimate) -> float:
    parameters: tuple[Tensor, Tensor, Tensor] = (
        torch.from_numpy(estimate.theta),
        torch.from_numpy(estimate.omega),
        torch.from_numpy(estimate.sigma),
    )
    origin = torch.zeros(joint.n_subjects, joint.n_active, dtype=torch.float64)
    try:
        value = linearised_likelihood(joint, parameters, origin).value
    except RuntimeError:  # a prediction that is not finite has no covariance
        return np.inf
    return value if np.isfinite(value) else np.inf
