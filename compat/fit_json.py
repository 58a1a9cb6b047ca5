"""``fit.json``: one run as data, versioned; and starting values read back from results.

Schema 1. Numbers have full precision; one that does not exist (no standard error, say) is ``null``.

================ ======================================================================================
key              value
================ ======================================================================================
schema           1
status           ``converged``, ``not_converged``, ``evaluated`` or ``failed``
message, remedy  how the run ended, and what to try where it did not end well
method           the method that ran, such as ``vae`` or ``focei``
ofv              objective as the method defines it, without the 2 pi constant
ofv_se           its Monte Carlo standard error (null: none)
minus_two_ll     ``method``: ofv with the constant, for methods whose objective is a likelihood;
                 ``importance_sampling``: value, se, ess_min, draws (or null); ``linearised``: value (or null)
minus_two_elbo   the VAE's own bound, constant included (null: another method)
bicc             corrected BIC (null: the method has no likelihood)
search           null, or of a deterministic search: stopped, evaluations, significant_digits, near_bound,
                 zero_gradient, running_off (the last three: names of parameters)
convergence      null, or of the test of a stochastic method: tested, converged, iterations, alpha
n_subjects       number of subjects
n_observations   number of observations
parameters       list of name (``THETA1``, ``SIGMA(1,1)``, ``OMEGA(2,1)``), label, value, se, fixed; elements
                 of omega and sigma outside all blocks are zero and not listed
selection        null without candidates, else: ``effects``: the chosen ones (parameter, covariate, form,
                 reference, level, theta, value, se, forced, bicc_change); ``candidates``: all of them, with
                 ``selected``; ``certificate``: null or solver, objective, bound, agrees. bicc_change is BICc
                 with this one effect toggled less the final BICc
covariance       null where standard errors were not asked for, else ``source``, ``condition_number`` (null:
                 none) and ``failure``: why there are none (empty: there are)
resampling       null, or of the estimates resampled by importance: ``draws``, ``effective_draws``, and
                 ``percentiles``: for each parameter those named in ``percents``
seconds          phase: wall-clock seconds; ``total`` of the step
seed             of all random numbers
warnings         list of texts
steps            one object per estimation step, with all keys above but ``schema``, ``n_*`` and ``steps``
                 (those above are the last step's)
versions         elbomix, python, torch, numpy
sha256           ``control_stream`` and ``data``: of the files as read (null: unknown)
================ ======================================================================================
"""

from __future__ import annotations

import hashlib
import json
import math
import platform
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from ..engine.estimate import is_fixed, names
from ..engine.estimate import labels as given_labels
from ..engine.fit import Fit
from ..engine.selection.outcome import EffectResult, Selection
from ..engine.uncertainty.sampling_importance_resampling import PERCENTILES, Resampling
from .files import write_whole
from .start_values import read_estimates, required_names

__all__ = ["SCHEMA", "fit_json", "read_estimates", "write_fit_json"]

SCHEMA = 1


def write_fit_json(fits: Sequence[Fit], path: Path) -> Path:
    """Write the steps ``fits`` of a run to ``path`` in the schema of this module."""
    return write_whole(path, json.dumps(fit_json(fits), indent=2, allow_nan=False) + "\n")


def fit_json(fits: Sequence[Fit]) -> dict[str, Any]:
    """Return the steps ``fits`` of a run in the schema of this module."""
    last = fits[-1]
    steps = [_step(fit) for fit in fits]
    whole = {
        "schema": SCHEMA,
        **steps[-1],
        "n_subjects": last.n_subjects,
        "n_observations": last.n_observations,
        "steps": steps,
        "versions": _versions(),
        "sha256": {
            "control_stream": last.base_model.source_sha256 or None,
            "data": _sha256(Path(last.data.path)),
        },
    }
    clean: dict[str, Any] = _clean(whole)
    return clean


def _step(fit: Fit) -> dict[str, Any]:
    sampled, linearised, search, test = fit.importance, fit.linearised, fit.search, fit.convergence
    return {
        "status": fit.status.code,
        "message": fit.status.message,
        "remedy": fit.status.remedy,
        "method": fit.method,
        "ofv": fit.ofv,
        "ofv_se": fit.objective_se,
        "minus_two_ll": {
            "method": fit.ofv + fit.constant if fit.has_likelihood else None,
            "importance_sampling": None
            if sampled is None
            else {
                "value": sampled.value,
                "se": sampled.se,
                "ess_min": np.min(sampled.ess),
                "draws": sampled.draws,
            },
            "linearised": None if linearised is None else {"value": linearised.value},
        },
        "minus_two_elbo": fit.minus_two_elbo,
        "bicc": fit.bicc,
        "search": None
        if search is None
        else {
            "stopped": search.stopped,
            "evaluations": search.evaluations,
            "significant_digits": search.significant_digits,
            "near_bound": list(search.near_bound),
            "zero_gradient": list(search.zero_gradient),
            "running_off": list(search.running_off),
        },
        "convergence": None
        if test is None
        else {
            "tested": test.tested,
            "converged": test.converged,
            "iterations": test.iterations,
            "alpha": test.alpha,
        },
        "parameters": _parameters(fit),
        "selection": None if fit.selection is None else _selection(fit.selection),
        "covariance": _covariance(fit),
        "resampling": None if fit.resampling is None else _resampling(fit, fit.resampling),
        "seconds": fit.seconds,
        "seed": fit.seed,
        "warnings": list(fit.warnings),
    }


def _resampling(fit: Fit, resampling: Resampling) -> dict[str, Any]:
    return {
        "draws": len(resampling.samples),
        "effective_draws": resampling.effective_draws,
        "percents": list(PERCENTILES),
        "percentiles": {
            name: [float(v) for v in column]
            for name, column in zip(names(fit.model), resampling.percentiles.T, strict=True)
            if name in required_names(fit.model)
        },
    }


def _covariance(fit: Fit) -> dict[str, Any] | None:
    if fit.uncertainty is None and not fit.covariance_failure:
        return None
    found = fit.uncertainty
    return {
        "source": None if found is None else found.source,
        "condition_number": None if found is None else found.condition_number,
        "failure": fit.covariance_failure,
    }


def _parameters(fit: Fit) -> list[dict[str, Any]]:
    all_names = names(fit.model)
    values = dict(zip(all_names, fit.estimate.flatten(), strict=True))
    fixed = dict(zip(all_names, is_fixed(fit.model), strict=True))
    errors = {} if fit.uncertainty is None else dict(zip(all_names, fit.uncertainty.se, strict=True))
    labels = given_labels(fit.model)
    wanted = required_names(fit.model)
    return [
        {
            "name": name,
            "label": labels.get(name, ""),
            "value": values[name],
            "se": errors.get(name, math.nan),
            "fixed": fixed[name],
        }
        for name in all_names
        if name in wanted
    ]


def _selection(selection: Selection) -> dict[str, Any]:
    certificate = selection.certificate
    return {
        "effects": [_effect(r) for r in selection.selected],
        "candidates": [{**_effect(r), "selected": r.selected} for r in selection.results],
        "certificate": None
        if certificate is None
        else {
            "solver": certificate.solver,
            "objective": certificate.objective,
            "bound": certificate.bound,
            "agrees": certificate.agrees,
        },
    }


def _effect(result: EffectResult) -> dict[str, Any]:
    effect = result.effect
    return {
        "parameter": effect.parameter,
        "covariate": effect.covariate,
        "form": effect.form,
        "reference": effect.reference,
        "level": effect.level,
        "theta": result.theta,
        "value": result.value,
        "se": result.se,
        "forced": result.forced,
        "bicc_change": result.bicc_change,
    }


def _versions() -> dict[str, str]:
    packages = {name: version(name) for name in ("elbomix", "torch", "numpy")}
    return {"elbomix": packages.pop("elbomix"), "python": platform.python_version(), **packages}


def _sha256(path: Path) -> str | None:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None


def _clean(value: Any) -> Any:
    """Return ``value`` in JSON's own types; a number that is not finite becomes None."""
    if isinstance(value, dict):
        return {key: _clean(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_clean(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
