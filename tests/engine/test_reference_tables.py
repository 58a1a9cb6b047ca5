"""Predictions and variables against the tables that NONMEM wrote, at its final estimates."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from support.nonmem_runs import Run, Table, case_names, load

from elbomix.engine.ir.compartment import OdeDynamics
from elbomix.engine.ir.expression import Known, walk
from elbomix.engine.ir.model import Model
from elbomix.engine.ir.statement import If, assignments, conditions
from elbomix.engine.kernel.compile import compile_kernel
from elbomix.engine.kernel.kernel import Kernel
from elbomix.engine.kernel.subjects import Subjects

BY_INTEGRATION = 1e-4


def last_digit(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return half a unit in the sixth digit, to which NONMEM writes estimates and modes; 0 for 0."""
    size = np.abs(values)
    return np.where(size > 0, 0.5 * 10.0 ** (np.floor(np.log10(np.where(size > 0, size, 1.0))) - 5), 0.0)


class Predicted:
    """All outputs of the kernel at the final estimates, and how far the digits of these can move them."""

    def __init__(self, run: Run, model: Model, eta: NDArray[np.float64], comact: int = 0) -> None:
        kernel = Kernel(compile_kernel(model), Subjects.build(model, run.data(model)))
        n_eta = model.n_etas
        done = kernel.evaluate(run.theta, eta, "eta+theta", {"comact": comact})
        assert done.failure is None, done.failure
        fixed = np.array([theta.fixed for theta in model.thetas])
        self.values = {n.upper(): done.values[0, :, i] for i, n in enumerate(done.layout.outputs)}
        slopes = np.abs(done.derivatives[0])
        moved = slopes[..., n_eta:] @ np.where(fixed, 0.0, last_digit(run.theta))
        subject = run.data(model).subject
        moved += np.einsum("roq,rq->ro", slopes[..., :n_eta], last_digit(eta)[subject])
        self.moved = {n.upper(): moved[:, i] for i, n in enumerate(done.layout.outputs)}
        solved = isinstance(model.dynamics, OdeDynamics)
        self.relative = BY_INTEGRATION if solved else 1e-9


def check(table: Table, name: str, ours: Predicted, variable: str) -> None:
    """Compare one column, row by row."""
    theirs = table.columns[name]
    value, moved = ours.values[variable], ours.moved[variable]
    scale = float(np.abs(theirs).max())
    allowed = 1.01 * table.unit(name) + moved + ours.relative * np.maximum(np.abs(theirs), 1e-3 * scale)
    worst = int(np.argmax(np.abs(value - theirs) / allowed))
    assert abs(value[worst] - theirs[worst]) <= allowed[worst], (
        f"{table.file} {name}: row {worst}: {value[worst]} against {theirs[worst]}"
    )


def copied_at_typical_values(model: Model) -> set[str]:
    """Return the variables that NONMEM's copying pass with eta = 0 assigns (COMACT is 1 there)."""
    found: set[str] = set()
    for statement in model.observation.statements:
        if isinstance(statement, If) and any(
            part == Known("comact") for condition in conditions(statement) for part in walk(condition)
        ):
            found |= {a.target.upper() for a in assignments((statement,))}
    return found


@pytest.mark.parametrize("name", case_names("nonmem"))
def test_population_predictions(name: str) -> None:
    run = load("nonmem", name)
    model = run.model()
    tables = [t for t in run.tables(model) if "PRED" in t.columns]
    if not tables:
        pytest.skip("the run has no table with PRED")
    data = run.data(model)
    ours = Predicted(run, model, np.zeros((data.n_subjects, model.n_etas)))
    for table in tables:
        assert len(table.columns["PRED"]) == data.n_records
        check(table, "PRED", ours, model.observation.response.upper())


@pytest.mark.parametrize("name", case_names("nonmem"))
def test_variables_at_the_conditional_modes(name: str) -> None:
    run = load("nonmem", name)
    method = str(run.case["estimates"][-1]["method"]) if run.case.get("estimates") else ""
    if "Conditional" not in method:
        pytest.skip("the tables hold variables at conditional modes for conditional methods only")
    model = run.model()
    modes = run.modes()
    tables = run.tables(model)
    if modes is None or not tables:
        pytest.skip("the run has no modes or no tables")
    ours = Predicted(run, model, modes)
    copied = copied_at_typical_values(model)
    typical = Predicted(run, model, np.zeros_like(modes), comact=1) if copied else ours
    given = {n.upper() for n in model.inputs.names}
    compared = 0
    for table in tables:
        for column in table.columns:
            if column.upper() in ours.values and column.upper() not in {*given, "Y"}:
                check(table, column, typical if column.upper() in copied else ours, column.upper())
                compared += 1
    if not compared:
        pytest.skip("the tables hold no variable of the model")
