"""Standard errors of the classical methods: R, S and the sandwich (White 1982).

With OFV = -2 log L, R is half its second derivative and S the sum over subjects of outer products of half
their gradients, both to the natural parameters (thetas, variances, covariances). The covariance of the
estimates is R^-1 S R^-1 (right even where the model is not), R^-1 or S^-1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from .estimate import Array, Estimate, is_fixed
from .fit import Uncertainty
from .ir.model import Model
from .methods.step import Step
from .natural_parameters import NaturalParameters
from .objective.evaluation import Evaluation, Objective
from .objective.of_method import objective_of
from .objective.penalised import penalised
from .objective.population import Population
from .parameterisation import Parameterisation
from .sampling_importance_resampling import ResamplingSettings

SINGULAR = 1e-12  # eigenvalue of a matrix scaled to unit diagonal, below which it is singular
STRIDE = 0.02  # of the differences, in standard errors that the parameter had if it were alone
LARGEST = 0.1  # stride relative to a theta, to a standard deviation, or of a logarithm
HALVINGS = 6

R_INDEFINITE = "the R matrix is not positive definite"
R_SINGULAR = "the R matrix is singular"
R_UNOBTAINABLE = "the R matrix cannot be computed"
S_SINGULAR = "the S matrix is singular"
S_UNOBTAINABLE = "the S matrix cannot be computed"
SOURCES = {
    "sandwich": "R^-1 S R^-1, R the observed information and S the cross product of the subjects' gradients",
    "r": "inverse observed information R",
    "s": "inverse cross product S of the subjects' gradients",
}


@dataclass(frozen=True)
class CovarianceSettings:
    """What the covariance step computes: ``matrix`` the estimate is made of.

    ``unconditional``: whether it is made after a search that did not end well, too. ``resampling``: how the
    estimate's uncertainty is sampled from there (None: it is not).
    """

    matrix: Literal["sandwich", "r", "s"] = "sandwich"
    unconditional: bool = False
    resampling: ResamplingSettings | None = None


def covariance_step(
    population: Population,
    step: Step,
    settings: CovarianceSettings = CovarianceSettings(),
    objective: Objective | None = None,
) -> tuple[Uncertainty | None, str]:
    """Return the uncertainty of the estimates of ``step``, and what is to be said of it.

    Without result the text tells why, with the parameters to look at; with one it may still say that S is
    singular. A step with ``information`` and ``scores`` of its own is taken at its word; for the others both
    come from exact gradients of its objective at the estimate.
    """
    if not settings.unconditional and step.status.code not in ("converged", "evaluated"):
        return None, "the estimation step did not end well (ask for the unconditional covariance step)"
    natural = NaturalParameters(population.model)
    if not natural.size:
        return None, "every parameter is fixed"
    if step.information is not None or step.scores is not None:
        at = natural.index
        r = None if step.information is None else step.information[np.ix_(at, at)]
        s = None if step.scores is None else cross_product(step.scores[:, at])
    else:
        objective = objective_of(population, step.method) if objective is None else objective
        objective = penalised(population, objective)
        evaluation = objective.value(
            step.estimate, step.individuals.ebe[None].repeat(len(population.likelihoods), 0)
        )
        gradients = natural.gradient(objective.gradient(evaluation))
        s = cross_product(0.5 * gradients)
        r = None if settings.matrix == "s" else observed_information(objective, evaluation, natural)
    return combine(population.model, step.estimate, natural, settings.matrix, r, s)


def cross_product(scores: Array) -> Array:
    """Return the sum of outer products of the rows of ``scores`` [id, parameter]."""
    made: Array = scores.T @ scores
    return made


def observed_information(objective: Objective, evaluation: Evaluation, natural: NaturalParameters) -> Array:
    """Return R: half the second derivative by central differences of exact gradients.

    The differences are taken in the unconstrained parameters and carried over to the natural ones, as if the
    gradient were zero: where it is not (an estimate on its bound), the likelihood is a better parabola there.
    Not finite where the objective is not.
    """
    parameterisation = Parameterisation(natural.model)
    free = parameterisation.pack(evaluation.estimate)
    jacobian = parameterisation.jacobian(free)[natural.index]
    scores = 0.5 * parameterisation.free_gradient(free, objective.gradient(evaluation))
    strides = _strides(parameterisation, evaluation.estimate, np.diag(cross_product(scores)))
    r = np.full((len(free), len(free)), np.nan)
    for k in range(len(free)):
        for halving in range(HALVINGS):
            change = np.zeros(len(free))
            change[k] = strides[k] / 4**halving
            ends = [
                _half_gradient(objective, evaluation, parameterisation, free + c) for c in (change, -change)
            ]
            r[k] = (ends[0] - ends[1]) / (2 * change[k])
            if np.isfinite(r[k]).all():
                break
    inverse = np.linalg.inv(jacobian)
    made: Array = inverse.T @ (0.5 * (r + r.T)) @ inverse
    return made


def combine(
    model: Model,
    estimate: Estimate,
    natural: NaturalParameters,
    matrix: Literal["sandwich", "r", "s"],
    r: Array | None,
    s: Array | None,
) -> tuple[Uncertainty | None, str]:
    """Return the uncertainty that R and S over the natural parameters give, and what is to be said of it."""
    note = ""
    if matrix != "s":
        if r is None or not np.isfinite(r).all():
            rows = [] if r is None else [natural.names[k] for k in np.flatnonzero(~np.isfinite(np.diag(r)))]
            return None, _naming(R_UNOBTAINABLE, rows)
        lowest = _eigenvalues(r)[0][0]
        if abs(lowest) < SINGULAR or lowest < 0:
            problem = R_SINGULAR if abs(lowest) < SINGULAR else R_INDEFINITE
            return None, _naming(problem, _guilty(r, natural, estimate))
    if matrix != "r":
        if s is None or not np.isfinite(s).all():
            return None, S_UNOBTAINABLE
        if _eigenvalues(s)[0][0] < SINGULAR:
            note = _naming(S_SINGULAR, _guilty(s, natural, estimate))
            if matrix == "s":
                return None, note
    if matrix == "s":
        assert s is not None
        covariance = _inverse(s)
    else:
        assert r is not None
        covariance = _inverse(r)
        if matrix == "sandwich":
            assert s is not None
            covariance = covariance @ s @ covariance
    full = natural.expand(covariance)
    se = np.where(is_fixed(model), np.nan, np.sqrt(np.maximum(np.diag(full), 0.0)))
    matrices = [None if m is None else natural.expand(m) for m in (r, s)]
    return Uncertainty(full, se, _eigenvalues(covariance)[0], SOURCES[matrix], *matrices), note


def _half_gradient(
    objective: Objective, evaluation: Evaluation, parameterisation: Parameterisation, free: Array
) -> Array:
    moved = objective.value(parameterisation.natural(free), evaluation.modes)
    if not np.isfinite(moved.ofv):
        return np.full(len(free), np.nan)
    total: Array = 0.5 * parameterisation.free_gradient(free, objective.gradient(moved)).sum(0)
    return total


def _strides(parameterisation: Parameterisation, estimate: Estimate, squares: Array) -> Array:
    """Return the length of the differences of each free parameter, given its diagonal element of S."""
    largest = LARGEST * parameterisation.sizes(estimate)
    alone = STRIDE / np.sqrt(np.maximum(squares, 1e-300))
    return np.asarray(np.minimum(alone, largest))


def _eigenvalues(matrix: Array) -> tuple[Array, Array, Array]:
    """Return eigenvalues (ascending) and vectors of a matrix scaled to unit diagonal, and the scale."""
    scale = np.sqrt(np.abs(np.diag(matrix)))
    scale = np.where(scale > 0, scale, 1.0)
    values, vectors = np.linalg.eigh(matrix / np.outer(scale, scale))
    return values, vectors, scale


def _inverse(matrix: Array) -> Array:
    """Return the inverse of a matrix whose parameters may have very different units."""
    values, vectors, scale = _eigenvalues(matrix)
    made: Array = (vectors / values) @ vectors.T / np.outer(scale, scale)
    return made


def _guilty(matrix: Array, natural: NaturalParameters, estimate: Estimate) -> list[str]:
    """Return the parameters that move most along the direction of which the data say least."""
    _, vectors, scale = _eigenvalues(matrix)
    move = np.abs(vectors[:, 0] / scale) / (np.abs(natural.values(estimate)) + 1e-12)
    return [natural.names[k] for k in np.argsort(-move)[:3] if move[k] > 0.1 * move.max()]


def _naming(problem: str, parameters: list[str]) -> str:
    return f"{problem}; look at {', '.join(parameters)}" if parameters else problem
