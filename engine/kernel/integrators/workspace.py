"""What the integrators work on: the model's functions, and arrays made once so that no step allocates."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..machine.borrowed import inlined, matrix_at, vector_at
from ..machine.caching import jit
from ..machine.lanes import padded

Vector = NDArray[np.float64]
Matrix = NDArray[np.float64]
Pivots = NDArray[np.int64]
Links = NDArray[np.int64]
# slopes(t, y, dy, p, dp, f, df), jacobian(t, y, p, J) and hold(t, y, dy, p, dp)
Slopes = Callable[[float, Vector, Matrix, Vector, Matrix, Vector, Matrix], None]
Jacobian = Callable[[float, Vector, Vector, Matrix], None]
Hold = Callable[[float, Vector, Matrix, Vector, Matrix], int]

STAGES = 13  # of the longest method


class Workspace(NamedTuple):
    """The memory, as few arrays because each costs time when it is handed on."""

    store: Vector
    integers: Pivots


class Views(NamedTuple):
    """What lies in the memory.

    States and sensitivities travel as one flat vector: y, then dy row by row, n (1 + nq) numbers, then zeros
    up to whole vectors of the processor.
    """

    k: Matrix  # [STAGES, flat] slopes of the stages, without input rates; row 0: where the step begins
    start: Vector  # flat vector where the step begins
    rates: Vector  # flat input rates
    stage: Vector  # flat vector at a stage, in the end at the end of the step
    stage_y: Vector  # view of stage [n]
    stage_dy: Matrix  # view of stage [n, nq]
    slope_y: Vector  # [n]
    slope_dy: Matrix  # [n, nq]
    before: Vector  # [n] states at the stage before the last one
    error: Vector  # [n]
    correction: Vector  # [n]
    lu: Matrix  # [n, n] factors for Newton's method
    pivots: Pivots  # [n]
    stage_lu: Matrix  # [n, n] factors for the sensitivities of a stage
    stage_pivots: Pivots  # [n]
    floor: Vector  # [n] sizes below which no error counts more
    passing: Vector  # [n * n] of :mod:`.cascade`
    no_dy: Matrix  # [n, 0] for slopes without derivatives
    no_dp: Matrix  # [n_p, 0]


@jit
def workspace(n: int, n_p: int, nq: int) -> Workspace:
    """Return the memory for n states, n_p parameters of the slopes and nq directions."""
    return Workspace(
        np.zeros((STAGES + 4) * padded(n * (1 + nq)) + 4 * n + 3 * n * n), np.zeros(2 * n, np.int64)
    )


@inlined
def views(work: Workspace, n: int, n_p: int, nq: int) -> Views:
    """Return the views of a memory that was made for the same numbers.

    They do not keep the memory alive: call it where ``work`` is an argument, so that a caller does.
    """
    store, integers = work.store, work.integers
    flat = padded(n * (1 + nq))
    start = STAGES * flat
    rates = start + flat
    stage = rates + flat
    slope = stage + flat
    before = slope + flat
    lu = before + 3 * n
    return Views(
        matrix_at(store, 0, STAGES, flat),
        vector_at(store, start, flat),
        vector_at(store, rates, flat),
        vector_at(store, stage, flat),
        vector_at(store, stage, n),
        matrix_at(store, stage + n, n, nq),
        vector_at(store, slope, n),
        matrix_at(store, slope + n, n, nq),
        vector_at(store, before, n),
        vector_at(store, before + n, n),
        vector_at(store, before + 2 * n, n),
        matrix_at(store, lu, n, n),
        vector_at(integers, 0, n),
        matrix_at(store, lu + n * n, n, n),
        vector_at(integers, n, n),
        vector_at(store, lu + 2 * n * n, n),
        vector_at(store, lu + 2 * n * n + n, n * n),
        matrix_at(store, 0, n, 0),
        matrix_at(store, 0, n_p, 0),
    )
