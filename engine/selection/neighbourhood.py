"""Covariate selection by the real likelihood: EM with the exact L0 step on draws, then add, drop, swap.

The draws and the likelihoods of the observations at them are kept, so a candidate model costs some
EM steps on numbers in memory and no model evaluation. Unlike the encoder's means, reweighted draws are
not shrunken towards the model in hand.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from ..estimate import Array, Estimate
from ..ir.effects import Effect
from ..methods.mstep import EffectPenalty, L0Problem
from ..methods.sample_em import SampleEM
from ..objective.joint import Joint
from ..objective.sampling import effective_sample_size

Support = NDArray[np.bool_]

EM_TOLERANCE = (
    1e-2  # in -2 log-likelihood: what is left is extrapolated; differences of interest are above 0.1
)
EM_STEPS = 200
SERVING = 0.25  # of the draws: mean effective sample size below which a model's likelihood is not believed
ANNEALING = 6  # EM steps over which a climb brings the price to its value
HOPELESS = 2.0  # BICc above the best known, by twice the extrapolated gain, at which a candidate is dropped


@dataclass(frozen=True)
class Scored:
    """One covariate model on the draws: its support, estimates and -2 log-likelihood."""

    support: Support
    estimate: Estimate
    minus_two_ll: float

    def bicc(self, price: Array) -> float:
        """Return BICc up to what all models share."""
        return self.minus_two_ll + float(price[self.support].sum())


class CovariateSearch:
    """All covariate models of one run on one set of draws.

    ``base`` (``"draw id"``) is log p(y | z) - log q(z), with the residual model at its current estimate.
    """

    def __init__(
        self,
        joint: Joint,
        z: Tensor,
        base: Tensor,
        penalty: EffectPenalty,
        candidates: Sequence[Effect],
        start: Estimate,
    ) -> None:
        self.penalty, self.candidates = penalty, candidates
        self.em = SampleEM(joint, z, base, start)
        self.known: dict[bytes, Scored] = {}

    def climb(self, start: Estimate, support: Support) -> Support:
        """Return where EM with the exact L0 step ends from ``support``, the price annealed to 1.

        From below (few effects) the price starts at 2, from above at 0, so that both sides are tried.
        """
        first = 0.0 if support.mean() > 0.5 else 2.0
        estimate = self.score(support, start).estimate
        for step in range(EM_STEPS):
            times = first + (1.0 - first) * min(step / ANNEALING, 1.0)
            _, mean, covariance = self.em.e_step(estimate)
            price = EffectPenalty(
                self.penalty.thetas, times * self.penalty.price, self.penalty.forced, self.penalty.forbidden
            )
            before = support
            estimate, problem = self.em.penalised_m_step(estimate, mean, covariance, price, support)
            support = problem.solution.support
            if step > ANNEALING and (support == before).all():
                break
        return support

    def score(self, support: Support, start: Estimate, rival: float = math.inf) -> Scored:
        """Return the maximum likelihood of the model with exactly ``support`` on the draws.

        EM stops early where it heads for a BICc well above ``rival``.
        """
        key = support.tobytes()
        if key in self.known:
            return self.known[key]
        price = float(self.penalty.price[support].sum())
        out = frozenset(j for j, inside in zip(self.penalty.thetas, support, strict=True) if not inside)
        _, mean, covariance = self.em.e_step(start)
        estimate = self.em.m_step(start, mean, covariance, out)  # now it has just these effects
        value = gain = math.inf
        for _ in range(EM_STEPS):
            now, mean, covariance = self.em.e_step(estimate)
            before, gain, value = gain, value - now, now
            if math.isfinite(before):
                # EM gains shrink geometrically: what is left is about gain * rate / (1 - rate)
                rate = min(max(gain / before, 0.0), 0.97) if before > 0 else 0.0
                left = gain * rate / (1.0 - rate)
                if left < EM_TOLERANCE:
                    value -= left
                    break
                if value + price - 2.0 * left > rival + HOPELESS:
                    return Scored(support.copy(), estimate, value)
            estimate = self.em.m_step(estimate, mean, covariance, out)
        self.known[key] = Scored(support.copy(), estimate, value)
        return self.known[key]

    def search(self, start: Estimate, support: Support) -> Scored:
        """Return the best model found from several starts."""
        penalty = self.penalty
        best: Scored | None = None
        for begin in (support, penalty.forced, ~penalty.forbidden):
            reached = self.climb(start, (begin | penalty.forced) & ~penalty.forbidden)
            scored = self.descend(self.score(reached, start))
            better = best is None or scored.bicc(penalty.price) < best.bicc(penalty.price) - 1e-9
            if best is None or (better and self.serves(scored)):
                best = scored
        assert best is not None
        return best

    def serves(self, scored: Scored) -> bool:
        """Return whether the draws still tell the likelihood of a model, by their effective number."""
        share = effective_sample_size(self.em.weights(scored.estimate)) / len(self.em.z)
        return float(share.mean()) > SERVING

    def problem(self, scored: Scored) -> L0Problem:
        """Return the L0 problem of an M-step at ``scored``, solved."""
        _, mean, covariance = self.em.e_step(scored.estimate)
        return self.em.penalised_m_step(scored.estimate, mean, covariance, self.penalty, scored.support)[1]

    def descend(self, current: Scored) -> Scored:
        """Return the model that no single add, drop or swap improves in BICc."""
        price = self.penalty.price
        while True:
            best = current
            for support in self.neighbours(current.support):
                scored = self.score(support, current.estimate, best.bicc(price))
                if scored.bicc(price) < best.bicc(price) - 1e-6 and self.serves(scored):
                    best = scored
            if best is current:
                return current
            current = best

    def neighbours(self, support: Support) -> list[Support]:
        """Return the supports one add, drop or swap away that respect forced and forbidden pairs.

        A swap moves an effect to another covariate of its parameter or to another parameter.
        """
        movable = np.flatnonzero(~self.penalty.forced & ~self.penalty.forbidden)
        inside = [int(j) for j in movable if support[j]]
        outside = [int(j) for j in movable if not support[j]]
        singles = [[int(j)] for j in movable]
        swaps = [[i, o] for i in inside for o in outside if self._related(i, o)]
        found = []
        for change in singles + swaps:
            other = support.copy()
            other[change] = ~other[change]
            found.append(other)
        return found

    def _related(self, i: int, o: int) -> bool:
        a, b = self.candidates[i], self.candidates[o]
        return a.eta == b.eta or a.covariate == b.covariate

    def toggles(self, best: Scored) -> Array:
        """Return for every candidate BICc with it toggled minus BICc of ``best`` (NaN if not allowed)."""
        price = self.penalty.price
        changes = np.full(len(price), np.nan)
        for j in np.flatnonzero(~self.penalty.forced & ~self.penalty.forbidden):
            other = best.support.copy()
            other[j] = ~other[j]
            changes[j] = self.score(other, best.estimate).bicc(price) - best.bicc(price)
        return changes
