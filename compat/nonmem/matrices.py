"""The ``.cov``, ``.cor``, ``.coi``, ``.rmt`` and ``.smt`` files: matrices over all parameters."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ...engine.estimate import is_repeated, names
from ...engine.fit import Fit
from ...engine.uncertainty.standard_errors import MatrixState, Uncertainty
from ..files import write_whole
from .file_layout import block, layout_of, parameter_order
from .titles import fit_line

Array = NDArray[np.float64]
# Eigenvalue of S, in its unit diagonal form, that is zero but for the precision of the search: the scores of
# the subjects add up to zero at the estimate.
NO_INFORMATION = 1e-7
UNSOUND: tuple[MatrixState, ...] = ("indefinite", "singular", "singular_indefinite")


def write_matrices(fits: Sequence[Fit], stem: Path) -> list[Path]:
    """Write ``stem`` + ``.cov .cor .coi .rmt .smt``, a block for each step that has the matrix.

    Covariance, correlation and inverse covariance of the estimates are there where the step has standard
    errors (and the covariance an inverse), the R and S matrices where :func:`information_to_show` has them.
    """
    kinds = {
        ".cov": [(fit, None if fit.uncertainty is None else fit.uncertainty.covariance) for fit in fits],
        ".cor": [(fit, None if fit.uncertainty is None else correlation(fit.uncertainty)) for fit in fits],
        ".coi": [
            (fit, None if fit.uncertainty is None else inverse_covariance(fit, fit.uncertainty))
            for fit in fits
        ],
        ".rmt": [(fit, information_to_show(fit).get("R")) for fit in fits],
        ".smt": [(fit, information_to_show(fit).get("S")) for fit in fits],
    }
    written = []
    for suffix, blocks in kinds.items():
        lines = [line for fit, matrix in blocks if matrix is not None for line in _block(fit, matrix)]
        if lines:
            path = stem.with_name(stem.name + suffix)
            written.append(write_whole(path, "\n".join(lines) + "\n"))
    return written


def information_to_show(fit: Fit) -> dict[str, Array]:
    """Return the matrices ``R`` and ``S`` that PRINT asks for or that are not as they should be."""
    if fit.information is None:
        return {}
    options = {} if fit.model.covariance is None else dict(fit.model.covariance.options)
    asked, found = options.get("PRINT", ""), fit.information
    matrices = {"R": (found.r, found.r_state), "S": (found.s, found.s_state)}
    return {
        letter: matrix
        for letter, (matrix, state) in matrices.items()
        if matrix is not None and (letter in asked or state in UNSOUND)
    }


def correlation(uncertainty: Uncertainty) -> Array:
    """Return correlations off the diagonal and standard errors on it; zero where not estimated."""
    covariance = uncertainty.covariance
    se = np.sqrt(np.diag(covariance))
    scale = np.outer(se, se)
    matrix = np.divide(covariance, scale, out=np.zeros_like(covariance), where=scale > 0)
    np.fill_diagonal(matrix, se)
    return np.asarray(matrix)


def inverse_covariance(fit: Fit, uncertainty: Uncertainty) -> Array | None:
    """Return the inverse over the free parameters, zero elsewhere; None where there is none.

    A sandwich of a singular S has no inverse: there it is R S* R, S* the pseudo-inverse of S (in its unit
    diagonal form, so that units do not matter).
    """
    found = fit.information
    if found is not None and found.s_state == "singular" and found.r is not None and found.s is not None:
        scale = np.sqrt(np.where(np.diag(found.s) > 0, np.diag(found.s), 1.0))
        pseudo = np.linalg.pinv(found.s / np.outer(scale, scale), rcond=NO_INFORMATION, hermitian=True)
        return np.asarray(found.r @ (pseudo / np.outer(scale, scale)) @ found.r)
    covariance = uncertainty.covariance
    free = np.flatnonzero((np.diag(covariance) > 0) & ~is_repeated(fit.model))
    inside = np.ix_(free, free)
    inverse = np.zeros_like(covariance)
    try:
        inverse[inside] = np.linalg.inv(covariance[inside])
    except np.linalg.LinAlgError:
        return None
    return inverse


def _block(fit: Fit, matrix: Array) -> list[str]:
    task = fit.model.covariance
    layout = layout_of(fit, None if task is None else dict(task.options).get("FORMAT"))
    order = parameter_order(fit, layout)
    labels = [names(fit.model)[k] for k in order]
    arranged = matrix[np.ix_(order, order)]
    rows = [[layout.name(a), *layout.reals(row)] for a, row in zip(labels, arranged, strict=True)]
    return block(layout, fit_line(fit), ["NAME", *labels], rows)
