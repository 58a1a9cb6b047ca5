"""The moment from which a held variable is no longer set.

A variable such as W of ``IF (T.LE.84) W = A(1)`` follows the solution up to a moment and keeps its value from
then on. A step across that moment would keep the value of its beginning, an error that no error estimate
sees. So steps are halved until one begins where the variable is set and ends where it is not.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..machine.caching import jit
from .workspace import Hold

Vector = NDArray[np.float64]
Matrix = NDArray[np.float64]

# the step across, in units of the time and the way to go
SHARP = 1e-11


@jit
def _probe(
    t: float, y: Vector, p: Vector, held: int, hold: Hold, no_dy: Matrix, no_dp: Matrix, way: float
) -> Vector:
    """Return 1 for each held variable that is set at this point whatever it was, -1 where it is kept, else 0.

    ``way``: 1 or -1, to which side its value before is moved.
    """
    first = p.size - held
    moved, found = p.copy(), np.zeros(held)
    for i in range(first, p.size):
        moved[i] += way * (1e-3 * abs(p[i]) + 1e-12)
    before = moved.copy()
    plain = p.copy()
    hold(t, y, no_dy, moved, no_dp)
    hold(t, y, no_dy, plain, no_dp)
    for i in range(held):
        if moved[first + i] == plain[first + i]:
            found[i] = 1.0
        elif moved[first + i] == before[first + i] and plain[first + i] == p[first + i]:
            found[i] = -1.0
    return found


@jit
def comes_to_rest(
    t0: float,
    y0: Vector,
    t1: float,
    y1: Vector,
    p: Vector,
    held: int,
    hold: Hold,
    no_dy: Matrix,
    no_dp: Matrix,
) -> bool:
    """Return whether a variable is set at ``t0``, and at ``t1`` keeps what it was."""
    above, below = (
        _probe(t0, y0, p, held, hold, no_dy, no_dp, 1.0),
        _probe(t0, y0, p, held, hold, no_dy, no_dp, -1.0),
    )
    after_above, after_below = (
        _probe(t1, y1, p, held, hold, no_dy, no_dp, 1.0),
        _probe(t1, y1, p, held, hold, no_dy, no_dp, -1.0),
    )
    for i in range(held):
        set_before = above[i] == 1.0 and below[i] == 1.0
        if set_before and after_above[i] == -1.0 and after_below[i] == -1.0:
            return True
    return False
