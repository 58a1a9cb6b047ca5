"""Any linear system dA/dt = K A + r by the exponential of its matrix, with derivatives.

K + qI, with q the fastest total rate of a compartment, has no negative entry when the rate constants have
none, so its exponential series has only positive terms and loses nothing to cancellation, whatever
the eigenvalues: real, complex or defective. The series acts on the state and its derivatives themselves; only
where the interval is many hundreds of times that of the fastest process is the matrix formed and squared.
Sources: Jensen 1953 (uniformisation); Xue and Ye, Math. Comp. 82 (2013) 1577-1596 (relative accuracy);
Al-Mohy and Higham, SIAM J. Matrix Anal. Appl. 30 (2009) 1639-1657 (derivative by the same squarings).

``system[1:4]`` hold q, the norm of K + qI and 1 where all its entries are non-negative; from SYSTEM_HEAD on
stand k [m], dk [m, nq] and the diagonal of K + qI [n].
"""

from __future__ import annotations

import math

from ..machine.caching import jit
from .mammillary import SYSTEM_HEAD, Vector
from .transfer_graph import PLAN_HEAD, Integers

LONGEST = 200.0  # norm times time of one series: exp of it must not overflow
LONGEST_SIGNED = 2.0  # the same where terms may cancel


@jit
def shift_size(n: int) -> int:
    """Return how many numbers the shifted matrix needs."""
    return n


@jit
def exponential_work(n: int, nq: int) -> int:
    """Return the length of the work space for ``n`` compartments."""
    return (2 * n * n + 4 * n) * (1 + nq)


@jit
def shift_matrix(plan: Integers, nq: int, system: Vector) -> None:
    """Prepare the series for the rate constants that stand in ``system``."""
    n = plan[0]
    m = plan[1]
    k = SYSTEM_HEAD
    diagonal = k + m * (1 + nq)
    for i in range(n):
        system[diagonal + i] = 0.0
    for j in range(m):
        system[diagonal + plan[PLAN_HEAD + 3 * j]] -= system[k + j]
    shift = 0.0
    for i in range(n):
        shift = max(shift, -system[diagonal + i])
    norm = shift  # that of the constant state that feeds the inputs
    positive = 1.0
    for i in range(n):
        system[diagonal + i] += shift
        column = system[diagonal + i]
        for j in range(m):
            if plan[PLAN_HEAD + 3 * j] == i and plan[PLAN_HEAD + 3 * j + 1] >= 0:
                column += abs(system[k + j])
        norm = max(norm, column)
    for j in range(m):
        if system[k + j] < 0.0:
            positive = 0.0
    system[1] = shift
    system[2] = norm
    system[3] = positive


@jit
def advance_exponential(
    h: float, y: Vector, dy: Vector, r: Vector, dr: Vector, plan: Integers, system: Vector, work: Vector
) -> None:
    """Move ``y`` [n] and ``dy`` [n, nq] over the time ``h`` with constant inputs ``r``, ``dr``, in place."""
    n = plan[0]
    m = plan[1]
    reach = system[2] * abs(h)
    longest = LONGEST if system[3] == 1.0 and h > 0.0 else LONGEST_SIGNED
    # a series costs about its norm times m, forming and squaring the matrix n^3
    if reach > 4.0 * longest + 10.0 * n * n * n / m:
        _advance_squaring(h, y, dy, r, dr, plan, system, work)
        return
    steps = max(1, math.ceil(reach / longest))
    for _ in range(steps):
        _advance_series(h / steps, y, dy, r, dr, plan, system, work)


@jit
def _n_terms(reach: float, n: int) -> int:
    """Return the number of terms that leaves out less than rounding, of values and first derivatives."""
    term = math.exp(-reach)
    k = 0
    while k < reach or term * (k + 2.0) > 1e-18:
        k += 1
        term *= reach / k
    return max(k, n + 1)  # so that the last compartment of a chain gets something


@jit
def _advance_series(
    h: float, y: Vector, dy: Vector, r: Vector, dr: Vector, plan: Integers, system: Vector, work: Vector
) -> None:
    """Take one step by the series of exp((K + qI) h) exp(-q h)."""
    n = plan[0]
    m = plan[1]
    nq = dy.shape[1]
    k = SYSTEM_HEAD
    dk = k + m
    diagonal = dk + m * nq
    shift = system[1]
    term = work[:n]
    following = work[n : 2 * n]
    dterm = work[2 * n : (2 + nq) * n].reshape((n, nq))
    dfollowing = work[(2 + nq) * n : (2 + 2 * nq) * n].reshape((n, nq))
    term[:] = y
    dterm[:] = dy
    constant = 1.0  # the state that feeds the inputs
    for order in range(1, _n_terms(system[2] * abs(h), n) + 1):
        factor = h / order
        for i in range(n):
            weight = system[diagonal + i]
            following[i] = weight * term[i] + r[i] * constant
            for q in range(nq):
                dfollowing[i, q] = weight * dterm[i, q] + dr[i, q] * constant
        for j in range(m):
            source = plan[PLAN_HEAD + 3 * j]
            target = plan[PLAN_HEAD + 3 * j + 1]
            rate = system[k + j]
            amount = term[source]
            if target >= 0:
                following[target] += rate * amount
                for q in range(nq):
                    flow = system[dk + j * nq + q] * amount
                    dfollowing[source, q] -= flow
                    dfollowing[target, q] += flow + rate * dterm[source, q]
            else:
                for q in range(nq):
                    dfollowing[source, q] -= system[dk + j * nq + q] * amount
        constant *= factor * shift
        for i in range(n):
            term[i] = following[i] * factor
            y[i] += term[i]
            for q in range(nq):
                dterm[i, q] = dfollowing[i, q] * factor
                dy[i, q] += dterm[i, q]
    decay = math.exp(-shift * h)
    for i in range(n):
        y[i] *= decay
        for q in range(nq):
            dy[i, q] *= decay


@jit
def _advance_squaring(
    h: float, y: Vector, dy: Vector, r: Vector, dr: Vector, plan: Integers, system: Vector, work: Vector
) -> None:
    """Form exp(K h) and its derivatives from a short step by squaring."""
    n = plan[0]
    nq = dy.shape[1]
    block = n * (1 + nq)
    doublings = math.ceil(math.log2(system[2] * abs(h) / LONGEST_SIGNED))
    step = h / 2.0**doublings
    inner = work[: 2 * block]
    own = work[2 * block : 4 * block]  # what the inputs leave: value, derivative, and their next
    matrix = work[4 * block :]
    size = n * n * (1 + nq)
    columns = matrix[: n * n].reshape((n, n))  # columns[j]: where a unit in compartment j goes
    dcolumns = matrix[n * n : size].reshape((n, n, nq))
    columns_next = matrix[size : size + n * n].reshape((n, n))
    dcolumns_next = matrix[size + n * n : 2 * size].reshape((n, n, nq))
    brought = own[:n]
    brought_next = own[n : 2 * n]
    dbrought = own[2 * n : (2 + nq) * n].reshape((n, nq))
    dbrought_next = own[(2 + nq) * n : (2 + 2 * nq) * n].reshape((n, nq))

    brought[:] = 0.0
    dbrought[:] = 0.0
    _advance_series(step, brought, dbrought, r, dr, plan, system, inner)
    brought_next[:] = 0.0
    dbrought_next[:] = 0.0
    for j in range(n):
        columns[j] = 0.0
        columns[j, j] = 1.0
        dcolumns[j] = 0.0
        _advance_series(step, columns[j], dcolumns[j], brought_next, dbrought_next, plan, system, inner)
    for _ in range(doublings):
        brought_next[:] = brought
        dbrought_next[:] = dbrought
        _apply(columns, dcolumns, brought, dbrought, brought_next, dbrought_next)
        brought[:] = brought_next
        dbrought[:] = dbrought_next
        columns_next[:] = 0.0
        dcolumns_next[:] = 0.0
        for j in range(n):
            _apply(columns, dcolumns, columns[j], dcolumns[j], columns_next[j], dcolumns_next[j])
        columns, columns_next = columns_next, columns
        dcolumns, dcolumns_next = dcolumns_next, dcolumns
    _apply(columns, dcolumns, y, dy, brought, dbrought)
    y[:] = brought
    dy[:] = dbrought


@jit
def _apply(columns: Vector, dcolumns: Vector, x: Vector, dx: Vector, result: Vector, dresult: Vector) -> None:
    """Add exp(K t) x to ``result``, and its derivative to ``dresult``."""
    n, nq = dx.shape
    for j in range(n):
        amount = x[j]
        for i in range(n):
            weight = columns[j, i]
            result[i] += weight * amount
            for q in range(nq):
                dresult[i, q] += weight * dx[j, q] + dcolumns[j, i, q] * amount
