"""Models with random effects of every kind: as a user writes them, and the same in numpy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from elbomix.engine.estimate import Estimate

Array = NDArray[np.float64]
TIMES = np.array([0.5, 1.0, 2.0, 3.0, 5.0, 8.0, 12.0, 24.0])
DOSE = 100.0
ORAL = """$SUBROUTINES ADVAN2 TRANS2
$PK
{code}
S2=V
$ERROR
Y=F*(1+EPS(1))"""
DIRECT = """$PRED
{code}"""


@dataclass(frozen=True)
class Case:
    """A model as a user writes it, and the same in numpy.

    ``mean`` and ``sd`` take the free parameters, eta (node id eta), and the subjects' covariates (item ->
    id record); ``omega`` the covariance from the parameters; ``pack`` the parameters of an estimate.
    """

    body: str
    code: str
    thetas: str
    omega: str
    sigma: str
    mean: Callable[[Array, Array, dict[str, Array]], Array]
    sd: Callable[[Array, Array, Array], Array]
    cov: Callable[[Array], Array]
    pack: Callable[[Estimate], list[float]]
    true: tuple[float, ...]
    n: int = 40
    order: int = 7


def oral(ka: Array, cl: Array, v: Array) -> Array:
    k = cl / v
    return np.asarray(DOSE / v * ka / (ka - k) * (np.exp(-k * TIMES) - np.exp(-ka * TIMES)))


def log_sd(e: Estimate) -> list[float]:
    return list(0.5 * np.log(np.diag(e.omega)))


def log_sigma(e: Estimate) -> float:
    return float(0.5 * np.log(e.sigma[0, 0]))


def diagonal(first: int, count: int) -> Callable[[Array], Array]:
    return lambda p: np.diag(np.exp(2 * p[first : first + count]))


def proportional(position: int) -> Callable[[Array, Array, Array], Array]:
    return lambda p, eta, f: np.exp(p[position]) * f


def additive(position: int) -> Callable[[Array, Array, Array], Array]:
    return lambda p, eta, f: np.exp(p[position]) + 0 * f


def root(p: Array, first: int) -> Array:
    factor = np.array([[np.exp(p[first]), 0.0], [p[first + 1], np.exp(p[first + 2])]])
    return np.asarray(factor @ factor.T)


def factor(e: Estimate) -> list[float]:
    chol = np.linalg.cholesky(e.omega[:2, :2])
    return [float(np.log(chol[0, 0])), float(chol[1, 0]), float(np.log(chol[1, 1]))]


def lognormal(p: Array, eta: Array, x: dict[str, Array]) -> Array:
    return oral(np.exp(p[0]), np.exp(p[1] + eta[..., 0:1]), np.exp(p[2] + eta[..., 1:2]))


LOGNORMAL = "KA=THETA(1)\nCL=THETA(2)*EXP(ETA(1))\nV=THETA(3)*EXP(ETA(2))"
POSITIVE = "(0,1) (0,2) (0,20)"
START = (0.4, 1.1, 3.2)
N = np.log

CASES = {
    "a theta without eta": Case(
        ORAL,
        LOGNORMAL,
        POSITIVE,
        "$OMEGA 0.1 0.1",
        "0.05",
        lognormal,
        proportional(5),
        diagonal(3, 2),
        lambda e: [*N(e.theta), *log_sd(e), log_sigma(e)],
        (*START, N(0.3), N(0.2), N(0.1)),
    ),
    "large variability, proportional error": Case(
        ORAL,
        LOGNORMAL,
        POSITIVE,
        "$OMEGA 0.1 0.1",
        "0.05",
        lognormal,
        proportional(5),
        diagonal(3, 2),
        lambda e: [*N(e.theta), *log_sd(e), log_sigma(e)],
        (*START, N(0.6), N(0.5), N(0.3)),
        order=21,
    ),
    "correlated etas": Case(
        ORAL,
        LOGNORMAL,
        POSITIVE,
        "$OMEGA BLOCK(2) 0.1 0.01 0.1",
        "0.05",
        lognormal,
        proportional(6),
        lambda p: root(p, 3),
        lambda e: [*N(e.theta), *factor(e), log_sigma(e)],
        (*START, N(0.3), 0.15, N(0.1), N(0.1)),
    ),
    "a fixed block": Case(
        ORAL,
        LOGNORMAL,
        POSITIVE,
        "$OMEGA BLOCK(2) FIX 0.09 0.03 0.0625",
        "0.05",
        lognormal,
        proportional(3),
        lambda p: np.array([[0.09, 0.03], [0.03, 0.0625]]),
        lambda e: [*N(e.theta), log_sigma(e)],
        (*START, N(0.1)),
    ),
    "one variance fixed": Case(
        ORAL,
        LOGNORMAL,
        POSITIVE,
        "$OMEGA 0.16 FIX 0.1",
        "0.05",
        lognormal,
        proportional(4),
        lambda p: np.diag([0.16, np.exp(2 * p[3])]),
        lambda e: [*N(e.theta), log_sd(e)[1], log_sigma(e)],
        (*START, N(0.2), N(0.1)),
    ),
    "a variance fixed to zero": Case(
        ORAL,
        "KA=THETA(1)*EXP(ETA(2))\nCL=THETA(2)*EXP(ETA(1))\nV=THETA(3)*EXP(ETA(3))",
        POSITIVE,
        "$OMEGA 0.1 0 FIX 0.1",
        "0.05",
        lognormal,
        proportional(5),
        diagonal(3, 2),
        lambda e: [*N(e.theta), 0.5 * N(e.omega[0, 0]), 0.5 * N(e.omega[2, 2]), log_sigma(e)],
        (*START, N(0.3), N(0.2), N(0.1)),
    ),
    "additive etas": Case(
        ORAL,
        "KA=THETA(1)\nCL=THETA(2)+ETA(1)\nV=THETA(3)+ETA(2)",
        POSITIVE,
        "$OMEGA 0.3 9",
        "0.05",
        lambda p, eta, x: oral(np.exp(p[0]), p[1] + eta[..., 0:1], p[2] + eta[..., 1:2]),
        proportional(5),
        diagonal(3, 2),
        lambda e: [N(e.theta[0]), *e.theta[1:], *log_sd(e), log_sigma(e)],
        (0.4, 3.0, 24.0, N(0.5), N(3.0), N(0.1)),
    ),
    "proportional etas": Case(
        ORAL,
        "KA=THETA(1)\nCL=THETA(2)*(1+ETA(1))\nV=THETA(3)*(1+ETA(2))",
        POSITIVE,
        "$OMEGA 0.04 0.04",
        "0.05",
        lambda p, eta, x: oral(
            np.exp(p[0]), np.exp(p[1]) * (1 + eta[..., 0:1]), np.exp(p[2]) * (1 + eta[..., 1:2])
        ),
        proportional(5),
        diagonal(3, 2),
        lambda e: [*N(e.theta), *log_sd(e), log_sigma(e)],
        (*START, N(0.2), N(0.15), N(0.1)),
    ),
    "two etas in one parameter": Case(
        ORAL,
        "KA=THETA(1)\nCL=THETA(2)*EXP(ETA(1))\nV=THETA(3)*EXP(ETA(1)*0.5+ETA(2))",
        POSITIVE,
        "$OMEGA 0.1 0.1",
        "0.05",
        lambda p, eta, x: oral(
            np.exp(p[0]), np.exp(p[1] + eta[..., 0:1]), np.exp(p[2] + 0.5 * eta[..., 0:1] + eta[..., 1:2])
        ),
        proportional(5),
        diagonal(3, 2),
        lambda e: [*N(e.theta), *log_sd(e), log_sigma(e)],
        (*START, N(0.3), N(0.15), N(0.1)),
    ),
    "a shared eta with an estimated scale": Case(
        ORAL,
        "KA=2\nCL=THETA(2)*EXP(ETA(1))\nV=THETA(3)*EXP(THETA(1)*ETA(1))",
        "(-2,1,4) (0,2) (0,20)",
        "$OMEGA 0.1",
        "0.05",
        lambda p, eta, x: oral(np.full(1, 2.0), np.exp(p[1] + eta), np.exp(p[2] + p[0] * eta)),
        proportional(4),
        diagonal(3, 1),
        lambda e: [e.theta[0], *N(e.theta[1:]), *log_sd(e), log_sigma(e)],
        (0.6, 1.1, 3.2, N(0.3), N(0.1)),
        order=11,
    ),
    "Box-Cox transformed eta": Case(
        ORAL,
        "KA=2\nBC=(EXP(ETA(1))**THETA(1)-1)/THETA(1)\nCL=THETA(2)*EXP(BC)\nV=THETA(3)",
        "(0.01,1,5) (0,2) (0,20)",
        "$OMEGA 0.1",
        "0.05",
        lambda p, eta, x: oral(
            np.full(1, 2.0), np.exp(p[1] + (np.exp(p[0] * eta) - 1) / p[0]), np.exp(p[2]) + 0 * eta
        ),
        proportional(4),
        diagonal(3, 1),
        lambda e: [e.theta[0], *N(e.theta[1:]), *log_sd(e), log_sigma(e)],
        (1.2, 1.1, 3.2, N(0.4), N(0.1)),
        n=60,
        order=11,
    ),
    "eta on the residual error": Case(
        ORAL.replace("F*(1+EPS(1))", "F+F*EXP(ETA(2))*EPS(1)"),
        "KA=THETA(1)\nCL=THETA(2)*EXP(ETA(1))\nV=THETA(3)",
        POSITIVE,
        "$OMEGA 0.1 0.1",
        "0.05",
        lambda p, eta, x: oral(np.exp(p[0]), np.exp(p[1] + eta[..., 0:1]), np.exp(p[2])),
        lambda p, eta, f: np.exp(p[5] + eta[..., 1:2]) * f,
        diagonal(3, 2),
        lambda e: [*N(e.theta), *log_sd(e), log_sigma(e)],
        (*START, N(0.3), N(0.4), N(0.1)),
        order=15,
    ),
    "logit-transformed parameter": Case(
        DIRECT,
        "LP=LOG(THETA(1)/(1-THETA(1)))+ETA(1)\nP=EXP(LP)/(1+EXP(LP))\nK=THETA(2)\n"
        "Y=10*(P+(1-P)*EXP(-K*TIME))+EPS(1)",
        "(0,0.5,1) (0,0.3)",
        "$OMEGA 0.5",
        "0.3",
        lambda p, eta, x: (
            10 / (1 + np.exp(-p[0] - eta)) + 10 / (1 + np.exp(p[0] + eta)) * np.exp(-np.exp(p[1]) * TIMES)
        ),
        additive(3),
        diagonal(2, 1),
        lambda e: [N(e.theta[0] / (1 - e.theta[0])), N(e.theta[1]), *log_sd(e), log_sigma(e)],
        (-0.8, N(0.4), N(0.8), N(0.6)),
        order=11,
    ),
    "power of a covariate": Case(
        ORAL,
        "KA=THETA(1)\nTVCL=THETA(2)*(WT/70)**THETA(4)\nCL=TVCL*EXP(ETA(1))\nV=THETA(3)*(WT/70)*EXP(ETA(2))",
        POSITIVE + " 0.5",
        "$OMEGA 0.1 0.1",
        "0.05",
        lambda p, eta, x: oral(
            np.exp(p[0]),
            np.exp(p[1] + p[3] * np.log(x["WT"][:, :1] / 70) + eta[..., 0:1]),
            np.exp(p[2] + np.log(x["WT"][:, :1] / 70) + eta[..., 1:2]),
        ),
        proportional(6),
        diagonal(4, 2),
        lambda e: [*N(e.theta[:3]), e.theta[3], *log_sd(e), log_sigma(e)],
        (*START, 0.75, N(0.3), N(0.2), N(0.1)),
    ),
    "linear covariate effect, which is not linear in phi": Case(
        ORAL,
        "KA=THETA(1)\nCL=THETA(2)*(1+THETA(4)*(WT-70))*EXP(ETA(1))\nV=THETA(3)*EXP(ETA(2))",
        POSITIVE + " (-0.02,0.001,0.02)",
        "$OMEGA 0.1 0.1",
        "0.05",
        lambda p, eta, x: oral(
            np.exp(p[0]),
            np.exp(p[1] + eta[..., 0:1]) * (1 + p[3] * (x["WT"][:, :1] - 70)),
            np.exp(p[2] + eta[..., 1:2]),
        ),
        proportional(6),
        diagonal(4, 2),
        lambda e: [*N(e.theta[:3]), e.theta[3], *log_sd(e), log_sigma(e)],
        (*START, 0.008, N(0.3), N(0.2), N(0.1)),
    ),
    "groups by a conditional": Case(
        ORAL,
        "KA=THETA(1)\nIF (WT.GT.70) THEN\nTVCL=THETA(2)\nELSE\nTVCL=THETA(4)\nENDIF\n"
        "CL=TVCL*EXP(ETA(1))\nV=THETA(3)*EXP(ETA(2))",
        POSITIVE + " (0,2)",
        "$OMEGA 0.1 0.1",
        "0.05",
        lambda p, eta, x: oral(
            np.exp(p[0]),
            np.exp(np.where(x["WT"][:, :1] > 70, p[1], p[3]) + eta[..., 0:1]),
            np.exp(p[2] + eta[..., 1:2]),
        ),
        proportional(6),
        diagonal(4, 2),
        lambda e: [*N(e.theta), *log_sd(e), log_sigma(e)],
        (*START, 0.6, N(0.3), N(0.2), N(0.1)),
    ),
    "a covariate that changes with time": Case(
        DIRECT,
        "A=THETA(1)*(CRCL/100)**THETA(2)*EXP(ETA(1))\nY=A*EXP(-THETA(3)*TIME)+EPS(1)",
        "(0,5) 0.1 (0,0.2)",
        "$OMEGA 0.1",
        "0.1",
        lambda p, eta, x: np.exp(p[0] + p[1] * np.log(x["CRCL"] / 100) + eta) * np.exp(-np.exp(p[2]) * TIMES),
        additive(4),
        diagonal(3, 1),
        lambda e: [N(e.theta[0]), e.theta[1], N(e.theta[2]), *log_sd(e), log_sigma(e)],
        (N(8.0), 0.6, N(0.15), N(0.3), N(0.25)),
        order=11,
    ),
    "between occasions": Case(
        DIRECT,
        "IOV=ETA(2)\nIF (OCC.EQ.2) IOV=ETA(3)\nA=THETA(1)*EXP(ETA(1)+IOV)\nY=A*EXP(-THETA(2)*TIME)+EPS(1)",
        "(0,5) (0,0.2)",
        "$OMEGA 0.1\n$OMEGA BLOCK(1) 0.1\n$OMEGA BLOCK(1) SAME",
        "0.1",
        lambda p, eta, x: (
            np.exp(p[0] + eta[..., 0:1] + np.where(x["OCC"] == 1, eta[..., 1:2], eta[..., 2:3]))
            * np.exp(-np.exp(p[1]) * TIMES)
        ),
        additive(4),
        lambda p: np.diag(np.exp(2 * p[[2, 3, 3]])),
        lambda e: [*N(e.theta), *log_sd(e)[:2], log_sigma(e)],
        (N(8.0), N(0.15), N(0.3), N(0.2), N(0.3)),
    ),
}


def simulated(case: Case, seed: int) -> tuple[Array, dict[str, Array], Array]:
    """Observations (id record), covariates, and the true parameters."""
    rng = np.random.default_rng(seed)
    true = np.array(case.true)
    shape = (case.n, len(TIMES))
    covariates = {
        "WT": np.broadcast_to(rng.uniform(45, 110, case.n)[:, None], shape),
        "CRCL": rng.uniform(50, 150, shape),
        "OCC": np.broadcast_to(np.where(np.arange(len(TIMES)) % 2 == 0, 1.0, 2.0), shape),
    }
    omega = np.atleast_2d(case.cov(true))
    eta = rng.multivariate_normal(np.zeros(len(omega)), omega, case.n)[None]
    f = case.mean(true, eta, covariates)
    sd = np.broadcast_to(case.sd(true, eta, f), f.shape)
    return (f + sd * rng.normal(size=f.shape))[0], covariates, true


def records(case: Case, y: Array, covariates: dict[str, Array]) -> list[dict[str, float]]:
    rows: list[dict[str, float]] = []
    for i in range(case.n):
        if case.body is not DIRECT:
            first = {k: float(v[i, 0]) for k, v in covariates.items()}
            rows.append(
                {"ID": i + 1.0, "TIME": 0.0, "AMT": DOSE, "DV": 0.0, "EVID": 1.0, "MDV": 1.0, **first}
            )
        for j, t in enumerate(TIMES):
            own = {k: float(v[i, j]) for k, v in covariates.items()}
            rows.append({"ID": i + 1.0, "TIME": t, "DV": float(y[i, j]), **own})
    return rows


def stream_of(case: Case) -> str:
    body = case.body.replace("{code}", case.code)
    return (
        f"$PROBLEM random effects\n$INPUT {{columns}}\n$DATA {{file}} IGNORE=@\n{body}\n"
        f"$THETA {case.thetas}\n{case.omega}\n$SIGMA {case.sigma}\n$ESTIMATION METHOD=VAE\n"
    )
