"""Exact L0-penalised least squares on the Gram matrix, the selection step of the M-step.

minimise  beta' G beta - 2 b' beta + sum_j penalty_j [beta_j != 0]

over all supports, by branch and bound (:mod:`.search`), with a proof: a lower bound that equals the
objective, or the gap that was left when the node limit was reached.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import search

Array = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

# Compiling costs seconds once per installation, loading the compiler 0.3 s; most problems take few nodes.
INTERPRETED = 12  # up to this many columns the search always runs interpreted
TRIAL_COLUMNS = 40  # up to this many, interpreted first,
TRIAL_NODES = 100  # with so many nodes
PROVEN = 1e-8  # relative gap that counts as closed
RANK = 1e-11  # eigenvalues of a scaled Gram matrix below this are zero


@dataclass(frozen=True)
class L0Solution:
    """A support, its least-squares coefficients, and how good it is known to be.

    ``objective`` leaves out any constant of the caller's sum of squares; ``bound`` is a lower bound of the
    best objective, ``gap`` their difference, ``proven`` says that it is closed.
    """

    support: BoolArray
    coefficients: Array
    objective: float
    bound: float
    gap: float
    nodes: int
    proven: bool


def solve_l0(
    gram: Array,
    linear: Array,
    penalty: Array,
    *,
    forced: BoolArray | None = None,
    forbidden: BoolArray | None = None,
    start: BoolArray | None = None,
    node_limit: int = 100_000,
) -> L0Solution:
    """Solve the L0 problem to proven optimality.

    Parameters
    ----------
    gram, linear, penalty
        G (p p) symmetric positive semidefinite, b (p), penalties (p), none negative.
    forced, forbidden
        Columns always in (their penalty is not counted) and always out (p).
    start
        Support to start from, such as the last iteration's; it changes the time, never the result.
    node_limit
        Nodes after which the search stops and reports the gap.

    A column that is zero or lies in the span of chosen ones is never chosen unless forced.
    """
    p = len(linear)
    diagonal = np.diagonal(gram)
    if gram.shape != (p, p) or len(penalty) != p:
        raise ValueError(
            f"Gram matrix {gram.shape}, {p} linear terms and {len(penalty)} penalties do not fit."
        )
    if p and (penalty.min() < 0 or np.isnan(penalty).any() or diagonal.min() < 0):
        raise ValueError("Penalties and the diagonal of the Gram matrix must not be negative.")
    status = np.zeros(p, dtype=np.int8)
    cost = np.where(np.isinf(penalty), 0.0, penalty)
    usable = diagonal > 0
    status[(penalty == 0) & usable] = 1
    status[~usable | np.isinf(penalty)] = -1
    if forbidden is not None:
        status[forbidden] = -1
    if forced is not None:
        if forbidden is not None and (forced & forbidden).any():
            raise ValueError("A column cannot be both forced and forbidden.")
        status[forced] = 1
        cost[forced] = 0.0
    length = np.sqrt(np.where(usable, diagonal, 1.0))
    scaled = gram / (length[:, None] * length)
    begin = np.zeros(p, dtype=bool) if start is None else np.asarray(start, dtype=bool)
    arguments = (scaled, linear / length, cost, status, begin)
    if p > TRIAL_COLUMNS:
        support, _, bound, nodes = _compiled()(*arguments, node_limit)
    else:
        trial = node_limit if p <= INTERPRETED else min(node_limit, TRIAL_NODES)
        support, _, bound, nodes = search.search(*arguments, trial)
        if trial <= nodes < node_limit:
            support, _, bound, nodes = _compiled()(*arguments, node_limit)
    coefficients = regress(gram, linear, support)
    objective = float(coefficients @ (gram @ coefficients - 2 * linear) + cost[support].sum())
    gap = max(objective - float(bound), 0.0)
    proven = gap <= PROVEN * (1 + abs(objective))
    return L0Solution(support, coefficients, objective, objective - gap, gap, int(nodes), proven)


def regress(gram: Array, linear: Array, support: BoolArray) -> Array:
    """Return the least-squares coefficients on ``support`` (p), zero elsewhere.

    Where the columns are collinear it is the solution of smallest norm in unit-length columns.
    """
    coefficients = np.zeros(len(linear))
    chosen = np.flatnonzero(support & (np.diagonal(gram) > 0))
    if len(chosen):
        length = np.sqrt(np.diagonal(gram)[chosen])
        values, vectors = np.linalg.eigh(gram[np.ix_(chosen, chosen)] / (length[:, None] * length))
        kept = values > RANK * values[-1]
        basis = vectors[:, kept]
        coefficients[chosen] = basis @ ((linear[chosen] / length @ basis) / values[kept]) / length
    return coefficients


def profile_out(gram: Array, linear: Array, free: BoolArray) -> tuple[Array, Array, Callable[[Array], Array]]:
    """Eliminate the unpenalised columns ``free`` (such as intercepts) from an L0 problem.

    Returns the Gram matrix and linear term of the remaining columns (Schur complement), and a function
    that turns their coefficients into all p, the eliminated ones at their optimum. The objective
    of the reduced problem differs from the full one by the constant ``- b_f' G_ff^-1 b_f``.
    """
    rest = np.flatnonzero(~free)
    gone = np.flatnonzero(free)
    inverse = np.linalg.pinv(gram[np.ix_(gone, gone)], rcond=RANK, hermitian=True)
    cross = inverse @ gram[np.ix_(gone, rest)]
    base = inverse @ linear[gone]
    reduced = gram[np.ix_(rest, rest)] - gram[np.ix_(rest, gone)] @ cross
    diagonal = np.diagonal(gram)[rest]
    # A column that the eliminated ones explain is zero; rounding must not leave a sliver of it.
    vanished = np.diagonal(reduced) <= search.COLLINEAR * diagonal
    reduced[vanished] = 0.0
    reduced[:, vanished] = 0.0
    remaining = np.where(vanished, 0.0, linear[rest] - gram[np.ix_(rest, gone)] @ base)

    def back(coefficients: Array) -> Array:
        full = np.empty(len(linear))
        full[rest] = coefficients
        full[gone] = base - cross @ coefficients
        return full

    return reduced, remaining, back


@cache
def _compiled() -> Callable[..., tuple[BoolArray, float, float, int]]:
    import numba
    from numba.extending import register_jitable

    for part in (search.sweep, search.improve, search.relax):
        register_jitable(part)
    compiled: Any = numba.njit(cache=True)(search.search)
    return compiled  # type: ignore[no-any-return]
