"""Minimisation of a sum of contributions with exact gradients: BFGS in a trust region, within a box.

The first matrix of second derivatives is the covariance of the contributions' gradients, which is right to
first order near the optimum of a likelihood (Berndt, Hall, Hall and Hausman 1974), so few iterations are
needed; later ones follow Powell's damped update (Nocedal and Wright 2006, procedure 18.2), steps their
algorithm 4.1. Where the update lost its way, the matrix is made anew, at last from differences of gradients.
A function that is no sum begins from its gradient alone. scipy has such searches too; importing it, and what
pyomo then pulls in with it, takes a tenth of a small run.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np

from ..estimate import Array

FLOOR = 1e-2  # least second derivative to a scaled parameter: below it nothing is known of the parameter
SUFFICIENT = 1e-4  # share of the predicted decrease that a step must reach
CURVATURE = 0.9  # share of the slope that may be left at its end
NEAR = 0.5  # length of a step within which the scores' matrix is trusted
FEW = 2  # contributions a parameter, below which their gradients cannot tell its curvature
TRIALS = 30
SMALL = 1e-3  # component of a step
STEEP = 0.1  # slope against the edge of where the function has values: no minimum
DIFFERENCE = 1e-3  # step between gradients, in scaled parameters
RESTARTS = 8
WORTH = 100  # predicted decreases at the end that a new matrix must have brought to be made again

Ended = Literal["converged", "evaluations", "rounding", "infinite"]
Source = Literal["gradient", "scores", "differences"]


@runtime_checkable
class Function(Protocol):
    """A sum of contributions of scaled parameters; ``memory`` is what an evaluation leaves for the next."""

    def value(self, point: Array, memory: Any) -> tuple[float, Any]:
        """Return the sum, infinite where there is none, and what to remember."""
        ...

    def scores(self, point: Array, memory: Any) -> Array:
        """Return each contribution's gradient [contribution, parameter] where ``value`` left ``memory``."""
        ...


class Single:
    """A function that is no sum: one contribution, whose value and gradient come from one call."""

    def __init__(self, objective: Callable[[Array], tuple[float, Array]]) -> None:
        self.objective = objective

    def value(self, point: Array, memory: Any) -> tuple[float, Array]:
        """Return the value and, to be remembered, the gradient."""
        return self.objective(point)

    def scores(self, point: Array, memory: Any) -> Array:
        """Return the gradient as that of the only contribution."""
        gradient: Array = memory[None]
        return gradient


@dataclass(frozen=True, eq=False)
class Visited:
    """A point where value and gradient are known."""

    point: Array
    value: float
    scores: Array
    memory: Any

    @property
    def gradient(self) -> Array:
        """The gradient of the sum."""
        total: Array = self.scores.sum(0)
        return total


@dataclass(frozen=True, eq=False)
class Minimum:
    """The best point, how the search ended, and what it knew of the curvature there.

    ``step`` is the step that was still predicted, ``decrease`` what it would have gained.
    """

    best: Visited
    ended: Ended
    evaluations: int
    hessian: Array
    step: Array
    decrease: float


@dataclass(frozen=True)
class Limits:
    """Where a search may go and when it ends: predicted ``decrease`` of the value, number of evaluations.

    No step is first tried beyond the Euclidean length ``longest``, so that a far start is not thrown into the
    basin of another minimum.
    """

    lower: Array
    upper: Array
    decrease: float = 1e-5
    max_evaluations: int | None = None
    longest: float = 1.0

    @classmethod
    def none(cls, size: int, decrease: float, max_evaluations: int, longest: float = 1.0) -> Limits:
        """Return limits of a search that may go everywhere."""
        infinite = np.full(size, np.inf)
        return cls(-infinite, infinite, decrease, max_evaluations, longest)


Watcher = Callable[[int, Visited, float], None]  # iteration, where, predicted decrease


def minimise(
    function: Function,
    start: Array,
    limits: Limits,
    watch: Watcher | None = None,
    memory: Any = None,
    curvature: Array | None = None,
) -> Minimum:
    """Return the minimum of ``function`` near ``start``; ``memory`` is what an evaluation nearby left.

    ``curvature``: second derivatives to begin with, where they are known.
    """
    with np.errstate(over="ignore", invalid="ignore"):  # far from any minimum gradients can be of any size
        return _Search(function, limits, watch, curvature).run(start, memory)


class _Search:
    def __init__(
        self, function: Function, limits: Limits, watch: Watcher | None, curvature: Array | None
    ) -> None:
        self.function, self.limits, self.watch, self.curvature = function, limits, watch, curvature
        self.lower, self.upper = limits.lower.copy(), limits.upper.copy()
        self.single = isinstance(function, Single)  # whose scores tell nothing of the curvature
        self.evaluations = self.iteration = 0

    def run(self, start: Array, memory: Any) -> Minimum:
        value, memory = self.evaluate(start, memory)
        finite = np.isfinite(value)
        scores = self.function.scores(start, memory) if finite else np.full((1, len(start)), np.nan)
        at = Visited(start, value, scores, memory)
        ended: Ended = "infinite"
        hessian = np.eye(len(start))
        if np.isfinite(scores).all():
            self.note(at, np.inf)
            at, hessian, ended = self.descend_again(at)
        step, decrease = np.zeros(len(start)), np.inf
        if ended != "infinite":
            step, decrease = self.predict(hessian, at, np.inf)
            walled = (self.lower != self.limits.lower) | (self.upper != self.limits.upper)
            if ended == "converged" and (np.abs(at.gradient[walled]) > STEEP).any():
                ended = "rounding"
        return Minimum(at, ended, self.evaluations, hessian, step, decrease)

    def descend_again(self, at: Visited) -> tuple[Visited, Array, Ended]:
        """Descend until nothing is left to gain, with a new matrix of second derivatives each time."""
        source: Source = "scores" if self.is_near(at) else "gradient"
        hessian = np.eye(len(at.point))
        ended: Ended = "rounding"
        for _ in range(RESTARTS):
            begun = at.value
            if self.curvature is None:
                hessian = self.hessian(at, source)
            else:
                hessian, source, self.curvature = _positive(self.curvature), "differences", None
            at, hessian, why = self.descend(at, hessian, source)
            if self.single:
                source = "gradient"
            if why == "near":
                source = "scores"
                continue
            ended = why
            progress = begun - at.value > WORTH * self.limits.decrease
            if self.single:
                if ended == "rounding" and progress:
                    continue
                break
            if ended == "evaluations" or (source == "differences" and not (progress and ended == "rounding")):
                break
            if ended == "converged":
                # updates can hide a direction in which they never went; the scores cannot
                if self.predict(cross_product(at.scores), at, np.inf)[1] < 10 * self.limits.decrease:
                    break
                source = "scores" if progress and len(at.scores) > FEW * len(at.point) else "differences"
            else:
                source = "differences"
        return at, hessian, ended

    def hessian(self, at: Visited, source: Source) -> Array:
        """Return a first matrix of second derivatives."""
        if source == "scores":
            return cross_product(at.scores)
        if source == "differences":
            return self.differences(at)
        return np.eye(len(at.point)) * max(float(np.linalg.norm(at.gradient)) / self.limits.longest, 1.0)

    def is_near(self, at: Visited) -> bool:
        """Return whether the scores tell of an optimum close by."""
        if self.single:
            return False
        step, _ = self.predict(cross_product(at.scores), at, np.inf)
        return float(np.linalg.norm(step)) < NEAR

    def descend(
        self, at: Visited, hessian: Array, source: Source
    ) -> tuple[Visited, Array, Ended | Literal["near"]]:
        """Descend from ``at`` until the predicted decrease is small, or steps no longer lower the value.

        A search that began with the gradient alone ends where the scores begin to tell more ("near").
        """
        fresh = source == "gradient"
        while True:
            decrease = self.predict(hessian, at, np.inf)[1]
            if decrease < self.limits.decrease:
                return at, hessian, "converged"
            if self.limits.max_evaluations is not None and self.evaluations >= self.limits.max_evaluations:
                return at, hessian, "evaluations"
            if source == "gradient" and not fresh and self.is_near(at):
                return at, hessian, "near"
            step = self.predict(hessian, at, self.limits.longest)[0]
            found = self.line_search(at, step)
            if found is None:
                if self.wall(at, step):
                    continue
                return at, hessian, "rounding"
            step, change = found.point - at.point, found.gradient - at.gradient
            if fresh and step @ change > 0:
                hessian, fresh = np.eye(len(step)) * float(change @ change) / float(step @ change), False
            hessian = updated(hessian, step, change)
            at = found
            self.iteration += 1
            self.note(at, decrease)

    def line_search(self, at: Visited, step: Array) -> Visited | None:
        """Return a point along ``step`` that meets the weak Wolfe conditions, or the best on the way."""
        slope = float(at.gradient @ step)
        with np.errstate(divide="ignore", invalid="ignore"):
            room = np.where(step > 0, (self.upper - at.point) / step, (self.lower - at.point) / step)
        longest = float(np.min(np.where(step != 0, room, np.inf), initial=np.inf))
        low, high, size = 0.0, np.inf, min(1.0, longest)
        best: Visited | None = None
        cliff = False  # whether the function ends between here and ``high``: no place to creep up to
        if slope >= 0:
            return None
        for _ in range(TRIALS):
            point = np.clip(at.point + size * step, self.lower, self.upper)
            value, memory = self.evaluate(point, at.memory)
            if not value <= at.value + SUFFICIENT * size * slope:
                high, cliff = size, not np.isfinite(value)
                share = _shrunk((value - at.value) / size, slope) if low == 0.0 else 0.5
                size = low + share * (high - low)
            else:
                scores = self.function.scores(point, memory)
                if not np.isfinite(scores).all():
                    high, cliff, size = size, True, 0.5 * (low + size)
                    continue
                found = Visited(point, value, scores, memory)
                best = found if best is None or value < best.value else best
                if float(found.gradient @ step) >= CURVATURE * slope or size >= longest or cliff:
                    return found
                low = size
                size = 0.5 * (low + high) if np.isfinite(high) else min(2.0 * size, longest)
            if high - low < 1e-9:
                break
        return best

    def wall(self, at: Visited, step: Array) -> bool:
        """Bound the parameters that a failed step would carry, each alone, to where there is no value."""
        found = False
        for k in np.flatnonzero(np.abs(step) > SMALL):
            point = at.point.copy()
            point[k] += step[k]
            if not np.isfinite(self.evaluate(point, at.memory)[0]):
                (self.upper if step[k] > 0 else self.lower)[k] = at.point[k]
                found = True
        return found

    def evaluate(self, point: Array, memory: Any) -> tuple[float, Any]:
        self.evaluations += 1
        return self.function.value(point, memory)

    def note(self, at: Visited, decrease: float) -> None:
        if self.watch is not None:
            self.watch(self.iteration, at, decrease)

    def predict(self, hessian: Array, at: Visited, radius: float) -> tuple[Array, float]:
        """Return the step within ``radius`` and the box, and the decrease it should bring.

        Where the step would leave the box, the quadratic model is minimised over it by an active-set method
        (Nocedal and Wright, section 16.5).
        """
        down, up = self.lower - at.point, self.upper - at.point
        step = np.zeros(len(at.point))
        loose = np.ones(len(step), dtype=bool)
        for _ in range(3 * len(step)):
            rest = at.gradient + hessian @ np.where(loose, 0.0, step)
            step[loose] = trust_step(hessian[np.ix_(loose, loose)], rest[loose], radius)
            beyond = loose & ((step < down) | (step > up))
            step = np.clip(step, down, up)
            loose &= ~beyond
            if not beyond.any():
                slopes = at.gradient + hessian @ step
                inward = ~loose & (((step >= up) & (slopes > 0)) | ((step <= down) & (slopes < 0)))
                if not inward.any():
                    break
                loose[np.argmax(np.where(inward, np.abs(slopes), -1.0))] = True
        return step, max(-float(at.gradient @ step + 0.5 * step @ hessian @ step), 0.0)

    def differences(self, at: Visited) -> Array:
        """Return the second derivatives at a point from differences of gradients."""
        n = len(at.point)
        hessian = cross_product(at.scores)
        for k in range(n):
            ends = []
            for sign in (1.0, -1.0):
                point = at.point.copy()
                point[k] = np.clip(point[k] + sign * DIFFERENCE, self.lower[k], self.upper[k])
                value, memory = self.evaluate(point, at.memory)
                if np.isfinite(value):
                    ends.append((point[k], self.function.scores(point, memory).sum(0)))
            if len(ends) == 2 and ends[0][0] > ends[1][0]:
                hessian[k] = (ends[0][1] - ends[1][1]) / (ends[0][0] - ends[1][0])
        return _positive(0.5 * (hessian + hessian.T))


def cross_product(scores: Array) -> Array:
    """Return half the sum of outer products of the contributions' gradients about their mean.

    Of contributions to -2 log L it estimates the second derivative. Eigenvalues below a floor are the floor.
    """
    centred = scores - scores.mean(0)
    return _positive(0.5 * centred.T @ centred)


def trust_step(hessian: Array, gradient: Array, radius: float) -> Array:
    """Return the step of at most length ``radius`` that lowers the quadratic model most."""
    if not len(gradient):
        return np.zeros(0)
    values, vectors = np.linalg.eigh(hessian)
    values = np.maximum(values, 1e-3 * FLOOR)
    slopes = vectors.T @ gradient
    along, shift = -slopes / values, 0.0
    for _ in range(60):
        length = float(np.linalg.norm(along))
        if length <= radius * (1 + 1e-3):
            break
        # Newton's method on 1 / length, which is almost linear in the shift (Nocedal and Wright, 4.3)
        shift += length**2 / float((along**2 / (values + shift)).sum()) * (length - radius) / radius
        along = -slopes / (values + shift)
    step: Array = vectors @ along
    return step


def updated(hessian: Array, step: Array, change: Array) -> Array:
    """Return the matrix after Powell's damped BFGS update; it stays positive definite."""
    image = hessian @ step
    curvature, seen = float(step @ image), float(step @ change)
    if curvature <= 0:
        return hessian
    share = 1.0 if seen >= 0.2 * curvature else 0.8 * curvature / (curvature - seen)
    damped = share * change + (1 - share) * image
    made: Array = hessian - np.outer(image, image) / curvature
    return made + np.outer(damped, damped) / float(step @ damped)


def _positive(hessian: Array) -> Array:
    """Return the matrix with eigenvalues of no sign, and none below the floor."""
    values, vectors = np.linalg.eigh(hessian)
    made: Array = (vectors * np.maximum(np.abs(values), FLOOR)) @ vectors.T
    return made


def _shrunk(rise: float, slope: float) -> float:
    """Return the share of a failed step to try next: the minimum of the parabola through what is known."""
    if not np.isfinite(rise):
        return 0.25
    curvature = rise - slope
    return float(np.clip(-0.5 * slope / curvature, 0.1, 0.5)) if curvature > 0 else 0.5
