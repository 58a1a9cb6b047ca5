"""The boxed pages of the report: final estimates, standard errors and matrices in three digits."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from ...engine.estimate import is_fixed, is_repeated
from ...engine.fit import Fit
from ...engine.uncertainty.standard_errors import Uncertainty
from .ext import sd_and_correlation_errors, sd_and_correlations
from .matrices import correlation, information_to_show, inverse_covariance
from .numbers import exponent
from .titles import fit_title, goal

Array = NDArray[np.float64]
_RULE = " " + "*" * 120
_SIDE = "*" * 20
_PER_LINE = 12
_ABSENT = "........."


def objective_pages(fit: Fit) -> list[str]:
    """Return the page with the objective; an objective that is not finite shows as asterisks."""
    value = f"{fit.ofv:13.3f}" if math.isfinite(fit.ofv) and abs(fit.ofv) < 1e8 else "*" * 13
    lines = ["1", *[" "] * 20, _RULE, _boxed(""), _boxed(fit_title(fit).upper())]
    lines += [f" #OBJT:{'*' * 14}{goal(fit.method).center(80)}{_SIDE}", _boxed(""), _RULE, " ", *[""] * 5]
    return [*lines, f" #OBJV:{'*' * 44}{value}       {'*' * 50}"]


def estimate_pages(fit: Fit) -> list[str]:
    """Return final estimates: thetas, covariances, then SDs and correlations."""
    sd = sd_and_correlations(fit.estimate)
    return [
        *_head(fit, "FINAL PARAMETER ESTIMATE"),
        *_parameters(fit, fit.estimate.flatten(), _plain),
        "1",
        *_random_effects(fit, "CORR", sd, _plain),
    ]


def error_pages(fit: Fit) -> list[str]:
    """Return standard errors and the matrices of the estimates, and R and S where they are to be shown."""
    lines = [] if fit.uncertainty is None else _uncertainty_pages(fit, fit.uncertainty)
    labels, order = _matrix_order(fit)
    for letter, matrix in information_to_show(fit).items():
        absent = is_fixed(fit.model) | is_repeated(fit.model)
        shown = np.where(absent | absent[:, None], np.nan, matrix)
        lines += [*_head(fit, f"{letter} MATRIX"), *_matrix(labels, shown[np.ix_(order, order)])]
    return lines


def _uncertainty_pages(fit: Fit, uncertainty: Uncertainty) -> list[str]:
    sd_errors = sd_and_correlation_errors(fit.estimate, uncertainty.covariance)
    lines = [
        *_head(fit, "STANDARD ERROR OF ESTIMATE"),
        *_parameters(fit, uncertainty.se, _or_dots),
        "1",
        *_random_effects(fit, "CORR", sd_errors, _or_dots),
    ]
    matrices = {
        "COVARIANCE MATRIX OF ESTIMATE": uncertainty.covariance,
        "CORRELATION MATRIX OF ESTIMATE": correlation(uncertainty),
        "INVERSE COVARIANCE MATRIX OF ESTIMATE": inverse_covariance(fit, uncertainty),
    }
    labels, order = _matrix_order(fit)
    absent = np.diag(uncertainty.covariance) <= 0
    for title, matrix in matrices.items():
        if matrix is not None:
            shown = matrix.copy()
            shown[absent, :] = np.nan
            shown[:, absent] = np.nan
            lines += [*_head(fit, title), *_matrix(labels, shown[np.ix_(order, order)])]
    if fit.model.covariance is not None and fit.model.covariance.print_eigenvalues:
        lines += [*_head(fit, "EIGENVALUES OF COR MATRIX OF ESTIMATE"), ""]
        count = len(uncertainty.eigenvalues)
        lines += _wrapped([f"{k + 1:10d}" for k in range(count)], " " * 4)
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
    lines = ["", "", _heading("THETA - VECTOR OF FIXED EFFECTS PARAMETERS "), "", ""]
    lines += _wrapped([f"{f'TH{k + 1:2d}':<10s}" for k in range(n)], " " * 9)
    lines += [" ", *_wrapped([show(float(v)) for v in values[:n]], " " * 7), " "]
    return lines + _random_effects(fit, "COV", values, show)


def _random_effects(fit: Fit, kind: str, values: Array, show: Callable[[float], str]) -> list[str]:
    n_thetas, n_eps, n_etas = len(fit.model.thetas), fit.model.n_eps, fit.model.n_etas
    after_sigma = n_thetas + n_eps * (n_eps + 1) // 2
    omega_title = f"OMEGA - {kind} MATRIX FOR RANDOM EFFECTS - ETAS"
    sigma_title = f"SIGMA - {kind} MATRIX FOR RANDOM EFFECTS - EPSILONS"
    return [
        *_triangle(omega_title, "ETA", n_etas, values[after_sigma:], show),
        *_triangle(sigma_title, "EPS", n_eps, values[n_thetas:after_sigma], show),
    ]


def _triangle(title: str, letters: str, n: int, values: Array, show: Callable[[float], str]) -> list[str]:
    if n == 0:
        return []
    labels = [f"{letters}{k + 1}" for k in range(n)]
    lines = ["", "", _heading(title), "", ""]
    lines += _wrapped([f"{label:<10s}" for label in labels], " " * 9)
    start = 0
    for k, label in enumerate(labels):
        row = values[start : start + k + 1]
        lines += [" ", f" {label}", *_wrapped([show(float(v)) for v in row], "+      ")]
        start += k + 1
    return [*lines, " "]


def _heading(title: str) -> str:
    return f" {title}  ".ljust(55, "*")


def _matrix(labels: Sequence[str], matrix: Array) -> list[str]:
    lines = ["", *_wrapped([f"{label:<10s}" for label in labels], " " * 12)]
    for k, label in enumerate(labels):
        lines += [" ", f" {label}", *_wrapped([_or_dots(float(v)) for v in matrix[k, : k + 1]], "+      ")]
    return [*lines, " "]


def _matrix_order(fit: Fit) -> tuple[list[str], list[int]]:
    """Return labels and positions of all parameters as the report's matrices have them.

    The report puts OMEGA before SIGMA and runs through their upper triangles, unlike all other files.
    """
    n_thetas, n_eps, n_etas = len(fit.model.thetas), fit.model.n_eps, fit.model.n_etas
    labels, positions = [f"TH{k + 1:2d}" for k in range(n_thetas)], list(range(n_thetas))
    after_sigma = n_thetas + n_eps * (n_eps + 1) // 2
    for letters, n, start in (("OM", n_etas, after_sigma), ("SG", n_eps, n_thetas)):
        digits = 1 if n < 10 else 2
        for i in range(n):
            for j in range(i, n):
                labels.append(f"{letters}{i + 1:0{digits}d}{j + 1:0{digits}d}")
                positions.append(start + j * (j + 1) // 2 + i)
    return labels, positions


def _wrapped(fields: list[str], lead: str) -> list[str]:
    """Return ``fields`` 12 to a line; continuation lines stand one column further to the right."""
    lines = []
    for start in range(0, len(fields), _PER_LINE):
        left = lead if start == 0 else " " * (len(lead) + 1)
        lines.append(left + "".join(fields[start : start + _PER_LINE]))
    return lines


def _number(value: float) -> str:
    return exponent(value, 2).rjust(10)


def _plain(value: float) -> str:
    return _number(value if math.isfinite(value) else 0.0)


def _or_dots(value: float) -> str:
    return _number(value) if math.isfinite(value) else _ABSENT.rjust(10)
