"""A straight line and a bolus into one compartment: control streams, and data simulated from them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]
Rows = list[dict[str, float]]

OMEGA = np.array([[0.5, 0.1], [0.1, 0.3]])
SIGMA = np.diag([0.03, 0.02])  # of the bolus: proportional, additive
TIMES = np.array([0.5, 1.0, 2.0, 4.0, 7.0])
DOSE = 100.0
LINE_VARIANCE = 0.4
ERROR = "IPRED=F\nY=F+F*EPS(1)+EPS(2)"  # of the bolus

_LINE = """$PROBLEM line
$INPUT {columns}
$DATA {file} IGNORE=@
$PRED
A=THETA(1)+ETA(1)
B=THETA(2)+ETA(2)
Y=A+B*TIME+EPS(1)
$THETA 2 -0.5
$OMEGA BLOCK(2) 0.5 0.1 0.3
$SIGMA 0.4
$ESTIMATION METHOD=1
"""
_BOLUS = """$PROBLEM bolus
$INPUT {columns}
$DATA {file} IGNORE=@
$SUBROUTINES ADVAN1 TRANS2
$PK
CL=THETA(1)*EXP(ETA(1))
V=THETA(2)*EXP(ETA(2))
S1=V
$ERROR
"""


def line_stream(table: str = "") -> str:
    """Return the stream of the line (a place for columns and data file), items of a ``table`` too."""
    return _LINE + _table(table)


def bolus_stream(
    method: str = "1 INTERACTION",
    table: str = "",
    error: str = ERROR,
    thetas: str = "(0,2) (0,20)",
    omega: str = "BLOCK(2) 0.5 0.1 0.3",
    sigma: str = "0.03 0.02",
) -> str:
    """Return the stream of the bolus; ``error`` is the code of ``$ERROR``."""
    tail = f"$THETA {thetas}\n$OMEGA {omega}\n$SIGMA {sigma}\n$ESTIMATION METHOD={method}\n"
    return f"{_BOLUS}{error}\n{tail}{_table(table)}"


def line_observations(n: int, seed: int, times: Array = TIMES) -> Array:
    """Return observations [id, time] of the line at its initial estimates."""
    rng = np.random.default_rng(seed)
    eta = rng.multivariate_normal([0, 0], OMEGA, n)
    noise = np.sqrt(LINE_VARIANCE) * rng.normal(size=(n, len(times)))
    return np.asarray(2 + eta[:, :1] + (eta[:, 1:] - 0.5) * times + noise)


def concentrations(eta: Array, cl: float = 2.0, v: float = 20.0, times: Array = TIMES) -> Array:
    """Return concentrations [.., time] after the dose for random effects [.., 2] of clearance and volume."""
    own_cl, own_v = cl * np.exp(eta[..., 0:1]), v * np.exp(eta[..., 1:2])
    return np.asarray(DOSE / own_v * np.exp(-own_cl / own_v * times))


@dataclass(frozen=True)
class BolusData:
    """Records ``rows``, observations ``y`` [id, time] and the random effects ``eta`` [id, 2] behind them."""

    rows: Rows
    y: Array
    eta: Array


def bolus_data(n: int, seed: int = 52) -> BolusData:
    """Return data of the bolus at its initial estimates."""
    rng = np.random.default_rng(seed)
    eta = rng.multivariate_normal([0, 0], OMEGA, n)
    f = concentrations(eta)
    scale = np.sqrt(np.diag(SIGMA))
    y = f + f * scale[0] * rng.normal(size=f.shape) + scale[1] * rng.normal(size=f.shape)
    return BolusData(dosed_rows(y), y, eta)


def line_rows(y: ArrayLike, times: Array = TIMES) -> Rows:
    """Return a record for each observation ``y`` [id, time]."""
    return [
        {"ID": i + 1.0, "TIME": t, "DV": v}
        for i, own in enumerate(np.asarray(y))
        for t, v in zip(times, own, strict=True)
    ]


def dosed_rows(y: ArrayLike, times: Array = TIMES) -> Rows:
    """Return for each subject the dose at time 0 and its observations ``y`` [id, time]."""
    rows: Rows = []
    for i, own in enumerate(np.asarray(y)):
        rows.append({"ID": i + 1.0, "TIME": 0.0, "AMT": DOSE, "DV": 0.0, "EVID": 1.0, "MDV": 1.0})
        rows += [{"ID": i + 1.0, "TIME": t, "DV": v} for t, v in zip(times, own, strict=True)]
    return rows


def _table(items: str) -> str:
    return f"$TABLE {items} NOPRINT FILE=sdtab\n" if items else ""
