"""Candidate covariate effects: which covariates, on which parameters, in which form, from which reference."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ..ir.dataset import DataSet
from ..ir.effects import Effect, Form
from ..ir.model import Model
from ..ir.mu import MuReference, mu_references

Array = NDArray[np.float64]
Reference = Literal["mean", "median"] | float | None

MOST_LEVELS = 5  # a covariate of at most this many whole numbers is taken as categorical


OTHER_NAMES = {
    "KE": "K",
    "KEL": "K",
    "K10": "K",
}  # the elimination rate constant, which control streams call K


class CandidateError(ValueError):
    """What is wrong with the requested candidates, and what to do about it."""


@dataclass(frozen=True)
class CovariateSpec:
    """A requested covariate: its name, form and reference (None: by the rules of :func:`make_candidates`)."""

    name: str
    form: Form | None = None
    reference: Reference = None


def make_candidates(
    model: Model, data: DataSet, specs: Sequence[CovariateSpec], on: Sequence[str] | None = None
) -> tuple[Effect, ...]:
    """Return every candidate effect, parameter by parameter, covariates in the order of ``specs``.

    ``on`` names the parameters (default: every mu-referenced one; KE and KEL are understood as K). A
    covariate without a form is categorical where its subjects have at most five values, all whole; else
    linear where the parameter has an identity link, power where all values are positive, exp where not.
    The reference is the mean over subjects, of a categorical covariate the smallest level; each other
    level is one effect.

    Raises
    ------
    CandidateError
        Where a name is unknown, values are missing or change within a subject, or a form does not fit.
    """
    parameters = _parameters(model, on)
    effects: list[Effect] = []
    covariates = [(spec, *_covariate(model, data, spec.name)) for spec in specs]
    names = [name for _, name, _ in covariates]
    for name in names:
        if names.count(name) > 1:
            raise CandidateError(f"The covariate {name} is listed twice: give it one form.")
    for parameter in parameters:
        for spec, name, values in covariates:
            effects += _effects(parameter, spec, name, values)
    return tuple(effects)


def _parameters(model: Model, on: Sequence[str] | None) -> list[MuReference]:
    known = {r.parameter.upper(): r for r in mu_references(model)}
    if not known:
        raise CandidateError(
            "No parameter can take covariate effects: no random effect is mu-referenced. "
            "Write parameters as TVCL*EXP(ETA(1)) or MU_1+ETA(1), each random effect in one of them."
        )
    if on is None:
        return list(known.values())
    chosen: list[MuReference] = []
    for name in on:
        reference = known.get(name.upper()) or known.get(OTHER_NAMES.get(name.upper(), ""))
        if reference is None:
            raise CandidateError(
                f"{name} is no parameter that can take covariate effects{_nearest(name, known)}. "
                f"Those with a mu-referenced random effect are: {', '.join(known)}."
            )
        if reference not in chosen:
            chosen.append(reference)
    return chosen


def _covariate(model: Model, data: DataSet, name: str) -> tuple[str, Array]:
    """Return the column's own name and its value for each subject."""
    usable = [c for c in model.inputs.columns if c.role == "covariate"]
    column = next(
        (c for c in usable if name.upper() in (c.name.upper(), *(a.upper() for a in c.aliases))), None
    )
    if column is None:
        names = [c.name for c in usable]
        found = model.inputs.resolve(name)
        if found is not None:
            problem = f"{found.name} is no covariate: it is the {found.role.upper()} column."
        elif any(c.name.upper() == name.upper() for c in model.inputs.columns):
            problem = f"The column {name} is dropped: keep it in $INPUT."
        else:
            problem = f"There is no covariate {name}{_nearest(name, names)}."
        raise CandidateError(f"{problem} Covariates of {data.path}: {', '.join(names) or 'none'}.")
    values = data.values[column.name]
    missing = np.isnan(values)
    if column.name in data.missing:
        missing |= data.missing[column.name]
    if missing.any():
        raise CandidateError(
            f"Covariate {column.name} has missing values: {_places(data, missing)}. "
            "Impute them in the data set or leave the covariate out."
        )
    _, first = np.unique(data.subject, return_index=True)
    by_subject = values[first]
    changes = values != by_subject[data.subject]
    if changes.any():
        raise CandidateError(
            f"Covariate {column.name} changes within a subject: {_places(data, changes)}. "
            "Only covariates that are constant within a subject can be selected."
        )
    return column.name, by_subject


def _effects(parameter: MuReference, spec: CovariateSpec, name: str, values: Array) -> list[Effect]:
    form = spec.form or _default_form(values, parameter)
    levels = np.unique(values)
    if len(levels) < 2:
        raise CandidateError(f"Covariate {name} is {levels[0]:g} in every subject: it has no effect to find.")
    here = f"{parameter.parameter}~{name}"
    if form == "cat":
        return _categorical(parameter, spec, name, levels)
    if form == "linear" and parameter.link != "identity":
        raise CandidateError(
            f"{here}: a linear effect does not fit a parameter with a {parameter.link} link, where effects "
            f"act on the {parameter.link} scale. Use {name}:exp, which multiplies by "
            f"exp(beta*({name}-reference))."
        )
    if form == "power" and levels[0] <= 0:
        raise CandidateError(
            f"{here}: a power effect needs positive values; the smallest is {levels[0]:g}. Use {name}:exp."
        )
    reference = spec.reference
    if reference is None or reference == "mean":
        reference = float(values.mean())
    elif reference == "median":
        reference = float(np.median(values))
    assert not isinstance(reference, str)
    if form == "power" and reference <= 0:
        raise CandidateError(f"{here}: the reference of a power effect must be positive, not {reference:g}.")
    return [Effect(parameter.parameter, parameter.eta, name, form, reference)]


def _categorical(parameter: MuReference, spec: CovariateSpec, name: str, levels: Array) -> list[Effect]:
    here = f"{parameter.parameter}~{name}"
    shown = ", ".join(f"{v:g}" for v in levels[:8]) + (", ..." if len(levels) > 8 else "")
    if (levels != np.round(levels)).any():
        raise CandidateError(
            f"{here}: a categorical covariate needs whole numbers as codes, and has {shown}. "
            "Recode it, or use the form power or exp."
        )
    reference = spec.reference
    if isinstance(reference, str):
        raise CandidateError(
            f"{here}: {reference} is no reference of a categorical covariate. Name a level: {shown}."
        )
    reference = float(levels[0]) if reference is None else float(reference)
    if reference not in levels:
        raise CandidateError(f"{here}: the reference level {reference:g} does not occur. Levels: {shown}.")
    return [
        Effect(parameter.parameter, parameter.eta, name, "cat", reference, float(level))
        for level in levels
        if level != reference
    ]


def _default_form(values: Array, parameter: MuReference) -> Form:
    levels = np.unique(values)
    if len(levels) <= MOST_LEVELS and (levels == np.round(levels)).all():
        return "cat"
    if parameter.link == "identity":
        return "linear"
    return "power" if (values > 0).all() else "exp"


def _places(data: DataSet, where: NDArray[np.bool_]) -> str:
    """Return "subjects 3, 7 (3 records, the first in line 12 of data.csv)"."""
    subjects = [f"{data.ids[s]:g}" for s in np.unique(data.subject[where])]
    shown = ", ".join(subjects[:10]) + (f" and {len(subjects) - 10} more" if len(subjects) > 10 else "")
    records = np.flatnonzero(where)
    count = f"{len(records)} record{'s' * (len(records) > 1)}"
    where_first = f"line {data.line[records[0]]} of {data.path}"
    return f"subject{'s' * (len(subjects) > 1)} {shown} ({count}, the first in {where_first})"


def _nearest(name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(name.upper(), [k.upper() for k in known], n=1)
    return f" (did you mean {close[0]}?)" if close else ""
