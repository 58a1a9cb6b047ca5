"""Predictions and variables against the tables that NONMEM wrote, at its final estimates."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from support.nonmem_runs import Run, Table, case_names, load

from elbomix.engine.ir.compartment import OdeDynamics
from elbomix.engine.ir.model import Model
from elbomix.engine.kernel.compile import compile_kernel
from elbomix.engine.kernel.kernel import Directions, Kernel
from elbomix.engine.kernel.subjects import Subjects

BY_INTEGRATION = 1e-4


class Predicted:
    """All outputs of the kernel at the final estimates, and how far the digits of these can move them."""

    def __init__(self, run: Run, model: Model, eta: NDArray[np.float64]) -> None:
        kernel = Kernel(compile_kernel(model), Subjects.build(model, run.data(model)))
        n_theta, n_eta = len(model.thetas), model.n_etas
        free = [j for j, theta in enumerate(model.thetas) if not theta.fixed]
        along = np.zeros((n_theta, len(free)))
        along[free, np.arange(len(free))] = 1.0
        done = kernel.evaluate(run.theta, eta, Directions(along, np.zeros((n_eta, len(free)))))
        assert done.failure is None, done.failure
        printed = np.array([0.5 * 10.0 ** (np.floor(np.log10(abs(t) or 1.0)) - 5) for t in run.theta[free]])
        self.values = {n.upper(): done.values[0, :, i] for i, n in enumerate(done.layout.outputs)}
        moved = np.abs(done.derivatives[0]) @ printed
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
