"""Doses that are still to come: lagged and additional ones, and the ends of infusions.

An entry is a series of equal events at ``base``, ``base + interval``...; the lists are short, so the next
event is found by looking at all of them.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..machine.borrowed import inlined
from ..machine.by_reference import by_reference
from ..machine.caching import jit

Vector = NDArray[np.float64]
Matrix = NDArray[np.float64]
Integers = NDArray[np.int64]

NONE, BOLUS, START, STOP = range(4)
TOLERANCE = 1e-13  # of times that should be equal, relative: 0.1 + 2 * 0.1 is not 0.3


@by_reference
class Waiting:
    """Series of events to come; ``kind`` NONE marks a free place."""

    kind: Integers
    compartment: Integers  # from 0
    left: Integers  # events still to come
    done: Integers  # events that were
    partner: Integers  # START: place of the STOP series of the same infusions, else -1
    running: Integers  # STOP: infusions begun and not ended
    record: Integers  # the dose record
    base: Vector
    interval: Vector
    value: Vector  # amount of a bolus, rate of an infusion
    dbase: Matrix  # [places, nq]
    dvalue: Matrix
    used: Integers  # [1] places in use, free ones between them included


@jit
def new_waiting(places: int, nq: int) -> Waiting:
    """Return an empty list."""
    return Waiting(
        np.zeros(places, np.int64),
        np.zeros(places, np.int64),
        np.zeros(places, np.int64),
        np.zeros(places, np.int64),
        np.zeros(places, np.int64),
        np.zeros(places, np.int64),
        np.zeros(places, np.int64),
        np.zeros(places),
        np.zeros(places),
        np.zeros(places),
        np.zeros((places, nq)),
        np.zeros((places, nq)),
        np.zeros(1, np.int64),
    )


@jit
def clear(waiting: Waiting) -> None:
    """Forget everything to come."""
    waiting.kind[: waiting.used[0]] = NONE
    waiting.used[0] = 0


@jit
def add(
    waiting: Waiting,
    kind: int,
    compartment: int,
    count: int,
    base: float,
    interval: float,
    value: float,
    record: int,
) -> int:
    """Enter a series and return its place, -1 where the list is full; the derivatives start at zero."""
    place = 0
    while place < waiting.used[0] and waiting.kind[place] != NONE:
        place += 1
    if place >= waiting.kind.size:
        return -1
    waiting.used[0] = max(waiting.used[0], place + 1)
    waiting.kind[place] = kind
    waiting.compartment[place] = compartment
    waiting.left[place] = count
    waiting.done[place] = 0
    waiting.partner[place] = -1
    waiting.running[place] = 0
    waiting.record[place] = record
    waiting.base[place] = base
    waiting.interval[place] = interval
    waiting.value[place] = value
    waiting.dbase[place, :] = 0.0
    waiting.dvalue[place, :] = 0.0
    return place


@inlined
def time_of(waiting: Waiting, place: int) -> float:
    """Return the time of the next event of a series."""
    return float(waiting.base[place] + waiting.done[place] * waiting.interval[place])


@inlined
def next_event(waiting: Waiting) -> int:
    """Return the place of the series whose next event comes first, or -1.

    An infusion begins before it ends, even where it has no length.
    """
    best, found = np.inf, -1
    for place in range(waiting.used[0]):
        if waiting.kind[place] != NONE:
            time = time_of(waiting, place)
            if time < best or (found >= 0 and time == best and waiting.kind[found] == STOP):
                best, found = time, place
    return found


@jit
def strike(waiting: Waiting, place: int) -> None:
    """Count the next event of a series as done."""
    waiting.done[place] += 1
    waiting.left[place] -= 1
    if waiting.left[place] <= 0:
        waiting.kind[place] = NONE
        while waiting.used[0] > 0 and waiting.kind[waiting.used[0] - 1] == NONE:
            waiting.used[0] -= 1


@jit
def end_infusions(waiting: Waiting, compartment: int) -> None:
    """Forget the ends of the infusions that run into ``compartment``: they were stopped."""
    for place in range(waiting.used[0] - 1, -1, -1):
        if waiting.kind[place] == STOP and waiting.compartment[place] == compartment:
            for _ in range(waiting.running[place]):
                strike(waiting, place)
            waiting.running[place] = 0


@inlined
def last_given(waiting: Waiting, until: float, given: float) -> float:
    """Return the time of the last dose that enters by ``until``; ``given``: of the last one that did."""
    last = given
    for place in range(waiting.used[0]):
        if waiting.kind[place] == BOLUS or waiting.kind[place] == START:
            time = time_of(waiting, place)
            if time <= until:
                more = 0
                if waiting.interval[place] > 0.0:
                    more = min(waiting.left[place] - 1, int((until - time) / waiting.interval[place]))
                last = max(last, time + more * waiting.interval[place])
    return last
