"""How far to displace etas and thetas for the second derivatives, which are differences of exact slopes.

Rounding divides by the displacement, the neglected terms grow with its square. The slopes of closed forms are
exact to rounding; those of integrated models to about 1e-10 while the integrator takes the same steps, and
small displacements rarely change these: measured, gradients of integrated models are the same to 1e-9 (1e-6
where steps do change) for displacements from 1e-4 to 1e-3, and worse beyond, with four points as with two.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..ir.compartment import OdeDynamics
from ..ir.model import Model


@dataclass(frozen=True)
class Displacement:
    """Displacements in standard deviations: for first differences (two points) and second ones (five)."""

    first: float
    second: float


# second differences of exact slopes: at 1, -1, 2, -2 displacements and in the middle
SECOND_MULTIPLES = np.array([1.0, -1.0, 2.0, -2.0])
SECOND_WEIGHTS = np.array([4.0 / 3.0, 4.0 / 3.0, -1.0 / 12.0, -1.0 / 12.0])
SECOND_MIDDLE = -2.5


def displacement_of(model: Model) -> Displacement:
    """Return the displacements that suit ``model``."""
    if isinstance(model.dynamics, OdeDynamics):
        return Displacement(3e-4, 2e-2)
    return Displacement(3e-5, 1e-2)
