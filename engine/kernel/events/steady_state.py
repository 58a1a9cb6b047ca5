"""Steady states: the fixed point of one dosing interval, and the equilibrium under an infusion without end.

The interval takes the amounts y at its start to M(y, theta). Newton's method solves M(y) = y with the
monodromy matrix M_y, whose columns are further directions of the forward sensitivities; for a linear
system one step is exact. At the solution (I - M_y) dy = M_theta gives the derivatives.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..integrators.integrate import BACKWARD
from ..integrators.lu import factor, solve, solve_columns
from ..machine.by_reference import by_reference
from ..machine.caching import jit
from ..status import FINE, INTEGRATION, NO_STEADY_STATE, STEADY_STATE_SINGULAR
from .administration import bolus, start_infusion, stop_infusion
from .motion import LINEAR, Design, Motion, Solver, copy_values, plan_transfers, put_parameters

Vector = NDArray[np.float64]
Matrix = NDArray[np.float64]
Integers = NDArray[np.int64]

PERIODS = 300  # dosing intervals tried before giving up
LATE_PERIODS = 8  # plain intervals between two tries of Newton's method
SETTLED = 1e-2  # largest correction at the end, in units of the tolerance
SINGULAR_PIVOT = 1e-12


@by_reference
class Regimen:
    """Doses repeated without end, and where in their cycle the steady state is wanted.

    The cycle begins at the record, ``enters`` before a dose (less than the interval) and ``ends`` before the
    end of an infusion, ``running`` infusions being under way.
    """

    compartment: int  # from 0
    infused: int
    value: float  # amount of a bolus, rate of an infusion
    interval: float
    enters: float
    ends: float
    running: int
    dvalue: Vector  # [nq]
    denters: Vector
    dends: Vector


@by_reference
class Steady:
    """Arrays to find steady states in."""

    motion: Motion  # of nq + n directions
    begin: Vector  # [n] where the interval begins
    matrix: Matrix  # [n, n]
    pivots: Integers
    step: Vector  # [n]
    columns: Matrix  # [n, nq]


@jit
def one_interval(
    t: float,
    regimen: Regimen,
    design: Design,
    motion: Motion,
    solver: Solver,
) -> int:
    """Take the motion through one dosing interval from time ``t``."""
    c = regimen.compartment
    motion.r[:] = 0.0
    motion.dr[:, :] = 0.0
    motion.flags[0] = 0
    nq = regimen.dvalue.size
    if regimen.infused == 1:
        motion.running[c] = regimen.running + 1  # so that rates never count as ended here
        motion.r[c] = regimen.running * regimen.value
        for q in range(nq):
            motion.dr[c, q] = regimen.running * regimen.dvalue[q]
    clock = t
    end = t + regimen.interval
    dose_due, stop_due = True, regimen.infused == 1
    while dose_due or stop_due:
        dose_first = dose_due and (not stop_due or regimen.enters <= regimen.ends)
        phase = regimen.enters if dose_first else regimen.ends
        status = solver.advance(
            clock, min(t + phase, end), design, motion, solver.slopes, solver.jacobian, solver.equilibrium
        )
        if status != FINE:
            return status
        clock = max(clock, min(t + phase, end))
        if dose_first and regimen.infused == 1:
            start_infusion(c, regimen.value, regimen.dvalue, regimen.denters, motion)
        elif dose_first:
            status = bolus(clock, c, regimen.value, regimen.dvalue, regimen.denters, design, motion, solver)
            if status != FINE:
                return status
        else:
            stop_infusion(c, regimen.value, regimen.dvalue, regimen.dends, motion)
        dose_due = dose_due and not dose_first
        stop_due = stop_due and dose_first
    return solver.advance(clock, end, design, motion, solver.slopes, solver.jacobian, solver.equilibrium)


@jit
def _prepare(design: Design, p: Vector, dp: Matrix, on: Integers, motion: Motion) -> None:
    """Give ``motion`` the parameters and the compartments that are on; no output compartment."""
    changed = False
    for i in range(design.n):
        changed = changed or motion.on[i] != on[i]
        motion.on[i] = on[i]
    motion.on[design.n] = 0
    if changed:
        plan_transfers(design, motion)
    put_parameters(design, p, dp, motion)


@jit
def _stays_empty(i: int, steady: Steady, nq: int) -> bool:
    """Return whether compartment ``i`` is empty whatever parameters and other compartments are.

    What such a one would make of amounts in it is no part of the solution, and nothing keeps the steps of an
    explicit method short enough for that to be right.
    """
    motion = steady.motion
    empty = steady.begin[i] == 0.0 and motion.y[i] == 0.0
    for q in range(motion.dy.shape[1]):
        empty = empty and (q == nq + i or motion.dy[i, q] == 0.0)
    return empty  # type: ignore[no-any-return]


@jit
def _well_conditioned(matrix: Matrix) -> bool:
    """Return whether no pivot of the factored ``matrix`` (entries of order 1) is as good as zero."""
    for i in range(matrix.shape[0]):
        if abs(matrix[i, i]) < SINGULAR_PIVOT:
            return False
    return True


@jit
def _scaled(values: Vector, around: Vector, settings: Vector) -> float:
    """Return the largest entry of ``values`` in units of the tolerance at ``around``."""
    largest = 0.0
    for i in range(values.size):
        unit = settings[1] + settings[0] * abs(around[i]) + 1e-300
        largest = max(largest, abs(values[i]) / unit)
        if not np.isfinite(values[i]):
            return np.inf
    return largest


@jit
def find_cycle(
    t: float,
    regimen: Regimen,
    design: Design,
    on: Integers,
    p: Vector,
    dp: Matrix,
    guess: Vector,
    steady: Steady,
    solver: Solver,
) -> int:
    """Find the amounts at the beginning of the cycle, ``begin``, and their derivatives, ``columns``."""
    n, nq, motion = design.n, dp.shape[1], steady.motion
    _prepare(design, p, dp, on, motion)
    motion.memory[:] = 0.0
    for i in range(n):
        steady.begin[i] = guess[i] if on[i] == 1 else 0.0
    best, plain = np.inf, 0
    for tried in range(PERIODS):
        copy_values(steady.begin, motion.y)
        motion.dy[:, :] = 0.0
        for i in range(n):
            motion.dy[i, nq + i] = float(on[i] * design.free[i])
        status = one_interval(t, regimen, design, motion, solver)
        if status != FINE:
            return status
        for i in range(n):
            steady.step[i] = (motion.y[i] - steady.begin[i]) * design.free[i]
        size = _scaled(steady.step, motion.y, design.settings)
        improved = size < 0.5 * best
        settled = size <= SETTLED
        if design.kind == LINEAR:  # one step is exact, but derivatives must be taken where it ends
            settled, improved = tried == 1 or nq == 0, True
        if plain > 0 and not settled:  # let time pass before Newton's method is tried again
            plain -= 1
            copy_values(motion.y, steady.begin)
            best = np.inf
            continue
        for i in range(n):
            for j in range(n):
                steady.matrix[i, j] = (1.0 if i == j else 0.0) - motion.dy[i, nq + j]
        for i in range(n):
            if _stays_empty(i, steady, nq):
                for j in range(n):
                    steady.matrix[j, i] = 1.0 if i == j else 0.0
        regular = factor(steady.matrix, steady.pivots) and _well_conditioned(steady.matrix)
        if not regular and (settled or design.kind == LINEAR):
            return STEADY_STATE_SINGULAR
        if regular:
            solve(steady.matrix, steady.pivots, steady.step)
            correction = _scaled(steady.step, motion.y, design.settings)
            stalled = not improved and (correction <= 10.0 or size <= 1.0)
            if settled or correction <= SETTLED or stalled:
                for i in range(n):
                    steady.begin[i] += steady.step[i]
                    for q in range(nq):
                        steady.columns[i, q] = motion.dy[i, q]
                solve_columns(steady.matrix, steady.pivots, steady.columns)
                return FINE
        wanted = regular and improved
        for i in range(n):  # no amount turns negative that the interval itself leaves positive
            kept = steady.begin[i] + steady.step[i] >= 0.0 or motion.y[i] < 0.0
            wanted = wanted and (kept or design.kind == LINEAR)
        if wanted:
            best = size
            for i in range(n):
                steady.begin[i] += steady.step[i]
        else:
            plain = LATE_PERIODS
            copy_values(motion.y, steady.begin)
    return NO_STEADY_STATE


@jit
def go_back(
    t: float,
    elapsed: float,
    regimen: Regimen,
    dlag: Vector,
    design: Design,
    steady: Steady,
    solver: Solver,
) -> int:
    """Follow the system from the dose that begins the cycle, ``elapsed`` after ``t``, back to ``t``.

    So PREDPP finds the steady state under a lag beyond the dosing interval: as if that dose had been given
    before, doses between are left out, and amounts may be negative.
    """
    c, nq, motion = regimen.compartment, dlag.size, steady.motion
    copy_values(steady.begin, motion.y)
    motion.dy[:, :] = 0.0
    motion.dy[:, :nq] = steady.columns
    motion.r[:] = 0.0
    motion.dr[:, :] = 0.0
    motion.flags[0] = 0
    if regimen.infused == 1:
        motion.r[c] = (regimen.running + 1) * regimen.value
        motion.dr[c, :nq] = (regimen.running + 1) * regimen.dvalue
    else:
        motion.y[c] += regimen.value
        motion.dy[c, :nq] += regimen.dvalue
    status = solver.velocity(t + elapsed, design, motion, solver.slopes, motion.f)
    if status != FINE:
        return status
    for q in range(nq):
        for i in range(design.n):
            motion.dy[i, q] -= motion.f[i] * dlag[q]
    status = solver.advance(
        t + elapsed, t, design, motion, solver.slopes, solver.jacobian, solver.equilibrium
    )
    if status != FINE:
        return INTEGRATION + BACKWARD
    copy_values(motion.y, steady.begin)
    steady.columns[:, :] = motion.dy[:, :nq]
    return FINE


@jit
def find_constant(
    t: float,
    compartment: int,
    rate: float,
    drate: Vector,
    design: Design,
    on: Integers,
    p: Vector,
    dp: Matrix,
    guess: Vector,
    steady: Steady,
    solver: Solver,
) -> int:
    """Find the same for an infusion that has always run; at a rate of 0 for what the model itself makes."""
    nq, motion = dp.shape[1], steady.motion
    _prepare(design, p, dp, on, motion)
    motion.r[:] = 0.0
    motion.dr[:, :] = 0.0
    motion.r[compartment] = rate
    for q in range(nq):
        motion.dr[compartment, q] = drate[q]
    for i in range(design.n):
        motion.y[i] = guess[i] if on[i] == 1 else 0.0
    status = solver.find_rest(t, design, motion, solver.slopes, solver.jacobian)
    if status == FINE:
        copy_values(motion.y, steady.begin)
        steady.columns[:, :] = motion.dy[:, :nq]
    return status


@jit
def new_steady(motion: Motion, n: int, nq: int) -> Steady:
    """Return arrays around a ``motion`` of nq + n directions."""
    return Steady(
        motion,
        np.zeros(n),
        np.zeros((n, n)),
        np.zeros(n, np.int64),
        np.zeros(n),
        np.zeros((n, nq)),
    )
