"""Amounts between two events as sums of exponentials, for records that only look.

From the state at an event on, compartment j of a linear system without inputs holds sum_m G_jm exp(l_m t), m
over modes and depots. With the G and their derivatives at hand a record costs its exponentials and one
product for each, and the state need not move. In the notation of :mod:`.mammillary`, with z = U y:

    y_j = sum_i V_ji (z_i + sum_d beta_id x_d) exp(l_i t) - sum_d B_jd x_d exp(l_d t)
    beta_id = b_id / (l_i - l_d), B = V beta

and by the perturbation of modes under M = U dK V: dl_i = M_ii, dV = V R, dU = -R U, R_il = M_il / (l_l - l_i)
(Magnus, Econometric Theory 1 (1985) 179). Where exponents are near each other, or their sum far smaller than
its terms, digits would be lost: :mod:`.systems` moves the state instead, by divided differences.

"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from ..machine.borrowed import inlined
from ..machine.caching import jit
from .exponentials_layout import modes_at, row_of, sums_at
from .mammillary import Vector
from .transfer_graph import PLAN_HEAD, Integers
from .two_exponentials import prepare_two, start_two

Matrix = NDArray[np.float64]

APART = 0.1  # exponents nearer than this, relative to the larger one, are not written as separate terms
CANCELS = 0.1  # sums smaller than this, relative to the sum of sizes, neither


@inlined
def _clear(to: Vector) -> None:
    for q in range(to.size):
        to[q] = 0.0


@inlined
def _set(to: Vector, factor: float, values: Vector) -> None:
    for q in range(to.size):
        to[q] = factor * values[q]


@inlined
def _add(to: Vector, factor: float, values: Vector) -> None:
    for q in range(to.size):
        to[q] += factor * values[q]


@jit
def prepare_sums(plan: Integers, nq: int, system: Vector, sums: Vector) -> bool:
    """Find what depends on the rate constants alone; False where sums of exponentials would lose digits."""
    m, nd, p = plan[1], plan[3], plan[4]
    if plan[5] >= 0:
        return False
    modes, to = modes_at(m, p, nd, nq, system), sums_at(p, nd, 0, nq, sums)
    exponent = to.exponent
    for i in range(exponent.size):
        known = i < p + nd
        exponent[i] = modes.exponents[i] if known else 0.0
        if not known:
            _clear(row_of(to.dexponent, i))
    for i in range(p):
        for j in range(i + 1, p + nd):
            a, b = exponent[i], exponent[j]
            if not abs(a - b) > APART * max(abs(a), abs(b)):
                return False
    if p == 2 and nd <= 1:
        prepare_two(plan, nq, system, sums)
        return True
    for i in range(p):
        for j in range(p):
            # M_ij, of which the diagonal is dl
            row = row_of(to.dexponent, i) if i == j else row_of(to.turn, i * p + j)
            for source in range(p):
                weight = modes.v[source * p + j]
                if i != j:
                    weight /= exponent[j] - exponent[i]
                term = row_of(modes.source_term, source * p + i)
                if source == 0:
                    _set(row, weight, term)
                else:
                    _add(row, weight, term)
    for j in range(p):
        for i in range(p):
            row = row_of(to.dv, j * p + i)
            _clear(row)
            for other in range(p):
                if other != i:
                    _add(row, modes.v[j * p + other], row_of(to.turn, other * p + i))
    for d in range(nd):
        dk = row_of(to.dexponent, p + d)
        _set(dk, 1.0, row_of(modes.ddepots, d))
        for i in range(p):
            gap = 1.0 / (exponent[i] - exponent[p + d])
            at = i * nd + d
            beta = modes.feed[at] * gap
            to.beta[at] = beta
            row, dfeed, dl = row_of(to.dbeta, at), row_of(modes.dfeed, at), row_of(to.dexponent, i)
            for q in range(nq):
                row[q] = gap * (dfeed[q] - beta * (dl[q] - dk[q]))
            for j in range(p):
                if j != i:
                    _add(row, -gap * modes.feed[j * nd + d], row_of(to.turn, i * p + j))
        for j in range(p):
            at = j * nd + d
            row, total = row_of(to.dreach, at), 0.0
            for i in range(p):
                weight, beta = modes.v[j * p + i], to.beta[i * nd + d]
                total += weight * beta
                if i == 0:
                    _set(row, weight, row_of(to.dbeta, i * nd + d))
                else:
                    _add(row, weight, row_of(to.dbeta, i * nd + d))
                _add(row, beta, row_of(to.dv, j * p + i))
            to.reach[at] = total
    return True


@jit
def start_sums(
    plan: Integers, system: Vector, y: Vector, dy: Matrix, compartments: Integers, sums: Vector
) -> None:
    """Let sums begin at the state ``y`` [n], ``dy`` [n, nq]: those of ``compartments`` (from 0), in order."""
    m, nd, p = plan[1], plan[3], plan[4]
    nq, rows, order = dy.shape[1], compartments.size, PLAN_HEAD + 3 * m
    if p == 2 and nd <= 1:
        start_two(plan, system, y, dy, compartments, sums)
        return
    modes, to = modes_at(m, p, nd, nq, system), sums_at(p, nd, rows, nq, sums)
    size, c, g = to.e.size, to.c, to.g
    for i in range(p):
        total, dz = 0.0, row_of(to.dc, i)
        for j in range(p):
            weight, place = modes.u[i * p + j], plan[order + nd + j]
            total += weight * y[place]
            if j == 0:
                _set(dz, weight, row_of(dy, place))
            else:
                _add(dz, weight, row_of(dy, place))
        c[i] = total
    for i in range(p):
        for j in range(p):
            if i != j:
                _add(row_of(to.dc, i), -c[j], row_of(to.turn, i * p + j))
    for d in range(nd):
        x, dx = y[plan[order + d]], row_of(dy, plan[order + d])
        for i in range(p):
            beta = to.beta[i * nd + d]
            c[i] += beta * x
            _add(row_of(to.dc, i), x, row_of(to.dbeta, i * nd + d))
            _add(row_of(to.dc, i), beta, dx)
    for row in range(rows):
        here = 0
        while plan[order + here] != compartments[row]:
            here += 1
        for i in range(size):
            g[row * size + i] = 0.0
            if here < nd or i >= p + nd:
                _clear(row_of(to.dg, row * size + i))
        if here < nd:
            g[row * size + p + here] = y[compartments[row]]
            _set(row_of(to.dg, row * size + p + here), 1.0, row_of(dy, compartments[row]))
            continue
        j = here - nd
        for i in range(p):
            weight = modes.v[j * p + i]
            g[row * size + i] = weight * c[i]
            there, dc, dv = row_of(to.dg, row * size + i), row_of(to.dc, i), row_of(to.dv, j * p + i)
            for q in range(nq):
                there[q] = weight * dc[q] + dv[q] * c[i]
        for d in range(nd):
            x, dx = y[plan[order + d]], row_of(dy, plan[order + d])
            b, db = to.reach[j * nd + d], row_of(to.dreach, j * nd + d)
            g[row * size + p + d] = -b * x
            there = row_of(to.dg, row * size + p + d)
            for q in range(nq):
                there[q] = -(db[q] * x + b * dx[q])


@inlined
def read_sums(h: float, plan: Integers, compartments: Integers, sums: Vector, a: Vector, da: Matrix) -> bool:
    """Put amounts a time ``h`` after the start into ``a``, ``da``; False where digits would be lost."""
    nd, p = plan[3], plan[4]
    of = sums_at(p, nd, compartments.size, da.shape[1], sums)
    e, g, size = of.e, of.g, of.e.size
    for i in range(size):
        e[i] = math.exp(of.exponent[i] * h) if i < p + nd else 0.0
    for row in range(compartments.size):
        compartment = compartments[row]
        to = row_of(da, compartment)
        value, sizes = 0.0, 0.0
        for group in range(0, size, 3):
            at = row * size + group
            e0, e1, e2 = e[group], e[group + 1], e[group + 2]
            f0, f1, f2 = e0 * g[at], e1 * g[at + 1], e2 * g[at + 2]
            value += f0 + f1 + f2
            sizes += abs(f0) + abs(f1) + abs(f2)
            f0, f1, f2 = h * f0, h * f1, h * f2
            d0, d1, d2 = row_of(of.dg, at), row_of(of.dg, at + 1), row_of(of.dg, at + 2)
            l0, l1, l2 = (
                row_of(of.dexponent, group),
                row_of(of.dexponent, group + 1),
                row_of(of.dexponent, group + 2),
            )
            for q in range(to.size):
                total = e0 * d0[q] + e1 * d1[q] + e2 * d2[q] + (f0 * l0[q] + f1 * l1[q] + f2 * l2[q])
                to[q] = total if group == 0 else to[q] + total
        if not abs(value) >= CANCELS * sizes or not sizes < math.inf:
            return False
        a[compartment] = value
    return True


@inlined
def read_one(
    h: float, scale: float, dscale: Vector, plan: Integers, sums: Vector, slope: Vector, prediction: Vector
) -> tuple[bool, float]:
    """Return the amount of the one compartment asked for, of up to three exponentials, as :func:`read_sums`.

    Its derivatives go into ``slope`` [nq], those of amount over ``scale`` into ``prediction`` [nq];
    ``dscale`` [nq] or, for a scale of 1, [0]. First comes whether it serves.
    """
    known, nq = plan[3] + plan[4], slope.size
    of = sums_at(plan[4], plan[3], 1, nq, sums)
    e0 = math.exp(of.exponent[0] * h)
    e1 = math.exp(of.exponent[1] * h) if known > 1 else 0.0
    e2 = math.exp(of.exponent[2] * h) if known > 2 else 0.0
    f0, f1, f2 = e0 * of.g[0], e1 * of.g[1], e2 * of.g[2]
    value, sizes = f0 + f1 + f2, abs(f0) + abs(f1) + abs(f2)
    if not abs(value) >= CANCELS * sizes or not sizes < math.inf:
        return False, 0.0
    f0, f1, f2 = h * f0, h * f1, h * f2
    d0, d1, d2 = row_of(of.dg, 0), row_of(of.dg, 1), row_of(of.dg, 2)
    l0, l1, l2 = row_of(of.dexponent, 0), row_of(of.dexponent, 1), row_of(of.dexponent, 2)
    if dscale.size == 0:
        for q in range(nq):
            total = e0 * d0[q] + e1 * d1[q] + e2 * d2[q] + (f0 * l0[q] + f1 * l1[q] + f2 * l2[q])
            slope[q], prediction[q] = total, total
        return True, value
    inverse = 1.0 / scale
    ratio = value * inverse
    for q in range(nq):
        total = e0 * d0[q] + e1 * d1[q] + e2 * d2[q] + (f0 * l0[q] + f1 * l1[q] + f2 * l2[q])
        slope[q], prediction[q] = total, (total - ratio * dscale[q]) * inverse
    return True, value
