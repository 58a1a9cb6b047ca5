"""Amounts between two events as sums of exponentials, for records that only look.

From the state at an event on, compartment j of a linear system without inputs holds sum_m G_jm exp(l_m t), m
over modes and depots. With the G and their derivatives at hand a record costs its exponentials and one
product for each, and the state need not move. In the notation of :mod:`.mammillary`, with z = U y:

    y_j = sum_i V_ji (z_i + sum_d beta_id x_d) exp(l_i t) - sum_d B_jd x_d exp(l_d t)
    beta_id = b_id / (l_i - l_d), B = V beta

and by the perturbation of modes under M = U dK V: dl_i = M_ii, dV = V R, dU = -R U, R_il = M_il / (l_l - l_i)
(Magnus, Econometric Theory 1 (1985) 179). Where exponents are near each other, or their sum far smaller than
its terms, digits would be lost: :mod:`.linear` moves the state instead, by divided differences.

The vector ``sums`` holds, for s = p + d exponents and S = s rounded up to groups of three: beta [p, d], then
R [p, p, nq], dV [p, p, nq], dbeta [p, d, nq], B [p, d], dB [p, d, nq], l [S], dl [S, nq], room for
exponentials [S], for z + beta x [p] and its derivatives [p, nq], and G [n, S], dG [n, S, nq].
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from .borrowed import borrowed, inlined
from .caching import jit
from .mammillary import SYSTEM_HEAD, Vector
from .transfer_graph import PLAN_HEAD, Integers

Matrix = NDArray[np.float64]

APART = 0.1  # exponents nearer than this, relative to the larger one, are not written as separate terms
CANCELS = 0.1  # sums smaller than this, relative to the sum of sizes, neither


@jit
def sums_size(n: int, nq: int) -> int:
    """Return the length of ``sums`` for ``n`` compartments and nq directions."""
    return (5 * n * n + 10 * n + 6) * (1 + nq)


@inlined
def _places(p: int, nd: int, nq: int) -> tuple[int, int, int, int, int, int, int, int, int]:
    """Return where in ``sums`` stand R, dV, dbeta, B, dB, l, dl, exponentials and the sums, and S."""
    turn = p * nd
    dv = turn + p * p * nq
    dbeta = dv + p * p * nq
    reach = dbeta + p * nd * nq
    dreach = reach + p * nd
    exponents = dreach + p * nd * nq
    size = _grouped(p + nd)
    dexponents = exponents + size
    return turn, dv, dbeta, reach, dreach, exponents, dexponents, dexponents + size * nq, size


@inlined
def _grouped(s: int) -> int:
    return (s + 2) // 3 * 3


@jit
def prepare_sums(plan: Integers, nq: int, system: Vector, sums: Vector) -> bool:
    """Find what depends on the rate constants alone; False where sums of exponentials would lose digits."""
    plan, system, sums = borrowed(plan), borrowed(system), borrowed(sums)
    m = plan[1]
    nd = plan[3]
    p = plan[4]
    if plan[5] >= 0:
        return False
    values = SYSTEM_HEAD + m * (1 + nq)
    v = values + p + nd + p
    feed = v + 2 * p * p
    ddepots = feed + p * nd
    dfeed = ddepots + nd * nq
    source_term = dfeed + p * nd * nq
    s = p + nd
    turn, dv, dbeta, reach, dreach, exponents, dexponents, _, size = _places(p, nd, nq)
    for i in range(exponents, dexponents + size * nq):
        sums[i] = 0.0
    for i in range(s):
        sums[exponents + i] = system[values + i]
    for i in range(p):
        for j in range(i + 1, s):
            a = sums[exponents + i]
            b = sums[exponents + j]
            if not abs(a - b) > APART * max(abs(a), abs(b)):
                return False
    for i in range(p):
        for j in range(p):
            at = turn + (i * p + j) * nq
            for q in range(nq):
                sums[at + q] = 0.0
            for source in range(p):
                weight = system[v + source * p + j]
                term = source_term + (source * p + i) * nq
                for q in range(nq):
                    sums[at + q] += weight * system[term + q]
            if i == j:
                for q in range(nq):
                    sums[dexponents + i * nq + q] = sums[at + q]
                    sums[at + q] = 0.0
            else:
                gap = 1.0 / (sums[exponents + j] - sums[exponents + i])
                for q in range(nq):
                    sums[at + q] *= gap
    for j in range(p):
        for i in range(p):
            at = dv + (j * p + i) * nq
            for q in range(nq):
                sums[at + q] = 0.0
            for other in range(p):
                weight = system[v + j * p + other]
                for q in range(nq):
                    sums[at + q] += weight * sums[turn + (other * p + i) * nq + q]
    for d in range(nd):
        for q in range(nq):
            sums[dexponents + (p + d) * nq + q] = system[ddepots + d * nq + q]
        for i in range(p):
            gap = 1.0 / (sums[exponents + i] - sums[exponents + p + d])
            beta = system[feed + i * nd + d] * gap
            sums[i * nd + d] = beta
            at = dbeta + (i * nd + d) * nq
            dl = dexponents + i * nq
            dk = dexponents + (p + d) * nq
            for q in range(nq):
                sums[at + q] = system[dfeed + (i * nd + d) * nq + q] - beta * (sums[dl + q] - sums[dk + q])
            for j in range(p):
                b = system[feed + j * nd + d]
                for q in range(nq):
                    sums[at + q] -= sums[turn + (i * p + j) * nq + q] * b
            for q in range(nq):
                sums[at + q] *= gap
        for j in range(p):
            at = dreach + (j * nd + d) * nq
            total = 0.0
            for q in range(nq):
                sums[at + q] = 0.0
            for i in range(p):
                weight = system[v + j * p + i]
                beta = sums[i * nd + d]
                total += weight * beta
                for q in range(nq):
                    sums[at + q] += weight * sums[dbeta + (i * nd + d) * nq + q]
                for q in range(nq):
                    sums[at + q] += beta * sums[dv + (j * p + i) * nq + q]
            sums[reach + j * nd + d] = total
    return True


@jit
def start_sums(
    plan: Integers, system: Vector, y: Vector, dy: Matrix, compartments: Integers, sums: Vector
) -> None:
    """Let sums begin at the state ``y`` [n], ``dy`` [n, nq]: those of ``compartments`` (from 0), in order."""
    plan, system, sums = borrowed(plan), borrowed(system), borrowed(sums)
    y, dy, compartments = borrowed(y), borrowed(dy), borrowed(compartments)
    m = plan[1]
    nd = plan[3]
    p = plan[4]
    nq = dy.shape[1]
    order = PLAN_HEAD + 3 * m
    v = SYSTEM_HEAD + m * (1 + nq) + p + nd + p
    u = v + p * p
    turn, dv, dbeta, reach, dreach, _, _, room, size = _places(p, nd, nq)
    c = room + size
    dc = c + p
    g = dc + p * nq
    dg = g + compartments.size * size
    for i in range(p):
        total = 0.0
        at = dc + i * nq
        for q in range(nq):
            sums[at + q] = 0.0
        for j in range(p):
            weight = system[u + i * p + j]
            place = plan[order + nd + j]
            total += weight * y[place]
            for q in range(nq):
                sums[at + q] += weight * dy[place, q]
        sums[c + i] = total
    for i in range(p):
        for j in range(p):
            if i != j:
                z = sums[c + j]
                for q in range(nq):
                    sums[dc + i * nq + q] -= sums[turn + (i * p + j) * nq + q] * z
    for i in range(p):
        for d in range(nd):
            beta = sums[i * nd + d]
            place = plan[order + d]
            x = y[place]
            sums[c + i] += beta * x
            at = dbeta + (i * nd + d) * nq
            for q in range(nq):
                sums[dc + i * nq + q] += sums[at + q] * x + beta * dy[place, q]
    for row in range(compartments.size):
        here = 0
        while plan[order + here] != compartments[row]:
            here += 1
        to = g + row * size
        dto = dg + row * size * nq
        for i in range(size):
            sums[to + i] = 0.0
        for i in range(size * nq):
            sums[dto + i] = 0.0
        if here < nd:
            sums[to + p + here] = y[compartments[row]]
            for q in range(nq):
                sums[dto + (p + here) * nq + q] = dy[compartments[row], q]
            continue
        j = here - nd
        for i in range(p):
            weight = system[v + j * p + i]
            value = sums[c + i]
            sums[to + i] = weight * value
            at = dv + (j * p + i) * nq
            for q in range(nq):
                sums[dto + i * nq + q] = weight * sums[dc + i * nq + q] + sums[at + q] * value
        for d in range(nd):
            b = sums[reach + j * nd + d]
            place = plan[order + d]
            x = y[place]
            sums[to + p + d] = -b * x
            at = dreach + (j * nd + d) * nq
            for q in range(nq):
                sums[dto + (p + d) * nq + q] = -(sums[at + q] * x + b * dy[place, q])


@inlined
def read_sums(h: float, plan: Integers, compartments: Integers, sums: Vector, a: Vector, da: Matrix) -> bool:
    """Put the amounts a time ``h`` after the start into ``a`` and ``da``; False where digits would be lost."""
    nd = plan[3]
    p = plan[4]
    nq = da.shape[1]
    _, _, _, _, _, exponents, dexponents, room, size = _places(p, nd, nq)
    g = room + size + p * (1 + nq)
    dg = g + compartments.size * size
    for i in range(p + nd):
        sums[room + i] = math.exp(sums[exponents + i] * h)
    for i in range(p + nd, size):
        sums[room + i] = 0.0
    for row in range(compartments.size):
        compartment = compartments[row]
        value = 0.0
        sizes = 0.0
        for group in range(0, size, 3):
            e0, e1, e2 = sums[room + group], sums[room + group + 1], sums[room + group + 2]
            at = g + row * size + group
            f0, f1, f2 = e0 * sums[at], e1 * sums[at + 1], e2 * sums[at + 2]
            value += f0 + f1 + f2
            sizes += abs(f0) + abs(f1) + abs(f2)
            f0, f1, f2 = h * f0, h * f1, h * f2
            at = dg + (row * size + group) * nq
            dl = dexponents + group * nq
            for q in range(nq):
                early = e0 * sums[at + q] + e1 * sums[at + nq + q] + e2 * sums[at + 2 * nq + q]
                late = f0 * sums[dl + q] + f1 * sums[dl + nq + q] + f2 * sums[dl + 2 * nq + q]
                da[compartment, q] = early + late if group == 0 else da[compartment, q] + (early + late)
        if not abs(value) >= CANCELS * sizes or not sizes < math.inf:
            return False
        a[compartment] = value
    return True
