"""A subject under way through its events: the arrays the event loop works on."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..machine.by_reference import by_reference
from ..machine.caching import jit
from .doses import Waiting, new_waiting
from .motion import Design, Motion, new_motion
from .steady_state import Steady, new_steady

Vector = NDArray[np.float64]
Integers = NDArray[np.int64]

TIME, DOSE_TIME = 0, 1  # Course.clock
PASSED, STARTED = 0, 1  # Course.counts


@by_reference
class Events:
    """The arrays of :class:`.subjects.Subjects` that the event loop reads."""

    first: Integers
    time: Vector
    evid: Integers
    amount: Vector
    rate: Vector
    interval: Vector
    additional: Integers
    steady: Integers
    dosed: Integers
    observed: Integers
    turned: Integers
    quiet: Integers  # 1: nothing happens at the record, it only looks
    watched: Integers  # compartments (from 0) whose amounts are read
    at_doses: int  # 1: the individual model is run at additional and lagged doses


@by_reference
class Course:
    """A subject under way."""

    motion: Motion
    steady: Steady
    waiting: Waiting
    clock: Vector  # TIME, DOSE_TIME
    counts: Integers  # PASSED model times, STARTED
    dtime: Vector  # [nq] scratch: derivatives of a time,
    dvalue: Vector  # an amount or rate,
    dlength: Vector  # a length
    dends: Vector  # and the end of an infusion


@jit
def new_course(design: Design, nq: int, places: int, any_steady: int) -> Course:
    """Return arrays for ``nq`` directions, ``places`` doses that wait, and steady states if there are any."""
    n = design.n
    motion = new_motion(design, nq)
    cycle = new_motion(design, nq + n) if any_steady == 1 else motion  # nobody looks at it then
    return Course(
        motion,
        new_steady(cycle, n, nq),
        new_waiting(places, nq),
        np.zeros(2),
        np.zeros(2, np.int64),
        np.zeros(nq),
        np.zeros(nq),
        np.zeros(nq),
        np.zeros(nq),
    )
