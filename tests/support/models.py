"""Models and data sets built by hand, for tests of the engine."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from elbomix.engine.ir.compartment import Compartment, Dynamics, LinearDynamics, OdeDynamics, Transfer
from elbomix.engine.ir.dataset import DataSet, InputColumn, Inputs
from elbomix.engine.ir.expression import (
    Amount,
    Binary,
    BinaryOperator,
    Call,
    Eps,
    Eta,
    Expression,
    Negative,
    Theta,
    Variable,
)
from elbomix.engine.ir.model import Model
from elbomix.engine.ir.observation import ObservationModel
from elbomix.engine.ir.parameter import CovarianceBlock, ThetaParameter
from elbomix.engine.ir.statement import Assign, Statement


def op(left: Expression, operator: BinaryOperator, right: Expression) -> Expression:
    return Binary(operator, left, right)


def var(name: str) -> Variable:
    return Variable(name)


def exp(x: Expression) -> Expression:
    return Call("exp", (x,))


INPUTS = Inputs(
    "data.csv",
    (
        InputColumn("ID", "id"),
        InputColumn("TIME", "time"),
        InputColumn("AMT", "amt"),
        InputColumn("DV", "dv"),
        InputColumn("WT", "covariate"),
    ),
)
LINEAR = LinearDynamics(
    (Compartment("DEPOT"), Compartment("CENTRAL", scale=var("V"))),
    (Transfer(1, 2, var("KA")), Transfer(2, 0, var("K"))),
    1,
    2,
)
ABSORBED = op(var("KA"), "*", Amount(1))
ODE = OdeDynamics(
    LINEAR.compartments,
    (
        Assign("DADT(1)", Negative(ABSORBED)),
        Assign("DADT(2)", op(ABSORBED, "-", op(var("K"), "*", Amount(2)))),
    ),
    1,
    2,
    1e-9,
    1e-11,
)


def oral_model(dynamics: Dynamics | None = LINEAR, error: Sequence[Statement] | None = None) -> Model:
    """One compartment with absorption: KA, K, V lognormal, additive error."""
    individual = tuple(
        Assign(name, op(Theta(i), "*", exp(Eta(i)))) for i, name in enumerate(("KA", "K", "V"), start=1)
    )
    statements = tuple(error or (Assign("IPRED", var("F")), Assign("Y", op(var("IPRED"), "+", Eps(1)))))
    return Model(
        title="oral",
        language="nmtran",
        path="oral.ctl",
        inputs=INPUTS,
        thetas=tuple(
            ThetaParameter(f"THETA{i + 1}", value, lower=0.0) for i, value in enumerate((1.5, 0.09, 32.0))
        ),
        omega=tuple(CovarianceBlock(i + 1, 1, (value,)) for i, value in enumerate((0.4, 0.02, 0.02))),
        sigma=(CovarianceBlock(1, 1, (0.5,)),),
        individual=individual,
        dynamics=dynamics,
        observation=ObservationModel(statements, "Y", "F"),
    )


def dataset(rows: Sequence[dict[str, float]]) -> DataSet:
    """A data set from rows with ID, TIME and any of AMT, RATE, II, ADDL, EVID, CMT, DV, WT..."""
    names = {"ID", "TIME", "AMT", "DV", "WT"} | {k for r in rows for k in r}
    values = {n: np.array([float(r.get(n, 0.0)) for r in rows]) for n in sorted(names)}
    amount = values["AMT"]
    zero = np.zeros(len(rows))
    event: dict[str, NDArray[np.float64]] = {
        n: values.get(n, zero) for n in ("TIME", "AMT", "RATE", "II", "ADDL", "SS", "CMT")
    }
    event["EVID"] = values.get("EVID", (amount != 0).astype(float))
    event["MDV"] = values.get("MDV", (event["EVID"] != 0).astype(float))
    ids = values["ID"]
    change = np.concatenate([[0], np.cumsum(ids[1:] != ids[:-1])])
    first = np.concatenate([[True], ids[1:] != ids[:-1]])
    return DataSet(
        "data.csv", values, event, change.astype(np.int64), ids[first], np.arange(2, len(rows) + 2)
    )
