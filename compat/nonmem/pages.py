"""The boxed pages of the report: final estimates, standard errors and matrices in three digits."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from ...engine.estimate import Estimate
from ...engine.fit import Fit
from .ext import sd_and_correlation_errors, sd_and_correlations
from .matrices import correlation, inverse_covariance
from .numbers import exponent
from .titles import GOAL, fit_title

Array = NDArray[np.float64]
_RULE = " " + "*" * 120
_SIDE = "*" * 20
_PER_LINE = 12
_ABSENT = "........."


def objective_pages(fit: Fit) -> list[str]:
    """Return the page with the objective; an objective that is not finite shows as asterisks."""
    value = f"{fit.ofv:13.3f}" if math.isfinite(fit.ofv) and abs(fit.ofv) < 1e8 else "*" * 13
    lines = ["1", *[" "] * 20, _RULE, _boxed(""), _boxed(fit_title(fit).upper())]
    lines += [f" #OBJT:{'*' * 14}{GOAL.center(80)}{_SIDE}", _boxed(""), _RULE, " ", *[""] * 5]
    return [*lines, f" #OBJV:{'*' * 44}{value}       {'*' * 50}"]


def estimate_pages(fit: Fit) -> list[str]:
    """Return final estimates: thetas, covariances, then SDs and correlations."""
    sd = sd_and_correlations(fit.estimate)
    return [
        *_head(fit, "FINAL PARAMETER ESTIMATE"),
        *_parameters(fit, fit.estimate.flatten(), _plain),
        *_random_effects(fit, "CORR", sd, _plain),
    ]


def error_pages(fit: Fit) -> list[str]:
    """Return standard errors and the matrices of the estimates; nothing without standard errors."""
    if fit.uncertainty is None:
        return []
    uncertainty = fit.uncertainty
    sd_errors = sd_and_correlation_errors(fit.estimate, uncertainty.covariance)
    lines = [
        *_head(fit, "STANDARD ERROR OF ESTIMATE"),
        *_parameters(fit, uncertainty.se, _or_dots),
        *_random_effects(fit, "CORR", sd_errors, _or_dots),
    ]
    matrices = {
        "COVARIANCE MATRIX OF ESTIMATE": uncertainty.covariance,
        "CORRELATION MATRIX OF ESTIMATE": correlation(uncertainty),
        "INVERSE COVARIANCE MATRIX OF ESTIMATE": inverse_covariance(fit.model, uncertainty),
    }
    absent = np.diag(uncertainty.covariance) <= 0
    for title, matrix in matrices.items():
        if matrix is not None:
            shown = matrix.copy()
            shown[absent, :] = np.nan
            shown[:, absent] = np.nan
            lines += [*_head(fit, title), *_matrix(_matrix_labels(fit), shown)]
    if fit.model.covariance is not None and fit.model.covariance.print_eigenvalues:
        lines += [*_head(fit, "EIGENVALUES OF COR MATRIX OF ESTIMATE"), ""]
        count = len(uncertainty.eigenvalues)
        lines += _wrapped([f"{k + 1:10d}" for k in range(count)], " " * 4, right=True)
        lines += [" ", *_wrapped([_number(float(v)) for v in uncertainty.eigenvalues], " " * 7), " "]
    return lines


def boxed_head(title: str, subtitle: str) -> list[str]:
    """Return the start of a new page: a page break and a box with two lines."""
    return ["1", _RULE, _boxed(""), _boxed(title), _boxed(subtitle), _boxed(""), _RULE, " "]


def _head(fit: Fit, subtitle: str) -> list[str]:
    return boxed_head(fit_title(fit).upper(), subtitle)


def _boxed(text: str) -> str:
    return f" {_SIDE}{text.center(80)}{_SIDE}"


def _parameters(fit: Fit, values: Array, show: Callable[[float], str]) -> list[str]:
    n = len(fit.model.thetas)
    lines = ["", "", " THETA - VECTOR OF FIXED EFFECTS PARAMETERS   *********", "", ""]
    lines += _wrapped([f"{f'TH{k + 1:2d}':<10s}" for k in range(n)], " " * 9)
    lines += [" ", *_wrapped([show(float(v)) for v in values[:n]], " " * 7), " "]
    return lines + _random_effects(fit, "COV", values, show, new_page=False)


def _random_effects(
    fit: Fit, kind: str, values: Array, show: Callable[[float], str], new_page: bool = True
) -> list[str]:
    estimate: Estimate = fit.estimate
    start = len(estimate.theta)
    lines = ["1"] if new_page else []
    for letters, effects, matrix, stars in (
        ("SIGMA", "EPSILONS", estimate.sigma, "*" * (4 if kind == "COV" else 3)),
        ("OMEGA", "ETAS", estimate.omega, "*" * (8 if kind == "COV" else 7)),
    ):
        n = len(matrix)
        count = n * (n + 1) // 2
        block = ["", "", f" {letters} - {kind} MATRIX FOR RANDOM EFFECTS - {effects}  {stars}", "", ""]
        labels = [f"{letters_of(effects)}{k + 1}" for k in range(n)]
        block += _wrapped([f"{label:<10s}" for label in labels], " " * 9)
        rows = np.full((n, n), np.nan)
        rows[np.tril_indices(n)] = values[start : start + count]
        for k, label in enumerate(labels):
            block += [" ", f" {label}", *_wrapped([show(float(v)) for v in rows[k, : k + 1]], "+      ")]
        start += count
        if n:  # the report shows OMEGA first, although SIGMA comes first in the order of parameters
            lines = lines + block if letters == "SIGMA" else _insert_before(lines, block, "SIGMA - ")
    return [*lines, " "]


def letters_of(effects: str) -> str:
    """Return the short name of a kind of random effects: ETA or EPS."""
    return "ETA" if effects == "ETAS" else "EPS"


def _insert_before(lines: list[str], block: list[str], mark: str) -> list[str]:
    place = next((k - 2 for k, line in enumerate(lines) if line.startswith(f" {mark}")), len(lines))
    return [*lines[:place], *block, " ", *lines[place:]]


def _matrix(labels: Sequence[str], matrix: Array) -> list[str]:
    lines = ["", *_wrapped([f"{label:<10s}" for label in labels], " " * 12)]
    for k, label in enumerate(labels):
        lines += [" ", f" {label}", *_wrapped([_or_dots(float(v)) for v in matrix[k, : k + 1]], "+      ")]
    return [*lines, " "]


def _matrix_labels(fit: Fit) -> list[str]:
    labels = [f"TH{k + 1:2d}" for k in range(len(fit.model.thetas))]
    for letters, n in (("SG", fit.model.n_eps), ("OM", fit.model.n_etas)):
        digits = 1 if n < 10 else 2
        labels += [f"{letters}{j:0{digits}d}{i:0{digits}d}" for i in range(1, n + 1) for j in range(1, i + 1)]
    return labels


def _wrapped(fields: list[str], lead: str, right: bool = False) -> list[str]:
    """Return ``fields`` 12 to a line; continuation lines stand one column further to the right."""
    lines = []
    for start in range(0, len(fields), _PER_LINE):
        lines.append((lead if start == 0 else " " * (len(lead) + 1)) + "".join(fields[start : start + _PER_LINE]))
    return lines


def _number(value: float) -> str:
    return exponent(value, 2).rjust(10)


def _plain(value: float) -> str:
    return _number(value if math.isfinite(value) else 0.0)


def _or_dots(value: float) -> str:
    return _number(value) if math.isfinite(value) else _ABSENT.rjust(10)
