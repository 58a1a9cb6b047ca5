"""Where everything of :mod:`.exponentials` lies in its vector, and what :mod:`.mammillary` left for it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..machine.borrowed import inlined, matrix_at, vector_at
from ..machine.caching import jit
from .mammillary import SYSTEM_HEAD, Vector

Matrix = NDArray[np.float64]


class Sums(NamedTuple):
    """What lies in the vector ``sums``, for s = p + d exponents, S being s rounded up to groups of three."""

    beta: Vector  # [p d]
    turn: Matrix  # R [p p, nq]
    dv: Matrix  # [p p, nq]
    dbeta: Matrix  # [p d, nq]
    reach: Vector  # B [p d]
    dreach: Matrix  # [p d, nq]
    exponent: Vector  # l [S]
    dexponent: Matrix  # [S, nq]
    e: Vector  # [S] exponentials
    c: Vector  # z + beta x [p]
    dc: Matrix  # [p, nq]
    g: Vector  # G [rows S], a row for each compartment asked for
    dg: Matrix  # [rows S, nq]


class Modes(NamedTuple):
    """What :mod:`.mammillary` left in ``system``."""

    exponents: Vector  # [s] modes, then depots
    v: Vector  # [p p]
    u: Vector  # [p p]
    feed: Vector  # b [p d]
    ddepots: Matrix  # [d, nq]
    dfeed: Matrix  # [p d, nq]
    source_term: Matrix  # [p p, nq]


@jit
def sums_size(n: int, nq: int) -> int:
    """Return the length of ``sums`` for ``n`` compartments and nq directions."""
    return (5 * n * n + 10 * n + 6) * (1 + nq)


@inlined
def sums_at(p: int, nd: int, rows: int, nq: int, sums: Vector) -> Sums:
    """Return the views for ``p`` modes, ``nd`` depots and ``rows`` compartments asked for."""
    pp, pd, size = p * p, p * nd, (p + nd + 2) // 3 * 3
    turn = pd
    dv = turn + pp * nq
    dbeta = dv + pp * nq
    reach = dbeta + pd * nq
    dreach = reach + pd
    exponent = dreach + pd * nq
    dexponent = exponent + size
    e = dexponent + size * nq
    c = e + size
    dc = c + p
    g = dc + p * nq
    return Sums(
        vector_at(sums, 0, pd),
        matrix_at(sums, turn, pp, nq),
        matrix_at(sums, dv, pp, nq),
        matrix_at(sums, dbeta, pd, nq),
        vector_at(sums, reach, pd),
        matrix_at(sums, dreach, pd, nq),
        vector_at(sums, exponent, size),
        matrix_at(sums, dexponent, size, nq),
        vector_at(sums, e, size),
        vector_at(sums, c, p),
        matrix_at(sums, dc, p, nq),
        vector_at(sums, g, rows * size),
        matrix_at(sums, g + rows * size, rows * size, nq),
    )


@inlined
def modes_at(m: int, p: int, nd: int, nq: int, system: Vector) -> Modes:
    """Return the views of a system of ``m`` transfers, ``p`` modes and ``nd`` depots."""
    values = SYSTEM_HEAD + m * (1 + nq)
    v = values + p + nd + p
    feed = v + 2 * p * p
    ddepots = feed + p * nd
    dfeed = ddepots + nd * nq
    return Modes(
        vector_at(system, values, p + nd),
        vector_at(system, v, p * p),
        vector_at(system, v + p * p, p * p),
        vector_at(system, feed, p * nd),
        matrix_at(system, ddepots, nd, nq),
        matrix_at(system, dfeed, p * nd, nq),
        matrix_at(system, dfeed + p * nd * nq, p * p, nq),
    )


@inlined
def row_of(table: Matrix, row: int) -> Vector:
    """Return a row without counting a reference."""
    return vector_at(table, row * table.shape[1], table.shape[1])  # type: ignore[no-any-return]
