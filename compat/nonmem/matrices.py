"""The ``.cov``, ``.cor``, ``.coi``, ``.rmt`` and ``.smt`` files: matrices over all parameters."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ...engine.estimate import is_fixed, is_repeated, names
from ...engine.fit import Fit, Uncertainty
from ...engine.ir.model import Model
from ..files import write_whole
from .numbers import ADDITIONAL
from .titles import fit_line, label_line

Array = NDArray[np.float64]


def write_matrices(fits: Sequence[Fit], stem: Path) -> list[Path]:
    """Write ``stem`` + ``.cov .cor .coi .rmt .smt``, a block for each step that has the matrix.

    Covariance, correlation and inverse covariance of the estimates are there where the step has standard
    errors (and the covariance an inverse), the R and S matrices where PRINT asks for them.
    """
    kinds = {
        ".cov": [(fit, None if fit.uncertainty is None else fit.uncertainty.covariance) for fit in fits],
        ".cor": [(fit, None if fit.uncertainty is None else correlation(fit.uncertainty)) for fit in fits],
        ".coi": [
            (fit, None if fit.uncertainty is None else inverse_covariance(fit.model, fit.uncertainty))
            for fit in fits
        ],
        ".rmt": [(fit, _asked(fit, "R")) for fit in fits],
        ".smt": [(fit, _asked(fit, "S")) for fit in fits],
    }
    written = []
    for suffix, blocks in kinds.items():
        lines = [line for fit, matrix in blocks if matrix is not None for line in _block(fit, matrix)]
        if lines:
            path = stem.with_name(stem.name + suffix)
            written.append(write_whole(path, "\n".join(lines) + "\n"))
    return written


def _asked(fit: Fit, letter: str) -> Array | None:
    """Return the matrix ``R`` or ``S`` over all parameters where PRINT asks for it and the step has it."""
    options = {} if fit.model.covariance is None else dict(fit.model.covariance.options)
    if fit.uncertainty is None or letter not in options.get("PRINT", ""):
        return None
    found = fit.uncertainty.information if letter == "R" else fit.uncertainty.cross_product
    if found is None:
        return None
    estimated = np.flatnonzero(~is_fixed(fit.model) & ~is_repeated(fit.model))
    full = np.zeros((len(names(fit.model)),) * 2)
    full[np.ix_(estimated, estimated)] = found
    return full


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
    free = np.flatnonzero((np.diag(covariance) > 0) & ~is_repeated(model))
    inside = np.ix_(free, free)
    inverse = np.zeros_like(covariance)
    try:
        inverse[inside] = np.linalg.inv(covariance[inside])
    except np.linalg.LinAlgError:
        return None
    return inverse


def _block(fit: Fit, matrix: Array) -> list[str]:
    labels = names(fit.model)
    lines = [fit_line(fit), label_line(["NAME", *labels])]
    for label, row in zip(labels, matrix, strict=True):
        values = "".join(" " + ADDITIONAL.number(float(v)) for v in row)
        lines.append(f" {ADDITIONAL.label(label)}{values}")
    return lines
