"""Synthetic runs that agree with themselves: control stream, data, and a Fit as the engine returns it."""

from __future__ import annotations

import hashlib
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from elbomix.engine.estimate import Estimate, initial, is_fixed
from elbomix.engine.fit import Fit
from elbomix.engine.individuals import Individuals, Shrinkage
from elbomix.engine.ir.dataset import DataSet, InputColumn, Inputs, Role
from elbomix.engine.ir.effects import Effect
from elbomix.engine.ir.model import Model
from elbomix.engine.ir.observation import ObservationModel
from elbomix.engine.ir.parameter import CovarianceBlock, ThetaParameter
from elbomix.engine.ir.task import CovarianceTask, EstimationTask, TableTask
from elbomix.engine.iteration import Iteration, Status
from elbomix.engine.likelihood import ImportanceLikelihood, LinearisedLikelihood
from elbomix.engine.selection.outcome import Certificate, EffectResult, Selection
from elbomix.engine.uncertainty.standard_errors import Uncertainty

Array = NDArray[np.float64]

TIMES = (0.0, 0.25, 0.5, 1.0, 2.0, 3.5, 5.0, 7.0, 9.0, 12.0, 24.0)
N_SUBJECTS = 12

BASE_CODE = """\
$PROBLEM Theophylline, one compartment
$INPUT ID TIME AMT DV MDV WT SEX
$DATA theo.csv IGNORE=@
$SUBROUTINES ADVAN2 TRANS1
$PK
KA=THETA(1)*EXP(ETA(1))
K=THETA(2)*EXP(ETA(2))
V=THETA(3)*EXP(ETA(3))
S2=V
$ERROR
IPRED=F
Y=F+EPS(1)
$THETA (0,1.5) ; KA
$THETA (0,0.08) ; K
$THETA (0,32) ; V
$OMEGA 0.4 0.02 0.01
$SIGMA 0.5
$ESTIMATION METHOD=IMP NITER=50
$COVARIANCE PRINT=E
$TABLE ID TIME DV MDV IPRED CWRES ONEHEADER NOPRINT FILE=sdtab001
$TABLE ID KA K V ETA1 ETA2 ETA3 FIRSTONLY NOAPPEND NOPRINT ONEHEADER FILE=patab001
"""

SELECTED_CODE = (
    BASE_CODE.replace("KA=THETA(1)*EXP(ETA(1))", "KA=THETA(1)*(WT/70)**THETA(5)*EXP(ETA(1))")
    .replace("V=THETA(3)*EXP(ETA(3))", "V=THETA(3)*THETA(4)*(WT/70)**THETA(6)*EXP(ETA(3))")
    .replace(
        "; V\n$OMEGA 0.4 0.02 0.01", "; V\n$THETA 1 FIX\n$THETA 2\n$THETA 1\n$OMEGA 0.4\n$OMEGA BLOCK(2)\n"
    )
    .replace("BLOCK(2)\n\n", "BLOCK(2)\n 0.02\n 0.005 0.01\n")
)

TABLES = (
    TableTask(
        ("ID", "TIME", "DV", "MDV", "IPRED", "CWRES"), "sdtab001", headers="once", print_in_report=False
    ),
    TableTask(
        ("ID", "KA", "K", "V", "ETA1", "ETA2", "ETA3"),
        "patab001",
        headers="once",
        rows="first",
        appended=False,
        print_in_report=False,
    ),
)


def theophylline_fit(folder: Path) -> Fit:
    """Three thetas, three diagonal etas, one eps; control stream and data are written to ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    data = _data(folder / "theo.csv")
    (folder / "run001.mod").write_text(BASE_CODE)
    model = _model(folder, BASE_CODE)
    estimate = Estimate(
        np.array([1.61234567, 0.0871234567, 31.9123456]),
        np.diag([0.41234567, 0.0201234567, 0.0123456789]),
        np.array([[0.5123456789]]),
    )
    run_estimates = [_between(initial(model), estimate, k / 40) for k in range(41)]
    return _fit(model, model, data, estimate, run_estimates, None)


def selection_fit(folder: Path) -> Fit:
    """A block of two etas, a fixed theta, and 2 of 6 candidate effects chosen (the first and fifth)."""
    folder.mkdir(parents=True, exist_ok=True)
    data = _data(folder / "theo.csv")
    (folder / "run001.mod").write_text(SELECTED_CODE)
    blocks = (CovarianceBlock(1, 1, (0.4,)), CovarianceBlock(2, 2, (0.02, 0.005, 0.01)))
    fixed = ThetaParameter("THETA4", 1.0, fixed=True)
    base = _model(folder, SELECTED_CODE)
    base = base.replace(thetas=(*base.thetas, fixed), omega=blocks)
    added = (ThetaParameter("THETA5", 2.0, label="KA~WT"), ThetaParameter("THETA6", 1.0, label="V~WT"))
    model = base.replace(thetas=(*base.thetas, *added))
    omega = np.array([[0.41, 0.0, 0.0], [0.0, 0.021, 0.0052], [0.0, 0.0052, 0.011]])
    estimate = Estimate(np.array([1.6, 0.087, 31.9, 1.0, 2.5432, 0.8123]), omega, np.array([[0.512]]))
    results = _candidates()
    run_estimates = []
    for k in range(41):
        part = _between(initial(model), estimate, k / 40)
        candidates = np.zeros(6)
        candidates[0], candidates[4] = part.theta[4], part.theta[5]
        candidates[2] = 0.3 if k < 10 else 0.0
        run_estimates.append(replace(part, theta=np.concatenate([part.theta[:4], candidates])))
    path = pd.DataFrame(
        [e.theta[4:] for e in run_estimates],
        columns=[str(r.effect) for r in results],
        index=pd.MultiIndex.from_tuples([(_phase(k), k) for k in range(41)], names=["phase", "iteration"]),
    )
    selection = Selection(results, path, Certificate("HiGHS", 12.5, 12.5, True))
    return _fit(base, model, data, estimate, run_estimates, selection)


def _candidates() -> tuple[EffectResult, ...]:
    results = []
    for eta, parameter in enumerate(("KA", "K", "V"), start=1):
        weight = Effect(parameter, eta, "WT", "power", 70.0)
        sex = Effect(parameter, eta, "SEX", "cat", 0.0, level=1.0)
        chosen = {"KA": 5, "V": 6}.get(parameter)
        value = {"KA": 2.5432, "V": 0.8123}.get(parameter, math.nan)
        results.append(EffectResult(weight, chosen is not None, value, 0.3, chosen, 4.25))
        results.append(EffectResult(sex, False, math.nan, math.nan, None, 2.5))
    return tuple(results)


def _data(path: Path) -> DataSet:
    generator = np.random.default_rng(7)
    rows = []
    for k in range(N_SUBJECTS):
        weight = 60.0 + 2 * k
        ka = 1.6 * math.exp(0.5 * generator.standard_normal())
        for time in TIMES:
            mean = 320 / 32 * ka / (ka - 0.087) * (math.exp(-0.087 * time) - math.exp(-ka * time))
            dose = time == 0
            dv = 0.0 if dose else round(mean + 0.5 * generator.standard_normal(), 2)
            rows.append((101 + k, time, 320.0 if dose else 0.0, dv, float(dose), weight, float(k % 2)))
    columns = ("ID", "TIME", "AMT", "DV", "MDV", "WT", "SEX")
    frame = pd.DataFrame(rows, columns=list(columns))
    frame.to_csv(path, index=False)
    zero = np.zeros(len(frame))
    values = {name: frame[name].to_numpy(dtype=float) for name in columns}
    event = {name: zero for name in ("RATE", "II", "ADDL", "SS", "CMT")}
    event |= {"TIME": values["TIME"], "AMT": values["AMT"], "MDV": values["MDV"], "EVID": values["MDV"]}
    subject = np.repeat(np.arange(N_SUBJECTS), len(TIMES))
    ids = np.arange(101, 101 + N_SUBJECTS).astype(np.float64)
    return DataSet(str(path), values, event, subject, ids, np.arange(len(frame)) + 2)


def _model(folder: Path, code: str) -> Model:
    roles: dict[str, Role] = {"ID": "id", "TIME": "time", "AMT": "amt", "DV": "dv", "MDV": "mdv"}
    columns = tuple(
        InputColumn(name, roles.get(name, "covariate"))
        for name in ("ID", "TIME", "AMT", "DV", "MDV", "WT", "SEX")
    )
    return Model(
        title="Theophylline, one compartment",
        language="nmtran",
        path=str(folder / "run001.mod"),
        inputs=Inputs("theo.csv", columns),
        thetas=(
            ThetaParameter("THETA1", 1.5, lower=0.0, label="KA"),
            ThetaParameter("THETA2", 0.08, lower=0.0, label="K"),
            ThetaParameter("THETA3", 32.0, lower=0.0, label="V"),
        ),
        omega=tuple(CovarianceBlock(k + 1, 1, (v,)) for k, v in enumerate((0.4, 0.02, 0.01))),
        sigma=(CovarianceBlock(1, 1, (0.5,)),),
        individual=(),
        dynamics=None,
        observation=ObservationModel((), "Y", None),
        estimations=(EstimationTask("imp"),),
        covariance=CovarianceTask(print_eigenvalues=True),
        tables=TABLES,
        source=code,
        source_sha256=hashlib.sha256(code.encode()).hexdigest(),
    )


def _between(start: Estimate, end: Estimate, part: float) -> Estimate:
    def mix(a: Array, b: Array) -> Array:
        return (1 - part) * a + part * b

    return Estimate(mix(start.theta, end.theta), mix(start.omega, end.omega), mix(start.sigma, end.sigma))


def _phase(k: int) -> str:
    for stop, phase in ((10, "burn-in"), (20, "annealing"), (30, "main"), (38, "smoothing")):
        if k < stop:
            return phase
    return "refinement"


def _fit(
    base: Model,
    model: Model,
    data: DataSet,
    estimate: Estimate,
    run_estimates: list[Estimate],
    selection: Selection | None,
) -> Fit:
    generator = np.random.default_rng(11)
    n_etas, n = model.n_etas, N_SUBJECTS
    constant = data.n_observations * math.log(2 * math.pi)
    contributions = 110.4 / n + generator.standard_normal(n)
    ofv = float(contributions.sum())
    history = tuple(
        Iteration(_phase(k), k, ofv + 300 * math.exp(-k / 5), e, 0.1 * k) for k, e in enumerate(run_estimates)
    )
    ebe = generator.standard_normal((n, n_etas)) * np.sqrt(np.diag(estimate.omega)) * 0.9
    cond_cov = np.tile(0.2 * estimate.omega, (n, 1, 1))
    per_observation = contributions + constant / n
    two = generator.uniform(1, 30, (4, n_etas))
    eps = np.array([12.0])

    def variance_scale(sd: Array) -> Array:
        return 100 * (1 - (1 - sd / 100) ** 2)

    return Fit(
        model=model,
        base_model=base,
        data=data,
        method="vae",
        status=Status("converged", "Parameters and objective were stable over the last 50 iterations."),
        estimate=estimate,
        ofv=ofv,
        importance=ImportanceLikelihood(ofv + constant, 0.02, per_observation, np.full(n, 800.0), 3000),
        linearised=LinearisedLikelihood(ofv + constant - 0.4, per_observation - 0.4 / n),
        minus_two_elbo=ofv + constant + 0.9,
        bicc=ofv + constant + 31.0,
        uncertainty=_uncertainty(model, estimate),
        individuals=Individuals(
            ebe, ebe + 0.01, cond_cov, np.log(np.tile(estimate.theta[:3], (n, 1))), contributions
        ),
        shrinkage=Shrinkage(
            eta_sd=two[0],
            eta_var=variance_scale(two[0]),
            ebv_sd=two[1],
            ebv_var=variance_scale(two[1]),
            eps_sd=eps,
            eps_var=variance_scale(eps),
            etabar=ebe.mean(axis=0),
            etabar_se=ebe.std(axis=0, ddof=1) / math.sqrt(n),
            etabar_p=np.full(n_etas, 0.4),
        ),
        table=_table(data, ebe, estimate),
        history=history,
        selection=selection,
        seconds={"main": 3.25, "likelihood": 0.5, "uncertainty": 0.75, "total": 4.5},
        seed=42,
        settings={"hidden": 25, "burn_in": 10},
        warnings=("the effective sample size of subject 101 is small",),
    )


def _uncertainty(model: Model, estimate: Estimate) -> Uncertainty:
    """Relative errors of 5 to 15 % with small correlations."""
    values = estimate.flatten()
    free = ~is_fixed(model)
    generator = np.random.default_rng(3)
    mixed = np.eye(len(values)) + 0.1 * generator.standard_normal((len(values), len(values)))
    correlation = mixed @ mixed.T
    scale = np.sqrt(np.diag(correlation))
    correlation /= np.outer(scale, scale)
    se = np.where(free, np.abs(values) * generator.uniform(0.05, 0.15, len(values)), 0.0)
    covariance = correlation * np.outer(se, se)
    eigenvalues = np.linalg.eigvalsh(correlation[np.ix_(free, free)]).astype(np.float64)
    return Uncertainty(
        covariance, np.where(free, se, np.nan).astype(np.float64), eigenvalues, "observed information"
    )


def _table(data: DataSet, ebe: Array, estimate: Estimate) -> pd.DataFrame:
    generator = np.random.default_rng(5)
    table = pd.DataFrame(data.values)
    observed = data.is_observation
    table["IPRED"] = np.where(
        observed, data.values["DV"] - 0.4 * generator.standard_normal(data.n_records), 0.0
    )
    table["PRED"] = np.where(observed, table["IPRED"] * generator.uniform(0.8, 1.2, data.n_records), 0.0)
    table["RES"] = np.where(observed, table["DV"] - table["PRED"], 0.0)
    table["WRES"] = table["RES"] / 1.1
    table["CWRES"] = np.where(observed, generator.standard_normal(data.n_records), 0.0)
    for k, name in enumerate(("KA", "K", "V")):
        table[f"ETA{k + 1}"] = ebe[data.subject, k]
        table[name] = estimate.theta[k] * np.exp(ebe[data.subject, k])
    return table
