"""Motion of one compartment, with or without a depot: the loops of :mod:`.modes` written out."""

from __future__ import annotations

import math

from ..machine.borrowed import borrowed
from ..machine.caching import jit
from .divided_difference import pair, quadruple, triple
from .mammillary import SYSTEM_HEAD, Vector
from .modes import any_input
from .transfer_graph import PLAN_HEAD, Integers


@jit
def advance_one(
    h: float, y: Vector, dy: Vector, r: Vector, dr: Vector, plan: Integers, system: Vector
) -> None:
    """Move ``y`` [n] and ``dy`` [n, nq] over the time ``h`` with constant inputs ``r``, ``dr``, in place."""
    y, dy, r, dr = borrowed(y), borrowed(dy), borrowed(r), borrowed(dr)
    plan, system = borrowed(plan), borrowed(system)
    nd = plan[3]
    nq = dy.shape[1]
    place = PLAN_HEAD + 3 * plan[1]
    depot = plan[place]  # the compartment itself without one
    one = plan[place + nd]
    at = SYSTEM_HEAD + plan[1] * (1 + nq)
    mode = system[at]
    k = system[at + 1]  # meaningless without a depot
    at += 4 + nd  # past the eigenvectors, which are 1
    infused = any_input(1 + nd, r, dr)

    amount = y[one]
    gone = math.exp(mode * h)
    stayed = h * gone * amount  # integral of exp(mode (h - s)) A(s) ds
    value = gone * amount
    unit = 0.0
    if infused:
        unit = pair(mode, 0.0, gone, 1.0, h)
        value += unit * r[one]
        stayed += triple(mode, mode, 0.0, h * gone, unit, unit, h) * r[one]
    if nd == 0:
        y[one] = value
        dl = system[at : at + nq]
        here = dy[one]
        for q in range(nq):
            here[q] = gone * here[q] + dl[q] * stayed
        if infused:
            for q in range(nq):
                here[q] += unit * dr[one, q]
        return

    b = system[at]
    x = y[depot]
    rx = r[depot]
    left = math.exp(k * h)
    fed = pair(mode, k, gone, left, h)
    arrived = fed * x
    late = 0.0
    passed = h * left * x
    unit_depot = 0.0
    both = 0.0
    if nq > 0 and x != 0.0:
        late = x * triple(mode, k, k, fed, fed, h * left, h)
        stayed += b * x * triple(mode, mode, k, h * gone, fed, fed, h)
    if infused:
        unit_depot = pair(k, 0.0, left, 1.0, h)
        both = triple(mode, k, 0.0, fed, unit, unit_depot, h)
        arrived += both * rx
        if nq > 0 and rx != 0.0:
            passed += rx * triple(k, k, 0.0, h * left, unit_depot, unit_depot, h)
            late += rx * quadruple(mode, k, k, 0.0, h)
            stayed += b * rx * quadruple(mode, mode, k, 0.0, h)
    y[one] = value + b * arrived
    y[depot] = left * x + unit_depot * rx
    if nq == 0:
        return
    dk = system[at + 1 : at + 1 + nq]
    db = system[at + 1 + nq : at + 1 + 2 * nq]
    dl = system[at + 1 + 2 * nq : at + 1 + 3 * nq]
    here = dy[one]
    there = dy[depot]
    late *= b
    fed *= b
    for q in range(nq):
        dx = there[q]
        here[q] = gone * here[q] + dl[q] * stayed + fed * dx + dk[q] * late + db[q] * arrived
        there[q] = left * dx + dk[q] * passed
    if infused:
        for q in range(nq):
            here[q] += unit * dr[one, q] + b * both * dr[depot, q]
            there[q] += unit_depot * dr[depot, q]
