"""-2 log p(y | eta) at many points around one estimate, in one call or in pieces that fit in memory."""

from __future__ import annotations

import copy
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ..estimate import Array, Estimate, is_fixed
from ..kernel.kernel import Directions
from .observations import Frozen, ObservationLikelihood, Terms

MEMORY = 200e6  # bytes of the derivatives that one call may hold

Along = Literal["none", "eta", "eta+theta"]


class Points:
    """The likelihood of one subpopulation at one estimate, ready for displaced etas and thetas.

    ``interaction`` False takes the residual variance at eta = 0. Directions are the etas and then the
    *estimated* thetas only, ``free_thetas`` (from 0).
    """

    def __init__(self, likelihood: ObservationLikelihood, estimate: Estimate, interaction: bool) -> None:
        self.likelihood, self.estimate, self.interaction = likelihood, estimate, interaction
        n_theta = len(estimate.theta)
        self.free_thetas = np.flatnonzero(~is_fixed(likelihood.model)[:n_theta])
        self._frozen: dict[Along, Frozen] = {}

    def __call__(
        self,
        eta: Array,
        along: Along = "eta",
        theta: Array | None = None,
        wanted: NDArray[np.bool_] | None = None,
    ) -> Terms:
        """Return the terms at ``eta`` [draw, id, eta] and the estimate's theta, or ``theta`` [draw, theta].

        Subjects that are not ``wanted`` [id] cost nothing and have no finite value: at etas that are not
        numbers the model gives up at once.
        """
        if wanted is not None:
            eta = np.where(wanted[:, None], eta, np.nan)
        directions = self._directions(along)
        draws, nq = len(eta), directions.eta.shape[1]
        outputs = len(self.likelihood.layout.outputs)
        size = max(int(MEMORY / (8 * len(self.likelihood.dv) * outputs * (nq + 1))), 1)
        if draws <= size:
            return self._terms(eta, along, directions, theta)
        parts = [
            self._terms(eta[k : k + size], along, directions, None if theta is None else theta[k : k + size])
            for k in range(0, draws, size)
        ]
        return Terms(
            np.concatenate([p.value for p in parts]),
            np.concatenate([p.gradient for p in parts]),
            np.concatenate([p.sigma_gradient for p in parts]),
            np.concatenate([p.information for p in parts]),
            np.concatenate([p.status for p in parts]),
        )

    def roughly(self, tolerance: float) -> Points | None:
        """Return these points with differential equations integrated at a relative ``tolerance``.

        None where the model has none, or asks for no more than ten times as much.
        """
        likelihood = self.likelihood.roughly(tolerance)
        if likelihood is None:
            return None
        made = copy.copy(self)
        made.likelihood, made._frozen = likelihood, {}
        return made

    def information_at(self, eta: Array, sigma: Array) -> Array:
        """Return the information [draw, id, eta, eta] at ``eta`` [id, eta], ``sigma`` [draw, eps, eps]."""
        made = self.likelihood.predict(
            self.estimate.theta, eta[None], "eta", self.estimate.sigma, self.estimate.omega
        )
        frozen = self._frozen_slopes("eta", None)
        found = [self.likelihood.summed(made, one, frozen).information for one in sigma]
        return np.concatenate(found) if found else np.zeros((0, *eta.shape, eta.shape[1]))

    def _terms(self, eta: Array, along: Along, directions: Directions, theta: Array | None) -> Terms:
        own = self.estimate
        with np.errstate(all="ignore"):
            made = self.likelihood.predict(
                own.theta if theta is None else theta, eta, directions, own.sigma, own.omega
            )
            return self.likelihood.summed(made, own.sigma, self._frozen_slopes(along, theta))

    def _directions(self, along: Along) -> Directions:
        n_eta, n_theta = self.likelihood.n_etas, len(self.estimate.theta)
        if along != "eta+theta":
            return Directions.make(along, n_theta, n_eta)
        nq = n_eta + len(self.free_thetas)
        theta, eta = np.zeros((n_theta, nq)), np.zeros((n_eta, nq))
        eta[:, :n_eta] = np.eye(n_eta)
        theta[self.free_thetas, np.arange(n_eta, nq)] = 1.0
        return Directions(theta, eta)

    def _frozen_slopes(self, along: Along, theta: Array | None) -> Frozen | None:
        """Return the slopes to eps at eta = 0, which do not depend on eta."""
        if self.interaction:
            return None
        if theta is None and along in self._frozen:
            return self._frozen[along]
        likelihood, n_eta = self.likelihood, self.likelihood.n_etas
        full = self._directions(along)
        moving = full if along == "eta+theta" else self._directions("none")
        if along == "eta+theta":
            moving = Directions(full.theta[:, n_eta:], full.eta[:, n_eta:])
        at = np.atleast_2d(self.estimate.theta if theta is None else theta)
        zero = np.zeros((len(at), likelihood.n_subjects, n_eta))
        made = likelihood.predict(at, zero, moving, self.estimate.sigma, self.estimate.omega)
        eps = slice(1, 1 + likelihood.n_eps)
        slopes = np.ascontiguousarray(made.values[:, :, eps])
        derivatives = np.zeros((*slopes.shape, full.eta.shape[1]))
        if along == "eta+theta":
            derivatives[..., n_eta:] = made.derivatives[:, :, eps]
        frozen = Frozen(slopes, derivatives)
        if theta is None:
            self._frozen[along] = frozen
        return frozen
