"""The event loop: takes a subject from record to record through everything that happens between them.

Order at equal times: a model time passes first, then additional and lagged doses enter, then comes the record
itself (NONMEM Users Guide VI, PREDPP). Lag, bioavailability, rate and duration of a dose and all its
additional doses are those of the dose record; where the individual model is run at dose times, all but the
lag are those of the moment the dose enters.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from ..linear.exponentials import prepare_sums, read_one, read_sums, start_sums
from ..linear.modes import any_input
from ..linear.systems import SERIES
from ..machine.borrowed import inlined, vector_at
from ..machine.caching import jit
from ..status import FINE
from .administration import any_nonzero, turn_on
from .course import PASSED, STARTED, TIME, Course, Events
from .dose_record import enter, enters_plainly
from .doses import STOP, TOLERANCE, clear, end_infusions, next_event, time_of
from .individual import Individual, Items, run_at_dose
from .motion import (
    HELD,
    INITIAL,
    NOT_SUMMABLE,
    SAME,
    SCALE,
    SUMMABLE,
    SUMS,
    Design,
    Motion,
    Solver,
    balance,
    clear_values,
    copy_values,
    empty,
    jump_in_time,
    output_slope,
    plan_transfers,
    put_parameters,
    ready,
)

Vector = NDArray[np.float64]
Matrix = NDArray[np.float64]
Cube = NDArray[np.float64]


@jit
def begin(
    time: float,
    fresh: bool,
    design: Design,
    course: Course,
    own: Individual,
    solver: Solver,
) -> int:
    """Start a subject at ``time`` or the model's start time before it; not ``fresh``: after a reset."""
    motion, psi, dpsi = course.motion, own.psi, own.dpsi
    clear(course.waiting)
    clear_values(motion.memory)
    for i in range(design.n):
        motion.running[i] = 0
    changed = motion.plan[0] == 0  # nothing planned yet
    for i in range(design.n + 1):
        changed = changed or motion.on[i] != design.initially_on[i]
        motion.on[i] = design.initially_on[i]
    if changed:
        plan_transfers(design, motion)
    motion.flags[:] = 0
    if fresh:
        for i in range(design.n_dynamic, motion.p.size):
            motion.p[i] = 0.0
            for q in range(motion.dout.size):
                motion.dp[i, q] = 0.0
    motion.out[0] = 0.0
    clear_values(motion.dout)
    passed = 0
    while passed < own.order.size and psi[passed, design.model_times[own.order[passed]]] <= time:
        passed += 1
    course.counts[PASSED] = passed
    put_parameters(design, psi[passed], dpsi[passed], motion)
    for i in range(design.n):
        empty(i, motion)
        slot = design.modifiers[i, INITIAL]
        if slot >= 0 and motion.on[i] == 1:
            motion.y[i] = motion.p[slot]
            for q in range(motion.dout.size):
                motion.dy[i, q] = motion.dp[slot, q]
    course.clock[TIME] = time
    course.counts[STARTED] = 1
    if design.start >= 0:
        start = motion.p[design.start]
        course.counts[STARTED] = int(start <= time)
        if fresh and start <= time:
            course.clock[TIME] = start
            return _set_going(start, design, motion, solver)
    return FINE


@jit
def _set_going(time: float, design: Design, motion: Motion, solver: Solver) -> int:
    """Let the amounts, that stood still before, move from ``time`` on."""
    motion.f[:] = 0.0
    status = solver.velocity(time, design, motion, solver.slopes, motion.g)
    if status == FINE:
        jump_in_time(design, 0.0, output_slope(design, motion, motion.g), motion.dp[design.start], motion)
    motion.flags[0] = 0
    return status


@jit
def restart_held(design: Design, motion: Motion, psi: Vector, dpsi: Matrix) -> None:
    """Give the variables that keep their values those that the individual model assigns at a record."""
    for i in range(design.held):
        slot, asks = design.restarts[i, 0], design.restarts[i, 1]
        if asks >= 0 and psi[asks] != 0.0:
            motion.flags[SAME] = 0
            motion.p[design.n_dynamic + i] = psi[slot]
            for q in range(motion.dout.size):
                motion.dp[design.n_dynamic + i, q] = dpsi[slot, q]


@inlined
def move_to(
    k: int,
    target: float,
    settled: bool,
    design: Design,
    events: Events,
    course: Course,
    items: Items,
    own: Individual,
    psi: Matrix,
    dpsi: Cube,
    solver: Solver,
) -> int:
    """Take the subject to the time ``target`` of record ``k`` while ``psi``, ``dpsi`` [pattern, ...] rule.

    ``settled``: they do already, and nothing on the way changes that.
    """
    motion, waiting, counts = course.motion, course.waiting, course.counts
    while True:
        passed = counts[PASSED]
        if not settled:
            put_parameters(design, psi[passed], dpsi[passed], motion)
        now = course.clock[TIME]
        place = next_event(waiting)
        due = time_of(waiting, place) if place >= 0 else np.inf
        slot = design.model_times[own.order[passed]] if passed < own.order.size else -1
        change = psi[passed, slot] if slot >= 0 else np.inf
        following = min(due, change)
        if counts[STARTED] == 0 and motion.p[design.start] <= min(following, target):
            course.clock[TIME] = motion.p[design.start]
            counts[STARTED] = 1
            status = _set_going(course.clock[TIME], design, motion, solver)
            if status != FINE:
                return status
            continue
        arrives = following > target + TOLERANCE * abs(target)
        until = target if arrives else min(max(following, now), target)
        recompute = not arrives and due < change and events.at_doses == 1 and waiting.kind[place] != STOP
        if recompute:
            status = run_at_dose(k, waiting.record[place], passed, due, items, own, solver.individual)
            if status != FINE:
                return status
            put_parameters(design, own.psi_dose, own.dpsi_dose, motion)
        if counts[STARTED] == 1:
            status = solver.advance(
                now, until, design, motion, solver.slopes, solver.jacobian, solver.equilibrium
            )
            if status != FINE:
                return status
        course.clock[TIME] = until
        if arrives:
            return FINE
        if change <= due:
            status = _pass_model_time(until, change >= now, slot, design, course, psi, dpsi, solver)
        else:
            status = enter(place, until, design, events, course, solver)
        if status != FINE:
            return status


@jit
def _pass_model_time(
    time: float,
    moves: bool,
    slot: int,
    design: Design,
    course: Course,
    psi: Matrix,
    dpsi: Cube,
    solver: Solver,
) -> int:
    """Let the next pattern of psi rule; ``moves``: the moment follows the model time."""
    motion, passed = course.motion, course.counts[PASSED]
    dtime = course.dtime
    copy_values(dpsi[passed, slot], dtime)
    moves = moves and course.counts[STARTED] == 1 and any_nonzero(dtime)
    before = 0.0
    if moves:
        status = solver.velocity(time, design, motion, solver.slopes, motion.f)
        if status != FINE:
            return status
        before = output_slope(design, motion, motion.f)
    course.counts[PASSED] = passed + 1
    put_parameters(design, psi[passed + 1], dpsi[passed + 1], motion)
    if moves:
        status = solver.velocity(time, design, motion, solver.slopes, motion.g)
        if status != FINE:
            return status
        jump_in_time(design, before, output_slope(design, motion, motion.g), dtime, motion)
    return FINE


@inlined
def at_record(
    k: int,
    design: Design,
    events: Events,
    course: Course,
    psi: Matrix,
    dpsi: Cube,
    solver: Solver,
    give_dose: Callable[..., int],
    a: Vector,
    da: Matrix,
) -> int:
    """Let record ``k`` happen; put amounts, output compartment, prediction and held variables into ``a``."""
    motion = course.motion
    if design.start_rules == 1:  # else they rule already
        passed = course.counts[PASSED]
        put_parameters(design, psi[passed], dpsi[passed], motion)
    if events.dosed[k] > 0 and not enters_plainly(k, design, events, course):
        status = give_dose(k, design, events, course, solver)
        if status != FINE:
            return status
    turned = events.turned[k]
    if turned > 0:
        turn_on(design, motion, turned - 1)
    elif turned < 0 and events.evid[k] != 0:
        _turn_off(design, course, -turned - 1)
    status = balance(course.clock[TIME], design, motion, solver.equilibrium)
    if status != FINE:
        return status
    _fill(events.observed[k] - 1, design, motion, a, da)
    if turned < 0 and events.evid[k] == 0:  # the amount was observed first
        _turn_off(design, course, -turned - 1)
    return FINE


@inlined
def look(k: int, design: Design, events: Events, course: Course, a: Vector, da: Matrix) -> bool:
    """Put into ``a`` what :func:`at_record` would at a record at which nothing happens.

    The state stays where it is: a linear system holds sums of exponentials until something happens. ``a``
    has the watched compartments and the prediction only. False, with nothing done, where that does not serve.
    """
    motion, waiting, target = course.motion, course.waiting, events.time[k]
    if waiting.used[0] > 0 and time_of(waiting, next_event(waiting)) <= target + TOLERANCE * abs(target):
        return False
    if motion.flags[SAME] != HELD and not _hold(design, events, motion):
        return False
    h, plan, observed = target - course.clock[TIME], motion.plan, events.observed[k] - 1
    if events.watched.size == 1 and events.watched[0] == observed and plan[3] + plan[4] <= 3:
        n, nq, slot = design.n, motion.dout.size, design.modifiers[observed, SCALE]
        scale = motion.p[slot] if slot >= 0 else 1.0
        dscale = vector_at(motion.dp, max(slot, 0) * nq, nq if slot >= 0 else 0)
        slope, prediction = vector_at(da, observed * nq, nq), vector_at(da, (n + 1) * nq, nq)
        serves, value = read_one(h, scale, dscale, plan, motion.exponentials, slope, prediction)
        if serves:
            a[observed], a[n + 1] = value, value / scale
        return bool(serves)
    if not read_sums(h, plan, events.watched, motion.exponentials, a, da):
        return False
    _predict(observed, design, motion, a, da)
    return True


@jit
def _hold(design: Design, events: Events, motion: Motion) -> bool:
    """Let sums of exponentials begin at the present state; False where they cannot serve."""
    if motion.flags[SUMS] == NOT_SUMMABLE or (design.has_output == 1 and motion.on[design.n] == 1):
        return False
    if any_input(design.n, motion.r, motion.dr) or ready(design, motion) != FINE:
        return False
    if motion.flags[SUMS] == 0:
        closed = motion.system[0] != SERIES
        summable = closed and prepare_sums(motion.plan, motion.dout.size, motion.system, motion.exponentials)
        motion.flags[SUMS] = SUMMABLE if summable else NOT_SUMMABLE
        if not summable:
            return False
    start_sums(motion.plan, motion.system, motion.y, motion.dy, events.watched, motion.exponentials)
    motion.flags[SAME] = HELD
    return True


@jit
def catch_up(time: float, design: Design, course: Course, solver: Solver) -> int:
    """Bring a state that stayed behind while records looked to ``time``, before other parameters rule."""
    motion, now = course.motion, course.clock[TIME]
    if motion.flags[SAME] != HELD or now >= time:
        return FINE
    course.clock[TIME] = time
    return solver.advance(now, time, design, motion, solver.slopes, solver.jacobian, solver.equilibrium)


@jit
def _turn_off(design: Design, course: Course, compartment: int) -> None:
    """Turn a compartment (from 0) off: what it holds, and what still runs into it, is lost."""
    motion = course.motion
    motion.on[compartment] = 0
    if compartment == design.n:
        motion.out[0] = 0.0
        motion.dout[:] = 0.0
        return
    empty(compartment, motion)
    motion.running[compartment] = 0
    end_infusions(course.waiting, compartment)
    plan_transfers(design, motion)


@inlined
def _fill(observed: int, design: Design, motion: Motion, a: Vector, da: Matrix) -> None:
    n, nq = design.n, motion.dout.size
    for i in range(n):
        a[i] = motion.y[i]
    slopes, to = vector_at(motion.dy, 0, n * nq), vector_at(da, 0, n * nq)
    for j in range(n * nq):
        to[j] = slopes[j]
    a[n] = motion.out[0]
    for q in range(nq):
        da[n, q] = motion.dout[q]
    for i in range(design.held):
        a[n + 2 + i] = motion.p[design.n_dynamic + i]
        for q in range(nq):
            da[n + 2 + i, q] = motion.dp[design.n_dynamic + i, q]
    _predict(observed, design, motion, a, da)


@inlined
def _predict(observed: int, design: Design, motion: Motion, a: Vector, da: Matrix) -> None:
    n, nq = design.n, motion.dout.size
    slot = design.output[1] if observed == n else design.modifiers[observed, SCALE]
    slope, prediction = vector_at(da, observed * nq, nq), vector_at(da, (n + 1) * nq, nq)
    if slot < 0:
        a[n + 1] = a[observed]
        for q in range(nq):
            prediction[q] = slope[q]
        return
    scale = motion.p[slot]
    value, inverse = a[observed] / scale, 1.0 / scale
    a[n + 1] = value
    dscale = vector_at(motion.dp, slot * nq, nq)
    for q in range(nq):
        prediction[q] = (slope[q] - value * dscale[q]) * inverse
