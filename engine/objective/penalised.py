"""A deterministic objective with the prior of the population parameters added."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ..estimate import Array, Estimate, Gradient
from .evaluation import Evaluation, Objective
from .population import Population
from .prior import PriorPenalty


class PenalisedObjective:
    """``objective`` plus -2 log of the prior: ``ofv`` has it, the subjects' contributions do not.

    In gradients the prior's rows (:meth:`.prior.PriorPenalty.scores`) follow those of the subjects.
    """

    def __init__(self, objective: Objective, prior: PriorPenalty) -> None:
        self.objective, self.prior = objective, prior

    def value(self, estimate: Estimate, start: Array | None = None, thorough: bool = False) -> Evaluation:
        """Return the objective; ``start`` and ``thorough`` as in :class:`.evaluation.Objective`."""
        found = self.objective.value(estimate, start, thorough)
        return replace(found, ofv=found.ofv + self.prior.value(estimate))

    def gradient(self, evaluation: Evaluation) -> Gradient:
        """Return the derivatives of each subject's contribution, then of the prior in parts."""
        own, more = self.objective.gradient(evaluation), self.prior.scores(evaluation.estimate)
        return Gradient(
            np.concatenate([own.theta, more.theta]),
            np.concatenate([own.omega, more.omega]),
            np.concatenate([own.sigma, more.sigma]),
        )


def penalised(population: Population, objective: Objective) -> Objective:
    """Return ``objective`` with the prior of ``population`` where it has one."""
    return objective if population.prior is None else PenalisedObjective(objective, population.prior)
