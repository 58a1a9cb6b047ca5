"""A model over a data set as the classical methods see it: likelihoods, active etas, mixture, prior."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ..estimate import Array, Estimate
from ..failure import ModelFailure
from ..ir.dataset import DataSet
from ..ir.model import Model
from ..ir.parameter import matrix
from .mixture import MixtureProbabilities
from .nesting import Nesting, NestingSettings
from .observations import ObservationLikelihood
from .prior import PriorPenalty


class Population:
    """Everything that does not change during a run.

    Attributes
    ----------
    likelihoods
        One :class:`ObservationLikelihood`, or one for each subpopulation of a mixture.
    active
        int64, etas (from 0) with non-zero variance; the others are zero.
    n_observations
        int64[id], observations of each subject.
    mixture
        Probabilities of the subpopulations, None where there are none.
    prior
        What the prior adds to the objective, None where there is none; a step that has none
        (:meth:`without_prior`) leaves it out.
    start_etas
        [id, eta], where searches for conditional modes and Markov chains may begin; None: at 0.
    nesting
        Random effects that groups of subjects share, None where there are none.
    """

    def __init__(
        self, model: Model, data: DataSet, threads: int = 1, start_etas: Array | None = None
    ) -> None:
        self.model, self.data, self.threads = model, data, threads
        self.start_etas = start_etas
        self.mixture = None if model.mixture is None else MixtureProbabilities(model, data)
        self.nesting = Nesting(model, data) if model.levels else None
        self.prior = None if model.prior is None else PriorPenalty(model)
        components = [None] if model.mixture is None else list(range(1, model.mixture.n + 1))
        self.likelihoods = tuple(ObservationLikelihood(model, data, threads, c) for c in components)
        variances = np.array([row[i] for i, row in enumerate(matrix(model.omega))])
        self.active: NDArray[np.int64] = np.flatnonzero(variances > 0)
        self.n_subjects = data.n_subjects
        self.n_observations = np.bincount(data.subject, data.is_observation, data.n_subjects).astype(np.int64)

    @property
    def likelihood(self) -> ObservationLikelihood:
        """The likelihood of a model that is no mixture."""
        if len(self.likelihoods) > 1:
            raise ModelFailure(
                "this method cannot fit mixtures of subpopulations",
                self.model.mixture.span if self.model.mixture else None,
            )
        return self.likelihoods[0]

    def normal_counts(self, estimate: Estimate) -> NDArray[np.int64]:
        """Return how many observations of each subject [id] have a normal density."""
        return self.likelihoods[0].normal_counts(estimate.theta, estimate.sigma, estimate.omega)

    def without_prior(self) -> Population:
        """Return the same population, its prior left out."""
        other = copy.copy(self)
        other.prior = None
        return other

    def without_start_etas(self) -> Population:
        """Return the same population, where searches begin at 0."""
        other = copy.copy(self)
        other.start_etas = None
        return other

    def with_nesting(self, settings: NestingSettings) -> Population:
        """Return the same population, its shared random effects made and weighed as ``settings`` say."""
        other = copy.copy(self)
        other.nesting = None if self.nesting is None else Nesting(self.model, self.data, settings)
        return other

    def given_shared_effects(self) -> Population:
        """Return the population whose objective is that given the effects that groups of subjects share.

        It alone says how certain the estimates are, as NONMEM has it too: the other counts groups as one.
        """
        if self.nesting is None:
            return self
        return self.with_nesting(replace(self.nesting.settings, averaged=False))

    def probabilities(self, theta: Array) -> tuple[Array, Array]:
        """Return prior probabilities of the subpopulations [id, component] and [.., theta] derivatives.

        NaN for a subject whose values are no probabilities at ``theta``.
        """
        if self.mixture is None:
            return np.ones((self.n_subjects, 1)), np.zeros((self.n_subjects, 1, len(theta)))
        return self.mixture(theta)
