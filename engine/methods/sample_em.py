"""Expectation maximisation on importance samples: exact posteriors by weights, exact M-steps.

The draws and the likelihoods of the observations at them are kept, so a step costs no model evaluation
(importance-sampling EM; Levine and Casella 2001).
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..estimate import Array, Estimate
from ..objective.joint import Joint, log_normal_density
from .mstep import EffectPenalty, L0Problem, MuRegression, update_omega

SMALLEST_SHRINK = 0.5  # of a variance on one set of draws


class SampleEM:
    """EM for mu-referenced thetas and omega on draws ``z`` (draw id active).

    ``base`` (``"draw id"``) is log p(y | z) - log q(z) at the current residual model, which stays. Variances
    stay above half those of ``start``, around which the draws were made: a prior much narrower than the
    proposals would live on a handful of draws, and their likelihood mean nothing.
    """

    def __init__(self, joint: Joint, z: Tensor, base: Tensor, start: Estimate) -> None:
        self.joint, self.z, self.base = joint, z, base
        self._least = SMALLEST_SHRINK * np.diag(start.omega)
        self.regression = MuRegression(joint)

    def weights(self, estimate: Estimate) -> Tensor:
        """Return the log importance weights, ``"draw id"``."""
        theta, omega = torch.from_numpy(estimate.theta), torch.from_numpy(estimate.omega)
        deviation = self.z - self.joint.active_mu(theta)
        return self.base + log_normal_density(deviation, self.joint.active_omega(omega))

    def e_step(self, estimate: Estimate) -> tuple[float, Array, Array]:
        """Return -2 log-likelihood and the posterior means and covariances of z."""
        weights = self.weights(estimate)
        total = torch.logsumexp(weights, 0)
        share = torch.exp(weights - total)
        mean = (share[..., None] * self.z).sum(0)
        deviation = self.z - mean
        covariance = (share[..., None] * deviation).permute(1, 2, 0) @ deviation.permute(1, 0, 2)
        value = -2.0 * float((total - math.log(len(weights))).sum())
        return value, mean.numpy(), covariance.numpy()

    def m_step(
        self, estimate: Estimate, mean: Array, covariance: Array, out: frozenset[int] = frozenset()
    ) -> Estimate:
        """Return the estimate with mu thetas (those in ``out`` zero) and omega at their optimum."""
        theta = self.regression.fixed(mean, self._active_omega(estimate), estimate.theta, out)
        return self._moved(estimate, theta, mean, covariance)

    def penalised_m_step(
        self,
        estimate: Estimate,
        mean: Array,
        covariance: Array,
        penalty: EffectPenalty,
        warm: NDArray[np.bool_] | None = None,
    ) -> tuple[Estimate, L0Problem]:
        """Return the estimate after an M-step with the L0 penalty, and the L0 problem."""
        active = self._active_omega(estimate)
        theta, problem = self.regression.penalised(mean, active, estimate.theta, penalty, warm)
        return self._moved(estimate, theta, mean, covariance), problem

    def _active_omega(self, estimate: Estimate) -> Array:
        return estimate.omega[np.ix_(self.joint.active, self.joint.active)]

    def _moved(self, estimate: Estimate, theta: Array, mean: Array, covariance: Array) -> Estimate:
        joint = self.joint
        deviation = mean - joint.active_mu(torch.from_numpy(theta)).numpy()
        omega = update_omega(joint.model, joint, estimate.omega, deviation, covariance)
        variance = np.diag(omega)
        lift = np.where(
            (variance > 0) & (variance < self._least), self._least / np.maximum(variance, 1e-300), 1.0
        )
        omega = omega * np.sqrt(np.outer(lift, lift))
        return Estimate(theta, omega, estimate.sigma)
