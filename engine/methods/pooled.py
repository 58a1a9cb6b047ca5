"""A start from naive pooling: all subjects at the typical values, as if they were one.

Far initial estimates are brought within reach before any individual is looked at (Sheiner and Beal 1980,
"naive pooled data"). Positive data are compared on a logarithmic scale, on which a prediction that is far
too high and one that is far too low are both called back; estimates that predict well are left alone.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ..decoder.compile import Decoder
from ..estimate import Array, Estimate
from ..objective.joint import Joint
from ..parameterisation.tensor import TensorParameterisation
from ..randomness import generator
from .quasi_newton import Limits, Single, Visited, minimise

MAX_EVALUATIONS = 100
DECREASE = 1e-8  # of the mean square of logarithms
LONGEST = 0.5  # of a step, so that the near optimum is found
GOOD = 1.5  # times the pooled residual SD: initial estimates that predict as well as this are kept
OTHER_STARTS = 8  # about a factor of e around the initial estimates, tried where these predict badly
EQUAL = 1.05  # ratio of pooled variances below which two optima predict the same
SOFTENING = 0.02  # of the median observation: keeps the logarithm of values near zero quiet


def pooled_start(joint: Joint, decoder: Decoder, start: Estimate, held: list[int], seed: int) -> Estimate:
    """Return ``start``, with thetas moved to the pooled optimum where it predicts badly.

    ``held`` thetas (from 0: covariate effects yet to be selected) stay. ``decoder`` may be a coarse one.
    """
    parameterisation = TensorParameterisation(joint.model)
    origin = parameterisation.pack(start)
    stay = {*held, *joint.mu.residual_thetas}
    moving = [p for p, j in enumerate(parameterisation.free_thetas) if j not in stay]
    if not moving:
        return start
    eta = torch.zeros(1, joint.n_subjects, joint.model.n_etas, dtype=torch.float64)
    index = torch.tensor(moving)
    observed = joint.batch.observed
    dv = joint.batch.dv[observed]
    scale = _Scale(dv)
    target = scale(dv)

    def objective(part: Array) -> tuple[float, Array]:
        free = torch.from_numpy(np.asarray(part, dtype=float)).requires_grad_()
        theta, _, sigma = parameterisation.unpack(torch.from_numpy(origin).index_put((index,), free))
        value = (target - scale(decoder.predict(theta, eta, sigma).mean[0][observed])).square().mean()
        if not value.requires_grad:
            return float(value), np.zeros(len(part))
        (gradient,) = torch.autograd.grad(value, free)
        if not bool(torch.isfinite(value)) or not bool(torch.isfinite(gradient).all()):
            return np.inf, np.zeros(len(part))
        return float(value.detach()), gradient.numpy()

    function = Single(objective)
    limits = Limits.none(len(moving), DECREASE, MAX_EVALUATIONS, LONGEST)

    def descend(begin: Array) -> Visited:
        return minimise(function, begin, limits).best

    begin = origin[moving]
    before, _ = objective(begin)
    found = [descend(begin)]
    if before <= GOOD**2 * found[0].value:
        return start
    noise = torch.randn(OTHER_STARTS, len(moving), dtype=torch.float64, generator=generator(seed, "pooled"))
    found += [descend(begin + shift) for shift in noise.numpy()]
    lowest = min(f.value for f in found)
    if not np.isfinite(lowest):
        return start
    # swapped rate constants and the like predict the same: of equals, the nearest is meant
    equals = [f for f in found if f.value <= EQUAL * lowest]
    best = min(equals, key=lambda f: float(np.linalg.norm(f.point - begin)))
    moved = origin.copy()
    moved[moving] = best.point
    return Estimate(parameterisation.natural(moved).theta, start.omega, start.sigma)


class _Scale:
    """The scale on which pooled data and predictions are compared."""

    def __init__(self, dv: Tensor) -> None:
        self._positive = bool((dv >= 0).all()) and bool((dv > 0).any())
        typical = dv[dv > 0].median() if self._positive else dv.std()
        self._unit = float(typical) if float(typical) > 0 else 1.0

    def __call__(self, value: Tensor) -> Tensor:
        if not self._positive:
            return value / self._unit
        return torch.log(value.clamp(min=0.0) + SOFTENING * self._unit)
