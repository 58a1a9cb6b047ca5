"""The passes over the records of a range of (draw, subject) pairs, compiled once for all models."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from numba import types
from numpy.typing import NDArray

from .by_reference import KINDS, pieces_type
from .borrowed import inlined
from .caching import jit
from .compile import EQUILIBRIUM, INDIVIDUAL, JACOBIAN, OBSERVE, SLOPES
from .course import DOSE_TIME, PASSED, Course, Events, new_course
from .doses import last_given
from .events import at_record, begin, move_to
from .individual import Individual, Items, fill_known, new_individual, order_times, run_record
from .motion import Design, Solver, advance, velocity
from .rest import find_rest
from .status import FINE

Vector = NDArray[np.float64]
Matrix = NDArray[np.float64]
Cube = NDArray[np.float64]
Integers = NDArray[np.int64]
Function = Callable[..., Any]


@inlined
def take_record(
    k: int,
    first: int,
    design: Design,
    events: Events,
    course: Course,
    items: Items,
    own: Individual,
    solver: Solver,
    a: Vector,
    da: Matrix,
) -> int:
    """Bring the amounts to record ``k``, whose psi is in ``own``, and let it happen."""
    if design.kind == 0:
        return FINE
    time = events.time[k]
    if k == first or events.evid[k] >= 3:
        status = begin(time, design, course, own, solver)
    else:
        psi, dpsi = own.psi, own.dpsi
        if design.start_rules == 1:
            psi, dpsi = own.psi_before, own.dpsi_before
        status = move_to(k, time, design, events, course, items, own, psi, dpsi, solver)
    if status == FINE:
        status = at_record(k, design, events, course, own.psi, own.dpsi, solver, a, da)
    return status


@inlined
def evaluate_subject(
    subject: int,
    design: Design,
    events: Events,
    items: Items,
    course: Course,
    own: Individual,
    solver: Solver,
    observe: Function,
    a: Vector,
    da: Matrix,
    out: Matrix,
    dout: Cube,
) -> int:
    """Run the three passes of one subject, record by record; ``out`` [record, output], ``dout`` [..., nq]."""
    first = events.first[subject]
    own.kept[:] = 0.0
    own.dkept[:, :] = 0.0
    own.times[:] = 0.0
    course.clock[:] = 0.0
    course.counts[PASSED] = 0
    for k in range(first, events.first[subject + 1]):
        given = course.clock[DOSE_TIME]
        if k > first:
            given = last_given(course.waiting, events.time[k], given)
        status = run_record(k, first, given, design, items, own, solver.individual)
        if status == FINE:
            status = take_record(k, first, design, events, course, items, own, solver, a, da)
        if status != FINE:
            return status
        passed = course.counts[PASSED]
        own.kept[:] = own.kept_out[passed]
        own.dkept[:, :] = own.dkept_out[passed]
        fill_known(k, passed, 0.0, course.clock[DOSE_TIME], items, own)
        status = observe(
            items.columns[k],
            own.known,
            own.theta,
            own.eta,
            own.dtheta,
            own.deta,
            own.kept,
            own.dkept,
            own.psi[passed],
            own.dpsi[passed],
            a,
            da,
            out[k],
            dout[k],
        )
        if status != FINE:
            return status
    return FINE


def evaluate_range(
    begins: int,
    ends: int,
    sizes: Integers,
    design_pieces: Any,
    events_pieces: Any,
    items_pieces: Any,
    theta: Matrix,
    eta: Cube,
    dtheta: Matrix,
    deta: Matrix,
    advance: Function,
    velocity: Function,
    find_rest: Function,
    individual: Function,
    slopes: Function,
    jacobian: Function,
    equilibrium: Function,
    observe: Function,
    out: Cube,
    dout: NDArray[np.float64],
    status: Integers,
) -> None:
    """Run the three passes for pairs ``begins`` to ``ends`` (pair = draw * subjects + subject).

    ``sizes``: number of psi, of kept variables, of places for doses, whether there are steady states.
    ``theta`` [draw or 1, theta], ``eta`` [draw, subject, eta]; ``out`` [draw, record, output], ``dout``
    [draw, record, output, nq], ``status`` [draw, subject].
    """
    design, events, items = Design(*design_pieces), Events(*events_pieces), Items(*items_pieces)
    solver = Solver(advance, velocity, find_rest, individual, slopes, jacobian, equilibrium)
    n_subjects, nq = eta.shape[1], deta.shape[1]
    course = new_course(design, sizes[0], nq, sizes[2], sizes[3])
    a, da = np.zeros(design.n + 2), np.zeros((design.n + 2, nq))
    patterns = design.model_times.size + 1
    own = new_individual(theta[0], eta[0, 0], dtheta, deta, items, patterns, sizes[0], sizes[1])
    for pair in range(begins, ends):
        draw, subject = pair // n_subjects, pair % n_subjects
        own.theta = theta[min(draw, theta.shape[0] - 1)]
        own.eta = eta[draw, subject]
        code = evaluate_subject(
            subject, design, events, items, course, own, solver, observe, a, da, out[draw], dout[draw]
        )
        status[draw, subject] = code
        if code != FINE:
            out[draw, events.first[subject] : events.first[subject + 1]] = np.nan
            dout[draw, events.first[subject] : events.first[subject + 1]] = np.nan


def amounts_range(
    begins: int,
    ends: int,
    sizes: Integers,
    design_pieces: Any,
    events_pieces: Any,
    items_pieces: Any,
    psi: NDArray[np.float64],
    dpsi: NDArray[np.float64],
    advance: Function,
    velocity: Function,
    find_rest: Function,
    individual: Function,
    slopes: Function,
    jacobian: Function,
    equilibrium: Function,
    amounts: Cube,
    damounts: NDArray[np.float64],
    status: Integers,
) -> None:
    """Run the event pass alone for pairs ``begins`` to ``ends``.

    ``psi`` [draw, record, pattern, slot], ``dpsi`` [..., nq]; ``amounts`` [draw, record, n + 2] and ``damounts``
    [..., nq] take the result.
    """
    design, events, items = Design(*design_pieces), Events(*events_pieces), Items(*items_pieces)
    solver = Solver(advance, velocity, find_rest, individual, slopes, jacobian, equilibrium)
    n_subjects, nq = status.shape[1], dpsi.shape[4]
    course = new_course(design, sizes[0], nq, sizes[2], sizes[3])
    none, nothing = np.zeros(0), np.zeros((0, nq))
    patterns = design.model_times.size + 1
    own = new_individual(none, none, nothing, nothing, items, patterns, sizes[0], 0)
    for pair in range(begins, ends):
        draw, subject = pair // n_subjects, pair % n_subjects
        first, last = events.first[subject], events.first[subject + 1]
        course.clock[:] = 0.0
        code = FINE
        for k in range(first, last):
            own.psi_before[:, :] = own.psi
            own.dpsi_before[:, :, :] = own.dpsi
            own.psi[:, :] = psi[draw, k]
            own.dpsi[:, :, :] = dpsi[draw, k]
            code = order_times(design, own)
            if code == FINE:
                a, da = amounts[draw, k], damounts[draw, k]
                code = take_record(k, first, design, events, course, items, own, solver, a, da)
            if code != FINE:
                break
        status[draw, subject] = code
        if code != FINE:
            amounts[draw, first:last] = np.nan
            damounts[draw, first:last] = np.nan


@cache
def compiled_passes() -> tuple[tuple[Any, ...], Any, Any]:
    """Return (advance, velocity, find_rest), :func:`evaluate_range` and :func:`amounts_range`, compiled for all models.

    What depends on a model are functions among the arguments. The integrators are arguments too: machine code of
    the event loop then does not hold another copy of theirs.
    """
    i, f = types.int64, types.float64
    indices, table = types.int64[::1], types.int64[:, ::1]
    vector, matrix, cube = types.float64[::1], types.float64[:, ::1], types.float64[:, :, ::1]
    four, five = types.float64[:, :, :, ::1], types.float64[:, :, :, :, ::1]
    design, motion = KINDS["Design"], KINDS["Motion"]
    signatures = (
        i(f, f, design, motion, SLOPES, JACOBIAN),
        i(f, design, motion, SLOPES, vector),
        i(f, design, motion, SLOPES, JACOBIAN),
    )
    solvers = tuple(jit(s)(g) for s, g in zip(signatures, (advance, velocity, find_rest), strict=True))
    data = (indices, *(pieces_type(cls) for cls in (Design, Events, Items)))
    functions = (*(types.FunctionType(s) for s in signatures), INDIVIDUAL, SLOPES, JACOBIAN, EQUILIBRIUM)
    evaluate = types.void(i, i, *data, matrix, cube, matrix, matrix, *functions, OBSERVE, cube, four, table)
    amounts = types.void(i, i, *data, four, five, *functions, cube, four, table)
    return solvers, jit(evaluate)(evaluate_range), jit(amounts)(amounts_range)
