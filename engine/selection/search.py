"""Branch and bound for L0-penalised least squares: the search itself, on plain numpy arrays.

Everything happens on the sweep tableau [Q c; c' 0]. Sweeping variable k brings it in or takes it out again;
the block of the variables that are out is then the Schur complement given those that are in, the last
column holds coefficients (in) or residual gradients (out), and the corner the least-squares objective.

A node fixes some variables in and some out. With d the smallest eigenvalue of the scaled Schur complement
S of the rest, u'Su = u'(S - dI)u + d u'u, and the last term is strengthened to its perspective d u_j^2/z_j:
the relaxation in z has a closed form per coordinate (a reversed Huber penalty) and coordinate descent
solves it. By convexity any u, converged or not, gives a valid bound. Source: Guenluek and Linderoth 2010
(perspective reformulation); Atamtuerk and Gomez 2020 (safe screening, here: fixing by reduced cost).

These functions run interpreted for small problems and compiled by numba for large ones, so they keep to
what both understand.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
BoolArray = NDArray[np.bool_]
StatusArray = NDArray[np.int8]  # 1: in, -1: out, 0: undecided

COLLINEAR = 1e-10  # a column of unit length with less than this left (squared) lies in the span of the others
WEAK = 1e-6  # below this smallest eigenvalue the perspective bound is replaced by least squares


def sweep(tableau: Array, k: int) -> None:
    """Toggle variable ``k`` of the tableau in place; twice is the identity."""
    pivot = tableau[k, k]
    column = tableau[k].copy()
    tableau -= np.outer(column, column / pivot)
    column /= abs(pivot)
    tableau[k] = column
    tableau[:, k] = column
    tableau[k, k] = -1.0 / pivot


def improve(tableau: Array, penalty: Array, status: StatusArray, support: BoolArray, value: float) -> float:
    """Toggle single variables and pairs as long as the objective falls; return it.

    ``tableau`` is swept on ``support``; both change in place. Variables whose ``status`` is decided stay.
    """
    p = len(penalty)
    while True:
        best = -1e-9 * (1.0 + abs(value))
        first = -1
        second = -1
        for i in range(p):
            pivot = tableau[i, i]
            if status[i] != 0 or (not support[i] and pivot < COLLINEAR):
                continue
            slope = tableau[i, p]
            change = -slope * slope / pivot + (-penalty[i] if support[i] else penalty[i])
            if change < best:
                best = change
                first = i
                second = -1
        if first < 0:
            for i in range(p):
                pivot = tableau[i, i]
                if status[i] != 0 or (not support[i] and pivot < COLLINEAR):
                    continue
                slope = tableau[i, p]
                change = -slope * slope / pivot + (-penalty[i] if support[i] else penalty[i])
                for j in range(p):
                    if status[j] != 0 or j == i or (support[i] == support[j] and j < i):
                        continue
                    if support[j] and not support[i]:
                        continue  # a swap is visited once, from the variable that leaves
                    ratio = tableau[i, j] / pivot
                    left = tableau[j, j] - ratio * tableau[i, j]
                    if not support[j] and left < COLLINEAR:
                        continue
                    step = tableau[j, p] - ratio * slope
                    both = change - step * step / left + (-penalty[j] if support[j] else penalty[j])
                    if both < best:
                        best = both
                        first = i
                        second = j
        if first < 0:
            return value
        sweep(tableau, first)
        support[first] = not support[first]
        if second >= 0:
            sweep(tableau, second)
            support[second] = not support[second]
        value += best


def relax(
    quadratic: Array, linear: Array, penalty: Array, d: float, point: Array, target: float
) -> tuple[float, Array, Array]:
    """Return a lower bound of u'Qu - 2c'u + penalties, the reduced costs and the relaxed indicators.

    Q has a unit diagonal and no eigenvalue below ``d``. A positive reduced cost is what including the
    variable adds to the bound, a negative one what leaving it out adds. Stops early once the bound
    reaches ``target``. ``point`` is the start and, on return, the relaxed u.
    """
    m = len(linear)
    reduced = np.zeros(m)
    if d < WEAK:
        values, vectors = np.linalg.eigh(quadratic)
        projected = linear @ vectors
        explained = 0.0
        for k in range(m):
            if values[k] > 1e-12:
                explained += projected[k] * projected[k] / values[k]
        return -explained, reduced, np.abs(linear) / (1.0 + np.abs(linear).max())
    bend = np.sqrt(penalty / d)  # |u| where the relaxed indicator reaches one
    threshold = np.sqrt(penalty * d)
    residual = quadratic @ point - linear
    here = -np.inf
    for _ in range(200):
        for j in range(m):
            old = point[j]
            pull = old - residual[j]
            size = abs(pull)
            if size <= threshold[j]:
                new = 0.0
            elif size >= bend[j]:
                new = pull
            else:
                new = (size - threshold[j]) / (1.0 - d)
                new = new if pull > 0.0 else -new
            if new != old:
                point[j] = new
                residual += quadratic[j] * (new - old)
        # f(v) >= f(u) + f'(u)(v - u) with f the part without d u_j^2, minimised over v and z exactly
        gradient = residual - d * point
        reduced = penalty - gradient * gradient / d
        curved = point @ (gradient + linear)
        here = np.minimum(reduced, 0.0).sum() - curved
        if here >= target:
            break
        size_u = np.abs(point)
        huber = np.where(size_u < bend, 2.0 * threshold * size_u, d * size_u * size_u + penalty).sum()
        primal = curved - 2.0 * (point @ linear) + huber
        if primal - here <= 1e-10 + 5e-2 * (target - here):
            break
    return here, reduced, np.minimum(np.abs(point) / bend, 1.0)


def search(
    quadratic: Array,
    linear: Array,
    penalty: Array,
    status: StatusArray,
    start: BoolArray,
    node_limit: int,
) -> tuple[BoolArray, float, float, int]:
    """Minimise u'Qu - 2c'u + sum of penalties of the non-zero u over all u.

    ``quadratic`` has a unit diagonal, ``penalty`` is positive where ``status`` is 0. Returns the support, its
    objective, a lower bound and the number of nodes.
    """
    p = len(linear)
    root = np.zeros((p + 1, p + 1))
    root[:p, :p] = quadratic
    root[p, :p] = linear
    root[:p, p] = linear

    tableau = root.copy()
    support = np.zeros(p, dtype=np.bool_)
    paid = 0.0
    for j in range(p):
        if status[j] == 1:
            support[j] = True
            paid += penalty[j]
            if tableau[j, j] > COLLINEAR:
                sweep(tableau, j)
    for j in range(p):
        if status[j] == 0 and start[j] and tableau[j, j] > COLLINEAR:
            support[j] = True
            paid += penalty[j]
            sweep(tableau, j)
    best = improve(tableau, penalty, status, support, tableau[p, p] + paid)

    capacity = 2 * p + 4
    open_status = np.zeros((capacity, p), dtype=np.int8)
    open_point = np.zeros((capacity, p))
    open_bound = np.empty(capacity)
    open_d = np.zeros(capacity)  # smallest eigenvalue, of the node or of one above it
    open_size = np.zeros(capacity, dtype=np.int64)  # undecided variables when it was computed
    open_status[0] = status
    open_bound[0] = -np.inf
    n_open = 1
    nodes = 0
    while n_open > 0 and nodes < node_limit:
        k = int(np.argmin(open_bound[:n_open]))
        tolerance = 1e-9 * (1.0 + abs(best))
        if open_bound[k] >= best - tolerance:
            break
        nodes += 1
        bound = open_bound[k]
        node = open_status[k].copy()
        warm = open_point[k].copy()
        d = open_d[k]
        size = open_size[k]
        n_open -= 1
        open_status[k] = open_status[n_open]
        open_point[k] = open_point[n_open]
        open_bound[k] = open_bound[n_open]
        open_d[k] = open_d[n_open]
        open_size[k] = open_size[n_open]

        tableau = root.copy()
        value = 0.0
        for j in range(p):
            if node[j] == 1:
                value += penalty[j]
                if tableau[j, j] > COLLINEAR:
                    sweep(tableau, j)
        value += tableau[p, p]
        if value < best:
            best = value
            support = node == 1
        # Out without loss: columns in the span of those in, and the dearer of two parallel ones.
        for j in range(p):
            if node[j] == 0 and tableau[j, j] < COLLINEAR:
                node[j] = -1
        for i in range(p):
            for j in range(i):
                if node[i] == 0 and node[j] == 0:
                    cross = tableau[i, j] * tableau[i, j]
                    if cross > (1.0 - COLLINEAR) * tableau[i, i] * tableau[j, j]:
                        node[i if penalty[i] >= penalty[j] else j] = -1
        free = np.flatnonzero(node == 0)
        if len(free) == 0:
            continue
        length = np.sqrt(np.diag(tableau)[free])
        block = tableau[free][:, free] / np.outer(length, length)
        # it only grows from parent to child, so that of an ancestor stays valid and saves its computation
        if d < WEAK or len(free) <= 40 or len(free) < 0.95 * size:
            size = len(free)
            d = min(np.linalg.eigvalsh(block)[0] - 1e-13 * size, 1.0)
        point = warm[free] * length
        below, reduced, indicator = relax(
            block, tableau[p][free] / length, penalty[free], d, point, best - tolerance - value
        )
        below += value
        bound = max(bound, below)
        if bound >= best - tolerance:
            continue

        decided = False
        rounded = node == 1
        for i in range(len(free)):
            j = free[i]
            rounded[j] = indicator[i] > 0.5
            warm[j] = point[i] / length[i]
            if below + abs(reduced[i]) >= best - tolerance:
                node[j] = -1 if reduced[i] > 0.0 else 1
                decided = True
        if np.any(rounded != support):
            trial = value
            for i in range(len(free)):
                j = free[i]
                if rounded[j]:
                    if tableau[j, j] > COLLINEAR:
                        trial += penalty[j] - tableau[p, j] * tableau[p, j] / tableau[j, j]
                        sweep(tableau, j)
                    else:
                        rounded[j] = False
            if trial < best - tolerance:
                best = improve(tableau, penalty, status, rounded, trial)
                support = rounded

        if n_open + 2 > capacity:
            open_status = np.concatenate((open_status, np.zeros((capacity, p), dtype=np.int8)))
            open_point = np.concatenate((open_point, np.zeros((capacity, p))))
            open_bound = np.concatenate((open_bound, np.empty(capacity)))
            open_d = np.concatenate((open_d, np.zeros(capacity)))
            open_size = np.concatenate((open_size, np.zeros(capacity, dtype=np.int64)))
            capacity *= 2
        if decided:
            open_status[n_open] = node
            open_point[n_open] = warm
            open_bound[n_open] = bound
            open_d[n_open] = d
            open_size[n_open] = size
            n_open += 1
            continue
        branch = free[np.argmax(np.minimum(indicator, 1.0 - indicator) + 1e-3 * indicator)]
        for decision in (-1, 1):
            open_status[n_open] = node
            open_status[n_open, branch] = decision
            open_point[n_open] = warm
            open_bound[n_open] = bound
            open_d[n_open] = d
            open_size[n_open] = size
            n_open += 1
    lower = best
    if n_open > 0:
        lower = min(best, open_bound[:n_open].min())
    return support, best, lower, nodes
