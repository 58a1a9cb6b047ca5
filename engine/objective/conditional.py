"""The conditional objectives: FOCE, FOCE with interaction, Laplace, Laplace with interaction.

Contribution of subject i (Wang 2007, equations 13 to 17), at the conditional mode eta of its own::

    O = D(eta) + eta' Omega^-1 eta + log|Omega| + log|H|

D is -2 log p(y | eta); H is Omega^-1 plus the expected information (FOCE) or plus half the exact second
derivative of D (Laplace). Without interaction the residual variance is that of eta = 0.
"""

from __future__ import annotations

import numpy as np

from ..estimate import Array, Estimate, Gradient
from ..failure import ModelFailure
from ..inner.mode import Modes, find_modes
from ..inner.precision import active_etas, half_second_derivative, log_determinant, prior_precision
from ..ir.task import Method
from .conditional_gradient import component_gradient
from .displacement import displacement_of
from .evaluation import Evaluation, joined, joined_gradient
from .observations import ObservationLikelihood
from .points import Points
from .population import Population

METHODS = ("foce", "focei", "laplace", "laplacei")


class ConditionalObjective:
    """The objective of METHOD=1 and its relatives, with exact gradients.

    Parameters
    ----------
    method
        ``"foce"``, ``"focei"``, ``"laplace"`` or ``"laplacei"``.
    draws, seed
        Random starts of the search for each mode where none is given, and of a thorough one.
    """

    def __init__(self, population: Population, method: Method, draws: int = 0, seed: int = 0) -> None:
        if method not in METHODS:
            raise ModelFailure(f"{method} is not a conditional method")
        self.population, self.method = population, method
        self.interaction = method in ("focei", "laplacei")
        self.second_order = method in ("laplace", "laplacei")
        self.draws, self.seed = draws, seed
        self.displacement = displacement_of(population.model)

    def value(self, estimate: Estimate, start: Array | None = None, thorough: bool = False) -> Evaluation:
        """Return the objective at ``estimate``; ``start`` [component, id, eta] are modes nearby.

        Without them the population's own are tried besides 0. ``thorough``: 0 is tried besides those given,
        and of two modes the one of higher density is kept.
        """
        if start is None and self.population.start_etas is not None:
            start, thorough = np.stack([self.population.start_etas] * len(self.population.likelihoods)), True
        found = [
            self._component(likelihood, estimate, None if start is None else start[m], thorough)
            for m, likelihood in enumerate(self.population.likelihoods)
        ]
        return joined(
            self.population,
            estimate,
            np.stack([by_subject for by_subject, _ in found]),
            np.stack([modes.eta for _, modes in found]),
            np.stack([modes.information for _, modes in found]),
            np.stack([modes.converged for _, modes in found]),
        )

    def gradient(self, evaluation: Evaluation, also: Array | None = None) -> Gradient:
        """Return the exact derivatives of each subject's contribution (Almquist et al. 2015).

        An id axis stands before all others. Entries of fixed parameters are zero; elements of omega outside
        its blocks carry no meaning. ``also`` [id, eta] are derivatives to the modes of something that depends
        on the parameters through the modes alone and is added to the contributions.
        """
        parts = []
        for m, likelihood in enumerate(self.population.likelihoods):

            def contributions(at: Estimate, m: int = m) -> Array:
                return self._component(self.population.likelihoods[m], at, evaluation.modes[m])[0]

            parts.append(
                component_gradient(
                    self.points(likelihood, evaluation.estimate),
                    evaluation.modes[m],
                    evaluation.precision[m],
                    self.second_order,
                    self.displacement,
                    contributions,
                    also,
                )
            )
        return joined_gradient(self.population, evaluation, parts)

    def points(self, likelihood: ObservationLikelihood, estimate: Estimate) -> Points:
        """Return the likelihood at ``estimate`` as a function of the random effects searched for."""
        return Points(likelihood, estimate, self.interaction)

    def _component(
        self,
        likelihood: ObservationLikelihood,
        estimate: Estimate,
        start: Array | None,
        thorough: bool = False,
    ) -> tuple[Array, Modes]:
        """Return the contributions [id] under one subpopulation and the modes."""
        n, n_eta = likelihood.n_subjects, likelihood.n_etas
        active = active_etas(estimate.omega)
        prior = prior_precision(estimate.omega[np.ix_(active, active)])
        if prior is None:
            square = np.zeros((n, n_eta, n_eta))
            nothing = Modes(np.zeros((n, n_eta)), np.full(n, np.inf), square, square, np.zeros(n, dtype=bool))
            return nothing.value, nothing
        points = self.points(likelihood, estimate)
        draws = self.draws if thorough or start is None else 0
        modes = find_modes(
            likelihood, estimate, start, draws=draws, seed=self.seed, points=points, thorough=thorough
        )
        if not len(active):
            return modes.value, modes
        known = modes.known[:, active[:, None], active]
        if self.second_order:
            own = modes.information[:, active[:, None], active]
            known = half_second_derivative(points, modes.eta, own, active, self.displacement.second, 4)
            modes.information[:, active[:, None], active] = known + prior[0]
        # log|Omega| + log|H| as one determinant, which is well conditioned where omega is almost singular
        root = np.linalg.cholesky(estimate.omega[np.ix_(active, active)])
        together = np.eye(len(active)) + root.T @ known @ root
        return modes.value + log_determinant(together), modes
