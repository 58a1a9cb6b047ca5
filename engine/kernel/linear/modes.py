"""Motion of a linear system in its modes: amounts and derivatives after a time with constant inputs."""

from __future__ import annotations

import math

from ..machine.borrowed import borrowed
from ..machine.caching import jit
from .divided_difference import pair, quadruple, triple
from .mammillary import SYSTEM_HEAD, Vector
from .transfer_graph import PLAN_HEAD, Integers


@jit
def any_input(n: int, r: Vector, dr: Vector) -> bool:
    """Return whether anything in ``r`` or ``dr`` is not zero, without branches: they would cost far more."""
    found = 0
    for i in range(n):
        found |= r[i] != 0.0
        for q in range(dr.shape[1]):
            found |= dr[i, q] != 0.0
    return found != 0


@jit
def modes_work(n: int, nq: int) -> int:
    """Return the length of the work space for ``n`` compartments."""
    return 10 * n + 5 * n * n + n * nq


@jit
def advance_modes(
    h: float, y: Vector, dy: Vector, r: Vector, dr: Vector, plan: Integers, system: Vector, work: Vector
) -> None:
    """Move ``y`` [n] and ``dy`` [n, nq] over the time ``h`` with constant inputs ``r``, ``dr``, in place.

    Notation of :mod:`.mammillary`; with z the modes, x the depots, rho the inputs into modes:
    z_i(h) = exp[i] z_i + exp[i, 0] rho_i + sum over depots of b_i (exp[i, x] x + exp[i, x, 0] r_x).
    """
    y, dy, r, dr = borrowed(y), borrowed(dy), borrowed(r), borrowed(dr)
    plan, system, work = borrowed(plan), borrowed(system), borrowed(work)
    n = plan[0]
    m = plan[1]
    nd = plan[3]
    p = plan[4]
    absorbing = plan[5]
    nq = dy.shape[1]
    depot = PLAN_HEAD + 3 * m  # compartments in the order of the plan
    tree = depot + nd
    values = SYSTEM_HEAD + m * (1 + nq)
    depots = values + p
    v = depots + nd + p
    u = v + p * p
    feed = u + p * p
    ddepots = feed + p * nd
    dfeed = ddepots + nd * nq
    source_term = dfeed + p * nd * nq
    z = 0
    rho = z + p
    exps = rho + p
    unit = exps + p  # exp[i, 0]
    gone = unit + p  # exp of the depots
    gone_unit = gone + nd
    fed = gone_unit + nd  # exp[i, x] [p, nd]
    arrived = fed + p * nd  # what arrives in mode i per feed: exp[i, x] x + exp[i, x, 0] r_x
    late = arrived + p * nd  # exp[i, x, x] x + exp[i, x, x, 0] r_x
    both = late + p * nd  # exp[i, l] [p, p]
    passed = both + p * p  # integral of exp(i (h - s)) A_source(s) ds, [source, mode]
    moved = passed + p * p  # [p, nq]

    infused = any_input(n, r, dr)
    mass = 0.0
    if absorbing >= 0:
        for i in range(n):
            mass += y[i] + h * r[i]
        for q in range(nq):
            dmass = 0.0
            for i in range(n):
                dmass += dy[i, q] + h * dr[i, q]
            dy[absorbing, q] = dmass

    for i in range(p):
        value = system[values + i]
        amount = 0.0
        rate = 0.0
        for s in range(p):
            weight = system[u + i * p + s]
            c = plan[tree + s]
            amount += weight * y[c]
            rate += weight * r[c]
        work[z + i] = amount
        work[rho + i] = rate
        work[exps + i] = math.exp(value * h)
        if infused:
            work[unit + i] = pair(value, 0.0, work[exps + i], 1.0, h)
    for d in range(nd):
        value = system[depots + d]
        work[gone + d] = math.exp(value * h)
        work[gone_unit + d] = pair(value, 0.0, work[gone + d], 1.0, h) if infused else 0.0
        x = y[plan[depot + d]]
        for i in range(p):
            mode = system[values + i]
            exp_mode = work[exps + i]
            ix = pair(mode, value, exp_mode, work[gone + d], h)
            work[fed + i * nd + d] = ix
            arrived_here = ix * x
            late_here = 0.0
            if nq > 0:
                late_here = triple(mode, value, value, ix, ix, h * work[gone + d], h) * x
            if infused:
                rx = r[plan[depot + d]]
                arrived_here += triple(mode, value, 0.0, ix, work[unit + i], work[gone_unit + d], h) * rx
                if rx != 0.0:
                    late_here += quadruple(mode, value, value, 0.0, h) * rx
            work[arrived + i * nd + d] = arrived_here
            work[late + i * nd + d] = late_here

    if nq > 0:
        _pass_through(h, y, r, infused, plan, system, nq, work)
        for q in range(nq):
            for i in range(p):
                amount = 0.0
                rate = 0.0
                for s in range(p):
                    c = plan[tree + s]
                    weight = system[u + i * p + s]
                    amount += weight * dy[c, q]
                    rate += weight * dr[c, q]
                total = amount * work[exps + i]
                if infused:
                    total += rate * work[unit + i]
                for s in range(p):
                    total += system[source_term + (s * p + i) * nq + q] * work[passed + s * p + i]
                for d in range(nd):
                    c = plan[depot + d]
                    k = i * nd + d
                    inner = work[fed + k] * dy[c, q] + system[ddepots + d * nq + q] * work[late + k]
                    if infused and dr[c, q] != 0.0:
                        mode = system[values + i]
                        value = system[depots + d]
                        inner += dr[c, q] * triple(
                            mode, value, 0.0, work[fed + k], work[unit + i], work[gone_unit + d], h
                        )
                    total += system[feed + k] * inner + system[dfeed + k * nq + q] * work[arrived + k]
                work[moved + i * nq + q] = total
        for s in range(p):
            for q in range(nq):
                total = 0.0
                for i in range(p):
                    total += system[v + s * p + i] * work[moved + i * nq + q]
                dy[plan[tree + s], q] = total
        for d in range(nd):
            c = plan[depot + d]
            gone_here = work[gone + d]
            passed_here = h * gone_here * y[c]
            if infused and r[c] != 0.0:
                value = system[depots + d]
                unit_here = work[gone_unit + d]
                passed_here += r[c] * triple(value, value, 0.0, h * gone_here, unit_here, unit_here, h)
            for q in range(nq):
                dy[c, q] = (
                    gone_here * dy[c, q]
                    + work[gone_unit + d] * dr[c, q]
                    + system[ddepots + d * nq + q] * passed_here
                )

    for i in range(p):
        total = work[exps + i] * work[z + i]
        if infused:
            total += work[unit + i] * work[rho + i]
        for d in range(nd):
            total += system[feed + i * nd + d] * work[arrived + i * nd + d]
        work[z + i] = total
    for s in range(p):
        total = 0.0
        for i in range(p):
            total += system[v + s * p + i] * work[z + i]
        y[plan[tree + s]] = total
    for d in range(nd):
        c = plan[depot + d]
        y[c] = work[gone + d] * y[c] + work[gone_unit + d] * r[c]

    if absorbing >= 0:  # nothing leaves but into it
        for i in range(n):
            if i != absorbing:
                mass -= y[i]
                for q in range(nq):
                    dy[absorbing, q] -= dy[i, q]
        y[absorbing] = mass


@jit
def _pass_through(
    h: float, y: Vector, r: Vector, infused: bool, plan: Integers, system: Vector, nq: int, work: Vector
) -> None:
    """Fill ``passed``: per source compartment and mode the integral of exp(mode (h - s)) A_source(s) ds."""
    y, r, plan = borrowed(y), borrowed(r), borrowed(plan)
    system, work = borrowed(system), borrowed(work)
    m = plan[1]
    nd = plan[3]
    p = plan[4]
    depot = PLAN_HEAD + 3 * m
    values = SYSTEM_HEAD + m * (1 + nq)
    depots = values + p
    v = depots + nd + p
    feed = v + 2 * p * p
    z = 0
    rho = z + p
    exps = rho + p
    unit = exps + p
    gone = unit + p
    gone_unit = gone + nd
    fed = gone_unit + nd
    both = fed + 3 * p * nd
    passed = both + p * p
    for i in range(p):
        a = system[values + i]
        work[both + i * p + i] = h * work[exps + i]
        for j in range(i + 1, p):
            between = pair(a, system[values + j], work[exps + i], work[exps + j], h)
            work[both + i * p + j] = between
            work[both + j * p + i] = between
    for k in range(p * p):
        work[passed + k] = 0.0
    for i in range(p):
        a = system[values + i]
        for j in range(i, p):
            b = system[values + j]
            between = work[both + i * p + j]
            to_l = between * work[z + j]
            to_i = between * work[z + i]
            if infused:
                third = triple(a, b, 0.0, between, work[unit + i], work[unit + j], h)
                to_l += third * work[rho + j]
                to_i += third * work[rho + i]
            for d in range(nd):
                x = y[plan[depot + d]]
                rx = r[plan[depot + d]]
                value = system[depots + d]
                reached = 0.0
                if x != 0.0:
                    reached = x * triple(
                        a, b, value, between, work[fed + i * nd + d], work[fed + j * nd + d], h
                    )
                if rx != 0.0:
                    reached += rx * quadruple(a, b, value, 0.0, h)
                to_l += system[feed + j * nd + d] * reached
                to_i += system[feed + i * nd + d] * reached
            for s in range(p):
                work[passed + s * p + i] += system[v + s * p + j] * to_l
                if j > i:
                    work[passed + s * p + j] += system[v + s * p + i] * to_i
