"""The conditional objectives of a model with random effects that groups of subjects share.

Two rounds (:mod:`.nesting`): modes of all random effects as if they were the subjects' own; then the shared
ones, which are means of those, are held and the others found anew. The objective is that of the second round
with what the shared effects cost, or the mean of both rounds.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ..estimate import Array, Estimate, Gradient
from ..failure import ModelFailure
from ..ir.task import Method
from .conditional import ConditionalObjective
from .evaluation import Evaluation
from .nesting import Nesting
from .observations import ObservationLikelihood, Terms
from .points import Points
from .population import Population

DISPLACEMENT = 1e-3  # of the shared effects, in their standard deviations
Along = Literal["none", "eta", "eta+theta"]


@dataclass(frozen=True, eq=False)
class NestedEvaluation(Evaluation):
    """Both rounds: ``free`` of all effects, ``held`` given the ``shared`` ones [id, eta].

    ``modes`` have the shared effects in their places, ``precision`` zeros there.
    """

    free: Evaluation
    held: Evaluation
    shared: Array


class _Shifted(Points):
    """The likelihood at random effects that a known part is added to."""

    def __init__(
        self, likelihood: ObservationLikelihood, estimate: Estimate, interaction: bool, shift: Array
    ) -> None:
        super().__init__(likelihood, estimate, interaction)
        self.shift = shift

    def __call__(
        self,
        eta: Array,
        along: Along = "eta",
        theta: Array | None = None,
        wanted: NDArray[np.bool_] | None = None,
    ) -> Terms:
        return super().__call__(eta + self.shift, along, theta, wanted)

    def information_at(self, eta: Array, sigma: Array) -> Array:
        return super().information_at(eta + self.shift, sigma)


class _Held(ConditionalObjective):
    """The conditional objective given ``shift`` [id, eta] in the effects that have no variance."""

    shift: Array

    def points(self, likelihood: ObservationLikelihood, estimate: Estimate) -> Points:
        return _Shifted(likelihood, estimate, self.interaction, self.shift)

    @classmethod
    def at(cls, like: ConditionalObjective, shift: Array) -> _Held:
        """Return the objective ``like`` given ``shift``."""
        made = cls(like.population, like.method, like.draws, like.seed)
        made.shift = shift
        return made


class NestedObjective:
    """The objective of METHOD=1 and its relatives where groups share random effects, with exact gradients."""

    def __init__(
        self, population: Population, nesting: Nesting, method: Method, draws: int = 0, seed: int = 0
    ) -> None:
        likelihood = population.likelihood
        if likelihood.reads_omega or likelihood.reads_sigma:
            raise ModelFailure(
                "with random effects that groups share, statements cannot read OMEGA or SIGMA",
                population.model.levels[0].span,
            )
        self.population, self.nesting = population, nesting
        self.free = ConditionalObjective(population, method, draws, seed)
        self.share = 0.5 if nesting.settings.averaged else 0.0

    def value(
        self, estimate: Estimate, start: Array | None = None, thorough: bool = False
    ) -> NestedEvaluation:
        """Return the objective at ``estimate``; ``start`` [component, id, eta] are modes nearby."""
        nesting = self.nesting
        free = self.free.value(estimate, start, thorough)
        shared = nesting.shared(free.modes[0])
        held = _Held.at(self.free, shared).value(
            self._held(estimate), nesting.own(free.modes[0], shared)[None]
        )
        with np.errstate(invalid="ignore"):
            given = held.by_subject + nesting.cost(estimate.omega, shared)
            by_subject = given if self.share == 0.0 else self.share * (free.by_subject + given)
        by_subject = np.where(np.isfinite(free.by_subject + by_subject), by_subject, np.inf)
        return NestedEvaluation(
            estimate,
            float(by_subject.sum()),
            by_subject,
            held.modes + shared,
            held.precision,
            free.converged & held.converged,
            by_subject[None],
            held.weights,
            free,
            held,
            shared,
        )

    def gradient(self, evaluation: Evaluation) -> Gradient:
        """Return derivatives of the contributions, an id axis before all others.

        Shared effects depend on all subjects of a group: what that adds is counted with the subject that it
        comes from, so that the sum over subjects is exact and its parts are not.
        """
        assert isinstance(evaluation, NestedEvaluation)
        omega = evaluation.estimate.omega
        of_shared, of_omega = self.nesting.cost_slopes(omega, evaluation.shared)
        pulled = self.nesting.pulled(of_shared + self._held_slopes(evaluation))
        first = self.free.gradient(evaluation.free, pulled)
        if self.share == 0.0:
            without = self.free.gradient(evaluation.free)
            first = Gradient(
                first.theta - without.theta, first.omega - without.omega, first.sigma - without.sigma
            )
        second = _Held.at(self.free, evaluation.shared).gradient(evaluation.held)
        scale = self.share or 1.0
        return Gradient(
            scale * (first.theta + second.theta),
            scale * (first.omega + second.omega + of_omega),
            scale * (first.sigma + second.sigma),
        )

    def _held(self, estimate: Estimate) -> Estimate:
        return replace(estimate, omega=self.nesting.held(estimate.omega))

    def _held_slopes(self, evaluation: NestedEvaluation) -> Array:
        """Return the derivatives [id, eta] of the second round's contributions to the shared effects."""
        slopes = np.zeros_like(evaluation.shared)
        omega = evaluation.estimate.omega
        for k in self.nesting.outer:
            step = DISPLACEMENT * float(np.sqrt(omega[k, k]))
            if step == 0.0:
                continue
            ends = []
            for sign in (1.0, -1.0):
                shift = evaluation.shared.copy()
                shift[:, k] += sign * step
                moved = _Held.at(self.free, shift)
                ends.append(moved.value(evaluation.held.estimate, evaluation.held.modes).by_subject)
            slopes[:, k] = (ends[0] - ends[1]) / (2.0 * step)
        return slopes
