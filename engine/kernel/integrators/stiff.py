"""One step of a stiffly accurate, L-stable ESDIRK method with its exactly differentiated sensitivities.

Stage i solves y = e_i + h gamma f(t_i, y) by Newton's method, e_i being the explicit part with the input
rates. Differentiating that equation gives (I - h gamma J_i) dk_i = J_i de_i + f_p dp at the stage's own
Jacobian J_i: a linear system per stage whose right-hand side is the total derivative that ``slopes`` returns
for dy = de_i (staggered direct method: Caracotsios and Stewart, Computers & Chemical Engineering 9 (1985)
359).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..machine.bare import run_slopes
from ..machine.borrowed import inlined, matrix_at
from ..machine.caching import jit
from .explicit import SMALLEST, combine
from .lu import factor, solve, solve_columns
from .workspace import Jacobian, Slopes, Views

Vector = NDArray[np.float64]
Matrix = NDArray[np.float64]
Rows = NDArray[np.int64]
Pivots = NDArray[np.int64]

NEWTON_ITERATIONS = 10
# Newton's error relative to the tolerance: small, because the error estimate and the sensitivities rest on it
NEWTON_TOLERANCE = 0.003
# chord iterations slower than this get a fresh Jacobian
SLOW = 0.2


@inlined
def factor_stage(
    t: float, y: Vector, p: Vector, h_gamma: float, jacobian: Jacobian, lu: Matrix, pivots: Pivots
) -> bool:
    """Put the factors of I - h gamma J(t, y) into lu and pivots; False when singular or not finite."""
    jacobian(t, y, p, lu)
    for i in range(y.size):
        for j in range(y.size):
            lu[i, j] *= -h_gamma
        lu[i, i] += 1.0
    return factor(lu, pivots)


@inlined
def solve_stage(
    t: float,
    h_gamma: float,
    p: Vector,
    slopes: Slopes,
    jacobian: Jacobian,
    explicit_part: Vector,
    rtol: float,
    atol: float,
    work: Views,
) -> bool:
    """Solve y = explicit_part + h gamma f(t, y) from the guess in ``work.stage_y``; False: failed."""
    n = explicit_part.size
    y, step = work.stage_y, work.correction
    size_before = 0.0
    for iteration in range(NEWTON_ITERATIONS):
        run_slopes(slopes, t, y, work.no_dy, p, work.no_dp, work.slope_y, work.no_dy)
        for m in range(n):
            step[m] = explicit_part[m] + h_gamma * work.slope_y[m] - y[m]
        solve(work.lu, work.pivots, step)
        size = 0.0
        for m in range(n):
            y[m] += step[m]
            scale = atol + rtol * max(abs(work.start[m]), abs(y[m])) + SMALLEST
            # below the rounding of y no correction means anything
            excess = abs(step[m]) - 4e-16 * abs(y[m])
            if not np.isfinite(step[m]):
                return False
            size = max(size, excess / scale)
        if size <= NEWTON_TOLERANCE * 1e-3:
            return True
        if iteration > 0:
            ratio = size / size_before
            if ratio < 1.0 and size * ratio / (1.0 - ratio) <= NEWTON_TOLERANCE:
                return True
            if ratio > SLOW and not factor_stage(t, y, p, h_gamma, jacobian, work.lu, work.pivots):
                return False
        size_before = size
    return False


@inlined
def stiff_step(
    t: float,
    h: float,
    p: Vector,
    dp: Matrix,
    slopes: Slopes,
    jacobian: Jacobian,
    weights: Matrix,
    rows: Rows,
    used: Rows,
    c: Vector,
    gamma: float,
    predictor: Matrix,
    rtol: float,
    atol: float,
    work: Views,
    driven: bool,
) -> bool:
    """Move ``work.start``, with its slope in row 0 of ``work.k``, by h into ``work.stage``.

    weights, rows, used: the coefficients below the diagonal as ``packed`` of
    :mod:`.tableau` makes them, gamma the diagonal, c [s]; the last stage is the end of
    the step. predictor [s, s]: weights of the first guesses. rtol, atol set the accuracy of Newton's method.
    Afterwards row s - 1 of ``work.k`` is the slope at the end. Return False when Newton's method fails.
    """
    n, nq = work.stage_dy.shape
    h_gamma = h * gamma
    start, k, stage, stage_y = work.start, work.k, work.stage, work.stage_y
    explicit_part = work.error
    if not factor_stage(t, start[:n], p, h_gamma, jacobian, work.lu, work.pivots):
        return False
    for i in range(1, c.size):
        t_i = t + c[i] * h
        combine(start, h, weights[i], rows[i], used[i], k, stage)
        if driven:
            for m in range(stage.size):
                stage[m] += h * c[i] * work.rates[m]
        for m in range(n):
            explicit_part[m] = stage[m]
            guess = c[i] * work.rates[m]
            for j in range(i):
                guess += predictor[i, j] * k[j, m]
            stage[m] = start[m] + h * guess
        if not solve_stage(t_i, h_gamma, p, slopes, jacobian, explicit_part, rtol, atol, work):
            return False
        for m in range(n):
            k[i, m] = (stage[m] - explicit_part[m]) / h_gamma
        if nq > 0:
            # factors of its own: Newton's method must not depend on whether derivatives are wanted
            if not factor_stage(t_i, stage_y, p, h_gamma, jacobian, work.stage_lu, work.stage_pivots):
                return False
            slope_dy = matrix_at(k, i * stage.size + n, n, nq)
            run_slopes(slopes, t_i, stage_y, work.stage_dy, p, dp, work.slope_y, slope_dy)
            solve_columns(work.stage_lu, work.stage_pivots, slope_dy)
            for m in range(n, stage.size):
                stage[m] += h_gamma * k[i, m]
    return True


@jit
def spectral_radius(a: Matrix, spare: Matrix) -> float:
    """Return an upper bound of the largest absolute eigenvalue of a: |a^16|^(1/16) in the 1-norm.

    A power, because the norm of a itself is far too large where states have different units. a and spare [n,
    n] are overwritten.
    """
    n = a.shape[0]
    size, power = 1.0, 1.0  # a is what was given, to this power, over this size
    for _ in range(5):
        largest = 0.0
        for i in range(n):
            for j in range(n):
                largest = max(largest, abs(a[i, j]))
        if not (largest > 0.0 and largest < np.inf):
            return largest
        size *= largest ** (1.0 / power)
        for i in range(n):
            for j in range(n):
                spare[i, j] = a[i, j] / largest
        if power == 16.0:
            break
        power *= 2.0
        a[:, :] = 0.0
        for i in range(n):
            for m in range(n):
                if spare[i, m] != 0.0:
                    for j in range(n):
                        a[i, j] += spare[i, m] * spare[m, j]
    norm = 0.0
    for j in range(n):
        column = 0.0
        for i in range(n):
            column += abs(spare[i, j])
        norm = max(norm, column)
    return size * float(norm ** (1.0 / power))
