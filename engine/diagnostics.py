"""Record-wise predictions and residuals, shrinkage: what tables and plots show."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from .estimate import Array, Estimate
from .failure import ModelFailure
from .fit import Individuals, Shrinkage
from .ir.model import Model
from .ir.statement import assignments
from .ir.task import labelled
from .objective.joint import Joint
from .objective.linearised import expand, weighted

RESIDUALS = ("PRED", "RES", "WRES", "CPRED", "CRES", "CWRES", "CPREDI", "CRESI", "CWRESI", "OBJI")


def check_tables(model: Model) -> None:
    """Raise :class:`ModelFailure` at the table that asks for an item there is no value for."""
    variables = {a.target.upper() for a in assignments((*model.individual, *model.observation.statements))}
    if model.observation.prediction is not None:
        variables.add(model.observation.prediction.upper())
    etas = {f"ETA{k + 1}" for k in range(model.n_etas)}
    for table in model.tables:
        for asked in table.items:
            item = labelled(asked)[1]
            known = item.upper() in variables | etas | set(RESIDUALS) or model.inputs.resolve(item)
            if not known:
                message = f"the table item {item} is not supported yet, or no such variable exists"
                raise ModelFailure(message, table.span, f"residuals and predictions: {', '.join(RESIDUALS)}")


@torch.no_grad()
def check_predictions(joint: Joint, start: Estimate) -> None:
    """Raise :class:`ModelFailure` at the first observation that has no likelihood for a typical subject."""
    theta, sigma = torch.from_numpy(start.theta), torch.from_numpy(start.sigma)
    eta = torch.zeros(1, joint.n_subjects, joint.model.n_etas, dtype=torch.float64)
    prediction = joint.decoder.predict(theta, eta, sigma)
    mean, variance = prediction.mean[0], prediction.variance[0]
    defined = torch.isfinite(mean) & torch.isfinite(variance) & (variance > 0)
    bad = torch.nonzero(joint.batch.observed & ~defined)
    if not len(bad):
        return
    subject, record = bad[0].tolist()
    data, row = joint.data, int(joint.batch.events.row[subject, record])
    f, v = float(mean[subject, record]), float(variance[subject, record])
    raise ModelFailure(
        f"{data.path}:{data.line[row]}: subject {data.ids[subject]:g}: this observation has no likelihood "
        f"at the initial estimates: prediction {f:g}, residual variance {v:g}",
        joint.model.observation.span,
        "proportional errors and logarithms need positive predictions: leave out observations before the "
        "first dose (MDV=1), add an additive error, or try other initial estimates",
    )


@torch.no_grad()
def record_table(
    joint: Joint, estimate: Estimate, ebe: Tensor, objective: Array
) -> tuple[pd.DataFrame, Array]:
    """Return the table of all records and IWRES of the observations (``"record eps"``).

    Variables of the model are those at the conditional modes ``ebe`` (id active); PRED, RES, WRES at
    eta = 0; CWRES takes the residual variance at eta = 0, CWRESI at the mode.
    """
    theta, omega, sigma = (torch.from_numpy(v) for v in (estimate.theta, estimate.omega, estimate.sigma))
    events, data = joint.batch.events, joint.data
    place = torch.from_numpy(events.row >= 0)
    rows = events.row[events.row >= 0]

    def by_record(values: Tensor) -> Array:
        shape = place.shape
        spread = values.expand(1, *shape)[0] if values.ndim == 3 else values.expand(shape)
        out = np.zeros(data.n_records)
        out[rows] = spread[place].double().numpy()
        return out

    observed = data.is_observation
    typical = joint.decoder.observe(
        joint.decoder.structure(theta, joint.full_eta(torch.zeros_like(ebe)[None])), theta, sigma, True
    )
    structure = joint.decoder.structure(theta, joint.full_eta(ebe[None]))
    individual = joint.decoder.observe(structure, theta, sigma, True)
    columns: dict[str, Array] = {}
    for name, value in individual.variables.items():
        if "@" not in name:
            columns[name.upper()] = by_record(value)
    columns.update({name.upper(): values for name, values in data.values.items()})
    for name in ("TIME", "AMT", "EVID", "MDV", "CMT", "RATE", "II", "ADDL", "SS"):
        columns.setdefault(name, data.event[name])
    for column in joint.model.inputs.columns:
        for alias in column.aliases:
            columns.setdefault(alias.upper(), data.values[column.name])
    full = joint.full_eta(ebe[None])[0]
    for k in range(joint.model.n_etas):
        columns[f"ETA{k + 1}"] = full[:, k].numpy()[data.subject]
    dv = _dv(joint)
    parameters = (theta, omega, sigma)
    zero = torch.zeros_like(ebe)
    first_order = expand(joint, parameters, zero)
    conditional = expand(joint, parameters, ebe, zero)
    interaction = expand(joint, parameters, ebe)
    columns["PRED"] = by_record(typical.mean)
    for letter, expansion in (("", first_order), ("C", conditional), ("CI", interaction)):
        head, tail = ("C" if letter else ""), ("I" if letter == "CI" else "")
        columns[f"{head}RES{tail}"] = by_record(expansion.residual)
        columns[f"{head}WRES{tail}"] = by_record(torch.where(joint.batch.observed, weighted(expansion), 0.0))
        if letter:
            columns[f"{head}PRED{tail}"] = np.where(
                observed, dv - columns[f"{head}RES{tail}"], columns["PRED"]
            )
    columns["OBJI"] = objective[data.subject]
    return pd.DataFrame(columns), _iwres(joint, individual.mean, individual.slopes, sigma)


def _dv(joint: Joint) -> Array:
    column = joint.model.inputs.with_role("dv")
    assert column is not None
    return joint.data.values[column.name]


def _iwres(joint: Joint, mean: Tensor, slopes: list[Tensor], sigma: Tensor) -> Array:
    """Return (y - ipred) / SD of each observation, in the column of every eps it has."""
    batch = joint.batch
    shape = mean.shape[1:]
    variance = torch.zeros(shape, dtype=torch.float64)
    spread = [s.expand(1, *shape)[0] for s in slopes]
    for k, a in enumerate(spread):
        for m, b in enumerate(spread):
            variance = variance + a * b * sigma[k, m]
    residual = (batch.dv - mean[0]) / variance.sqrt()
    kept = batch.observed
    return np.stack([torch.where(a != 0, residual, torch.nan)[kept].numpy() for a in spread], 1)


def shrinkage(estimate: Estimate, individuals: Individuals, iwres: Array) -> Shrinkage:
    """Return shrinkage of etas (from modes and from conditional variances) and of every eps, in per cent."""
    n = len(individuals.ebe)
    omega = np.diag(estimate.omega)
    safe = np.where(omega > 0, omega, 1.0)
    mean = individuals.ebe.mean(0)
    variance = individuals.ebe.var(0, ddof=1) if n > 1 else np.zeros_like(mean)
    share = np.where(omega > 0, variance / safe, 1.0)
    conditional = np.einsum("ikk->k", individuals.cond_cov) / n
    lost = np.where(omega > 0, np.clip(conditional / safe, 0.0, 1.0), 0.0)
    squares = [np.nanmean(column**2) if np.isfinite(column).any() else 1.0 for column in iwres.T]
    eps = np.array(squares)
    # NONMEM's conventions: n - 1 in the shrinkage of etas, n in their standard error, no mean taken off IWRES
    se = np.sqrt(individuals.ebe.var(0) / n)
    with np.errstate(divide="ignore", invalid="ignore"):
        z = np.where(se > 0, np.abs(mean) / np.where(se > 0, se, 1.0), 0.0)
    p = np.array([math.erfc(v / math.sqrt(2.0)) for v in z])
    return Shrinkage(
        eta_sd=100 * (1 - np.sqrt(share)),
        eta_var=100 * (1 - share),
        ebv_sd=100 * (1 - np.sqrt(1 - lost)),
        ebv_var=100 * lost,
        eps_sd=100 * (1 - np.sqrt(eps)),
        eps_var=100 * (1 - eps),
        etabar=mean,
        etabar_se=se,
        etabar_p=p,
    )
