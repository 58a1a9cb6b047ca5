"""The steady state under a constant input: f(t, y, p) + r = 0, and its derivatives.

Pseudo-transient continuation (Kelley and Keyes, SIAM Journal on Numerical Analysis 35 (1998) 508): linearly
implicit Euler steps that grow, so that the way follows the trajectory from the start to the steady state that
the system would reach, and Newton's method in the end.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..machine.bare import run_slopes
from ..machine.caching import jit
from .explicit import SMALLEST
from .integrate import FINE, NO_EQUILIBRIUM, NOT_FINITE, SENSITIVITY_NOT_FINITE, SINGULAR
from .lu import factor, solve, solve_columns
from .workspace import Jacobian, Slopes, Views, Workspace, views

Vector = NDArray[np.float64]
Matrix = NDArray[np.float64]

ITERATIONS = 400
# growth of the pseudo-time step after a good step and its cut after a bad one
GROW, CUT = 4.0, 0.1
# a step is good, or good enough, when the residual is this near to its linear prediction, in units of the
# last one
GOOD, ENOUGH = 0.25, 0.7
# how far a state may cross zero in a step, in units of its largest size so far: behind the pole of a
# saturable elimination lies another branch, where amounts are negative
CROSSING = 1e-3
# steps longer than this many times the slowest visible time are Newton's
NEWTON = 1e12


@jit
def _residual(t: float, p: Vector, slopes: Slopes, work: Views) -> float:
    """Put f + r at ``work.stage_y`` into ``work.error`` and return its largest entry, or infinity."""
    run_slopes(slopes, t, work.stage_y, work.no_dy, p, work.no_dp, work.slope_y, work.no_dy)
    largest = 0.0
    for m in range(work.error.size):
        work.error[m] = work.slope_y[m] + work.rates[m]
        if not np.isfinite(work.error[m]):
            return np.inf
        largest = max(largest, abs(work.error[m]))
    return largest


@jit
def _linearise(t: float, p: Vector, jacobian: Jacobian, work: Views) -> float:
    """Put J into ``work.stage_lu`` and return its largest entry.

    A state that nothing moves (a compartment switched off) is held: its row becomes that of minus the
    identity.
    """
    n = work.stage_y.size
    matrix = work.stage_lu
    jacobian(t, work.stage_y, p, matrix)
    largest = 0.0
    for i in range(n):
        row = 0.0
        for j in range(n):
            row = max(row, abs(matrix[i, j]))
        if row == 0.0 and work.error[i] == 0.0:
            matrix[i, i] = -1.0
            work.before[i] = 1.0
        else:
            work.before[i] = 0.0
        largest = max(largest, row)
    return largest


@jit
def _factor_shifted(shift: float, work: Views) -> bool:
    """Put the factors of shift I - J into ``work.lu``."""
    n = work.stage_y.size
    for i in range(n):
        for j in range(n):
            work.lu[i, j] = -work.stage_lu[i, j]
        work.lu[i, i] += shift
    return factor(work.lu, work.pivots)


@jit
def _is_singular(work: Views) -> bool:
    """Tell whether J has no inverse to working precision."""
    if not _factor_shifted(0.0, work):
        return True
    smallest, largest = np.inf, 0.0
    for i in range(work.stage_y.size):
        smallest = min(smallest, abs(work.lu[i, i]))
        largest = max(largest, abs(work.lu[i, i]))
    return smallest < 1e-15 * largest


@jit
def solve_equilibrium(
    t: float,
    y: Vector,
    dy: Matrix,
    r: Vector,
    dr: Matrix,
    p: Vector,
    dp: Matrix,
    slopes: Slopes,
    jacobian: Jacobian,
    settings: Vector,
    work: Workspace,
) -> int:
    """Replace y [n] by the steady state that the system tends to from y, dy [n, nq] by its derivatives.

    Arguments as in :func:`.integrate.integrate`; t is the one time at which f is taken.
    The derivatives solve J dy = -(f_p dp + dr). A state that nothing moves keeps its value and its
    derivatives. Return a status; y and dy are changed only when it is 0.
    """
    n, nq = dy.shape
    v = views(work, n, p.size, nq)
    rtol, atol = max(settings[0], 1e-13), settings[1]
    for m in range(n):
        v.stage_y[m] = y[m]
        v.rates[m] = r[m]
    residual = _residual(t, p, slopes, v)
    if not residual < np.inf:
        return NOT_FINITE
    peak = v.k[0]
    for m in range(n):
        peak[m] = abs(y[m])
    step, fastest = 0.0, 0.0
    singular, converged = False, False
    for _ in range(ITERATIONS):
        fastest = _linearise(t, p, jacobian, v)
        if not fastest < np.inf:
            return NOT_FINITE
        if step == 0.0:
            step = 1.0 / max(fastest, SMALLEST)
            singular = _is_singular(v)
        newton = step * fastest > NEWTON
        shift = 0.0 if newton else 1.0 / step
        if not _factor_shifted(shift, v):
            step *= CUT
            continue
        for m in range(n):
            v.correction[m] = v.error[m]
            v.start[m] = v.stage_y[m]
        solve(v.lu, v.pivots, v.correction)
        size, crosses = 0.0, False
        for m in range(n):
            v.stage_y[m] += v.correction[m]
            amount = v.stage_y[m]
            crosses = crosses or (amount * v.start[m] < 0.0 and abs(amount) > CROSSING * peak[m])
            excess = abs(v.correction[m]) - 4e-16 * abs(v.stage_y[m])
            size = max(size, excess / (atol + rtol * abs(v.stage_y[m]) + SMALLEST))
        found = _residual(t, p, slopes, v)
        # linear prediction of the residual: f + J s = s / step
        apart = 0.0
        for m in range(n):
            apart = max(apart, abs(v.error[m] - shift * v.correction[m]))
        if crosses or not found < np.inf or not (apart <= ENOUGH * residual or size <= 1.0):
            for m in range(n):
                v.stage_y[m] = v.start[m]
            residual = _residual(t, p, slopes, v)
            step *= CUT
            continue
        if newton and size <= 0.01:
            converged = True
            break
        if apart <= GOOD * residual or size <= 1.0:
            step *= GROW
        residual = found
        for m in range(n):
            peak[m] = max(peak[m], abs(v.stage_y[m]))
        # close to the solution, straight on with Newton's method
        if size * rtol < 1e-3:
            step = max(step, 1.01 * NEWTON / max(fastest, SMALLEST))
    _linearise(t, p, jacobian, v)
    if not converged:
        return SINGULAR if singular else NO_EQUILIBRIUM
    if not _factor_shifted(0.0, v):
        return SINGULAR
    if nq > 0:
        v.stage_dy[:] = 0.0
        run_slopes(slopes, t, v.stage_y, v.stage_dy, p, dp, v.slope_y, v.slope_dy)
        for m in range(n):
            for q in range(nq):
                held = v.before[m] == 1.0
                v.slope_dy[m, q] = dy[m, q] if held else v.slope_dy[m, q] + dr[m, q]
        solve_columns(v.lu, v.pivots, v.slope_dy)
        for m in range(n):
            for q in range(nq):
                if not np.isfinite(v.slope_dy[m, q]):
                    return SENSITIVITY_NOT_FINITE
        dy[:] = v.slope_dy
    for m in range(n):
        y[m] = v.stage_y[m]
    return FINE
