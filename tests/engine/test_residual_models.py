"""Residual error models: whole fits reach the maximum that quadrature and scipy find."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from support.line_and_bolus import DOSE, bolus_stream, concentrations, dosed_rows
from support.quadrature import Quadrature, maximum, normal_log_likelihood
from support.streams import read

from elbomix.engine.estimate import Estimate
from elbomix.engine.fit import Fit
from elbomix.engine.methods.vae import VaeSettings
from elbomix.engine.run.autoencoder import estimate

Array = NDArray[np.float64]
N = 40
TIMES = np.array([0.5, 1.0, 2.0, 4.0, 8.0, 12.0, 24.0])
TRUE = np.log([2.0, 20.0])
SD = np.array([0.3, 0.2])

PK_THETAS = "(0,1.5) (0,25)"


def of_logs(eta: Array, log_cl: float, log_v: float) -> Array:
    """Concentrations (node id record) of a bolus."""
    return concentrations(eta, np.exp(log_cl), np.exp(log_v), TIMES)


@dataclass(frozen=True)
class Case:
    """Code and initial values as a user writes them, and the same model in numpy.

    ``variance`` takes free parameters of the error model, prediction; ``noise`` their true values;
    ``found`` picks them from an estimate.
    """

    code: str
    thetas: str
    sigma: str
    variance: Callable[[Array, Array], Array]
    noise: tuple[float, ...]
    found: Callable[[Estimate], Array]
    mean: Callable[[Array], Array] = lambda f: f


def _log_sigma(e: Estimate) -> Array:
    return np.asarray(0.5 * np.log(np.diag(e.sigma)))


def _cholesky(e: Estimate) -> Array:
    root = np.linalg.cholesky(e.sigma)
    return np.array([np.log(root[0, 0]), root[1, 0], np.log(root[1, 1])])


CASES = {
    "additive": Case(
        "Y=F+EPS(1)",
        "",
        "0.1",
        lambda p, f: np.exp(2 * p[0]) + 0 * f,
        (np.log(0.2),),
        _log_sigma,
    ),
    "proportional": Case(
        "Y=F*(1+EPS(1))",
        "",
        "0.1",
        lambda p, f: np.exp(2 * p[0]) * f**2,
        (np.log(0.15),),
        _log_sigma,
    ),
    "exponential, which is proportional": Case(
        "Y=F*EXP(EPS(1))",
        "",
        "0.1",
        lambda p, f: np.exp(2 * p[0]) * f**2,
        (np.log(0.15),),
        _log_sigma,
    ),
    "combined, two eps": Case(
        "Y=F+F*EPS(1)+EPS(2)",
        "",
        "0.1 0.1",
        lambda p, f: np.exp(2 * p[0]) * f**2 + np.exp(2 * p[1]),
        (np.log(0.15), np.log(0.1)),
        _log_sigma,
    ),
    "correlated eps": Case(
        "Y=F+F*EPS(1)+EPS(2)",
        "",
        "BLOCK(2) 0.1 0.01 0.1",
        lambda p, f: (np.exp(p[0]) * f + p[1]) ** 2 + np.exp(2 * p[2]),
        (np.log(0.2), 0.1, np.log(0.3)),
        _cholesky,
    ),
    "standard deviations as thetas": Case(
        "IPRED=F\nW=SQRT(THETA(3)**2+THETA(4)**2*IPRED**2)\nY=IPRED+W*EPS(1)",
        "(0,0.3) (0,0.3)",
        "1 FIX",
        lambda p, f: np.exp(2 * p[0]) + np.exp(2 * p[1]) * f**2,
        (np.log(0.1), np.log(0.15)),
        lambda e: np.asarray(np.log(e.theta[2:])),
    ),
    "power of the prediction": Case(
        "Y=F+F**THETA(3)*EPS(1)",
        "(0,1,2)",
        "0.1",
        lambda p, f: np.exp(2 * p[0]) * f ** (2 * p[1]),
        (np.log(0.15), 0.7),
        lambda e: np.array([_log_sigma(e)[0], e.theta[2]]),
    ),
    "logarithms on both sides": Case(
        "Y=LOG(F)+EPS(1)",
        "",
        "0.1",
        lambda p, f: np.exp(2 * p[0]) + 0 * f,
        (np.log(0.2),),
        _log_sigma,
        np.log,
    ),
}


def fitted(folder: Path, stream: str, rows: list[dict[str, float]], seed: int = 1) -> Fit:
    fit = estimate(*read(folder, stream, rows), VaeSettings(seed=seed))
    assert fit.status.code == "converged", fit.status
    return fit


def agrees(fit: Fit, quadrature: Quadrature, at: Array, true: Array) -> None:
    """The fit's likelihood is the true one at its estimate, and no other estimate is better."""
    assert fit.importance is not None
    here = quadrature.minus_two_ll(at)
    # four Monte Carlo standard errors, and the error of the rule
    assert fit.importance.value == pytest.approx(here, abs=4 * fit.importance.se + 0.01)
    best, _ = maximum(quadrature, [at, true])
    assert here - best < 0.05


@pytest.mark.parametrize("name", CASES)
def test_one_output(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    rng = np.random.default_rng(11)
    f = of_logs(rng.normal(size=(1, N, 2)) * SD, *TRUE)[0]
    noise = np.asarray(case.noise)
    y = case.mean(f) + rng.normal(size=f.shape) * np.sqrt(case.variance(noise, f))
    stream = bolus_stream(
        "VAE", error=case.code, thetas=f"{PK_THETAS} {case.thetas}", omega="0.1 0.1", sigma=case.sigma
    )
    fit = fitted(tmp_path, stream, dosed_rows(y, TIMES))

    def conditional(p: Array, eta: Array) -> Array:
        inside = of_logs(eta, p[0], p[1])
        return normal_log_likelihood(y, case.mean(inside), case.variance(p[4:], inside))

    quadrature = Quadrature(N, conditional, lambda p: np.diag(np.exp(2 * p[2:4])))
    e = fit.estimate
    at = np.concatenate([np.log(e.theta[:2]), 0.5 * np.log(np.diag(e.omega)), case.found(e)])
    agrees(fit, quadrature, at, np.concatenate([TRUE, np.log(SD), noise]))


OUTPUTS = {
    "by DVID": ("IF (DVID.EQ.1) THEN\nY=F*(1+EPS(1))\nELSE\nY=E+EPS(2)\nENDIF", "DVID"),
    "by CMT": ("IF (CMT.EQ.1) THEN\nY=F*(1+EPS(1))\nENDIF\nIF (CMT.EQ.2) Y=E+EPS(2)", "CMT"),
    "by flags": ("FIRST=0\nIF (DVID.EQ.1) FIRST=1\nY=FIRST*F*(1+EPS(1))+(1-FIRST)*(E+EPS(2))", "DVID"),
}


@pytest.mark.parametrize("name", OUTPUTS)
def test_two_outputs(name: str, tmp_path: Path) -> None:
    """Concentrations with proportional error and an effect with additive error, each with its own eps."""
    code, column = OUTPUTS[name]
    rng = np.random.default_rng(5)
    base = np.log(3.0)  # E = E0 + slope C, E0 without eta

    def both(eta: Array, p: Array) -> tuple[Array, Array]:
        c = of_logs(eta, p[0], p[1])
        return c, np.exp(p[2]) + np.exp(p[3]) * c

    true = np.array([*TRUE, base, np.log(0.5), *np.log(SD), np.log(0.15), np.log(0.3)])
    f, e = (x[0] for x in both(rng.normal(size=(1, N, 2)) * SD, true))
    y1 = f * (1 + 0.15 * rng.normal(size=f.shape))
    y2 = e + 0.3 * rng.normal(size=f.shape)
    rows = []
    for i in range(N):
        rows.append(
            {"ID": i + 1.0, "TIME": 0.0, "AMT": DOSE, "DV": 0.0, "EVID": 1.0, "MDV": 1.0, column: 1.0}
        )
        for t, a, b in zip(TIMES, y1[i], y2[i], strict=True):
            rows += [{"ID": i + 1.0, "TIME": t, "DV": v, column: k} for k, v in ((1.0, a), (2.0, b))]
    code = f"CP=A(1)/V\nE=THETA(3)+THETA(4)*CP\n{code}"
    thetas = f"{PK_THETAS} (0,2) (0,1)"
    stream = bolus_stream("VAE", error=code, thetas=thetas, omega="0.1 0.1", sigma="0.1 0.1")
    if column == "CMT":  # a second compartment, only to be observed
        stream = stream.replace("ADVAN1 TRANS2", "ADVAN2 TRANS2").replace("S1=V", "KA=1\nS1=V\nS2=V")
        stream = stream.replace("CP=A(1)/V", "CP=A(2)/V").replace("Y=F*", "Y=A(2)/V*")
        stream = stream.replace("CMT.EQ.1", "CMT.NE.1").replace("CMT.EQ.2", "CMT.EQ.1")
        rows = [{**r, "CMT": 2.0 if r["CMT"] == 1.0 else 1.0} for r in rows]
    fit = fitted(tmp_path, stream, rows)

    def conditional(p: Array, eta: Array) -> Array:
        c, effect = both(eta, p)
        first = normal_log_likelihood(y1, c, np.exp(2 * p[6]) * c**2)
        return first + normal_log_likelihood(y2, effect, np.exp(2 * p[7]) + 0 * c)

    quadrature = Quadrature(N, conditional, lambda p: np.diag(np.exp(2 * p[4:6])))
    e = fit.estimate
    at = np.concatenate([np.log(e.theta), 0.5 * np.log(np.diag(e.omega)), _log_sigma(e)])
    agrees(fit, quadrature, at, true)
