"""Error control of states that only feed others.

The last traces of an absorption compartment decay exponentially, and to hold the error of each trace to a
fraction of it takes small steps for ever. Where nobody looks at such a state, and all that reads it is a
constant times it in the slopes of other states, its error decays too, and passes on to state i at most
J_ij / |J_jj| of itself. So the error of a feeder j is measured by its own size or by what its receivers make
of it, whichever is larger.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..machine.borrowed import inlined

Vector = NDArray[np.float64]
Matrix = NDArray[np.float64]
Links = NDArray[np.int64]

# of a receiver's own tolerance, what one step of a feeder may use up
SHARE = 0.1


@inlined
def passing_on(feeders: Links, jacobian: Matrix, passing: Vector) -> None:
    """Put |J_jj| / |J_ij| of each link j to i into ``passing``, 0 where j does not decay."""
    for a in range(feeders.shape[0]):
        j, i = feeders[a, 0], feeders[a, 1]
        loss, gain = -jacobian[j, j], abs(jacobian[i, j])
        passing[a] = SHARE * loss / gain if loss > 0.0 and gain > 0.0 else 0.0


@inlined
def tolerated(feeders: Links, passing: Vector, start: Vector, floor: Vector) -> None:
    """Put what each feeder counts as at least into ``floor``: its links in a row, its receivers' before."""
    for a in range(feeders.shape[0]):
        j, i = feeders[a, 0], feeders[a, 1]
        allowed = passing[a] * max(abs(start[i]), floor[i])
        first = a == 0 or feeders[a - 1, 0] != j
        floor[j] = allowed if first else min(floor[j], allowed)
