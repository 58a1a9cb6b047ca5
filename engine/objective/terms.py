"""Sums over the records of a subject: -2 log p(y | eta), its gradients, its information."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..kernel.machine.caching import jit

Vector = NDArray[np.float64]
Matrix = NDArray[np.float64]
Cube = NDArray[np.float64]
Table4 = NDArray[np.float64]
Integers = NDArray[np.int64]

NORMAL, LIKELIHOOD, MINUS_TWO_LL, UNOBSERVED, FLAGGED = 0, 1, 2, -1, -2
IMPOSSIBLE = 10_000.0  # what NONMEM adds for a record whose likelihood is zero: its printed objectives tell


@jit
def subject_terms(
    values: Cube,
    derivatives: Table4,
    dv: Vector,
    kind: Integers,
    group: Integers,
    flag: int,
    first: Integers,
    sigma: Cube,
    n_eta: int,
    frozen: Cube,
    dfrozen: Table4,
    value: Matrix,
    gradient: Cube,
    sigma_gradient: Table4,
    information: Table4,
) -> None:
    """Fill ``value`` [draw, id], ``gradient`` [.., nq], ``sigma_gradient`` [.., eps, eps], ``information``.

    ``values`` [draw, record, output] and ``derivatives`` [.., nq] are the kernel's: output 0 the response,
    1.. its slopes to eps, output ``flag`` the kind of a record (-1: there is none). ``kind`` of each
    record is one of the codes above; ``group`` [record] is one past the last record of those whose eps
    are shared (``record + 1``: its own). ``sigma`` [draw or 1, eps, eps]. ``frozen`` [draw or 1, record, eps]
    and ``dfrozen`` [.., nq] replace the slopes where the residual variance is that of eta = 0 (empty: they do
    not). ``information`` [.., n_eta, n_eta] is half of the expected second derivative to the first ``n_eta``
    directions; of records that are likelihoods the outer product of scores. Filled where ``nq >= n_eta > 0``.
    """
    draws = values.shape[0]
    n_eps, nq = sigma.shape[1], gradient.shape[2]
    longest = 1
    for k in range(group.size):
        longest = max(longest, group[k] - k)
    rows = np.zeros(longest, np.int64)
    residual, weighted = np.zeros(longest), np.zeros(longest)
    slopes, dslopes = np.zeros((longest, n_eps)), np.zeros((longest, n_eps, nq))
    covariance, inverse = np.zeros((longest, longest)), np.zeros((longest, longest))
    change = np.zeros((nq, longest, longest))
    moved = np.zeros((nq, longest, longest))
    score = np.zeros(nq)
    for draw in range(draws):
        s = sigma[min(draw, sigma.shape[0] - 1)]
        for i in range(first.size - 1):
            total = 0.0
            k = first[i]
            while k < first[i + 1]:
                end = min(group[k], first[i + 1])
                m = 0
                for j in range(k, end):
                    code = kind[j]
                    if code == FLAGGED:
                        code = int(values[draw, j, flag])
                    if code == UNOBSERVED:
                        continue
                    if code == NORMAL:
                        rows[m] = j
                        m += 1
                        continue
                    y = values[draw, j, 0]
                    if code == LIKELIHOOD and y == 0.0:
                        total += IMPOSSIBLE
                        score[:] = 0.0
                    elif code == LIKELIHOOD:
                        total += -2.0 * np.log(y)
                        for q in range(nq):
                            score[q] = derivatives[draw, j, 0, q] / y
                    else:
                        total += y
                        for q in range(nq):
                            score[q] = -0.5 * derivatives[draw, j, 0, q]
                    for q in range(nq):
                        gradient[draw, i, q] -= 2.0 * score[q]
                    if nq >= n_eta:
                        for p in range(n_eta):
                            for q in range(n_eta):
                                information[draw, i, p, q] += score[p] * score[q]
                k = end
                if m == 0:
                    continue
                for a in range(m):
                    j = rows[a]
                    residual[a] = dv[j] - values[draw, j, 0]
                    if frozen.size > 0:
                        f = min(draw, frozen.shape[0] - 1)
                        for e in range(n_eps):
                            slopes[a, e] = frozen[f, j, e]
                            for q in range(nq):
                                dslopes[a, e, q] = dfrozen[f, j, e, q]
                    else:
                        for e in range(n_eps):
                            slopes[a, e] = values[draw, j, 1 + e]
                            for q in range(nq):
                                dslopes[a, e, q] = derivatives[draw, j, 1 + e, q]
                for a in range(m):
                    for b in range(m):
                        v = 0.0
                        for e in range(n_eps):
                            for g in range(n_eps):
                                v += slopes[a, e] * s[e, g] * slopes[b, g]
                        covariance[a, b] = v
                        for q in range(nq):
                            c = 0.0
                            for e in range(n_eps):
                                for g in range(n_eps):
                                    c += s[e, g] * (
                                        dslopes[a, e, q] * slopes[b, g] + slopes[a, e] * dslopes[b, g, q]
                                    )
                            change[q, a, b] = c
                if m == 1:
                    v = covariance[0, 0]
                    inverse[0, 0] = 1.0 / v
                    total += np.log(v) if v > 0.0 else np.nan
                else:
                    total += _invert(covariance, inverse, m)
                for a in range(m):
                    w = 0.0
                    for b in range(m):
                        w += inverse[a, b] * residual[b]
                    weighted[a] = w
                    total += w * residual[a] if m == 1 else 0.0
                if m > 1:
                    for a in range(m):
                        total += weighted[a] * residual[a]
                # d log|V| - w' dV w: the derivative to V is inverse - w w'
                for e in range(n_eps):
                    for g in range(n_eps):
                        c = 0.0
                        for a in range(m):
                            for b in range(m):
                                c += (inverse[a, b] - weighted[a] * weighted[b]) * slopes[a, e] * slopes[b, g]
                        sigma_gradient[draw, i, e, g] += c
                for q in range(nq):
                    c = 0.0
                    for a in range(m):
                        c -= 2.0 * weighted[a] * derivatives[draw, rows[a], 0, q]
                        for b in range(m):
                            c += (inverse[a, b] - weighted[a] * weighted[b]) * change[q, a, b]
                    gradient[draw, i, q] += c
                if nq < n_eta:
                    continue
                for q in range(n_eta):
                    for a in range(m):
                        for b in range(m):
                            c = 0.0
                            for d in range(m):
                                c += inverse[a, d] * change[q, d, b]
                            moved[q, a, b] = c
                for p in range(n_eta):
                    for q in range(p + 1):
                        c = 0.0
                        for a in range(m):
                            for b in range(m):
                                c += (
                                    derivatives[draw, rows[a], 0, p]
                                    * inverse[a, b]
                                    * derivatives[draw, rows[b], 0, q]
                                    + 0.5 * moved[p, a, b] * moved[q, b, a]
                                )
                        information[draw, i, p, q] += c
                        if p != q:
                            information[draw, i, q, p] += c
            value[draw, i] = total


@jit
def _invert(matrix: Matrix, inverse: Matrix, m: int) -> float:
    """Invert the leading ``m`` by ``m`` block of a covariance matrix; return the log of its determinant.

    NaN where it is not positive definite.
    """
    chol = np.zeros((m, m))
    total = 0.0
    for i in range(m):
        for j in range(i + 1):
            c = matrix[i, j]
            for d in range(j):
                c -= chol[i, d] * chol[j, d]
            if i == j:
                if not c > 0.0:
                    return np.nan
                chol[i, i] = np.sqrt(c)
                total += np.log(c)
            else:
                chol[i, j] = c / chol[j, j]
    for column in range(m):
        for i in range(m):
            c = 1.0 if i == column else 0.0
            for d in range(i):
                c -= chol[i, d] * inverse[d, column]
            inverse[i, column] = c / chol[i, i]
        for i in range(m - 1, -1, -1):
            c = inverse[i, column]
            for d in range(i + 1, m):
                c -= chol[d, i] * inverse[d, column]
            inverse[i, column] = c / chol[i, i]
    return total
