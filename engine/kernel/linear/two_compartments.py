"""Motion of two compartments, with or without a depot: the loops of :mod:`.modes` written out.

The commonest models deserve it: the same formulas as there cost several times less without loops and indices.
Mode i has eigenvalue l_i; x is the depot's amount, k minus its rate, b_i its feed of mode i.
"""

from __future__ import annotations

import math

from ..machine.borrowed import borrowed, vector_at
from ..machine.caching import jit
from .divided_difference import pair, quadruple, triple
from .mammillary import SYSTEM_HEAD, Vector
from .modes import any_input
from .transfer_graph import PLAN_HEAD, Integers


@jit
def advance_two(
    h: float, y: Vector, dy: Vector, r: Vector, dr: Vector, plan: Integers, system: Vector
) -> None:
    """Move ``y`` [n] and ``dy`` [n, nq] over the time ``h`` with constant inputs ``r``, ``dr``, in place."""
    y, dy, r, dr = borrowed(y), borrowed(dy), borrowed(r), borrowed(dr)
    plan, system = borrowed(plan), borrowed(system)
    nd = plan[3]
    nq = dy.shape[1]
    place = PLAN_HEAD + 3 * plan[1]
    depot = plan[place]  # meaningless without one
    one = plan[place + nd]
    two = plan[place + nd + 1]
    at = SYSTEM_HEAD + plan[1] * (1 + nq)
    l1 = system[at]
    l2 = system[at + 1]
    k = 0.0
    if nd == 1:
        k = system[at + 2]
    at += 4 + nd
    v11 = system[at]
    v12 = system[at + 1]
    v21 = system[at + 2]
    v22 = system[at + 3]
    u11 = system[at + 4]
    u12 = system[at + 5]
    u21 = system[at + 6]
    u22 = system[at + 7]
    at += 8

    infused = any_input(2 + nd, r, dr)
    e1 = math.exp(l1 * h)
    e2 = math.exp(l2 * h)
    e12 = pair(l1, l2, e1, e2, h)
    y1 = y[one]
    y2 = y[two]
    z1 = u11 * y1 + u12 * y2
    z2 = u21 * y1 + u22 * y2
    w1 = e1 * z1
    w2 = e2 * z2
    # exp[i, l] z_l, to become the integral of exp(i (h - s)) z_l(s) ds
    g11 = h * w1
    g12 = e12 * z2
    g21 = e12 * z1
    g22 = h * w2

    # inputs into the two
    unit1 = 0.0
    unit2 = 0.0
    if infused:
        unit1 = pair(l1, 0.0, e1, 1.0, h)
        unit2 = pair(l2, 0.0, e2, 1.0, h)
        rho1 = u11 * r[one] + u12 * r[two]
        rho2 = u21 * r[one] + u22 * r[two]
        w1 += unit1 * rho1
        w2 += unit2 * rho2
        g11 += triple(l1, l1, 0.0, h * e1, unit1, unit1, h) * rho1
        g22 += triple(l2, l2, 0.0, h * e2, unit2, unit2, h) * rho2
        third = triple(l1, l2, 0.0, e12, unit1, unit2, h)
        g12 += third * rho2
        g21 += third * rho1

    # the depot
    b1 = 0.0
    b2 = 0.0
    gone = 0.0
    unit = 0.0
    fed1 = 0.0
    fed2 = 0.0
    arrived1 = 0.0
    arrived2 = 0.0
    late1 = 0.0
    late2 = 0.0
    passed = 0.0
    infused1 = 0.0
    infused2 = 0.0
    if nd == 1:
        b1 = system[at]
        b2 = system[at + 1]
        gone = math.exp(k * h)
        x = y[depot]
        fed1 = pair(l1, k, e1, gone, h)
        fed2 = pair(l2, k, e2, gone, h)
        arrived1 = fed1 * x
        arrived2 = fed2 * x
        passed = h * gone * x
        if nq > 0 and x != 0.0:
            late1 = triple(l1, k, k, fed1, fed1, h * gone, h) * x
            late2 = triple(l2, k, k, fed2, fed2, h * gone, h) * x
            g11 += b1 * x * triple(l1, l1, k, h * e1, fed1, fed1, h)
            g22 += b2 * x * triple(l2, l2, k, h * e2, fed2, fed2, h)
            third = x * triple(l1, l2, k, e12, fed1, fed2, h)
            g12 += b2 * third
            g21 += b1 * third
        if infused:
            rx = r[depot]
            unit = pair(k, 0.0, gone, 1.0, h)
            infused1 = triple(l1, k, 0.0, fed1, unit1, unit, h)
            infused2 = triple(l2, k, 0.0, fed2, unit2, unit, h)
            arrived1 += infused1 * rx
            arrived2 += infused2 * rx
            if nq > 0 and rx != 0.0:
                passed += rx * triple(k, k, 0.0, h * gone, unit, unit, h)
                late1 += rx * quadruple(l1, k, k, 0.0, h)
                late2 += rx * quadruple(l2, k, k, 0.0, h)
                g11 += b1 * rx * quadruple(l1, l1, k, 0.0, h)
                g22 += b2 * rx * quadruple(l2, l2, k, 0.0, h)
                third = rx * quadruple(l1, l2, k, 0.0, h)
                g12 += b2 * third
                g21 += b1 * third
        w1 += b1 * arrived1
        w2 += b2 * arrived2
        y[depot] = gone * x + unit * r[depot]
    y[one] = v11 * w1 + v12 * w2
    y[two] = v21 * w1 + v22 * w2
    if nq == 0:
        return

    # integral of exp(mode (h - s)) A_source(s) ds: source first, mode second
    j11 = v11 * g11 + v12 * g12
    j12 = v11 * g21 + v12 * g22
    j21 = v21 * g11 + v22 * g12
    j22 = v21 * g21 + v22 * g22
    m11 = v11 * e1 * u11 + v12 * e2 * u21
    m12 = v11 * e1 * u12 + v12 * e2 * u22
    m21 = v21 * e1 * u11 + v22 * e2 * u21
    m22 = v21 * e1 * u12 + v22 * e2 * u22
    source = at + nd * (2 + 3 * nq)
    c11, c12 = vector_at(system, source, nq), vector_at(system, source + nq, nq)
    c21, c22 = vector_at(system, source + 2 * nq, nq), vector_at(system, source + 3 * nq, nq)
    dy1, dy2 = vector_at(dy, one * nq, nq), vector_at(dy, two * nq, nq)
    if nd == 0:
        for q in range(nq):
            s1 = c11[q] * j11 + c21[q] * j21
            s2 = c12[q] * j12 + c22[q] * j22
            d1 = dy1[q]
            d2 = dy2[q]
            dy1[q] = m11 * d1 + m12 * d2 + v11 * s1 + v12 * s2
            dy2[q] = m21 * d1 + m22 * d2 + v21 * s1 + v22 * s2
    else:
        at += 2
        dk, dx = vector_at(system, at, nq), vector_at(dy, depot * nq, nq)
        db1, db2 = vector_at(system, at + nq, nq), vector_at(system, at + 2 * nq, nq)
        late1 *= b1
        late2 *= b2
        fed1 *= b1
        fed2 *= b2
        for q in range(nq):
            x = dx[q]
            s1 = c11[q] * j11 + c21[q] * j21 + fed1 * x + dk[q] * late1 + db1[q] * arrived1
            s2 = c12[q] * j12 + c22[q] * j22 + fed2 * x + dk[q] * late2 + db2[q] * arrived2
            d1 = dy1[q]
            d2 = dy2[q]
            dy1[q] = m11 * d1 + m12 * d2 + v11 * s1 + v12 * s2
            dy2[q] = m21 * d1 + m22 * d2 + v21 * s1 + v22 * s2
            dx[q] = gone * x + dk[q] * passed
    if infused:
        for q in range(nq):
            s1 = unit1 * (u11 * dr[one, q] + u12 * dr[two, q])
            s2 = unit2 * (u21 * dr[one, q] + u22 * dr[two, q])
            if nd == 1:
                s1 += b1 * infused1 * dr[depot, q]
                s2 += b2 * infused2 * dr[depot, q]
                dy[depot, q] += unit * dr[depot, q]
            dy[one, q] += v11 * s1 + v12 * s2
            dy[two, q] += v21 * s1 + v22 * s2
