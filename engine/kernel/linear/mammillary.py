"""Closed form of linear systems whose compartments form reversible trees fed by first-order depots.

With detailed balance D (k_ij D_j = k_ji D_i), D^-1/2 K D^1/2 is symmetric: it has real eigenvalues and
orthogonal eigenvectors, equal eigenvalues included. Depots stay apart, as their rate constants may meet an
eigenvalue and leave no eigenvectors; what they feed is written in divided differences of exp. Derivatives to
rate constants follow from dA(t) = exp(K t) dA(0) + integral of exp(K (t-s)) dK A(s) ds, which in the modes
is again divided differences (Daleckii and Krein 1965; Higham, Functions of Matrices, 2008, theorem 3.11).

The vector ``system`` holds, from SYSTEM_HEAD on, the rate constants k [m] and dk [m, nq], then for p modes
and d depots: eigenvalues [p], minus the depots' total rates [d], D^1/2 [p], eigenvectors V [p, p] (row:
compartment), their inverse U [p, p], feed of modes by depots b [p, d], derivatives of minus the depots' rates
[d, nq], db [p, d, nq], and source terms c [source, mode, nq].
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from ..machine.caching import jit
from .transfer_graph import PLAN_HEAD, Integers

Vector = NDArray[np.float64]
SYSTEM_HEAD = 8
WIDEST_BALANCE = 1e8  # of the ratios D; beyond, rounding of V and U shows, and the matrix exponential serves


@jit
def modal_size(n: int, nq: int) -> int:
    """Return how many numbers the modes of ``n`` compartments need at most."""
    return 3 * n + 3 * n * n + (n + 2 * n * n) * nq


@jit
def find_modes(plan: Integers, nq: int, system: Vector) -> bool:
    """Decompose the system whose rates stand in ``system``; False where the closed form cannot serve."""
    n = plan[0]
    m = plan[1]
    nd = plan[3]
    p = plan[4]
    place = PLAN_HEAD + 3 * m  # of the order of compartments in the plan
    k = SYSTEM_HEAD
    dk = k + m
    values = dk + m * nq
    depots = values + p
    roots = depots + nd
    v = roots + p
    u = v + p * p
    feed = u + p * p
    ddepots = feed + p * nd
    dfeed = ddepots + nd * nq
    source_term = dfeed + p * nd * nq
    end = source_term + p * p * nq

    for i in range(values, end):
        system[i] = 0.0
    if not _symmetrise(plan, nq, system):
        return False
    _rotate(p, system, values, roots, v, u)

    for j in range(m):
        source = plan[PLAN_HEAD + 3 * j]
        target = plan[PLAN_HEAD + 3 * j + 1]
        s = -1
        t = -1
        for i in range(n):
            if plan[place + i] == source:
                s = i
            if plan[place + i] == target:
                t = i
        rate = system[k + j]
        t -= nd
        inside = 0 <= t < p
        if s < nd:
            system[depots + s] -= rate
            for q in range(nq):
                system[ddepots + s * nq + q] -= system[dk + j * nq + q]
            if inside:
                for i in range(p):
                    weight = system[u + i * p + t]
                    system[feed + i * nd + s] += weight * rate
                    for q in range(nq):
                        system[dfeed + (i * nd + s) * nq + q] += weight * system[dk + j * nq + q]
        else:
            s -= nd
            for i in range(p):
                weight = -system[u + i * p + s]
                if inside:
                    weight += system[u + i * p + t]
                for q in range(nq):
                    system[source_term + (s * p + i) * nq + q] += weight * system[dk + j * nq + q]
    return True


@jit
def _symmetrise(plan: Integers, nq: int, system: Vector) -> bool:
    """Put the symmetric matrix at U, and D^1/2; False without detailed balance."""
    m = plan[1]
    nd = plan[3]
    p = plan[4]
    place = PLAN_HEAD + 3 * m
    k = SYSTEM_HEAD
    root = SYSTEM_HEAD + m * (1 + nq) + p + nd
    matrix = root + p + p * p
    for j in range(m):
        source = -1
        target = -1
        for i in range(nd, nd + p):
            if plan[place + i] == plan[PLAN_HEAD + 3 * j]:
                source = i - nd
            if plan[place + i] == plan[PLAN_HEAD + 3 * j + 1]:
                target = i - nd
        if source >= 0:
            system[matrix + source * p + source] -= system[k + j]
            if target >= 0:
                system[matrix + target * p + source] += system[k + j]
    # D along the tree from the first compartment of each; what no exchange joins starts anew at 1
    for start in range(p):
        if system[root + start] != 0.0:
            continue
        system[root + start] = 1.0
        low = 1.0
        high = 1.0
        changed = True
        while changed:
            changed = False
            for i in range(p):
                if system[root + i] == 0.0:
                    continue
                for j in range(p):
                    if i == j:
                        continue
                    there = system[matrix + j * p + i]
                    back = system[matrix + i * p + j]
                    if there == 0.0 and back == 0.0:
                        continue
                    if there <= 0.0 or back <= 0.0:
                        return False
                    if system[root + j] == 0.0:
                        system[root + j] = system[root + i] * math.sqrt(there / back)
                        low = min(low, system[root + j])
                        high = max(high, system[root + j])
                        changed = True
        if not high * high <= WIDEST_BALANCE * low * low:
            return False
    for i in range(p):
        for j in range(i + 1, p):
            there = system[matrix + j * p + i]
            back = system[matrix + i * p + j]
            both = math.sqrt(there) * math.sqrt(back)
            system[matrix + j * p + i] = both
            system[matrix + i * p + j] = both
    return True


@jit
def _rotate(p: int, system: Vector, values: int, roots: int, v: int, matrix: int) -> None:
    """Diagonalise by Jacobi rotations; V, and U in the place of the matrix.

    Source: Golub and Van Loan, Matrix Computations, section 8.5.
    """
    for i in range(p):
        for j in range(p):
            system[v + i * p + j] = 1.0 if i == j else 0.0
    for _ in range(30):
        rotated = False
        for i in range(p):
            for j in range(i + 1, p):
                off = system[matrix + i * p + j]
                a = system[matrix + i * p + i]
                b = system[matrix + j * p + j]
                if abs(off) <= 1e-17 * max(abs(a), abs(b)):
                    continue
                rotated = True
                theta = (b - a) / (2.0 * off)
                tangent = 1.0 / (abs(theta) + math.sqrt(1.0 + theta * theta))
                if theta < 0.0:
                    tangent = -tangent
                cosine = 1.0 / math.sqrt(1.0 + tangent * tangent)
                sine = tangent * cosine
                system[matrix + i * p + i] = a - tangent * off
                system[matrix + j * p + j] = b + tangent * off
                system[matrix + i * p + j] = 0.0
                for other in range(p):
                    if other != i and other != j:
                        # the upper triangle only
                        x = matrix + min(other, i) * p + max(other, i)
                        y = matrix + min(other, j) * p + max(other, j)
                        old = system[x]
                        system[x] = cosine * old - sine * system[y]
                        system[y] = sine * old + cosine * system[y]
                    x = v + other * p + i
                    y = v + other * p + j
                    old = system[x]
                    system[x] = cosine * old - sine * system[y]
                    system[y] = sine * old + cosine * system[y]
        if not rotated:
            break
    # K = (R Q) Lambda (R Q)^-1 with R = D^1/2
    for i in range(p):
        system[values + i] = system[matrix + i * p + i]
    for i in range(p):
        for j in range(p):
            rotation = system[v + i * p + j]
            system[v + i * p + j] = rotation * system[roots + i]
            system[matrix + j * p + i] = rotation / system[roots + i]
