"""Standard errors of the classical methods: R, S and the sandwich (White 1982).

With OFV = -2 log L, R is half its second derivative and S the sum over subjects of outer products of half
their gradients, both to the natural parameters (thetas, variances, covariances). The covariance of the
estimates is R^-1 S R^-1 (right even where the model is not), R^-1 or S^-1. An R that is not positive definite
has no such inverse: then there are no standard errors, or those of an R that was made positive definite.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from ..estimate import Array, Estimate, is_fixed
from ..ir.model import Model
from ..methods.step import Step
from ..objective.evaluation import Evaluation, Objective
from ..objective.of_method import objective_of
from ..objective.penalised import penalised
from ..objective.population import Population
from ..parameterisation.natural import NaturalParameters
from ..parameterisation.unconstrained import Parameterisation
from .coarse_differences import COARSE, CoarseDifferences
from .sampling_importance_resampling import ResamplingSettings
from .standard_errors import InformationMatrices, MatrixState, Uncertainty

SINGULAR = 1e-12  # eigenvalue of a matrix scaled to unit diagonal, below which it is singular
STRIDE = 0.02  # of the differences, in standard errors that the parameter had if it were alone
LARGEST = 0.1  # stride relative to a theta, to a standard deviation, or of a logarithm
HALVINGS = 6

HUNDREDTH = 0.01  # of the least positive eigenvalue, what negative ones are set to
BEYOND = 1.01  # of the most negative eigenvalue, what all are shifted by

PROBLEMS: dict[MatrixState, str] = {
    "indefinite": "is not positive definite",
    "singular": "is singular",
    "singular_indefinite": "is singular and not positive definite",
    "unobtainable": "cannot be computed",
}
Repair = Literal["none", "shifted", "floored", "absolute"]
REPAIRS: dict[Repair, str] = {
    "shifted": "all its eigenvalues were shifted until the least was positive",
    "floored": "its negative eigenvalues were set to a hundredth of the least positive one",
    "absolute": "the absolute values of its eigenvalues were taken",
}
SOURCES = {
    "sandwich": "R^-1 S R^-1, R the observed information and S the cross product of the subjects' gradients",
    "r": "inverse observed information R",
    "s": "inverse cross product S of the subjects' gradients",
}


@dataclass(frozen=True)
class CovarianceSettings:
    """What the covariance step computes: ``matrix`` the estimate is made of.

    ``unconditional``: whether it is made after a search that did not end well, too. ``resampling``: how the
    estimate's uncertainty is sampled from there (None: it is not). ``repair``: how an R that is not positive
    definite is made so (None: ``"none"`` of exact derivatives, ``"absolute"`` of the information that a
    sampling method brings, whose negative eigenvalues are Monte Carlo noise). ``digits``: to how many
    significant digits the objective is said to be known (SIGL); where these are few, derivatives to thetas
    are the differences that NONMEM takes (:mod:`.coarse_differences`), and else exact.
    """

    matrix: Literal["sandwich", "r", "s"] = "sandwich"
    unconditional: bool = False
    resampling: ResamplingSettings | None = None
    repair: Repair | None = None
    digits: float | None = None


@dataclass(frozen=True)
class CovarianceStep:
    """What a covariance step came to: ``uncertainty``, or None and ``said`` tells why.

    With an uncertainty ``said`` may still hold what the reader must know of it. Both name the parameters to
    look at. ``matrices``: R and S, where there are any.
    """

    uncertainty: Uncertainty | None
    said: str = ""
    matrices: InformationMatrices | None = None


def covariance_step(
    population: Population,
    step: Step,
    settings: CovarianceSettings = CovarianceSettings(),
    objective: Objective | None = None,
) -> CovarianceStep:
    """Return the uncertainty of the estimates of ``step``, or why there is none.

    A step with ``information`` and ``scores`` of its own is taken at its word; for the others both come from
    gradients of its objective at the estimate.
    """
    if not settings.unconditional and step.status.code not in ("converged", "evaluated"):
        said = "the estimation step did not end well (ask for the unconditional covariance step)"
        return CovarianceStep(None, said)
    if not settings.unconditional and step.search is not None and step.search.near_bound:
        near = ", ".join(step.search.near_bound)
        said = "no standard errors are defined there; move the bound, fix the parameter or leave it out"
        return CovarianceStep(None, f"at a bound: {near} ({said})")
    natural = NaturalParameters(population.model)
    if not natural.size:
        return CovarianceStep(None, "every parameter is fixed")
    own = step.information is not None or step.scores is not None
    if own:
        at = natural.index
        r = None if step.information is None else step.information[np.ix_(at, at)]
        s = None if step.scores is None else cross_product(step.scores[:, at])
    else:
        objective = objective_of(population, step.method) if objective is None else objective
        objective = penalised(population, objective)
        evaluation = objective.value(
            step.estimate, step.individuals.ebe[None].repeat(len(population.likelihoods), 0)
        )
        scores = 0.5 * natural.gradient(objective.gradient(evaluation))
        coarse = _coarse(Parameterisation(natural.model), objective, evaluation, step, settings.digits)
        s = cross_product(scores if coarse is None else coarse.scores(scores))
        r = None if settings.matrix == "s" else observed_information(objective, evaluation, natural, coarse)
    repair: Repair = settings.repair or ("absolute" if own else "none")
    made = combine(population.model, step.estimate, natural, settings.matrix, r, s, repair)
    if own or coarse is None or made.uncertainty is None:
        return made
    source = f"{made.uncertainty.source}; derivatives to the thetas by differences as long as SIGL has them"
    return replace(made, uncertainty=replace(made.uncertainty, source=source))


def _coarse(
    parameterisation: Parameterisation,
    objective: Objective,
    evaluation: Evaluation,
    step: Step,
    digits: float | None,
) -> CoarseDifferences | None:
    """Return the differences in place of derivatives to the thetas; None where these are exact."""
    if digits is None or digits > COARSE:
        return None
    start = step.history[0].estimate if step.history else step.estimate
    return CoarseDifferences(parameterisation, objective, evaluation, start, digits)


def cross_product(scores: Array) -> Array:
    """Return the sum of outer products of the rows of ``scores`` [id, parameter]."""
    made: Array = scores.T @ scores
    return made


def observed_information(
    objective: Objective,
    evaluation: Evaluation,
    natural: NaturalParameters,
    coarse: CoarseDifferences | None = None,
) -> Array:
    """Return R: half the second derivative by central differences of exact gradients, or ``coarse`` ones.

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
    for k in range(0 if coarse is None else coarse.n_thetas, len(free)):
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
    r = 0.5 * (r + r.T)
    if coarse is not None:
        r = coarse.information(r)
    made: Array = inverse.T @ r @ inverse
    return made


def combine(
    model: Model,
    estimate: Estimate,
    natural: NaturalParameters,
    matrix: Literal["sandwich", "r", "s"],
    r: Array | None,
    s: Array | None,
    repair: Repair = "none",
) -> CovarianceStep:
    """Return the uncertainty that R and S over the natural parameters give, and what is to be said of it."""
    matrices = InformationMatrices(_placed(natural, r), _placed(natural, s), state_of(r), state_of(s))
    notes, source = [], SOURCES[matrix]
    if matrix != "s":
        said = _fault("R", r, matrices.r_state, natural, estimate)
        if matrices.r_state == "indefinite" and repair != "none":
            assert r is not None
            r = _made_definite(r, repair)
            notes.append(f"{said}; standard errors are a guess: {REPAIRS[repair]}")
            source = f"{source}; R made positive definite: {REPAIRS[repair]}"
        elif matrices.r_state != "sound":
            return CovarianceStep(None, said, matrices)
    if matrix != "r" and matrices.s_state != "sound":
        said = _fault("S", s, matrices.s_state, natural, estimate)
        if matrix == "s" or matrices.s_state in ("unobtainable", "not_computed"):
            return CovarianceStep(None, said, matrices)
        notes.append(said)
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
    uncertainty = Uncertainty(full, se, _eigenvalues(covariance)[0], source)
    return CovarianceStep(uncertainty, "; ".join(notes), matrices)


def state_of(matrix: Array | None) -> MatrixState:
    """Return whether there is a matrix and it is positive definite, whatever the units of its parameters."""
    if matrix is None:
        return "not_computed"
    if not np.isfinite(matrix).all():
        return "unobtainable"
    values = _eigenvalues(matrix)[0]
    singular = bool((np.abs(values) < SINGULAR).any())
    if values[0] <= -SINGULAR:
        return "singular_indefinite" if singular else "indefinite"
    return "singular" if singular else "sound"


def _placed(natural: NaturalParameters, matrix: Array | None) -> Array | None:
    """Return ``matrix`` over all parameters, zero where not estimated; None of what is not finite."""
    if matrix is None or not np.isfinite(matrix).all():
        return None
    full = np.zeros((len(natural.spread),) * 2)
    full[np.ix_(natural.index, natural.index)] = matrix
    return full


def _made_definite(matrix: Array, repair: Repair) -> Array:
    """Return an indefinite matrix with the eigenvalues of its unit diagonal form made positive."""
    values, vectors, scale = _eigenvalues(matrix)
    if repair == "shifted":
        values = values - BEYOND * values[0]
    elif repair == "floored":
        positive = values[values > 0]
        least = positive.min() if len(positive) else np.abs(values).max()
        values = np.where(values < 0, HUNDREDTH * least, values)
    else:
        values = np.abs(values)
    made: Array = (vectors * values) @ vectors.T * np.outer(scale, scale)
    return made


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


def _fault(
    name: str, matrix: Array | None, state: MatrixState, natural: NaturalParameters, estimate: Estimate
) -> str:
    """Return what is wrong with a matrix and which parameters to look at; empty where nothing is."""
    if state == "sound":
        return ""
    guilty: list[str] = []
    if matrix is not None:
        if state == "unobtainable":
            guilty = [natural.names[k] for k in np.flatnonzero(~np.isfinite(np.diag(matrix)))]
        else:
            guilty = _guilty(matrix, natural, estimate)
    problem = f"the {name} matrix {PROBLEMS.get(state, 'is missing')}"
    return f"{problem}; look at {', '.join(guilty)}" if guilty else problem


def _guilty(matrix: Array, natural: NaturalParameters, estimate: Estimate) -> list[str]:
    """Return the parameters that move most along the direction of which the data say least."""
    _, vectors, scale = _eigenvalues(matrix)
    move = np.abs(vectors[:, 0] / scale) / (np.abs(natural.values(estimate)) + 1e-12)
    return [natural.names[k] for k in np.argsort(-move)[:3] if move[k] > 0.1 * move.max()]
