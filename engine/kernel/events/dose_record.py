"""Dose records: how much and how long, the steady state they ask for, and the doses they leave waiting."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..machine.borrowed import inlined
from ..machine.by_reference import keep, pointer
from ..machine.caching import jit
from ..status import BAD_DURATION, BAD_RATE, FINE, NEGATIVE_FRACTION, NEGATIVE_LAG, TOO_MANY_DOSES
from .administration import bolus, start_infusion, stop_infusion, turn_on
from .course import DOSE_TIME, Course, Events
from .doses import BOLUS, START, STOP, TOLERANCE, add, clear, next_event, strike, time_of
from .motion import DURATION, FRACTION, INITIAL, LAG, RATE, SAME, Design, Solver, copy_values
from .steady_state import Regimen, find_constant, find_cycle, go_back

Vector = NDArray[np.float64]

MODELLED_RATE, MODELLED_DURATION = -1.0, -2.0  # values of RATE


@jit
def measure(k: int, design: Design, events: Events, course: Course) -> tuple[int, float, float]:
    """Return status, amount of the bolus or rate of the infusion, and length of the dose of record ``k``.

    By the psi in force; derivatives of value and length go into ``course.dvalue`` and ``course.dlength``.
    """
    motion, c = course.motion, events.dosed[k] - 1
    dvalue, dlength = course.dvalue, course.dlength
    nq = dvalue.size
    rate = events.rate[k]
    dvalue[:] = 0.0
    dlength[:] = 0.0
    amount = events.amount[k]
    slot = design.modifiers[c, FRACTION]
    if slot >= 0:
        if not motion.p[slot] >= 0.0:
            return NEGATIVE_FRACTION, 0.0, 0.0
        for q in range(nq):
            dvalue[q] = amount * motion.dp[slot, q]
        amount *= motion.p[slot]
    if rate == 0.0:
        return FINE, amount, 0.0
    if rate == MODELLED_DURATION:
        slot = design.modifiers[c, DURATION]
        length = motion.p[slot]
        if not length > 0.0:
            return BAD_DURATION, 0.0, 0.0
        for q in range(nq):
            dlength[q] = motion.dp[slot, q]
            dvalue[q] = (dvalue[q] - amount / length * dlength[q]) / length
        return FINE, amount / length, length
    if rate == MODELLED_RATE:
        slot = design.modifiers[c, RATE]
        rate = motion.p[slot]
        if not rate > 0.0:
            return BAD_RATE, 0.0, 0.0
        for q in range(nq):
            dlength[q] = (dvalue[q] - amount / rate * motion.dp[slot, q]) / rate
            dvalue[q] = motion.dp[slot, q]
        return FINE, rate, amount / rate
    for q in range(nq):
        dlength[q] = dvalue[q] / rate
        dvalue[q] = 0.0
    return FINE, rate, amount / rate


@jit
def enter(place: int, time: float, design: Design, events: Events, course: Course, solver: Solver) -> int:
    """Let the next event of the waiting series at ``place`` happen at ``time``."""
    motion, waiting, dtime = course.motion, course.waiting, course.dtime
    kind, c = waiting.kind[place], waiting.compartment[place]
    copy_values(waiting.dbase[place], dtime)
    if kind == STOP:
        waiting.running[place] -= 1
        stop_infusion(c, waiting.value[place], waiting.dvalue[place], dtime, motion)
        strike(waiting, place)
        return FINE
    turn_on(design, motion, c)
    moment = time_of(waiting, place)
    course.clock[DOSE_TIME] = moment
    value = waiting.value[place]
    copy_values(waiting.dvalue[place], course.dvalue)
    if events.at_doses == 1:
        record = waiting.record[place]
        status, value, length = measure(record, design, events, course)
        if status != FINE:
            return status
        if kind == START:
            stop = add(waiting, STOP, c, 1, moment + length, 0.0, value, record)
            if stop < 0:
                return TOO_MANY_DOSES
            waiting.partner[place] = stop
            waiting.dvalue[stop, :] = course.dvalue
            waiting.dbase[stop, :] = dtime + course.dlength
    status = FINE
    if kind == BOLUS:
        status = bolus(time, c, value, course.dvalue, dtime, design, motion, solver)
    else:
        waiting.running[waiting.partner[place]] += 1
        start_infusion(c, value, course.dvalue, dtime, motion)
    strike(waiting, place)
    return status


@inlined
def enters_plainly(k: int, design: Design, events: Events, course: Course) -> bool:
    """Let the dose of record ``k`` enter if it is a bolus as the data has it; else False, nothing done."""
    c = events.dosed[k] - 1
    if events.rate[k] != 0.0 or events.steady[k] != 0 or events.additional[k] != 0:
        return False
    if course.waiting.used[0] != 0 or design.modifiers[c, LAG] >= 0 or design.modifiers[c, FRACTION] >= 0:
        return False
    motion = course.motion
    if motion.on[c] == 0:
        turn_on(design, motion, c)
    course.clock[DOSE_TIME] = events.time[k]
    motion.flags[SAME] = 0
    motion.y[c] += events.amount[k]
    return True


def give_dose(
    k: int,
    design: Design,
    events: Events,
    course: Course,
    solver: Solver,
) -> int:
    """Give the dose of record ``k``: set the steady state, enter what is due and let the rest wait."""
    motion, waiting = course.motion, course.waiting
    c, time, interval = events.dosed[k] - 1, events.time[k], events.interval[k]
    infused = events.rate[k] != 0.0
    status, value, length = measure(k, design, events, course)
    if status != FINE:
        return status
    slot = design.modifiers[c, LAG]
    alone = events.steady[k] == 0 and events.additional[k] == 0 and waiting.used[0] == 0
    if alone and not infused and slot < 0:  # it need not wait with others
        course.dtime[:] = 0.0
        turn_on(design, motion, c)
        course.clock[DOSE_TIME] = time
        return bolus(time, c, value, course.dvalue, course.dtime, design, motion, solver)
    lag = motion.p[slot] if slot >= 0 else 0.0
    if not lag >= 0.0:
        return NEGATIVE_LAG
    course.dtime[:] = 0.0
    if slot >= 0:
        copy_values(motion.dp[slot], course.dtime)
    for q in range(course.dends.size):
        course.dends[q] = course.dtime[q] + course.dlength[q]
    enters, ends, count, running = lag, lag + length, 1 + events.additional[k], 0
    if events.steady[k] > 0:
        turn_on(design, motion, c)
        if events.steady[k] != 2:
            clear(waiting)
            motion.running[:] = 0
            motion.r[:] = 0.0
            motion.dr[:, :] = 0.0
        if interval == 0.0:
            return _constant(k, value if infused else 0.0, design, events, course, solver)
        status, enters, ends, early, running = _settle(k, value, length, lag, design, events, course, solver)
        if status != FINE:
            return status
        count += early
    if infused:
        stop = -1
        if events.at_doses == 0 or running > 0:
            ending = running if events.at_doses == 1 else running + count
            stop = add(waiting, STOP, c, ending, time + ends, interval, value, k)
            if stop < 0:
                return TOO_MANY_DOSES
            waiting.dbase[stop, :] = course.dends
            waiting.dvalue[stop, :] = course.dvalue
            waiting.running[stop] = running
        place = add(waiting, START, c, count, time + enters, interval, value, k)
        if place >= 0:
            waiting.partner[place] = stop
    else:
        place = add(waiting, BOLUS, c, count, time + enters, interval, value, k)
    if place < 0:
        return TOO_MANY_DOSES
    waiting.dbase[place, :] = course.dtime
    waiting.dvalue[place, :] = course.dvalue
    place = next_event(waiting)
    while place >= 0 and time_of(waiting, place) <= time + TOLERANCE * abs(time):
        status = enter(place, time, design, events, course, solver)
        if status != FINE:
            return status
        place = next_event(waiting)
    return FINE


@jit
def _settle(
    k: int,
    value: float,
    length: float,
    lag: float,
    design: Design,
    events: Events,
    course: Course,
    solver: Solver,
) -> tuple[int, float, float, int, int]:
    """Set the steady state of the dose of record ``k``, repeated without end.

    Returns status, the times from the record to the next dose and to the next end of an infusion, how many
    doses before this one are still to enter, and how many infusions run.
    """
    motion, interval = course.motion, events.interval[k]
    c, infused = events.dosed[k] - 1, events.rate[k] != 0.0
    back = design.goes_back == 1 and lag >= interval
    early, enters, running = 0, 0.0, 0
    if not back:
        early = int(np.floor(lag / interval * (1.0 + TOLERANCE)))
        enters = max(0.0, lag - early * interval)
    ends = enters + length
    if infused:
        running = max(0, int(np.ceil(ends / interval * (1.0 - TOLERANCE))) - 1)
        ends -= running * interval
    denters, dends = course.dtime, course.dends
    if back:
        denters, dends = np.zeros(denters.size), course.dlength
    own = Regimen(c, int(infused), value, interval, enters, ends, running, course.dvalue, denters, dends)
    regimen = pointer(own)
    _guess(k, design, events, course)
    steady = course.steady
    status = find_cycle(
        events.time[k], regimen, design, motion.on, motion.p, motion.dp, motion.g, steady, solver
    )
    if back and status == FINE:
        status = go_back(events.time[k], lag - interval, regimen, course.dtime, design, steady, solver)
    keep(own)
    if back:
        enters, ends = lag, ends + lag - interval
        running += 1
    if status != FINE:
        return status, enters, ends, early, running
    _set_amounts(k, events, course)
    if infused:
        motion.running[c] += running
        motion.r[c] += running * value
        motion.dr[c] += running * course.dvalue
    return FINE, enters, ends, early, running


@jit
def _constant(
    k: int,
    rate: float,
    design: Design,
    events: Events,
    course: Course,
    solver: Solver,
) -> int:
    """Set the equilibrium under an infusion that has always run and ends now."""
    motion = course.motion
    _guess(k, design, events, course)
    status = find_constant(
        events.time[k],
        events.dosed[k] - 1,
        rate,
        course.dvalue,
        design,
        motion.on,
        motion.p,
        motion.dp,
        motion.g,
        course.steady,
        solver,
    )
    if status == FINE:
        _set_amounts(k, events, course)
    return status


@jit
def _guess(k: int, design: Design, events: Events, course: Course) -> None:
    """Put where the search for a steady state begins into ``motion.g``: initial or (SS=3) present amounts."""
    motion = course.motion
    for i in range(design.n):
        slot = design.modifiers[i, INITIAL]
        motion.g[i] = motion.p[slot] if slot >= 0 else 0.0
        if events.steady[k] == 3:
            motion.g[i] = motion.y[i]


@jit
def _set_amounts(k: int, events: Events, course: Course) -> None:
    """Let the amounts be those of the steady state, added to the present ones where SS is 2."""
    motion, steady = course.motion, course.steady
    motion.flags[0] = 0
    if events.steady[k] == 2:
        motion.y[:] += steady.begin
        motion.dy[:, :] += steady.columns
    else:
        copy_values(steady.begin, motion.y)
        copy_values(steady.columns, motion.dy)
        motion.out[0] = 0.0
        motion.dout[:] = 0.0
