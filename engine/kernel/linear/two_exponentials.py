"""The loops of :mod:`.exponentials` written out for two compartments, with or without a depot.

The commonest models deserve it: each loop over directions costs as much to begin as it has work.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..machine.caching import jit
from .exponentials_layout import modes_at, row_of, sums_at
from .mammillary import Vector
from .transfer_graph import PLAN_HEAD, Integers

Matrix = NDArray[np.float64]


@jit
def prepare_two(plan: Integers, nq: int, system: Vector, sums: Vector) -> None:
    """Find what depends on the rate constants alone; the exponents are there."""
    nd = plan[3]
    modes, to = modes_at(plan[1], 2, nd, nq, system), sums_at(2, nd, 0, nq, sums)
    v11, v12, v21, v22 = modes.v[0], modes.v[1], modes.v[2], modes.v[3]
    l1, l2 = to.exponent[0], to.exponent[1]
    inverse = 1.0 / (l2 - l1)
    s11, s12 = row_of(modes.source_term, 0), row_of(modes.source_term, 1)
    s21, s22 = row_of(modes.source_term, 2), row_of(modes.source_term, 3)
    dl1, dl2 = row_of(to.dexponent, 0), row_of(to.dexponent, 1)
    turn12, turn21 = row_of(to.turn, 1), row_of(to.turn, 2)
    dv11, dv12, dv21, dv22 = row_of(to.dv, 0), row_of(to.dv, 1), row_of(to.dv, 2), row_of(to.dv, 3)
    for q in range(nq):
        dl1[q] = v11 * s11[q] + v21 * s21[q]
        dl2[q] = v12 * s12[q] + v22 * s22[q]
        up = (v12 * s11[q] + v22 * s21[q]) * inverse
        down = -(v11 * s12[q] + v21 * s22[q]) * inverse
        turn12[q], turn21[q] = up, down
        dv11[q], dv12[q] = v12 * down, v11 * up
        dv21[q], dv22[q] = v22 * down, v21 * up
    if nd == 0:
        return
    k, b1, b2 = to.exponent[2], modes.feed[0], modes.feed[1]
    gap1, gap2 = 1.0 / (l1 - k), 1.0 / (l2 - k)
    beta1, beta2 = b1 * gap1, b2 * gap2
    to.beta[0], to.beta[1] = beta1, beta2
    to.reach[0], to.reach[1] = v11 * beta1 + v12 * beta2, v21 * beta1 + v22 * beta2
    ddepot, dk = row_of(modes.ddepots, 0), row_of(to.dexponent, 2)
    db1, db2 = row_of(modes.dfeed, 0), row_of(modes.dfeed, 1)
    dbeta1, dbeta2 = row_of(to.dbeta, 0), row_of(to.dbeta, 1)
    dreach1, dreach2 = row_of(to.dreach, 0), row_of(to.dreach, 1)
    for q in range(nq):
        dkq = ddepot[q]
        dk[q] = dkq
        first = gap1 * (db1[q] - beta1 * (dl1[q] - dkq) - b2 * turn12[q])
        second = gap2 * (db2[q] - beta2 * (dl2[q] - dkq) - b1 * turn21[q])
        dbeta1[q], dbeta2[q] = first, second
        dreach1[q] = v11 * first + v12 * second + beta1 * dv11[q] + beta2 * dv12[q]
        dreach2[q] = v21 * first + v22 * second + beta1 * dv21[q] + beta2 * dv22[q]


@jit
def start_two(
    plan: Integers, system: Vector, y: Vector, dy: Matrix, compartments: Integers, sums: Vector
) -> None:
    """Let sums begin at the state ``y`` [n], ``dy`` [n, nq]: those of ``compartments`` (from 0), in order."""
    nd, nq, order = plan[3], dy.shape[1], PLAN_HEAD + 3 * plan[1]
    modes, to = modes_at(plan[1], 2, nd, nq, system), sums_at(2, nd, compartments.size, nq, sums)
    depot, one, two = plan[order], plan[order + nd], plan[order + nd + 1]  # the first meaningless without one
    u11, u12, u21, u22 = modes.u[0], modes.u[1], modes.u[2], modes.u[3]
    z1, z2 = u11 * y[one] + u12 * y[two], u21 * y[one] + u22 * y[two]
    dy1, dy2, dx = row_of(dy, one), row_of(dy, two), row_of(dy, depot)
    dc1, dc2 = row_of(to.dc, 0), row_of(to.dc, 1)
    turn12, turn21 = row_of(to.turn, 1), row_of(to.turn, 2)
    x, c1, c2 = 0.0, z1, z2
    if nd == 1:
        x, beta1, beta2 = y[depot], to.beta[0], to.beta[1]
        c1, c2 = z1 + beta1 * x, z2 + beta2 * x
        dbeta1, dbeta2 = row_of(to.dbeta, 0), row_of(to.dbeta, 1)
        for q in range(nq):
            d1, d2, d = dy1[q], dy2[q], dx[q]
            dc1[q] = u11 * d1 + u12 * d2 - z2 * turn12[q] + x * dbeta1[q] + beta1 * d
            dc2[q] = u21 * d1 + u22 * d2 - z1 * turn21[q] + x * dbeta2[q] + beta2 * d
    else:
        for q in range(nq):
            d1, d2 = dy1[q], dy2[q]
            dc1[q] = u11 * d1 + u12 * d2 - z2 * turn12[q]
            dc2[q] = u21 * d1 + u22 * d2 - z1 * turn21[q]
    to.c[0], to.c[1] = c1, c2
    for row in range(compartments.size):
        at, compartment = 3 * row, compartments[row]
        g1, g2, g3 = row_of(to.dg, at), row_of(to.dg, at + 1), row_of(to.dg, at + 2)
        if nd == 1 and compartment == depot:
            to.g[at], to.g[at + 1], to.g[at + 2] = 0.0, 0.0, x
            for q in range(nq):
                g1[q], g2[q], g3[q] = 0.0, 0.0, dx[q]
            continue
        j = 0 if compartment == one else 1
        v1, v2, reach = modes.v[2 * j], modes.v[2 * j + 1], 0.0
        dv1, dv2 = row_of(to.dv, 2 * j), row_of(to.dv, 2 * j + 1)
        if nd == 1:
            reach, dreach = to.reach[j], row_of(to.dreach, j)
            for q in range(nq):
                g1[q] = v1 * dc1[q] + dv1[q] * c1
                g2[q] = v2 * dc2[q] + dv2[q] * c2
                g3[q] = -(dreach[q] * x + reach * dx[q])
        else:
            for q in range(nq):
                g1[q] = v1 * dc1[q] + dv1[q] * c1
                g2[q] = v2 * dc2[q] + dv2[q] * c2
                g3[q] = 0.0
        to.g[at], to.g[at + 1], to.g[at + 2] = v1 * c1, v2 * c2, -reach * x
