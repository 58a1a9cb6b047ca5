"""The first-order objectives FO and FOI: the Laplace approximation taken at eta = 0.

Contribution of subject i (Beal and Sheiner; NONMEM Users Guide VII, sections II.A.1 and II.A.3)::

    O = D(0) + log|Omega| + log|H| - g' H^-1 g,   g = D_eta(0) / 2,   H = Omega^-1 + information(0)

With the residual variance that of eta = 0 (FO) this is the normal likelihood of the model linearised at
eta = 0, of covariance F Omega F' + V. With interaction (FOI) g and the information have the slopes of V, too.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ..estimate import Array, Estimate, Gradient
from ..failure import ModelFailure
from ..inner.mode import find_modes
from ..inner.precision import active_etas, prior_precision
from ..ir.task import Method
from .displacement import displacement_of
from .evaluation import Evaluation, joined, joined_gradient
from .observations import ObservationLikelihood
from .points import Points
from .population import Population
from .slopes import information_slopes, slopes_along, slopes_by_value, theta_scales


class FirstOrderObjective:
    """The objective of METHOD=0, with exact gradients. ``method`` is ``"fo"`` or ``"foi"``."""

    def __init__(self, population: Population, method: Method) -> None:
        if method not in ("fo", "foi"):
            raise ModelFailure(f"{method} is not a first-order method")
        self.population, self.method, self.interaction = population, method, method == "foi"
        self.displacement = displacement_of(population.model)

    def value(self, estimate: Estimate, start: Array | None = None, thorough: bool = False) -> Evaluation:
        """Return the objective; ``modes`` are those of the linearised model, see :meth:`posthoc`.

        ``start`` and ``thorough`` are not needed.
        """
        found = [self._component(likelihood, estimate) for likelihood in self.population.likelihoods]
        values, modes, precision = (np.stack(part) for part in zip(*found, strict=True))
        return joined(self.population, estimate, values, modes, precision, np.isfinite(values))

    def posthoc(self, evaluation: Evaluation) -> Evaluation:
        """Return ``evaluation`` with the conditional modes in place of the linearised ones."""
        found = [
            find_modes(likelihood, evaluation.estimate, evaluation.modes[m], interaction=self.interaction)
            for m, likelihood in enumerate(self.population.likelihoods)
        ]
        return replace(
            evaluation,
            modes=np.stack([m.eta for m in found]),
            precision=np.stack([m.information for m in found]),
            converged=np.asarray(np.stack([m.converged for m in found]).all(0)),
        )

    def gradient(self, evaluation: Evaluation) -> Gradient:
        """Return the exact derivatives of each subject's contribution, an id axis before all others.

        Entries of fixed parameters are zero; elements of omega outside its blocks carry no meaning.
        """
        parts = [
            self._component_gradient(likelihood, evaluation.estimate)
            for likelihood in self.population.likelihoods
        ]
        return joined_gradient(self.population, evaluation, parts)

    def _component(self, likelihood: ObservationLikelihood, estimate: Estimate) -> tuple[Array, Array, Array]:
        """Return contributions [id], linearised modes [id, eta] and precision [id, eta, eta]."""
        n, n_eta = likelihood.n_subjects, likelihood.n_etas
        eta, full = np.zeros((n, n_eta)), np.zeros((n, n_eta, n_eta))
        active = active_etas(estimate.omega)
        prior = prior_precision(estimate.omega[np.ix_(active, active)])
        if prior is None:
            return np.full(n, np.inf), eta, full
        terms = Points(likelihood, estimate, self.interaction)(eta[None], "eta")
        sound = np.isfinite(terms.value[0])
        own = np.where(sound[:, None, None], terms.information[0][:, active[:, None], active], 0.0) + prior[0]
        half = np.where(sound[:, None], 0.5 * terms.gradient[0][:, active], 0.0)
        moved = -np.linalg.solve(own, half[..., None])[..., 0]
        value = terms.value[0] + prior[1] + np.linalg.slogdet(own)[1] + (half * moved).sum(-1)
        eta[:, active], full[:, active[:, None], active] = moved, own
        return np.where(sound, value, np.inf), eta, full

    def _component_gradient(self, likelihood: ObservationLikelihood, estimate: Estimate) -> Gradient:
        n, n_eta, n_eps = likelihood.n_subjects, likelihood.n_etas, likelihood.n_eps
        theta = np.zeros((n, len(estimate.theta)))
        omega, sigma = np.zeros((n, n_eta, n_eta)), np.zeros((n, n_eps, n_eps))
        points = Points(likelihood, estimate, self.interaction)
        zero, free = np.zeros((n, n_eta)), points.free_thetas
        base = points(zero[None], "eta+theta")
        theta[:, free] = base.gradient[0, :, n_eta:]
        sigma += base.sigma_gradient[0]
        active = active_etas(estimate.omega)
        prior = prior_precision(estimate.omega[np.ix_(active, active)])
        assert prior is not None, "gradients are taken where the objective is finite"
        if len(active):
            own = base.information[0][:, active[:, None], active] + prior[0]
            moved = -0.5 * np.linalg.solve(own, base.gradient[0, :, active].T[..., None])[..., 0]
            metric = np.linalg.inv(own) + moved[:, :, None] * moved[:, None, :]
            scales = theta_scales(points, base.gradient[0, :, n_eta:])
            how = self.displacement
            by_theta, by_sigma = information_slopes(points, zero, metric, active, scales, how)
            along_theta, along_sigma = slopes_along(points, zero, moved, own, active, how)
            theta[:, free] += by_theta + along_theta
            sigma += by_sigma + along_sigma
            omega[:, active[:, None], active] = prior[0] - prior[0] @ metric @ prior[0]

        def contributions(at: Estimate) -> Array:
            return self._component(likelihood, at)[0]

        if likelihood.reads_sigma:
            sigma = slopes_by_value(contributions, estimate, "sigma", likelihood.model.sigma)
        if likelihood.reads_omega:
            omega = slopes_by_value(contributions, estimate, "omega", likelihood.model.omega)
        return Gradient(theta, omega, sigma)
