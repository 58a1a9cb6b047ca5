"""Runs the individual model at a record, once for each pattern of model times that have passed."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from ..machine.bare import run_individual
from ..machine.borrowed import inlined, matrix_at, vector_at
from ..machine.by_reference import by_reference
from ..machine.caching import jit
from ..status import BAD_MODEL_TIME, FINE
from .motion import Design, copy_values

Vector = NDArray[np.float64]
Matrix = NDArray[np.float64]
Cube = NDArray[np.float64]
Integers = NDArray[np.int64]

# kinds of known quantities
STATIC, MODEL_TIME, PASSED, NEXT, AT_DOSE, DOSE_TIME = range(6)


@by_reference
class Items:
    """What statements read at each record, for all records."""

    columns: Matrix  # [record, column]
    known: Matrix  # [record, known]
    kinds: Integers  # [known]
    index: Integers  # [known] which model time, from 0
    of_dose: Integers  # [column] 1: at an additional or lagged dose, the item is that of its dose record
    same: Integers  # [record] 1: the individual model gives what it gave at the record before, of one subject
    single: int  # 1: the observation statements need what the run of earlier records left


@by_reference
class Individual:
    """Parameters of a subject and arrays of its individual model; pattern j: j model times have passed."""

    theta: Vector
    eta: Vector
    dtheta: Matrix
    deta: Matrix
    kept: Vector  # at the end of the record before, then of the pattern in force
    dkept: Matrix
    kept_out: Matrix  # [pattern, kept]
    dkept_out: Cube
    col: Vector
    known: Vector
    times: Vector  # model times as last computed
    order: Integers  # model times from the earliest to the latest
    psi: Matrix  # [pattern, psi]
    dpsi: Cube
    psi_before: Matrix  # of the record before
    dpsi_before: Cube
    psi_dose: Vector  # at an additional or lagged dose
    dpsi_dose: Matrix


@jit
def new_individual(
    dtheta: Matrix,
    deta: Matrix,
    items: Items,
    patterns: int,
    n_psi: int,
    n_kept: int,
) -> Individual:
    """Return arrays for the directions of ``dtheta`` and ``deta``."""
    nq = deta.shape[1]
    return Individual(
        np.zeros(dtheta.shape[0]),
        np.zeros(deta.shape[0]),
        dtheta,
        deta,
        np.zeros(n_kept),
        np.zeros((n_kept, nq)),
        np.zeros((patterns, n_kept)),
        np.zeros((patterns, n_kept, nq)),
        np.zeros(items.columns.shape[1]),
        np.zeros(items.kinds.size),
        np.zeros(patterns - 1),
        np.arange(patterns - 1),
        np.zeros((patterns, n_psi)),
        np.zeros((patterns, n_psi, nq)),
        np.zeros((patterns, n_psi)),
        np.zeros((patterns, n_psi, nq)),
        np.zeros(n_psi),
        np.zeros((n_psi, nq)),
    )


@inlined
def fill_known(k: int, passed: int, at_dose: float, dose_time: float, items: Items, own: Individual) -> None:
    """Put what the run knows at record ``k`` into ``own.known``."""
    for i in range(items.kinds.size):
        kind, index = items.kinds[i], items.index[i]
        value = items.known[k, i]
        if kind == MODEL_TIME:
            value = own.times[index]
        elif kind == PASSED:
            value = 0.0
            for j in range(passed):
                if own.order[j] == index:
                    value = 1.0
        elif kind == NEXT:
            value = 1.0 if passed < own.order.size and own.order[passed] == index else 0.0
        elif kind == AT_DOSE:
            value = at_dose
        elif kind == DOSE_TIME:
            value = dose_time
        own.known[i] = value


@jit
def run_record(
    k: int,
    first: int,
    dose_time: float,
    design: Design,
    items: Items,
    own: Individual,
    individual: Callable[..., int],
) -> int:
    """Compute ``own.psi`` for all patterns at record ``k`` of the subject that begins at record ``first``."""
    n_psi, n_kept, nq = own.psi.shape[1], own.kept.size, own.deta.shape[1]
    for j in range(own.psi.shape[0]):
        copy_values(own.kept, own.kept_out[j])
        copy_values(own.dkept, own.dkept_out[j])
        fill_known(k, j, 0.0, dose_time, items, own)
        status: int = run_individual(
            individual,
            vector_at(items.columns, k * own.col.size, own.col.size),
            own.known,
            own.theta,
            own.eta,
            own.dtheta,
            own.deta,
            vector_at(own.kept_out, j * n_kept, n_kept),
            matrix_at(own.dkept_out, j * n_kept * nq, n_kept, nq),
            vector_at(own.psi, j * n_psi, n_psi),
            matrix_at(own.dpsi, j * n_psi * nq, n_psi, nq),
            nq,
        )
        if status != FINE:
            return status
        if j == 0 and own.order.size > 0:
            status = order_times(design, own)
            if status != FINE:
                return status
    return FINE


@jit
def order_times(design: Design, own: Individual) -> int:
    """Order the model times as pattern 0 has them; equal ones stay in the order of their numbers."""
    for m in range(own.order.size):
        own.times[m] = own.psi[0, design.model_times[m]]
        if np.isnan(own.times[m]):
            return BAD_MODEL_TIME
        place = m
        while place > 0 and own.times[own.order[place - 1]] > own.times[m]:
            own.order[place] = own.order[place - 1]
            place -= 1
        own.order[place] = m
    return FINE


@jit
def run_at_dose(
    k: int,
    dose: int,
    passed: int,
    dose_time: float,
    items: Items,
    own: Individual,
    individual: Callable[..., int],
) -> int:
    """Compute ``own.psi_dose`` for a dose of record ``dose`` that enters before record ``k``.

    Items that describe the event are those of the dose record, all others those of the next record.
    """
    for i in range(own.col.size):
        own.col[i] = items.columns[dose if items.of_dose[i] == 1 else k, i]
    fill_known(k, passed, 1.0, dose_time, items, own)
    return run_individual(  # type: ignore[no-any-return]
        individual,
        own.col,
        own.known,
        own.theta,
        own.eta,
        own.dtheta,
        own.deta,
        own.kept,
        own.dkept,
        own.psi_dose,
        own.dpsi_dose,
        own.deta.shape[1],
    )
