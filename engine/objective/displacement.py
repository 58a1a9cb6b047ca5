"""How far to displace etas, thetas and sigmas for the second derivatives, which are differences of exact slopes.

Rounding divides by the displacement, the neglected terms grow with its square (fourth power with four points);
the slopes of closed forms are exact to rounding, those of integrated models to about 1e-10, whatever the
tolerance (the steps that an integrator chooses move little with the parameters).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..estimate import Array
from ..ir.compartment import OdeDynamics
from ..ir.model import Model


@dataclass(frozen=True)
class Displacement:
    """Displacements in standard deviations: for first differences, for second ones, points on a side."""

    first: float
    second: float
    points: int

    @property
    def multiples(self) -> Array:
        """Multiples of a displacement at which a first difference looks: 1, -1 or 1, 2, -1, -2."""
        side = np.arange(1.0, self.points + 1)
        return np.concatenate([side, -side])

    @property
    def weights(self) -> Array:
        """Weights of the values there, to be divided by the displacement."""
        side = np.array([0.5]) if self.points == 1 else np.array([2.0 / 3.0, -1.0 / 12.0])
        return np.concatenate([side, -side])


# second differences of exact slopes, always with four points: at 1, -1, 2, -2 displacements and in the middle
SECOND_MULTIPLES = np.array([1.0, -1.0, 2.0, -2.0])
SECOND_WEIGHTS = np.array([4.0 / 3.0, 4.0 / 3.0, -1.0 / 12.0, -1.0 / 12.0])
SECOND_MIDDLE = -2.5


def displacement_of(model: Model) -> Displacement:
    """Return the displacements that suit ``model``."""
    if isinstance(model.dynamics, OdeDynamics):
        return Displacement(2e-2, 5e-2, 2)
    return Displacement(3e-5, 1e-2, 1)
