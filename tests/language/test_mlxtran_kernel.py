"""Projects through the compiled kernel: the predictions of scipy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from support import monolix
from support.simulation import Simulation

from elbomix.engine.ir.dataset import DataSet
from elbomix.engine.ir.model import Model
from elbomix.engine.kernel.compile import compile_kernel
from elbomix.engine.kernel.kernel import Kernel
from elbomix.engine.kernel.subjects import Subjects
from elbomix.parsers.read import read_data, read_model

PROJECTS = [
    ("m2rx-theophylline/theophylline_project", "m2rx-theophylline/tp", 1e-12),
    ("m2rx-warfarin-cov1/warfarin_covariate1_project", "m2rx-warfarin-cov1/w1", 1e-12),
    ("m2rx-warfarin-cov3/warfarin_covariate3_project", "m2rx-warfarin-cov3/w3", 1e-12),
    # the solver asks for 1e-8 a step
    ("bab-emax3-2021/pk.turnover.emax3-monolix", "bab-emax3-2021/pk.turnover.emax3-monolix", 1e-7),
    ("bab-nimo-2021/nimo", "bab-nimo-2021/nimo-monolix", 1e-7),
    ("bab-wbc-2021/wbc", "bab-wbc-2021/wbc-monolix", 1e-7),
    ("mlxr-warfarin/warfarin_project", "mlxr-warfarin/warfarin_project", 1e-7),
    # clearance rises from a time on (an ``if`` on t); the solver is told that the system is stiff
    (
        "fredhutch-ada-gui/monolix-gui-files/ada-example-files",
        "fredhutch-ada-gui/monolix-gui-files/ada-example-files",
        1e-7,
    ),
    (
        "mlxr-ug-warfarin_PKPD/warfarin_PKPD_project",
        "mlxr-ug-warfarin_PKPD/warfarin_PKPD_project",
        1e-7,
    ),
]


def by_kernel(model: Model, data: DataSet, theta: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the response of every record at eta = eps = 0."""
    kernel = Kernel(compile_kernel(model), Subjects.build(model, data))
    found = kernel.evaluate(theta, np.zeros((data.n_subjects, model.n_etas)))
    assert found.failure is None
    response: NDArray[np.float64] = found.of(model.observation.response)[0]
    return response


@pytest.mark.parametrize(("project", "results", "tolerance"), PROJECTS, ids=lambda x: str(x).split("/")[0])
def test_kernel_agrees_with_scipy(shared: Path, project: str, results: str, tolerance: float) -> None:
    folder = shared / "corpus" / "monolix"
    model = read_model(folder / f"{project}.mlxtran")
    data = read_data(model)
    theta = monolix.theta(model, monolix.estimates(folder / results))
    used = data.is_observation
    expected = Simulation(model, data).predict(theta)[used]
    np.testing.assert_allclose(by_kernel(model, data, theta)[used], expected, rtol=tolerance, atol=1e-10)
