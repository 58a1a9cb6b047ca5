"""The likelihood itself, by adaptive Gauss-Hermite quadrature: for few random effects.

Pinheiro and Bates 1995 (J Comput Graph Stat 4:12), section 2.4: with nodes x and weights w of the standard
normal density, centred at the mode m of each subject and scaled by a root L of the inverse of its posterior
precision H::

    O = log|Omega| + log|H| - 2 log sum_k w_k exp(-(D(eta_k) + eta_k' Omega^-1 eta_k - |x_k|^2) / 2)

at eta_k = m + L x_k. H has the expected information for normal observations (so that one node is the
objective of FOCE with interaction), the exact second derivative where observations are likelihoods, of which
the expectation is not known.
"""

from __future__ import annotations

from itertools import product

import numpy as np
from numpy.polynomial.hermite_e import hermegauss
from numpy.typing import NDArray

from ..estimate import Array, Estimate, Gradient
from ..failure import ModelFailure
from ..inner.mode import find_modes
from ..inner.precision import active_etas, half_second_derivative, log_determinant, prior_precision
from .displacement import displacement_of
from .evaluation import Evaluation, joined, joined_gradient
from .observations import ObservationLikelihood
from .points import Points
from .population import Population
from .slopes import slopes_by_value
from .terms import NORMAL, UNOBSERVED

MOST_ETAS = 4
GRID = 1000  # nodes of the default grid at most
MOST_NODES = 15  # of the default grid, per eta


class QuadratureObjective:
    """-2 log-likelihood on a grid of ``nodes`` nodes per random effect, without N log 2 pi.

    Parameters
    ----------
    nodes
        Nodes per random effect; None: an odd number up to 15 that keeps the grid below 1000 nodes.
    draws, seed
        Random starts of the search for each mode.

    Raises
    ------
    ModelFailure
        For models with more than four random effects.
    """

    def __init__(
        self, population: Population, nodes: int | None = None, draws: int = 0, seed: int = 0
    ) -> None:
        size = len(population.active)
        if size > MOST_ETAS:
            raise ModelFailure(
                f"quadrature over {size} random effects would take too many nodes: {MOST_ETAS} are the most",
                hint="use importance sampling (imp) for the likelihood, or fix variances to 0",
            )
        if nodes is not None and nodes < 1:
            raise ModelFailure("quadrature needs at least one node per random effect")
        self.population, self.draws, self.seed = population, draws, seed
        self.nodes = default_nodes(size) if nodes is None else nodes
        self.grid, self.log_weights = grid(self.nodes, size)
        kinds = population.likelihoods[0].kind
        self.curved = not np.isin(kinds, (NORMAL, UNOBSERVED)).all()
        self.displacement = displacement_of(population.model)

    def value(self, estimate: Estimate, start: Array | None = None, thorough: bool = False) -> Evaluation:
        """Return the objective at ``estimate``; ``start`` [component, id, eta] are modes nearby."""
        found = [
            self._component(likelihood, estimate, None if start is None else start[m], thorough)
            for m, likelihood in enumerate(self.population.likelihoods)
        ]
        return joined(
            self.population,
            estimate,
            np.stack([part[0] for part in found]),
            np.stack([part[1] for part in found]),
            np.stack([part[2] for part in found]),
            np.stack([part[3] for part in found]),
        )

    def gradient(self, evaluation: Evaluation) -> Gradient:
        """Return the derivatives of each subject's contribution, an id axis before all others.

        By Fisher's identity: posterior means of the derivatives of the joint density, on the same nodes;
        exact to the error of the quadrature. Entries of fixed parameters are zero.
        """
        parts = [
            self._component_gradient(likelihood, evaluation, m)
            for m, likelihood in enumerate(self.population.likelihoods)
        ]
        return joined_gradient(self.population, evaluation, parts)

    def _component(
        self,
        likelihood: ObservationLikelihood,
        estimate: Estimate,
        start: Array | None,
        thorough: bool = False,
    ) -> tuple[Array, Array, Array, NDArray[np.bool_]]:
        """Return contributions [id], modes, precision and whether converged, under one subpopulation."""
        n, n_eta = likelihood.n_subjects, likelihood.n_etas
        active = active_etas(estimate.omega)
        prior = prior_precision(estimate.omega[np.ix_(active, active)])
        if prior is None:
            nothing = np.zeros(n, dtype=bool)
            return np.full(n, np.inf), np.zeros((n, n_eta)), np.zeros((n, n_eta, n_eta)), nothing
        points = Points(likelihood, estimate, True)
        draws = self.draws if thorough or start is None else 0
        modes = find_modes(
            likelihood, estimate, start, draws=draws, seed=self.seed, points=points, thorough=thorough
        )
        own = modes.information[:, active[:, None], active]
        if self.curved and len(active):
            exact = half_second_derivative(points, modes.eta, own, active, self.displacement.second, 4)
            exact = exact + prior[0]
            usable = np.isfinite(log_determinant(exact))
            own = np.where(usable[:, None, None], exact, own)
            modes.information[:, active[:, None], active] = own
        eta = self._nodes(modes.eta, own, active)
        logs = self._log_joint(points(eta, "none").value, eta[..., active], prior[0])
        top = logs.max(0)
        sound = np.isfinite(top)
        total = np.log(np.exp(logs - np.where(sound, top, 0.0)).sum(0), where=sound, out=np.full(n, -np.inf))
        value = prior[1] + log_determinant(own) - 2.0 * (total + np.where(sound, top, -np.inf))
        return np.where(sound, value, np.inf), modes.eta, modes.information, modes.converged

    def _component_gradient(
        self, likelihood: ObservationLikelihood, evaluation: Evaluation, m: int
    ) -> Gradient:
        estimate = evaluation.estimate
        active = active_etas(estimate.omega)
        prior = prior_precision(estimate.omega[np.ix_(active, active)])
        assert prior is not None, "gradients are taken where the objective is finite"
        points = Points(likelihood, estimate, True)
        eta = self._nodes(evaluation.modes[m], evaluation.precision[m][:, active[:, None], active], active)
        terms = points(eta, "eta+theta")
        logs = self._log_joint(terms.value, eta[..., active], prior[0])
        shares = np.exp(logs - logs.max(0))
        shares = shares / shares.sum(0)
        n, n_eta = likelihood.n_subjects, likelihood.n_etas
        theta, omega = np.zeros((n, len(estimate.theta))), np.zeros((n, n_eta, n_eta))
        theta[:, points.free_thetas] = _mean(shares, terms.gradient[..., n_eta:])
        sigma = _mean(shares, terms.sigma_gradient)
        pull = eta[..., active] @ prior[0]
        omega[:, active[:, None], active] = prior[0] - np.einsum("ki,kip,kiq->ipq", shares, pull, pull)

        def contributions(at: Estimate) -> Array:
            return self._component(likelihood, at, evaluation.modes[m])[0]

        if likelihood.reads_sigma:
            sigma = slopes_by_value(contributions, estimate, "sigma", likelihood.model.sigma)
        if likelihood.reads_omega:
            omega = slopes_by_value(contributions, estimate, "omega", likelihood.model.omega)
        return Gradient(theta, omega, sigma)

    def _nodes(self, mode: Array, precision: Array, active: NDArray[np.int64]) -> Array:
        """Return the etas at the nodes, [node, id, eta]."""
        root = np.linalg.cholesky(np.linalg.inv(precision))
        eta = np.tile(mode, (len(self.grid), 1, 1))
        eta[..., active] += np.einsum("ipq,kq->kip", root, self.grid)
        return eta

    def _log_joint(self, value: Array, eta: Array, prior: Array) -> Array:
        """Return the log of what is summed, [node, id]."""
        squares = np.einsum("kip,pq,kiq->ki", eta, prior, eta)
        own = self.log_weights + 0.5 * (self.grid * self.grid).sum(-1)
        logs = own[:, None] - 0.5 * (value + squares)
        return np.where(np.isnan(logs), -np.inf, logs)


def default_nodes(n_etas: int) -> int:
    """Return the number of nodes per random effect of the default grid."""
    nodes = 1
    while nodes + 2 <= MOST_NODES and (nodes + 2) ** n_etas <= GRID:
        nodes += 2
    return nodes


def grid(nodes: int, n_etas: int) -> tuple[Array, Array]:
    """Return nodes [node, eta] and log weights [node] for the standard normal density."""
    x, w = hermegauss(nodes)
    log_w = np.log(w) - 0.5 * np.log(2.0 * np.pi)
    index = np.array(list(product(range(nodes), repeat=n_etas)), dtype=np.int64).reshape(
        nodes**n_etas, n_etas
    )
    return x[index], log_w[index].sum(-1)


def _mean(shares: Array, values: Array) -> Array:
    """Return the mean over nodes of ``values`` [node, id, ...] where they are finite."""
    finite = np.where(np.isfinite(values), values, 0.0)
    return np.asarray(np.einsum("ki,ki...->i...", shares, finite))
