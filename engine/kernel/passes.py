"""The passes over the records of a range of (draw, subject) pairs, compiled once for all models."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from numba import types
from numpy.typing import NDArray

from .compile import EQUILIBRIUM, JACOBIAN
from .events.course import DOSE_TIME, PASSED, Course, Events, new_course
from .events.dose_record import give_dose
from .events.doses import last_given
from .events.individual import Individual, Items, fill_known, new_individual, order_times, run_record
from .events.loop import at_record, begin, catch_up, look, move_to, restart_held
from .events.motion import LINEAR, Design, Solver, advance, clear_values, copy_values, velocity
from .events.rest import find_rest
from .machine.bare import BARE_INDIVIDUAL, BARE_OBSERVE, BARE_SLOPES, run_observe
from .machine.borrowed import borrowed, inlined, matrix_at, vector_at
from .machine.by_reference import KINDS, Pointer, address_of, at_address, keep, pieces_type, pointer
from .machine.caching import jit
from .status import FINE

Vector = NDArray[np.float64]
Matrix = NDArray[np.float64]
Cube = NDArray[np.float64]
Table4 = NDArray[np.float64]
Table5 = NDArray[np.float64]
Integers = NDArray[np.int64]
Function = Callable[..., Any]


_I, _F, _VECTOR = types.int64, types.float64, types.float64[::1]
_DESIGN, _MOTION, _EVENTS, _COURSE = (Pointer(KINDS[n]) for n in ("Design", "Motion", "Events", "Course"))
ADVANCE = types.FunctionType(_I(_F, _F, _DESIGN, _MOTION, BARE_SLOPES, JACOBIAN, EQUILIBRIUM))
_VELOCITY = types.FunctionType(_I(_F, _DESIGN, _MOTION, BARE_SLOPES, _VECTOR))
_FIND_REST = types.FunctionType(_I(_F, _DESIGN, _MOTION, BARE_SLOPES, JACOBIAN))
_MODEL = (BARE_INDIVIDUAL, BARE_SLOPES, JACOBIAN, EQUILIBRIUM)
_SOLVER = types.NamedTuple((ADVANCE, _VELOCITY, _FIND_REST, *_MODEL), Solver)  # type: ignore[no-untyped-call]
_GIVE_DOSE = types.FunctionType(_I(_I, _DESIGN, _EVENTS, _COURSE, _SOLVER))
_SOLVERS = (ADVANCE, _VELOCITY, _FIND_REST, _GIVE_DOSE)
_KEPT: list[Function] = []  # whose addresses are in use

advance_at, velocity_at, find_rest_at, give_dose_at = (at_address(kind) for kind in _SOLVERS)
individual_at, slopes_at, jacobian_at, equilibrium_at = (at_address(kind) for kind in _MODEL)
observe_at = at_address(BARE_OBSERVE)


@inlined
def take_record(
    k: int,
    first: int,
    settled: bool,
    restarts: bool,
    design: Design,
    events: Events,
    course: Course,
    items: Items,
    own: Individual,
    solver: Solver,
    give_dose: Function,
    a: Vector,
    da: Matrix,
) -> int:
    """Bring the amounts to record ``k``, whose psi is in ``own``, and let it happen.

    ``settled``: this psi is in force, and nothing before the record changes that. ``restarts``: the
    individual model counts as run at this record.
    """
    time = events.time[k]
    fresh = k == first
    status = FINE
    if fresh or events.evid[k] >= 3:
        status = begin(time, fresh, design, course, own, solver)
        fresh = fresh and design.start >= 0
    if design.held > 0 and restarts:
        passed = course.counts[PASSED]
        restart_held(design, course.motion, own.psi[passed], own.dpsi[passed])
    if status == FINE and (fresh or (k > first and events.evid[k] < 3)):
        psi, dpsi = own.psi, own.dpsi
        if design.start_rules == 1:
            psi, dpsi = own.psi_before, own.dpsi_before
        status = move_to(k, time, settled, design, events, course, items, own, psi, dpsi, solver)
    if status == FINE:
        status = at_record(k, design, events, course, own.psi, own.dpsi, solver, give_dose, a, da)
    return status


@jit
def given_psi(draw: int, k: int, design: Design, own: Individual, psi: Table4, dpsi: Table5) -> int:
    """Take psi of record ``k`` from the caller instead of running the individual model."""
    copy_values(psi[draw, k], own.psi)
    copy_values(dpsi[draw, k], own.dpsi)
    return order_times(design, own)


def run_range(
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
    psi: Table4,
    dpsi: Table5,
    addresses: Integers,
    out: Cube,
    dout: Table4,
    status: Integers,
) -> None:
    """Run the passes for pairs ``begins`` to ``ends`` (pair = draw * subjects + subject), record by record.

    ``sizes``: of :func:`.arguments.layout_sizes`. ``addresses``: those of :func:`compiled_passes`, then of
    the model's individual, slopes, jacobian, equilibrium, observe.
    ``theta`` [draw or 1, theta], ``eta`` [draw, subject, eta]; ``status`` [draw, subject]; ``out`` [draw,
    record, output], ``dout`` [draw, record, output, nq]. Where ``psi`` [draw, record, pattern, slot] and
    ``dpsi`` [..., nq] are given (not empty), the event pass runs alone and ``out`` takes amounts, output
    compartment and prediction.
    """
    own_design, own_events, own_items = Design(*design_pieces), Events(*events_pieces), Items(*items_pieces)
    design, events, items = pointer(own_design), pointer(own_events), pointer(own_items)
    solver = Solver(
        advance_at(addresses[0]),
        velocity_at(addresses[1]),
        find_rest_at(addresses[2]),
        individual_at(addresses[4]),
        slopes_at(addresses[5]),
        jacobian_at(addresses[6]),
        equilibrium_at(addresses[7]),
    )
    give_dose, observe = give_dose_at(addresses[3]), observe_at(addresses[8])
    n_subjects, nq = status.shape[1], deta.shape[1]
    own_course = new_course(design, nq, sizes[2], sizes[3])
    course = pointer(own_course)
    n_a, n_out = design.n + 2 + design.held, out.shape[2]
    n_columns, n_known = items.columns.shape[1], items.kinds.size
    own_a, own_da = np.zeros((sizes[4], n_a)), np.zeros((sizes[4] * n_a, nq))
    a, da = borrowed(own_a), borrowed(own_da)
    patterns = design.model_times.size + 1
    own_individual = new_individual(dtheta, deta, items, patterns, sizes[0], sizes[1])
    own = pointer(own_individual)
    alone = psi.shape[0] > 0
    for pair in range(begins, ends):
        draw, subject = pair // n_subjects, pair % n_subjects
        first, last = events.first[subject], events.first[subject + 1]
        copy_values(theta[min(draw, theta.shape[0] - 1)], own.theta)
        copy_values(eta[draw, subject], own.eta)
        clear_values(own.kept)
        clear_values(vector_at(own.dkept, 0, own.dkept.size))
        clear_values(own.times)
        clear_values(course.clock)
        course.counts[PASSED] = 0
        code = FINE
        k = first
        while k < last and code == FINE:
            # records from k to end under one psi
            if design.start_rules == 1:
                copy_values(own.psi, own.psi_before)
                copy_values(own.dpsi, own.dpsi_before)
            if alone:
                code = given_psi(draw, k, design, own, psi, dpsi)
            elif items.same[k] == 0:
                given = course.clock[DOSE_TIME]
                if k > first:
                    given = last_given(course.waiting, events.time[k], given)
                code = run_record(k, first, given, design, items, own, solver.individual)
            if code != FINE:
                break
            end = k + 1
            while items.single == 0 and end < last and items.same[end] == 1:
                end += 1
            records = end - k
            if design.kind != 0:
                for i in range(records):
                    if i == 1 and design.start_rules == 1:
                        copy_values(own.psi, own.psi_before)
                        copy_values(own.dpsi, own.dpsi_before)
                    here, there = vector_at(a, i * n_a, n_a), matrix_at(da, i * n_a * nq, n_a, nq)
                    looks = i > 0 and design.kind == LINEAR and events.quiet[k + i] == 1
                    if looks and look(k + i, design, events, course, here, there):
                        continue
                    settled = i > 0 and events.at_doses == 0
                    code = take_record(
                        k + i,
                        first,
                        settled,
                        i == 0 or design.runs_at_all == 1,
                        design,
                        events,
                        course,
                        items,
                        own,
                        solver,
                        give_dose,
                        here,
                        there,
                    )
                    if code != FINE:
                        records = i
                        break
                if code == FINE and end < last:
                    code = catch_up(events.time[end - 1], design, course, solver)
            if alone and records == 1:
                copy_values(a[0], out[draw, k])
                copy_values(da[:n_a], dout[draw, k])
            elif not alone:
                passed = course.counts[PASSED]
                known = vector_at(items.known, k * n_known, records * n_known)
                if items.single == 1:
                    fill_known(k, passed, 0.0, course.clock[DOSE_TIME], items, own)
                    known = own.known
                    if own.kept.size > 0:
                        copy_values(own.kept_out[passed], own.kept)
                        copy_values(own.dkept_out[passed], own.dkept)
                before = draw * events.time.size + k
                observed = run_observe(
                    observe,
                    vector_at(items.columns, k * n_columns, records * n_columns),
                    known,
                    own.theta,
                    own.eta,
                    dtheta,
                    deta,
                    own.kept,
                    own.dkept,
                    vector_at(own.psi, passed * sizes[0], sizes[0]),
                    matrix_at(own.dpsi, passed * sizes[0] * nq, sizes[0], nq),
                    a,
                    da,
                    vector_at(out, before * n_out, records * n_out),
                    matrix_at(dout, before * n_out * nq, records * n_out, nq),
                    records,
                    n_columns,
                    n_known,
                    n_a,
                    n_out,
                    nq,
                )
                if observed != FINE:
                    code = observed
            k = end
        status[draw, subject] = code
        if code != FINE:
            out[draw, first:last] = np.nan
            dout[draw, first:last] = np.nan
    keep(own_design)
    keep(own_events)
    keep(own_items)
    keep(own_course)
    keep(own_individual)
    keep(own_a)
    keep(own_da)


@cache
def compiled_passes() -> tuple[NDArray[np.int64], Function]:
    """Return the addresses of advance, velocity, find_rest and give_dose, and the compiled passes.

    The integrators and doses are called by address: machine code of the event loop then does not hold further
    copies of theirs.
    """
    made: tuple[Function, ...] = (advance, velocity, find_rest, give_dose)
    compiled = [jit(kind.signature)(f) for kind, f in zip(_SOLVERS, made, strict=True)]
    found = [address_of(f, kind.signature) for f, kind in zip(compiled, _SOLVERS, strict=True)]
    table, integers = types.int64[:, ::1], types.int64[::1]
    matrix, cube = types.float64[:, ::1], types.float64[:, :, ::1]
    four, five = types.float64[:, :, :, ::1], types.float64[:, :, :, :, ::1]
    data = (integers, *(pieces_type(cls) for cls in (Design, Events, Items)))
    parameters = (matrix, cube, matrix, matrix, four, five)
    run = jit(types.void(_I, _I, *data, *parameters, integers, cube, four, table))(run_range)
    _KEPT.extend(compiled)
    return np.array(found, dtype=np.int64), run
