"""Standard errors of the population parameters, and the matrices they are made of."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
MatrixState = Literal[
    "not_computed", "sound", "indefinite", "singular", "singular_indefinite", "unobtainable"
]


@dataclass(frozen=True)
class Uncertainty:
    """Standard errors of the population parameters, in the order of :func:`~.estimate.names`.

    ``covariance`` is square over all parameters, rows and columns of fixed ones zero; ``se`` is NaN there.
    ``eigenvalues`` are those of the correlation matrix of the estimated ones, ascending.
    ``source`` says how it was computed.
    """

    covariance: Array
    se: Array
    eigenvalues: Array
    source: str

    @property
    def condition_number(self) -> float:
        """Largest over smallest eigenvalue of the correlation matrix."""
        if not len(self.eigenvalues) or self.eigenvalues[0] <= 0:
            return math.inf
        return float(self.eigenvalues[-1] / self.eigenvalues[0])


@dataclass(frozen=True)
class InformationMatrices:
    """What standard errors are made of, square over all parameters; zero rows of fixed and repeated ones.

    ``r``: observed information, half the second derivative of the OFV; ``s``: cross product of half the
    subjects' gradients; None where not computed or not finite. ``r_state`` and ``s_state``: whether there is
    a positive definite one, as it was computed.
    """

    r: Array | None
    s: Array | None
    r_state: MatrixState
    s_state: MatrixState
