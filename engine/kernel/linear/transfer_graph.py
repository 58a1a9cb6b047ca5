"""The graph of first-order transfers, and whether a closed form solves it.

A plan is an int64 vector: number of compartments, of transfers, whether a closed form may serve, numbers of
depots and of reversible compartments, the absorbing compartment (from 0, -1: none), two spare places,
the transfers (source from 0, target from 0 or -1, slot), and the compartments in the order depots,
reversible ones, absorbing one.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..machine.caching import jit

Integers = NDArray[np.int64]

PLAN_HEAD = 8
LARGEST_TREE = 6  # beyond, the products with eigenvectors cost more than the series


@jit
def plan_linear(n: int, transfers: Integers) -> Integers:
    """Return the plan of a system of ``n`` compartments.

    ``transfers`` [m, 3]: source 1..n, target 1..n or 0 (out), slot of the rate constant.
    """
    m = transfers.shape[0]
    plan = np.zeros(PLAN_HEAD + 3 * m + n, dtype=np.int64)
    plan[0] = n
    plan[1] = m
    plan[5] = -1
    out_of = np.zeros(n, dtype=np.int64)
    into = np.zeros(n, dtype=np.int64)
    leaves = False
    edge = np.zeros((n, n), dtype=np.bool_)
    for j in range(m):
        source = transfers[j, 0] - 1
        target = transfers[j, 1] - 1
        plan[PLAN_HEAD + 3 * j] = source
        plan[PLAN_HEAD + 3 * j + 1] = target
        plan[PLAN_HEAD + 3 * j + 2] = transfers[j, 2]
        out_of[source] += 1
        if target < 0:
            leaves = True
        else:
            into[target] += 1
            edge[source, target] = True

    kind = np.zeros(n, dtype=np.int64)  # 0 depot, 1 reversible, 2 absorbing
    absorbing = 0
    for i in range(n):
        if into[i] > 0 and out_of[i] == 0:
            kind[i] = 2
            absorbing += 1
        else:
            kind[i] = 1
    for i in range(n):
        if into[i] == 0:
            for j in range(n):
                if edge[i, j] and kind[j] == 1:
                    kind[i] = 0
    depots = 0
    reversible = 0
    pairs = 0
    closed = absorbing == 0 or (absorbing == 1 and not leaves)
    for i in range(n):
        depots += kind[i] == 0
        reversible += kind[i] == 1
        for j in range(n):
            if kind[i] == 1 and kind[j] == 1 and edge[i, j]:
                pairs += i < j
                if not edge[j, i]:
                    closed = False
    closed = closed and reversible <= LARGEST_TREE and pairs == _spanning_pairs(edge, kind)
    plan[2] = closed
    plan[3] = depots
    plan[4] = reversible
    place = PLAN_HEAD + 3 * m
    for wanted in range(3):
        for i in range(n):
            if kind[i] == wanted:
                plan[place] = i
                place += 1
                if wanted == 2:
                    plan[5] = i
    return plan


@jit
def _spanning_pairs(edge: NDArray[np.bool_], kind: Integers) -> int:
    """Return the number of pairs in a spanning forest: without cycles it is that of all reversible pairs."""
    n = len(kind)
    component = np.arange(n)
    found = 0
    for i in range(n):
        for j in range(i + 1, n):
            if kind[i] == 1 and kind[j] == 1 and edge[i, j] and component[i] != component[j]:
                found += 1
                old = component[j]
                for k in range(n):
                    if component[k] == old:
                        component[k] = component[i]
    return found
