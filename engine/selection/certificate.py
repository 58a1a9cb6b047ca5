"""A second opinion on a selection: the same L0 problem as a mixed-integer programme, solved by HiGHS.

With d the smallest eigenvalue of the Gram matrix Q of unit-length columns, Q = (Q - dI) + dI, and the
least-squares objective on the support z is the value of

c(z) = min_u u'(Q - dI)u - 2c'u + d sum_j u_j^2 / z_j,

convex in z. For every u, with g the gradient of the part without z,

c(z) >= -u'(Q - dI)u - sum_j g_j^2 / (4d) z_j,

so the master programme min eta + penalty'z over binary z gets such a cut at the continuous optimum and
then at the least-squares u of each z it proposes (outer approximation, Duran and Grossmann 1986), until
its bound meets the best objective seen. A second cut holds where d is zero: least squares cannot beat c(z)
without a column that z leaves out. HiGHS has neither mixed-integer quadratic programmes nor lazy cuts, so
this is a loop of whole solves; nothing of it is shared with the branch and bound of :mod:`.search`.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

# pyomo.environ would load every plugin of pyomo; this is a tenth of it
from pyomo.contrib.appsi.solvers.highs import Highs
from pyomo.core import Binary, ConcreteModel, ConstraintList, Objective, Var

from ..selection.outcome import Certificate
from .l0 import L0Solution

Array = NDArray[np.float64]
BoolArray = NDArray[np.bool_]
Groups = tuple[tuple[int, ...], ...]

TOLERANCE = 1e-6  # relative
GRADIENT_STEPS = 200


def certify(
    gram: Array,
    linear: Array,
    penalty: Array,
    solution: L0Solution,
    *,
    forced: BoolArray | None = None,
    forbidden: BoolArray | None = None,
    max_effects: int | None = None,
    exclusive: Groups = (),
    grouped: Groups = (),
    seconds: float = 20.0,
) -> Certificate:
    """Solve the problem of :func:`.l0.solve_l0` again and compare.

    Parameters
    ----------
    gram, linear, penalty, solution, forced, forbidden
        As they went in and came out there.
    max_effects
        At most so many columns beyond the forced ones.
    exclusive, grouped
        Groups of columns of which at most one may be in; that are in or out together.
    seconds
        Wall time after which the loop stops; the certificate's ``bound`` then lies below its
        ``objective``.

    ``agrees`` is True where the bound was closed and ``solution`` keeps the constraints and attains it, to a
    relative 1e-6.

    Raises
    ------
    ValueError
        Where the constraints contradict each other.
    """
    p = len(linear)
    always = np.zeros(p, dtype=bool) if forced is None else forced
    never = np.zeros(p, dtype=bool) if forbidden is None else forbidden.copy()
    never |= np.isinf(penalty) & ~always
    price = np.where(always | never, 0.0, penalty)
    length = np.sqrt(np.diagonal(gram))
    length = np.where(length > 0, length, 1.0)
    cuts = _Cuts(gram / np.outer(length, length), linear / length)
    master = _Master(p, price, always, never, cuts.least, max_effects, exclusive, grouped)
    master.cut(*cuts.relaxed(price))
    feasible = master.allows(solution.support)
    best, bound = np.inf, -np.inf
    proposal: BoolArray | None = solution.support if feasible else always
    deadline = time.monotonic() + seconds
    while proposal is not None:
        value, slopes, constant = cuts.at(proposal)
        if master.allows(proposal):
            best = min(best, value + float(price[proposal].sum()))
        master.cut(slopes, constant)
        master.cut_outside(value, proposal)
        proposal, bound = master.solve(deadline - time.monotonic())
        if best - bound <= TOLERANCE * (1.0 + abs(best)):
            break
    allowed = TOLERANCE * (1.0 + abs(best))
    own, _, _ = cuts.at(solution.support)
    reached = abs(own + float(price[solution.support].sum()) - best) <= allowed
    agrees = feasible and reached and abs(solution.objective - best) <= allowed and best - bound <= allowed
    return Certificate("HiGHS", best, min(bound, best), bool(agrees))


class _Cuts:
    """Least squares on supports and the cuts that they give."""

    def __init__(self, quadratic: Array, linear: Array) -> None:
        self.quadratic, self.linear = quadratic, linear
        p = len(linear)
        self.d = float(np.linalg.eigvalsh(quadratic)[0]) * (1.0 - 1e-9) if p else 0.0
        self.least, _, _ = self.at(np.ones(p, dtype=bool))

    def at(self, support: BoolArray) -> tuple[float, Array | None, float]:
        """Return the objective on ``support``; slopes and constant of the cut there (None where d is 0)."""
        point = np.zeros(len(self.linear))
        inside = self.quadratic[np.ix_(support, support)]
        point[support] = np.linalg.lstsq(inside, self.linear[support], rcond=1e-11)[0]
        value = -float(self.linear @ point)
        return value, *self.tangent(point)

    def tangent(self, point: Array) -> tuple[Array | None, float]:
        """Return slopes and constant of the cut that any ``point`` gives."""
        if self.d < 1e-6:
            return None, 0.0
        half = self.quadratic @ point - self.d * point - self.linear
        return half * half / self.d, -float(point @ (half + self.linear))

    def relaxed(self, price: Array) -> tuple[Array | None, float]:
        """Return the cut near the optimum over continuous z, by accelerated proximal gradients."""
        if self.d < 1e-6:
            return None, 0.0
        rest = self.quadratic - self.d * np.eye(len(price))
        steep = max(float(np.linalg.eigvalsh(rest)[-1]), 1e-3)
        shrink, bend = np.sqrt(price * self.d), np.sqrt(price / self.d)
        point = ahead = np.zeros(len(price))
        momentum = 1.0
        for _ in range(GRADIENT_STEPS):
            aim = ahead - (rest @ ahead - self.linear) / steep
            size = np.abs(aim)
            soft = np.maximum(size - shrink / steep, 0.0)
            new = np.sign(aim) * np.where(soft <= bend, soft, size * steep / (steep + self.d))
            longer = (1.0 + np.sqrt(1.0 + 4.0 * momentum**2)) / 2.0
            ahead = new + (momentum - 1.0) / longer * (new - point)
            point, momentum = new, longer
        return self.tangent(point)


class _Master:
    """The mixed-integer programme of the proposals, kept in the solver between cuts."""

    def __init__(
        self,
        p: int,
        price: Array,
        always: BoolArray,
        never: BoolArray,
        least: float,
        max_effects: int | None,
        exclusive: Groups,
        grouped: Groups,
    ) -> None:
        self.least = least
        self.limit = None if max_effects is None else max_effects + int(always.sum())
        self.exclusive, self.grouped, self.always, self.never = exclusive, grouped, always, never
        model: Any = ConcreteModel()
        model.z = Var(range(p), domain=Binary)
        model.eta = Var(bounds=(least - 1e-6 * (1.0 + abs(least)), None))
        for j in range(p):
            if always[j] or never[j]:
                model.z[j].fix(int(always[j]))
        model.objective = Objective(expr=model.eta + sum(float(price[j]) * model.z[j] for j in range(p)))
        model.rules = ConstraintList()
        if self.limit is not None:
            model.rules.add(sum(model.z[j] for j in range(p)) <= self.limit)
        for group in exclusive:
            model.rules.add(sum(model.z[j] for j in group) <= 1)
        for group in grouped:
            for j in group[1:]:
                model.rules.add(model.z[j] == model.z[group[0]])
        model.cuts = ConstraintList()
        self.model, self.p = model, p
        self.solver: Any = Highs()
        self.solver.config.load_solution = False
        # slopes can be large: a binary that is off by the usual 1e-6 would move the bound
        self.solver.highs_options = {
            "mip_rel_gap": 0.0,
            "mip_feasibility_tolerance": 1e-10,
            "primal_feasibility_tolerance": 1e-9,
        }

    def allows(self, support: BoolArray) -> bool:
        """Return whether ``support`` keeps every constraint."""
        if (self.always & ~support).any() or (self.never & support).any():
            return False
        if self.limit is not None and support.sum() > self.limit:
            return False
        if any(support[list(group)].sum() > 1 for group in self.exclusive):
            return False
        return all(support[list(g)].all() or not support[list(g)].any() for g in self.grouped)

    def cut(self, slopes: Array | None, constant: float) -> None:
        """Add eta >= constant - slopes'z."""
        z, eta = self.model.z, self.model.eta
        if slopes is not None:
            self.model.cuts.add(eta >= constant - sum(float(slopes[j]) * z[j] for j in range(self.p)))

    def cut_outside(self, value: float, support: BoolArray) -> None:
        """Add that no support without a column outside ``support`` beats its ``value``."""
        z, eta = self.model.z, self.model.eta
        drop = value - self.least
        self.model.cuts.add(eta >= value - drop * sum(z[int(j)] for j in np.flatnonzero(~support)))

    def solve(self, seconds: float) -> tuple[BoolArray | None, float]:
        """Return the best support by the cuts so far (None: no time left), and a lower bound."""
        self.solver.config.time_limit = max(seconds, 0.01)
        results = self.solver.solve(self.model)
        ended = results.termination_condition.name
        if ended in ("infeasible", "infeasibleOrUnbounded"):
            raise ValueError("No selection keeps all constraints: forced, forbidden, groups, most effects.")
        if ended != "optimal":
            return None, float(results.best_objective_bound)
        results.solution_loader.load_vars()
        chosen = np.array([round(float(self.model.z[j].value)) == 1 for j in range(self.p)], dtype=bool)
        return chosen, float(results.best_objective_bound)
