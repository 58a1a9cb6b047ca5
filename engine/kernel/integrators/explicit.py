"""One step of an explicit Runge-Kutta method for states and sensitivities together.

The functions that a step consists of are inlined into the loop of the integrator and take single arrays: a
call with a tuple of arrays costs more than a step of a small model (numba counts a reference to each array,
atomically).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..machine.bare import run_slopes
from ..machine.borrowed import inlined, matrix_at, vector_at
from ..machine.lanes import add_four, add_six, add_two
from .workspace import Slopes

Vector = NDArray[np.float64]
Matrix = NDArray[np.float64]
Rows = NDArray[np.int64]

# keeps a tolerance of zero apart from a division by zero
SMALLEST = 1e-300


@inlined
def combine(start: Vector, h: float, weights: Vector, rows: Rows, used: int, k: Matrix, out: Vector) -> None:
    """Set out to start + h sum_j weights[j] k[rows[j]], j < used: six rows in a sweep, then four."""
    if used <= 2:
        add_two(start, h, weights, rows, 0, k, out)
    elif used <= 4:
        add_four(start, h, weights, rows, 0, k, out)
    else:
        add_six(start, h, weights, rows, 0, k, out)
    for j in range(6, used, 4):
        add_four(out, h, weights, rows, j, k, out)


@inlined
def explicit_step(
    t: float,
    h: float,
    p: Vector,
    dp: Matrix,
    slopes: Slopes,
    weights: Matrix,
    rows: Rows,
    used: Rows,
    c: Vector,
    start: Vector,
    rates: Vector,
    k: Matrix,
    stage: Vector,
    stage_y: Vector,
    stage_dy: Matrix,
    before: Vector,
    driven: bool,
) -> None:
    """Move ``start``, whose slope is row 0 of k, by h into ``stage``.

    weights, rows, used: the coefficients as ``packed`` of :mod:`.tableau` makes them,
    the last row being the weights of the step; c [s + 1]. Afterwards row s of k is the slope at the end, and
    ``before`` holds the states of stage s - 1 (also at time t + h). The rows of k are without the constant
    input rates, which count where ``driven`` says that there are any. The other arrays:
    :class:`~elbomix.engine.kernel.integrators.workspace.Views`.
    """
    n, nq = stage_dy.shape
    last = c.size - 1
    for i in range(1, last + 1):
        if i == last:
            for m in range(n):
                before[m] = stage[m]
        combine(start, h, weights[i], rows[i], used[i], k, stage)
        if driven:
            for m in range(stage.size):
                stage[m] += h * c[i] * rates[m]
        at = i * stage.size
        f, df = vector_at(k, at, n), matrix_at(k, at + n, n, nq)
        run_slopes(slopes, t + c[i] * h, stage_y, stage_dy, p, dp, f, df)


@inlined
def largest_error(
    h: float,
    weights: Vector,
    rtol: float,
    atol: float,
    start: Vector,
    stage: Vector,
    floor: Vector,
    k: Matrix,
    n: int,
) -> float:
    """Return the largest |h sum_j weights[j] k[j]| of a state in units of its tolerance, or infinity.

    The largest and not the mean, so that idle compartments do not loosen the tolerance of the others.
    No state counts as smaller than its ``floor`` [n].
    """
    largest = 0.0
    for m in range(n):
        error = 0.0
        for j in range(weights.size):
            error += weights[j] * k[j, m]
        scale = max(abs(start[m]), abs(stage[m]), floor[m])
        error = abs(h * error) / (atol + rtol * scale + SMALLEST)
        if not error < np.inf:
            return np.inf
        largest = max(largest, error)
    return largest


@inlined
def is_stiff(
    h: float,
    limit: float,
    last: int,
    rtol: float,
    atol: float,
    start: Vector,
    stage: Vector,
    before: Vector,
    k: Matrix,
) -> bool:
    """Tell whether h times the largest eigenvalue of the Jacobian is above ``limit`` (Solving ODEs II, IV.2).

    The eigenvalue comes from the last two stages, both at the end of the step:
    |k_s - k_(s-1)| / |y_s - y_(s-1)|, scaled by tolerance.
    """
    above, below = 0.0, 0.0
    for m in range(before.size):
        inverse = 1.0 / (atol + rtol * max(abs(start[m]), abs(stage[m])) + SMALLEST)
        above += ((k[last, m] - k[last - 1, m]) * inverse) ** 2
        below += ((stage[m] - before[m]) * inverse) ** 2
    return h * h * above > limit * limit * below
