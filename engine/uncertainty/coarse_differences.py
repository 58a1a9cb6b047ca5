"""R and S by differences as coarse as NONMEM's, of an objective said to be known to few significant digits.

NONMEM takes derivatives of its objective to the thetas by central differences in scaled parameters, which are
about 0.1 each. SIGL tells it how long: 10^(-SIGL/4) of a scaled parameter for R and 10^(-SIGL/3) for S. With
SIGL=6 the former are 3 % of a theta without bounds, which for the logarithm of a clearance of 500 is a fifth
of that clearance. Over such a distance no objective is a parabola: standard errors differ by up to 10 % from
those of exact derivatives. Derivatives to omega and sigma are exact in NONMEM, too.
"""

from __future__ import annotations

import numpy as np

from ..estimate import Array, Estimate
from ..objective.evaluation import Evaluation, Objective
from ..parameterisation.scaled import START, ScaledParameters
from ..parameterisation.unconstrained import Parameterisation

COARSE = 7.0  # digits; with more of them the differences are exact derivatives but for their rounding
HALVINGS = 6  # of the steps, to where the objective has values
R_DIGITS = 4.0  # what digits are divided by
S_DIGITS = 3.0


class CoarseDifferences:
    """Differences of ``objective`` around ``evaluation`` along the estimated thetas.

    Parameters
    ----------
    start
        Where the search began: the scale of the parameters.
    digits
        Significant digits of the objective.
    """

    def __init__(
        self,
        parameterisation: Parameterisation,
        objective: Objective,
        evaluation: Evaluation,
        start: Estimate,
        digits: float,
    ) -> None:
        self.parameterisation, self.digits = parameterisation, digits
        self.objective, self.evaluation = objective, evaluation
        self.free = self.parameterisation.pack(evaluation.estimate)
        self.n_thetas = len(self.parameterisation.free_thetas)
        scaled = ScaledParameters(self.parameterisation, self.parameterisation.pack(start))
        size = np.maximum(np.abs(scaled.values(self.free)), START) * scaled.gradient(np.ones(len(self.free)))
        self._sizes = np.abs(size[: self.n_thetas])  # of the free vector: both orders have the thetas first

    def information(self, exact: Array) -> Array:
        """Return R [free, free]: ``exact`` with differences in the rows and columns of thetas.

        Second differences to two thetas have four corners, half a step off along each; those to a theta and
        another parameter are differences of the exact slope to the latter. Not finite where the objective has
        no values, however near.
        """
        made, n = exact.copy(), self.n_thetas
        for halving in range(HALVINGS):
            half = 0.5 * self._steps(R_DIGITS) / 4**halving
            ends = [(self._at(k, half), self._at(k, -half)) for k in range(n)]
            for i in range(n):
                slopes = [self._slope(end) for end in ends[i]]
                made[i, n:] = made[n:, i] = (slopes[0] - slopes[1])[n:] / (2 * half[i])
                for j in range(i + 1):
                    made[i, j] = made[j, i] = self._corners(ends, half, i, j) / (4 * half[i] * half[j])
            if np.isfinite(made).all():
                break
        return made

    def scores(self, exact: Array) -> Array:
        """Return half the gradients [row, parameter] with differences to the thetas, the first parameters.

        ``exact`` are those to the natural parameters. Rows beyond the subjects (of a prior) are left as they
        are, and subjects that have no value on both sides.
        """
        made = exact.copy()
        scale = 4.0 * np.diag(self.parameterisation.jacobian(self.free)[self.parameterisation.free_thetas])
        steps = self._steps(S_DIGITS)
        for i, step in enumerate(steps):
            with np.errstate(invalid="ignore"):
                rise = self._at(i, steps).by_subject - self._at(i, -steps).by_subject
            found = rise / (step * scale[i])
            known = np.flatnonzero(np.isfinite(found))
            made[known, i] = found[known]
        return made

    def _steps(self, divisor: float) -> Array:
        made: Array = 10.0 ** (-self.digits / divisor) * self._sizes
        return made

    def _at(self, k: int, steps: Array) -> Evaluation:
        """Return the objective a step along theta ``k``."""
        free = self.free.copy()
        free[k] += steps[k]
        return self.objective.value(self.parameterisation.natural(free), self.evaluation.modes)

    def _slope(self, end: Evaluation) -> Array:
        """Return half the gradient [free] there."""
        if not np.isfinite(end.ofv):
            return np.full(len(self.free), np.nan)
        free = self.parameterisation.pack(end.estimate)
        slopes = self.parameterisation.free_gradient(free, self.objective.gradient(end))
        made: Array = 0.5 * slopes.sum(0)
        return made

    def _corners(self, ends: list[tuple[Evaluation, Evaluation]], half: Array, i: int, j: int) -> float:
        """Return half the objectives at four corners, with the signs of a mixed difference.

        Along one theta two of them are in the middle. Modes are sought from where those of both ends lead.
        """
        middle, total = self.evaluation, 0.0
        for a, one in zip((1, -1), ends[i], strict=True):
            for b, other in zip((1, -1), ends[j], strict=True):
                if i == j and a != b:
                    continue
                free = self.free.copy()
                free[i] += a * half[i]
                free[j] += b * half[j]
                start = one.modes + other.modes - middle.modes
                corner = self.objective.value(self.parameterisation.natural(free), start)
                total += a * b * (corner.ofv - middle.ofv)
        return 0.5 * total
