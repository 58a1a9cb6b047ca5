"""Quasi-Newton minimisation: BFGS, weak Wolfe line search (Nocedal and Wright 2006, chapters 3 and 6).

scipy has one too; importing it, and what pyomo then pulls in with it, takes a tenth of a small run.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ..estimate import Array

Objective = Callable[[Array], tuple[float, Array]]

SUFFICIENT = 1e-4  # share of the predicted decrease that a step must reach
CURVATURE = 0.9  # share of the slope that may be left at its end


@dataclass(frozen=True)
class Minimum:
    """The best point, its value, and whether the gradient vanished there."""

    point: Array
    value: float
    converged: bool
    iterations: int


def minimise(
    objective: Objective,
    start: Array,
    *,
    tolerance: float = 1e-3,
    max_iterations: int = 100,
    longest: float = 2.0,
) -> Minimum:
    """Return the minimum of ``objective`` (value and gradient) near ``start``.

    Stops where the largest gradient component is below ``tolerance`` or no step along the search direction
    lowers the value. Values that are not finite are steps too far; no step is first tried beyond the
    Euclidean length ``longest``, so that a far start is not thrown into the basin of another minimum.
    """
    point = np.asarray(start, dtype=float).copy()
    value, gradient = objective(point)
    inverse = np.eye(len(point)) * min(1.0, longest / max(float(np.linalg.norm(gradient)), 1e-300))
    fresh = True
    for iteration in range(max_iterations):
        if np.abs(gradient).max(initial=0.0) < tolerance:
            return Minimum(point, value, True, iteration)
        direction = -inverse @ gradient
        direction *= min(1.0, longest / max(float(np.linalg.norm(direction)), 1e-300))
        found = _line_search(objective, point, value, gradient, direction)
        if found is None:
            if fresh:
                return Minimum(point, value, False, iteration)
            inverse, fresh = np.eye(len(point)) * min(1.0, longest / float(np.linalg.norm(gradient))), True
            continue
        new_point, value, new_gradient = found
        step, change = new_point - point, new_gradient - gradient
        curvature = float(step @ change)
        if curvature > 1e-12 * float(np.linalg.norm(step) * np.linalg.norm(change)):
            if fresh:
                inverse = np.eye(len(point)) * curvature / float(change @ change)
            projection = np.eye(len(point)) - np.outer(step, change) / curvature
            inverse = projection @ inverse @ projection.T + np.outer(step, step) / curvature
            fresh = False
        point, gradient = new_point, new_gradient
    return Minimum(point, value, False, max_iterations)


def _line_search(
    objective: Objective, point: Array, value: float, gradient: Array, direction: Array
) -> tuple[Array, float, Array] | None:
    """Return a point that meets the weak Wolfe conditions by bisection, or the best decrease on the way."""
    slope = float(gradient @ direction)
    if slope >= 0:
        return None
    low, high, size = 0.0, np.inf, 1.0
    best: tuple[Array, float, Array] | None = None
    for _ in range(30):
        trial = point + size * direction
        new, new_gradient = objective(trial)
        if not np.isfinite(new) or new > value + SUFFICIENT * size * slope:
            high = size
        else:
            if best is None or new < best[1]:
                best = (trial, new, new_gradient)
            if float(new_gradient @ direction) >= CURVATURE * slope:
                return trial, new, new_gradient
            low = size
        size = 0.5 * (low + high) if np.isfinite(high) else 2.0 * size
        if high - low < 1e-10:
            break
    return best
