"""Adaptive integration of an ODE model with forward sensitivities, explicit or stiff as the problem asks.

The calls of an event loop::

    work = workspace(n, n_p, nq)     (workspace.py) one per thread
    memory = np.zeros(MEMORY)        zeros for a new subject, then handed on from call to call
    settings = np.array([rtol, atol, max_steps, method, *signs])     method 0 automatic, 1 explicit, 2 stiff
    status = integrate(t0, t1, y, dy, r, dr, p, dp, slopes, jacobian, settings, memory, work, continued,
                       upstream, held, hold)

A status other than 0 is a key of ``REMEDIES``.

Error control is on the states; the sensitivities are the exact derivative of the discrete scheme with its
step sizes held fixed, so they converge with the states. States at rest would allow any step, even one beyond
the stability of an explicit method, which multiplies sensitivities without limit: none is taken. Settings of
the control: Hairer, Norsett, Wanner, Solving ODEs I (1993), II.4; Hairer, Wanner, Solving ODEs II (1996),
IV.2 (detection of stiffness).
"""

from __future__ import annotations

import numpy as np
from numba import types
from numpy.typing import NDArray

from ..held_variables import SHARP, comes_to_rest
from ..machine.bare import run_slopes
from ..machine.borrowed import borrowed, matrix_at, vector_at
from ..machine.caching import jit
from .cascade import set_floor, set_passing
from .explicit import explicit_step, is_stiff, largest_error
from .peaks import follow_peaks
from .stiff import spectral_radius, stiff_step
from .tableau import (
    DOP853_C,
    DOP853_E3,
    DOP853_E5,
    DOP853_ROWS,
    DOP853_USED,
    DOP853_WEIGHTS,
    ESDIRK_C,
    ESDIRK_E,
    ESDIRK_GAMMA,
    ESDIRK_PREDICTOR,
    ESDIRK_ROWS,
    ESDIRK_USED,
    ESDIRK_WEIGHTS,
    TSIT5_C,
    TSIT5_E,
    TSIT5_ROWS,
    TSIT5_USED,
    TSIT5_WEIGHTS,
)
from .workspace import Hold, Jacobian, Links, Slopes, Workspace, views

Vector = NDArray[np.float64]
Matrix = NDArray[np.float64]

_vector = types.float64[::1]
_matrix = types.float64[:, ::1]
SLOPES = types.FunctionType(types.void(types.float64, _vector, _matrix, _vector, _matrix, _vector, _matrix))
JACOBIAN = types.FunctionType(types.void(types.float64, _vector, _vector, _matrix))
HOLD = types.FunctionType(types.int64(types.float64, _vector, _matrix, _vector, _matrix))

FINE, TOO_MANY_STEPS, STEP_TOO_SMALL, NOT_FINITE, SENSITIVITY_NOT_FINITE = range(5)
BACKWARD = 5  # of events/steady_state.py
NO_EQUILIBRIUM, SINGULAR = 6, 7  # of equilibrium.py
CVODE_FAILED = 8  # of prediction/cvode.py
REMEDIES = {
    TOO_MANY_STEPS: (
        "The ODE solver used up its steps between two records.",
        "Allow more steps, ask for fewer digits (TOL), or look for rates that are far too fast.",
    ),
    STEP_TOO_SMALL: (
        "The step of the ODE solver shrank to nothing.",
        "A state runs off to infinity or the right-hand side jumps: check the equations and their values.",
    ),
    NOT_FINITE: (
        "The right-hand side of the ODE is not a number.",
        "Look for a division by zero, or a logarithm or power of an amount that is zero or negative.",
    ),
    SENSITIVITY_NOT_FINITE: (
        "A derivative of the right-hand side of the ODE is not a number.",
        "Look for a power or square root of an amount that is zero.",
    ),
    BACKWARD: (
        "The state before a steady-state dose with a lag beyond its interval cannot be found: back in time "
        "the amounts run off.",
        "Take whole intervals off the lag, or give the doses themselves.",
    ),
    NO_EQUILIBRIUM: (
        "No steady state was found.",
        "Check that the model can eliminate the constant input it is given.",
    ),
    SINGULAR: (
        "There is no single steady state: some compartment keeps all that enters it.",
        "Leave that compartment out, or give the doses themselves.",
    ),
    CVODE_FAILED: (
        "CVODE gave up between two records.",
        "Leave --solver at its default, whose own message says more.",
    ),
}

AUTOMATIC, EXPLICIT, STIFF = range(3)

# memory: what one call tells the next
STEP, METHOD, FLAGS, CALM, PATIENCE, TIME, LOG_ERROR, STEPS, STABLE, KNOWN = range(10)
MEMORY = 10

# at tolerances below this 8(5,3) beats 5(4): benchmarks/integrators.py
TIGHT = 1e-7
# h times the largest eigenvalue from which stability, not accuracy, is taken to limit the explicit step: six
# tenths of the real stability interval (3.5 and 6.4), because error control already holds back near its end
TSIT5_LIMIT, DOP853_LIMIT = 2.1, 3.8
# the same product that no explicit step goes beyond, a little inside the interval
TSIT5_STABLE, DOP853_STABLE = 3.0, 5.5
# the same product below which an explicit method does with no more work than the stiff one, by measurement
WORTHWHILE = 12.0
# stiff steps between looks at that
LOOK_EVERY = 8
# explicit steps for which a largest eigenvalue counts, and those after which a step that would grow beyond
# what it allows has it computed again: for states n that takes as long as n slopes
KNOWN_FOR, RECENT = 32, 8


@jit
def first_step(span: float, n: int, start: Vector, rates: Vector, k: Matrix) -> float:
    """Return an optimistic first step: a tenth of the time in which the states change by their own size."""
    size, speed = 0.0, 0.0
    for m in range(n):
        size = max(size, abs(start[m]))
        speed = max(speed, abs(k[0, m] + rates[m]))
    if size > 0.0 and speed * span > 0.1 * size:
        return 0.1 * size / speed
    return span


@jit
def integrate(
    t0: float,
    t1: float,
    y: Vector,
    dy: Matrix,
    r: Vector,
    dr: Matrix,
    p: Vector,
    dp: Matrix,
    slopes: Slopes,
    jacobian: Jacobian,
    settings: Vector,
    memory: Vector,
    work: Workspace,
    continued: bool,
    upstream: Links,
    held: int,
    hold: Hold,
) -> int:
    """Move the states y [n] and sensitivities dy [n, nq] in place from t0 to t1 and return a status.

    t1 may lie before t0: the way back is explicit, because what decays fast grows fast there.

    r [n], dr [n, nq]: constant input rates and their derivatives, added to the slopes. p [n_p], dp [n_p, nq]:
    parameters of the slopes. ``slopes(t, y, dy, p, dp, f, df)`` and ``jacobian(t, y, p, J)``: types
    ``SLOPES`` and ``JACOBIAN``. settings, memory, work: see the module. ``continued`` promises that y, dy, r,
    dr, p, dp, work and t0 are what the previous call with this memory left or had, so that its last slope
    serves again; False is always right. upstream [m, 2]: see :mod:`.cascade`. The last ``held`` of p keep
    values of their own: ``hold(t, y, dy, p, dp)`` sets them and their derivatives at t0 and after each step,
    and they are constant during a step. The last settings are a sign for each: 1 a running maximum, -1 a
    running minimum (:mod:`.peaks`), 0 neither. At nq = 0 no derivative is computed. When the status is not 0,
    y and dy are where it stopped.
    """
    n, nq = dy.shape
    if t1 == t0:
        return FINE
    way = 1.0 if t1 > t0 else -1.0
    rtol, atol = max(settings[0], 1e-13), settings[1]
    tight = rtol < TIGHT
    limit = DOP853_LIMIT if tight else TSIT5_LIMIT
    stable = DOP853_STABLE if tight else TSIT5_STABLE
    v = views(work, n, p.size, nq)
    start, rates, k, before = v.start, v.rates, v.k, v.before
    stage, stage_y, stage_dy = v.stage, v.stage_y, v.stage_dy
    p, dp = borrowed(p), borrowed(dp)
    driven = False
    for m in range(n):
        start[m] = y[m]
        rates[m] = r[m]
        driven = driven or r[m] != 0.0
        for q in range(nq):
            start[n + m * nq + q] = dy[m, q]
            rates[n + m * nq + q] = dr[m, q]
            driven = driven or dr[m, q] != 0.0

    method = int(settings[3])
    if way < 0.0:
        method = EXPLICIT
    elif method == AUTOMATIC:
        method = int(memory[METHOD]) if memory[METHOD] != 0.0 else EXPLICIT
    memory[METHOD] = method
    if memory[PATIENCE] == 0.0:
        memory[PATIENCE] = 15.0
    fresh = not (continued and memory[TIME] == t0 and memory[STEP] > 0.0)
    if fresh:
        stage[:] = start
        if held > 0:
            hold(t0, stage_y, stage_dy, p, dp)
        run_slopes(slopes, t0, stage_y, stage_dy, p, dp, vector_at(k, 0, n), matrix_at(k, n, n, nq))
        memory[LOG_ERROR], memory[KNOWN] = 0.0, 0.0
        if upstream.shape[0] > 0:
            jacobian(t0, stage_y, p, v.lu)
            set_passing(upstream, v.lu, v.passing)
    for m in range(n):
        if not np.isfinite(k[0, m]):
            return NOT_FINITE
    proposal = memory[STEP] if memory[STEP] > 0.0 else first_step(abs(t1 - t0), n, start, rates, k)

    t, status, rejected = t0, TOO_MANY_STEPS, False
    for _ in range(int(settings[2])):
        remaining = abs(t1 - t)
        if proposal * 1.1 >= remaining:
            size, arrives = remaining, True
        else:
            size, arrives = (proposal if 2.0 * proposal <= remaining else 0.5 * remaining), False
        unstable = False
        if method == EXPLICIT:
            known = memory[KNOWN]
            if known <= 0.0 or (size > memory[STABLE] and known <= KNOWN_FOR - RECENT):
                jacobian(t, vector_at(start, 0, n), p, v.lu)
                radius = spectral_radius(v.lu, v.stage_lu)
                memory[STABLE] = stable / radius if 0.0 < radius < np.inf else np.inf
                memory[KNOWN] = KNOWN_FOR
            if size > memory[STABLE]:
                unstable = size * stable > memory[STABLE] * WORTHWHILE
                size, arrives = memory[STABLE], False
            memory[KNOWN] -= 1.0
        h = way * size
        memory[STEPS] += 1.0
        set_floor(upstream, v.passing, start, v.floor)

        if method == STIFF:
            last, order = ESDIRK_C.size - 1, 5.0
            if stiff_step(
                t, h, p, dp, slopes, jacobian,
                ESDIRK_WEIGHTS, ESDIRK_ROWS, ESDIRK_USED, ESDIRK_C, ESDIRK_GAMMA, ESDIRK_PREDICTOR,
                rtol, atol, v, driven,
            ):  # fmt: skip
                error = largest_error(h, ESDIRK_E, rtol, atol, start, stage, v.floor, k, n)
            else:
                error = np.inf
        elif tight:
            last, order = DOP853_C.size - 1, 8.0
            explicit_step(
                t, h, p, dp, slopes, DOP853_WEIGHTS, DOP853_ROWS, DOP853_USED, DOP853_C,
                start, rates, k, stage, stage_y, stage_dy, before, driven,
            )  # fmt: skip
            error = largest_error(h, DOP853_E5, rtol, atol, start, stage, v.floor, k, n)
            damping = largest_error(h, DOP853_E3, rtol, atol, start, stage, v.floor, k, n)
            # Hairer's combination of the two estimates: e5^2 / sqrt(e5^2 + e3^2 / 100)
            if 0.0 < error < np.inf:
                error /= np.sqrt(1.0 + 0.01 * (damping / error) ** 2)
        else:
            last, order = TSIT5_C.size - 1, 5.0
            explicit_step(
                t, h, p, dp, slopes, TSIT5_WEIGHTS, TSIT5_ROWS, TSIT5_USED, TSIT5_C,
                start, rates, k, stage, stage_y, stage_dy, before, driven,
            )  # fmt: skip
            error = largest_error(h, TSIT5_E, rtol, atol, start, stage, v.floor, k, n)

        if not error <= 1.0:
            shrink = max(0.1, 0.9 * error ** (-1.0 / order)) if error < np.inf else 0.1
            proposal, rejected = size * shrink, True
            if t + 0.1 * proposal == t or proposal == 0.0:
                status = STEP_TOO_SMALL if error < np.inf else NOT_FINITE
                break
            continue

        if held > 0 and size > SHARP * (abs(t) + abs(t1 - t0)):
            here = vector_at(start, 0, n)
            if comes_to_rest(t, here, t + h, stage_y, p, held, hold, v.no_dy, v.no_dp):
                proposal, rejected = 0.5 * size, True
                continue

        # accepted; proportional-integral control of the next step
        log_error = np.log(max(error, 1e-10))
        grow = 0.9 * np.exp((0.2 * memory[LOG_ERROR] - 0.85 * log_error) / order)
        grow = min(10.0, max(0.2, grow))
        if rejected:
            grow = min(grow, 1.0)
        # a step cut short by t1 says nothing against a longer one
        proposal = max(proposal, size * grow) if grow == 10.0 and size < proposal else size * grow
        memory[LOG_ERROR], rejected = max(log_error, -9.2), False

        if settings[3] == AUTOMATIC and way > 0.0:
            if method == EXPLICIT:
                if unstable or is_stiff(h, limit, last, rtol, atol, start, stage, before, k):
                    memory[FLAGS] += 1.0
                    memory[CALM] = 0.0
                    if memory[FLAGS] >= memory[PATIENCE]:
                        method = STIFF
                        memory[FLAGS] = 0.0
                else:
                    memory[CALM] += 1.0
                    if memory[CALM] >= 6.0:
                        memory[FLAGS] = 0.0
            else:
                memory[CALM] += 1.0
                if memory[CALM] >= LOOK_EVERY:
                    memory[CALM] = 0.0
                    jacobian(t + h, stage_y, p, v.lu)
                    if proposal * spectral_radius(v.lu, v.stage_lu) < WORTHWHILE:
                        method = EXPLICIT
                        memory[PATIENCE] = min(2.0 * memory[PATIENCE], 1000.0)
            memory[METHOD] = method

        if held > 0 and way > 0.0:
            follow_peaks(
                t, h, last, p, dp, slopes, jacobian, settings, v, driven, method == STIFF, tight, held, hold
            )
        t = t1 if arrives else t + h
        if held > 0:
            hold(t, stage_y, stage_dy, p, dp)
            at = last * stage.size
            f, df = vector_at(k, at, n), matrix_at(k, at + n, n, nq)
            run_slopes(slopes, t, stage_y, stage_dy, p, dp, f, df)
        for m in range(stage.size):
            start[m] = stage[m]
            k[0, m] = k[last, m]
        if arrives:
            status = FINE
            break

    memory[STEP], memory[TIME] = proposal, t
    finite = True
    for m in range(n):
        y[m] = start[m]
        for q in range(nq):
            dy[m, q] = start[n + m * nq + q]
            finite = finite and np.isfinite(dy[m, q])
    return SENSITIVITY_NOT_FINITE if status == FINE and not finite else status
