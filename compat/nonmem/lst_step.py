"""The section of one estimation step in the report: method, course of the search, how it ended, times."""

from __future__ import annotations

import math

import numpy as np

from ...engine.estimate import Estimate, is_fixed, is_repeated
from ...engine.fit import Fit
from ...engine.iteration import Iteration
from .iterations import printed, project, row_numbers
from .lst_problem import plain_line
from .lst_termination import termination_lines
from .numbers import exponent, objective
from .titles import EXPECTATION_METHODS, GRADIENT_METHODS, fit_title

UNCERTAINTY_PHASES = ("uncertainty", "covariance", "standard errors")
_MONITORED_ROWS = 60
_PER_LINE = 9


def method_lines(fit: Fit) -> list[str]:
    """Return the head of the section: what was run and how."""
    lines = [f" #TBLN:{fit.number:7d}", f" #METH: {fit_title(fit)}", ""]
    if fit.method in GRADIENT_METHODS | EXPECTATION_METHODS:
        lines += _classical_options(fit)
    lines.append(f" METHOD: {fit.method.upper()}")
    if fit.search is None:  # a search draws no numbers
        lines.append(f" SEED: {fit.seed}")
    lines += [plain_line(f" {name.upper().replace('_', ' ')}: {value}") for name, value in _settings(fit)]
    if fit.importance is not None:
        lines.append(f" IMPORTANCE SAMPLES PER SUBJECT FOR THE OBJECTIVE: {fit.importance.draws}")
    return lines


def _settings(fit: Fit) -> list[tuple[str, object]]:
    """Return the settings of the method, those of its parts under the names of both."""
    found: list[tuple[str, object]] = []
    for name, value in fit.settings.items():
        if isinstance(value, dict):
            found += [(f"{name}_{inner}", content) for inner, content in value.items()]
        elif name != "seed":
            found.append((name, value))
    return found


def _classical_options(fit: Fit) -> list[str]:
    def answer(value: bool) -> str:
        return "YES" if value else "NO"

    method = fit.method
    interaction = method in ("foi", "focei", "laplacei", "agq", *EXPECTATION_METHODS)
    lines = [
        f" ESTIMATION STEP OMITTED:                 {answer(fit.status.code == 'evaluated')}",
        " ANALYSIS TYPE:                           POPULATION",
        f" CONDITIONAL ESTIMATES USED:              {answer(method not in ('fo', 'foi'))}",
        f" EPS-ETA INTERACTION:                     {answer(interaction)}",
        f" LAPLACIAN OBJ. FUNC.:                    {answer(method in ('laplace', 'laplacei'))}",
    ]
    if fit.model.levels:
        lines.append(" NESTED LEVEL MAPS:")
    for level in fit.model.levels:
        pairs = ",".join(f"{outer}[{inner}]" for outer, inner in level.pairs)
        lines.append(f"  {level.column}=({pairs})")
    return lines


def monitoring_lines(fit: Fit) -> list[str]:
    """Return how the search went, iteration by iteration."""
    lines = ["", " MONITORING OF SEARCH:", ""]
    if fit.method in GRADIENT_METHODS:
        return [*lines, *_gradient_monitor(fit), ""]
    return [*lines, *_stochastic_monitor(fit), ""]


def _stochastic_monitor(fit: Fit) -> list[str]:
    shown = printed(fit)
    step = max(1, -(-len(shown) // _MONITORED_ROWS)) if fit.method == "vae" else 1
    numbers = row_numbers(fit)
    label = "SAEMOBJ=" if fit.method == "saem" else "OBJ="
    lines, phase = [], ""
    for position, k in enumerate(shown):
        iteration = fit.history[k]
        if not math.isfinite(iteration.objective) or (position % step and position != len(shown) - 1):
            continue
        value = objective(iteration.objective).strip()
        tail = f" phase={iteration.phase}" if fit.method == "vae" else ""
        if fit.method == "saem" and iteration.phase != phase:
            phase = iteration.phase
            lines.append(f" {phase.capitalize()}")
        lines.append(f" iteration {numbers[k]:12d}  {label}   {value}{tail}")
    return lines


def _gradient_monitor(fit: Fit) -> list[str]:
    numbers = row_numbers(fit)
    gradients = np.zeros((0, 0)) if fit.search is None else fit.search.gradients
    free = _searched(fit)
    lines = []
    for k in printed(fit):
        iteration: Iteration = project(fit, fit.history[k])
        if not math.isfinite(iteration.objective):
            continue
        value = objective(iteration.objective).strip()
        lines.append(f"0ITERATION NO.:{numbers[k]:5d}    OBJECTIVE VALUE:{value:>19s}")
        lines += _numbers(" NPARAMETR:", _in_search_order(iteration.estimate)[free])
        if k < len(gradients):
            lines += _numbers(" GRADIENT: ", gradients[k])
        lines.append("")
    if fit.search is not None:
        lines.append(f" CUMULATIVE NO. OF FUNC. EVALS.:{fit.search.evaluations:9d}")
    return lines


def _in_search_order(estimate: Estimate) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    lower = [full[np.tril_indices(len(full))] for full in (estimate.omega, estimate.sigma)]
    return np.concatenate([estimate.theta, *lower])


def _searched(fit: Fit) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """Return True for every searched parameter, in the order THETA, OMEGA, SIGMA."""
    free = ~is_fixed(fit.model) & ~is_repeated(fit.model)
    n_thetas, n_eps = len(fit.model.thetas), fit.model.n_eps
    after = n_thetas + n_eps * (n_eps + 1) // 2
    return np.concatenate([free[:n_thetas], free[after:], free[n_thetas:after]])


def _numbers(label: str, values: np.ndarray[tuple[int], np.dtype[np.float64]]) -> list[str]:
    fields = [exponent(v if math.isfinite(v) else 0.0, 4).rjust(12) for v in values.tolist()]
    lines = [label + "".join(fields[:_PER_LINE])]
    rest = range(_PER_LINE, len(fields), _PER_LINE)
    return lines + [" " * len(label) + "".join(fields[k : k + _PER_LINE]) for k in rest]


def outcome_lines(fit: Fit) -> list[str]:
    """Return how the step ended, its shrinkage, constants and times."""
    if fit.status.code == "failed":
        texts = [fit.status.message, fit.status.remedy, *(f"WARNING: {w}" for w in fit.warnings)]
        said = [plain_line(f" {text}") for text in texts if text]
        return ["0PROGRAM TERMINATED BY OBJ", " MESSAGE ISSUED FROM ESTIMATION STEP", *said]
    return [" #TERM:", *termination_lines(fit), " #TERE:", *_elapsed(fit)]


def _elapsed(fit: Fit) -> list[str]:
    uncertainty = sum(s for phase, s in fit.seconds.items() if phase in UNCERTAINTY_PHASES)
    apart = ("total", "compile", "diagnostics") if fit.method != "vae" else ("total",)
    estimation = sum(s for phase, s in fit.seconds.items() if phase not in apart) - uncertainty
    lines = [f" Elapsed estimation  time in seconds: {estimation:8.2f}"]
    tried = fit.covariance_failure or (fit.model.covariance is not None and fit.method == "vae")
    if fit.uncertainty is None and not tried:
        return lines
    lines += _of_matrices(fit)
    if fit.uncertainty is not None:
        lines.append(plain_line(f" STANDARD ERRORS FROM: {fit.uncertainty.source}"))
    elif fit.covariance_failure:
        lines.append(plain_line(f" {fit.covariance_failure}"))
    if fit.uncertainty is not None or fit.information is not None:
        lines.append(f" Elapsed covariance  time in seconds: {uncertainty:8.2f}")
    return lines


def _of_matrices(fit: Fit) -> list[str]:
    """Return what the covariance step says of R and S, in the words that readers of the report match."""
    found, aborted = fit.information, ["0COVARIANCE STEP ABORTED"]
    if found is None:
        return aborted if fit.uncertainty is None else []
    of_s = {
        "singular": ["0S MATRIX ALGORITHMICALLY SINGULAR", "0S MATRIX IS OUTPUT"],
        "unobtainable": ["0S MATRIX UNOBTAINABLE"],
    }.get(found.s_state, [])
    if fit.uncertainty is not None:
        pseudo = "0INVERSE COVARIANCE MATRIX SET TO RS*RMAT, WHERE S* IS A PSEUDO INVERSE OF S"
        return [*of_s, pseudo] if found.s_state == "singular" and found.r is not None else of_s
    singular = "0R MATRIX ALGORITHMICALLY SINGULAR"
    unobtainable = "0COVARIANCE MATRIX UNOBTAINABLE"
    shown = "0R MATRIX IS OUTPUT"
    if found.r_state == "singular":
        return [singular, unobtainable, shown, *of_s]
    if found.r_state in ("sound", "not_computed"):
        return [*of_s[:1], unobtainable]
    of_r = {
        "indefinite": ["0R MATRIX ALGORITHMICALLY NON-POSITIVE-SEMIDEFINITE", " BUT NONSINGULAR", shown],
        "singular_indefinite": [singular, " AND ALGORITHMICALLY NON-POSITIVE-SEMIDEFINITE", shown],
    }.get(found.r_state, ["0R MATRIX UNOBTAINABLE"])
    return [*of_r, *of_s, *aborted]
