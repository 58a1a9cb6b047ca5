"""The ``.ext`` file: parameters and objective at every iteration, then the final rows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from ...engine.estimate import Estimate, is_fixed
from ...engine.fit import Fit
from ...engine.ir.model import Model
from ...engine.iteration import Iteration
from ..files import write_whole
from .file_layout import FileLayout, block, layout_of, parameter_order
from .iterations import printed, project, row_numbers
from .titles import (
    GRADIENT_METHODS,
    fit_line,
    goal,
    label_line,
    method_title,
    objective_label,
    table_line,
    triangle,
)

Array = NDArray[np.float64]
Row = tuple[int, Array, float]  # number, values of the parameters, objective

FINAL = -1000000000
_PACKED = frozenset({FINAL - 2, FINAL - 3, FINAL - 7})  # rows that hold no values of parameters
NOT_ESTIMATED = 1e10  # in rows of standard errors
_STATUS = {"converged": 0.0, "not_converged": 1.0, "evaluated": 2.0, "failed": 1.0}
# the two numbers that stand for how a search ended
_SEARCH = {
    "converged": (0.0, 37.0),
    "evaluated": (0.0, 0.0),
    "evaluations": (131.0, 50.0),
    "rounding": (134.0, 50.0),
    "zero_gradient": (136.0, 50.0),
    "runs_off": (134.0, 50.0),  # there is no number of its own: as where digits are lost
    "infinite": (137.0, 50.0),
}


class ExtStream:
    """An observer that appends each iteration to an ``.ext`` file as it comes.

    Every row is one unbuffered write, so a killed run leaves a file that readers take for an interrupted
    one. The columns are those of the run model (first iteration of a step), which has a theta for each
    candidate effect. Of the VAE ``burn_in`` is the largest number of burn-in iterations that can come: the
    rows count up from -``burn_in`` and leap to 0 where the burn-in ends. :func:`write_ext` replaces the
    file.
    """

    def __init__(self, path: Path, model: Model, burn_in: int = 10_000) -> None:
        self._file = path.open("wb", buffering=0)
        self._n_etas, self._n_eps = model.n_etas, model.n_eps
        self._burn_in = burn_in
        self._next = -burn_in
        self._step = 0
        self._n_thetas = 0

    def __call__(
        self, number: int, method: str, evaluate_only: bool, iteration: Iteration, with_prior: bool = True
    ) -> None:
        """Append the row of ``iteration`` of step ``number``, if all its numbers are finite."""
        estimate = iteration.estimate
        if number != self._step:
            self._begin(number, method, method_title(method, evaluate_only, with_prior), len(estimate.theta))
        assert len(estimate.theta) == self._n_thetas, "an iteration with another number of thetas"
        if iteration.phase != "burn-in":
            self._next = max(self._next, 0)
        if is_printable(iteration):
            shown = self._next if method == "vae" else iteration.number
            layout = FileLayout()
            row = layout.line(_fields(shown, estimate.flatten(), iteration.objective, layout))
            self._file.write((row + "\n").encode())
            self._next += 1

    def _begin(self, number: int, method: str, named: str, n_thetas: int) -> None:
        self._step, self._n_thetas, self._next = number, n_thetas, -self._burn_in
        labels = parameter_labels(n_thetas, self._n_eps, self._n_etas)
        title = table_line(number, named, goal(method))
        columns = label_line(["ITERATION", *labels, objective_label(method)])
        self._file.write(f"{title}\n{columns}\n".encode())

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __enter__(self) -> ExtStream:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def parameter_labels(n_thetas: int, n_eps: int, n_etas: int) -> list[str]:
    """Return the column labels of all parameters: THETAs, SIGMAs, OMEGAs."""
    thetas = [f"THETA{i + 1}" for i in range(n_thetas)]
    return [*thetas, *triangle("SIGMA", n_eps), *triangle("OMEGA", n_etas)]


def write_ext(fits: Sequence[Fit], path: Path) -> Path:
    """Write the whole ``.ext`` file of a run, a block for each step; iterations projected on the final model.

    A step whose objective is not finite gets no final rows: readers then report it as interrupted.
    """
    lines: list[str] = []
    for fit in fits:
        layout = layout_of(fit)
        order = parameter_order(fit, layout)
        labels = parameter_labels(len(fit.model.thetas), fit.model.n_eps, fit.model.n_etas)
        columns = ["ITERATION", *(labels[k] for k in order), objective_label(fit.method)]
        rows = [_fields(n, values[order], value, layout) for n, values, value in _iteration_rows(fit)]
        if math.isfinite(fit.ofv):
            for n, values, value in _final_rows(fit, len(labels)):
                own = values if n in _PACKED else values[order]
                rows.append(_fields(n, own, value, layout))
        lines += block(layout, fit_line(fit, with_goal=True), columns, rows)
    return write_whole(path, "\n".join(lines) + "\n")


def _iteration_rows(fit: Fit) -> list[Row]:
    numbers = row_numbers(fit)
    shown = [k for k in printed(fit) if is_printable(fit.history[k])]
    rows = [
        (numbers[k], project(fit, fit.history[k]).estimate.flatten(), fit.history[k].objective) for k in shown
    ]
    # readers take the last iteration for the final one and compare the two objectives
    if math.isfinite(fit.ofv) and not (shown and fit.history[shown[-1]].objective == fit.ofv):
        rows.append((max([*numbers, -1]) + 1, fit.estimate.flatten(), fit.ofv))
    return rows


def _final_rows(fit: Fit, n: int) -> list[Row]:
    rows: list[Row] = [(FINAL, fit.estimate.flatten(), fit.ofv)]
    if fit.uncertainty is not None:
        rows.append((FINAL - 1, _or_not_estimated(fit.uncertainty.se), 0.0))
        if fit.model.covariance is not None and fit.model.covariance.print_eigenvalues:
            eigenvalues = fit.uncertainty.eigenvalues
            rows.append((FINAL - 2, _packed(eigenvalues, n), 0.0))
            extremes = [fit.uncertainty.condition_number, eigenvalues[0], eigenvalues[-1]]
            rows.append((FINAL - 3, _packed(np.array(extremes), n), 0.0))
    rows.append((FINAL - 4, sd_and_correlations(fit.estimate), 0.0))
    if fit.uncertainty is not None:
        se = sd_and_correlation_errors(fit.estimate, fit.uncertainty.covariance)
        se[: len(fit.model.thetas)] = 0.0
        rows.append((FINAL - 5, _or_not_estimated(se), 0.0))
    rows.append((FINAL - 6, is_fixed(fit.model).astype(float), 0.0))
    rows.append((FINAL - 7, _packed(np.array(_termination(fit)), n), 0.0))
    if fit.score is not None and np.isfinite(fit.score).all():
        rows.append((FINAL - 8, fit.score, 0.0))
    return rows


def _termination(fit: Fit) -> tuple[float, float]:
    if fit.method in GRADIENT_METHODS and fit.search is not None:
        return _SEARCH[fit.search.stopped]
    if fit.convergence is not None and not fit.convergence.tested:
        return 2.0, 0.0
    return _STATUS[fit.status.code], 0.0


def sd_and_correlations(estimate: Estimate) -> Array:
    """Return SDs (diagonal) and correlations of sigma and omega in parameter order, thetas 0."""
    parts = [np.zeros(len(estimate.theta))]
    for full in (estimate.sigma, estimate.omega):
        sd = np.sqrt(np.diag(full))
        scale = np.outer(sd, sd)
        values = np.divide(full, scale, out=np.zeros_like(full), where=scale > 0)
        np.fill_diagonal(values, sd)
        parts.append(values[np.tril_indices(len(full))])
    return np.concatenate(parts)


def sd_and_correlation_errors(estimate: Estimate, covariance: Array) -> Array:
    """Return the standard errors of :func:`sd_and_correlations` by the delta method.

    NaN stands where an element is not estimated (its variance in ``covariance`` is zero).
    """
    errors = np.full(len(covariance), np.nan)
    start = len(estimate.theta)
    for full in (estimate.sigma, estimate.omega):
        position = {(i, j): start + k for k, (i, j) in enumerate(_triangle_indices(len(full)))}
        for (i, j), here in position.items():
            a, b, c = full[i, i], full[j, j], full[i, j]
            if covariance[here, here] <= 0 or a <= 0 or b <= 0:
                continue
            gradient = np.zeros(len(covariance))
            if i == j:
                gradient[here] = 0.5 / math.sqrt(a)
            else:
                root = math.sqrt(a * b)
                gradient[here] = 1 / root
                gradient[position[i, i]] = -0.5 * c / (root * a)
                gradient[position[j, j]] = -0.5 * c / (root * b)
            errors[here] = math.sqrt(max(float(gradient @ covariance @ gradient), 0.0))
        start += len(position)
    return errors


def _triangle_indices(n: int) -> list[tuple[int, int]]:
    return [(i, j) for i in range(n) for j in range(i + 1)]


def is_printable(iteration: Iteration) -> bool:
    """Return whether all numbers of ``iteration`` are finite."""
    return math.isfinite(iteration.objective) and bool(np.isfinite(iteration.estimate.flatten()).all())


def _or_not_estimated(errors: Array) -> Array:
    return np.where(np.isfinite(errors), errors, NOT_ESTIMATED)


def _packed(values: Array, n: int) -> Array:
    packed = np.zeros(n)
    kept = min(len(values), n)
    packed[:kept] = values[:kept]
    return packed


def _fields(number: int, values: Array, value: float, layout: FileLayout) -> list[str]:
    return [layout.first(number), *layout.reals(values), layout.objective(value)]
