"""How a step ended, in the words that readers of the report match, with shrinkage and constants."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from ...engine.fit import Fit
from ...engine.individuals import Shrinkage
from ...engine.objective.prior import PriorPenalty
from .lst_problem import plain_line
from .numbers import exponent, objective
from .shk import shrinkages
from .titles import EXPECTATION_METHODS, GRADIENT_METHODS

_REASONS = {
    "evaluations": [" DUE TO MAX. NO. OF FUNCTION EVALUATIONS EXCEEDED"],
    "rounding": [" DUE TO ROUNDING ERRORS (ERROR=134)"],
    "zero_gradient": [" DUE TO ZERO GRADIENT"],
    "runs_off": [" DUE TO PARAMETERS THAT RUN OFF TO INFINITY"],
    "infinite": [
        " DUE TO PROXIMITY OF NEXT ITERATION EST. TO A VALUE",
        " AT WHICH THE OBJ. FUNC. IS INFINITE (ERROR=137)",
    ],
}


def termination_lines(fit: Fit) -> list[str]:
    """Return the lines between ``#TERM:`` and ``#TERE:``."""
    outcome = _searched(fit) if fit.method in GRADIENT_METHODS else _iterated(fit)
    texts = [fit.status.message, fit.status.remedy, *(f"WARNING: {w}" for w in fit.warnings)]
    return [
        *outcome,
        *(plain_line(f" {text}") for text in texts if text),
        "",
        *_subpopulations(fit),
        "  ",
        *_constants(fit),
        "  ",
        *_likelihoods(fit),
        "  ",
    ]


def _searched(fit: Fit) -> list[str]:
    search = fit.search
    if search is None or search.stopped == "evaluated":
        return []
    head = ["0MINIMIZATION SUCCESSFUL"]
    if search.stopped != "converged":
        head = ["0MINIMIZATION TERMINATED", *_REASONS[search.stopped]]
    elif fit.status.code != "converged":
        head.append(" HOWEVER, PROBLEMS OCCURRED WITH THE MINIMIZATION.")
    head.append(f" NO. OF FUNCTION EVALUATIONS USED:{search.evaluations:9d}")
    digits = search.significant_digits
    if digits is None or not math.isfinite(digits):
        head.append(" NO. OF SIG. DIGITS UNREPORTABLE")
    else:
        head.append(f" NO. OF SIG. DIGITS IN FINAL EST.:{digits:5.1f}")
    if search.near_bound:
        head.append("0PARAMETER ESTIMATE IS NEAR ITS BOUNDARY")
        if search.stopped == "converged":
            head.append(" THIS MUST BE ADDRESSED BEFORE THE COVARIANCE STEP CAN BE IMPLEMENTED")
        head.append(f" NEAR A BOUND: {', '.join(search.near_bound)}")
    if search.running_off:
        head.append(f" RUNNING OFF: {', '.join(search.running_off)}")
    if search.zero_gradient:
        head.append(f" WITHOUT INFLUENCE: {', '.join(search.zero_gradient)}")
    return head


def _iterated(fit: Fit) -> list[str]:
    tested = fit.convergence is None or fit.convergence.tested
    if fit.status.code == "evaluated":
        return [" EXPECTATION ONLY PROCESS COMPLETED"]
    words = "WAS COMPLETED" if fit.status.code == "converged" else "WAS NOT COMPLETED"
    if not tested:
        words = "WAS NOT TESTED FOR CONVERGENCE"
    if fit.method == "saem":
        return [f" STOCHASTIC PORTION {words}", " REDUCED STOCHASTIC PORTION WAS COMPLETED"]
    return [f" OPTIMIZATION {words}"]


def _subpopulations(fit: Fit) -> list[str]:
    parts = shrinkages(fit)
    if fit.method in ("fo", "foi") and not fit.individuals.ebe.any():
        return []  # no conditional estimates were asked for
    if fit.subpopulations is None:
        return _shrinkage(*parts[0], with_test=True)
    lines = [
        " ETABAR IS THE ARITHMETIC MEAN OF THE ETA-ESTIMATES,",
        " AND SE IS THE ASSOCIATED STANDARD ERROR.",
    ]
    for number, (shrinkage, count) in enumerate(parts, start=1):
        lines += ["", f" SUBMODEL{number:5d}", " ", *_shrinkage(shrinkage, count, with_test=False)]
    return lines


def _shrinkage(shrinkage: Shrinkage, count: NDArray[np.int64], *, with_test: bool) -> list[str]:
    n_etas = len(shrinkage.etabar)
    lines = []
    if n_etas:
        if with_test:
            lines += [
                " ETABAR IS THE ARITHMETIC MEAN OF THE ETA-ESTIMATES,",
                " AND THE P-VALUE IS GIVEN FOR THE NULL HYPOTHESIS THAT THE TRUE MEAN IS 0.",
                "",
            ]
        lines += [
            *_values(" ETABAR:", shrinkage.etabar),
            *_values(" SE:", shrinkage.etabar_se),
            *_wrap(" N:", [f"{n:12d}" for n in count]),
            "",
        ]
        if with_test:
            lines += [*_values(" P VAL.:", shrinkage.etabar_p), ""]
        lines += [
            *_values(" ETASHRINKSD(%)", shrinkage.eta_sd),
            *_values(" ETASHRINKVR(%)", shrinkage.eta_var),
            *_values(" EBVSHRINKSD(%)", shrinkage.ebv_sd),
            *_values(" EBVSHRINKVR(%)", shrinkage.ebv_var),
        ]
        if shrinkage.relative_information is not None:
            lines += _values(" RELATIVEINF(%)", shrinkage.relative_information)
    return [
        *lines,
        *_values(" EPSSHRINKSD(%)", shrinkage.eps_sd),
        *_values(" EPSSHRINKVR(%)", shrinkage.eps_var),
    ]


def _constants(fit: Fit) -> list[str]:
    normal = fit.n_observations if fit.n_normal is None else fit.n_normal
    lines = [f" TOTAL DATA POINTS NORMALLY DISTRIBUTED (N):{normal:13d}"]
    lines += _with_constant("N*LOG(2PI)", fit.ofv, fit.constant)
    if fit.method in GRADIENT_METHODS | EXPECTATION_METHODS:
        active = np.diag(fit.estimate.omega) > 0
        effective = [count if part.effective is None else part.effective for part, count in shrinkages(fit)]
        etas = sum(int(count[active].sum()) for count in effective)
        lines += ["  ", f" TOTAL EFFECTIVE ETAS (NIND*NETA):{etas:30d}"]
        if fit.method == "saem":
            lines += _with_constant("NIND*NETA*LOG(2PI)", fit.ofv, etas * math.log(2 * math.pi))
    constant = (
        PriorPenalty(fit.model).constant if fit.model.prior is not None and fit.with_prior else math.nan
    )
    if math.isfinite(constant):
        lines += ["  ", *_with_constant("PRIOR", fit.ofv, constant)]
    return lines


def _with_constant(name: str, value: float, constant: float) -> list[str]:
    return [
        f" {name} CONSTANT TO OBJECTIVE FUNCTION: {objective(constant)}",
        f" OBJECTIVE FUNCTION VALUE WITHOUT CONSTANT: {objective(value)}",
        f" OBJECTIVE FUNCTION VALUE WITH CONSTANT:    {objective(value + constant)}",
        " REPORTED OBJECTIVE FUNCTION DOES NOT CONTAIN CONSTANT",
    ]


def _likelihoods(fit: Fit) -> list[str]:
    lines = []
    if fit.importance is not None:
        estimate = f"{fit.importance.value:.4f} (MONTE CARLO SE {fit.importance.se:.4f})"
        lines.append(f" -2 LOG LIKELIHOOD BY IMPORTANCE SAMPLING: {estimate}")
        lines.append(f" SMALLEST EFFECTIVE SAMPLE SIZE OF A SUBJECT: {np.min(fit.importance.ess):.1f}")
    if fit.linearised is not None:
        lines.append(f" -2 LOG LIKELIHOOD BY LINEARISATION: {fit.linearised.value:.4f}")
    if fit.objective_se is not None:
        lines.append(f" MONTE CARLO STANDARD ERROR OF THE OBJECTIVE: {fit.objective_se:.4f}")
    if math.isfinite(fit.bicc):
        lines.append(f" BICC: {fit.bicc:.4f}")
    return lines


def _values(label: str, values: NDArray[np.float64]) -> list[str]:
    return _wrap(label, [exponent(v if math.isfinite(v) else 0.0, 4).rjust(12) for v in values.tolist()])


def _wrap(label: str, fields: list[str]) -> list[str]:
    lines = [f"{label:<15s}{''.join(fields[:10])}"]
    return lines + [" " * 16 + "".join(fields[k : k + 10]) for k in range(10, len(fields), 10)]
