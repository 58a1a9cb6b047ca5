"""The ``.cov``, ``.cor`` and ``.coi`` files: covariance of the estimates, correlation, inverse."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ...engine.estimate import names
from ...engine.fit import Fit, Uncertainty
from ...engine.ir.model import Model
from ..files import write_whole
from .numbers import ADDITIONAL
from .titles import fit_title, label_line, table_line

Array = NDArray[np.float64]


def write_matrices(fit: Fit, stem: Path) -> list[Path]:
    """Write ``stem`` + ``.cov``, ``.cor`` and, where the covariance has an inverse, ``.coi``.

    Nothing is written where the run has no standard errors.
    """
    if fit.uncertainty is None:
        return []
    written = [
        _write(fit, stem.with_name(stem.name + ".cov"), fit.uncertainty.covariance),
        _write(fit, stem.with_name(stem.name + ".cor"), correlation(fit.uncertainty)),
    ]
    inverse = inverse_covariance(fit.model, fit.uncertainty)
    if inverse is not None:
        written.append(_write(fit, stem.with_name(stem.name + ".coi"), inverse))
    return written


def correlation(uncertainty: Uncertainty) -> Array:
    """Return correlations off the diagonal and standard errors on it; zero where not estimated."""
    covariance = uncertainty.covariance
    se = np.sqrt(np.diag(covariance))
    scale = np.outer(se, se)
    matrix = np.divide(covariance, scale, out=np.zeros_like(covariance), where=scale > 0)
    np.fill_diagonal(matrix, se)
    return np.asarray(matrix)


def inverse_covariance(model: Model, uncertainty: Uncertainty) -> Array | None:
    """Return the inverse over the free parameters, zero elsewhere; None where there is none."""
    covariance = uncertainty.covariance
    free = np.flatnonzero((np.diag(covariance) > 0) & ~_repeated(model))
    inside = np.ix_(free, free)
    inverse = np.zeros_like(covariance)
    try:
        inverse[inside] = np.linalg.inv(covariance[inside])
    except np.linalg.LinAlgError:
        return None
    return inverse


def _repeated(model: Model) -> NDArray[np.bool_]:
    """Return True for elements of blocks that repeat another block's value."""
    parts = [np.zeros(len(model.thetas), dtype=bool)]
    for blocks, n in ((model.sigma, model.n_eps), (model.omega, model.n_etas)):
        repeated = np.zeros((n, n), dtype=bool)
        for block in blocks:
            inside = slice(block.first - 1, block.first - 1 + block.size)
            repeated[inside, inside] = block.same_as is not None
        parts.append(repeated[np.tril_indices(n)])
    return np.concatenate(parts)


def _write(fit: Fit, path: Path, matrix: Array) -> Path:
    labels = names(fit.model)
    lines = [table_line(fit_title(fit)), label_line(["NAME", *labels])]
    for label, row in zip(labels, matrix, strict=True):
        values = "".join(" " + ADDITIONAL.number(float(v)) for v in row)
        lines.append(f" {ADDITIONAL.label(label)}{values}")
    return write_whole(path, "\n".join(lines) + "\n")
