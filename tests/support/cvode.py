"""Predictions by SUNDIALS' CVODE at the tolerances of Monolix, to tell its solver's error from a wrong model.

The documentation of Mlxtran ("Type of ODE") names Adams methods with 1e-6 absolute and 1e-3 relative for
systems that are not stiff, backward differentiation with 1e-9 and 1e-6 for stiff ones. Started anew at each
dose (with regressors: at each record), free to step beyond the records and to interpolate back, Newton's
iteration with a Jacobian by differences: so CVODE prints Monolix's digits.

The values are kept in ``tests/language/cvode``, one line for each observation, so that nobody needs SUNDIALS;
with scikit-sundae installed, ``python -m support.cvode FOLDER`` (in ``tests``; the folder is that of the
reference results) writes them again, and a test compares.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from elbomix.engine.ir.compartment import OdeDynamics
from elbomix.engine.ir.dataset import DataSet
from elbomix.engine.ir.model import Model
from elbomix.parsers.read import read_data, read_model

from . import monolix
from .simulation import Simulation, World

Array = NDArray[np.float64]
KEPT = Path(__file__).resolve().parents[1] / "language" / "cvode"


@dataclass(frozen=True)
class Tolerance:
    """A method of CVODE and the error a step may make."""

    method: str
    relative: float
    absolute: float


NONSTIFF = Tolerance("Adams", 1e-3, 1e-6)
STIFF = Tolerance("BDF", 1e-6, 1e-9)


@dataclass(frozen=True)
class Case:
    """A project with the results of Monolix.

    ``outputs`` are the files of predictions with the value of the observation type each holds (None: all).
    ``same`` is the number of predictions that CVODE gives with all six digits of Monolix.
    """

    folder: str
    project: str
    results: str
    same: int
    outputs: tuple[tuple[str, float | None], ...] = (("predictions.txt", None),)
    lognormal: bool = False  # the model is on the log scale, the printed prediction is not

    def read(self, corpus: Path) -> tuple[Model, DataSet, Array]:
        """Return model, data, and the fixed effects at Monolix's estimates."""
        folder = corpus / self.folder
        model = read_model(folder / self.project)
        return model, read_data(model), monolix.theta(model, monolix.estimates(folder / self.results))

    def printed(self, corpus: Path, model: Model, data: DataSet) -> Array:
        """Return Monolix's population predictions in the order of the observations."""
        found = np.full(data.n_records, np.nan)
        kind = model.inputs.with_role("dvid")
        for file, value in self.outputs:
            rows = data.is_observation
            if value is not None and kind is not None:
                rows = rows & (data.values[kind.name] == value)
            columns = monolix.predictions(corpus / self.folder / self.results / file)
            np.testing.assert_array_equal(data.event["TIME"][rows], np.array(columns["time"], dtype=float))
            found[rows] = np.array(columns["popPred"], dtype=float)
        return found[data.is_observation]

    def predicted(self, simulation: Simulation, theta: Array) -> Array:
        """Return the predictions of ``simulation`` at the observations, on the scale of Monolix's."""
        found = simulation.predict(theta)[simulation.data.is_observation]
        return np.exp(found) if self.lognormal else found


_EMAX = (("predictions_rx_prd_cp.txt", 1.0), ("predictions_rx_prd_effect.txt", 2.0))
CASES = {
    "emax": Case(
        "bab-emax3-2021", "pk.turnover.emax3-monolix.mlxtran", "pk.turnover.emax3-monolix", 478, _EMAX
    ),
    "nimotuzumab": Case("bab-nimo-2021", "nimo.mlxtran", "nimo-monolix", 321, lognormal=True),
    "neutropenia": Case("bab-wbc-2021", "wbc.mlxtran", "wbc-monolix", 128),
    "antibodies": Case(
        "fredhutch-ada-gui/monolix-gui-files", "ada-example-files.mlxtran", "ada-example-files", 139
    ),
}


class CvodeSimulation(Simulation):
    """A simulation whose differential equations CVODE solves."""

    def __init__(self, model: Model, data: DataSet) -> None:
        super().__init__(model, data)
        self._cvode = import_module("sksundae.cvode").CVODE
        assert isinstance(model.dynamics, OdeDynamics)
        tolerance = STIFF if model.dynamics.stiff else NONSTIFF
        self._options = {
            "method": tolerance.method,
            "rtol": tolerance.relative,
            "atol": tolerance.absolute,
            "max_num_steps": 1_000_000,
        }
        self._anew = any(key == "regressor" for key, _ in model.inputs.options)
        self._reached: tuple[float, Array, Array] | None = None

    def _subject(self, rows: NDArray[np.intp], theta: Array) -> list[float]:
        self._reached = None
        return super()._subject(rows, theta)

    def _advance(
        self, amounts: Array, rates: Array, start: float, stop: float, worlds: list[World], k: int
    ) -> Array:
        if stop <= start:
            return amounts
        if self._anew or not self._goes_on(start, amounts, rates):
            at_start = self.model.inputs.interval_value == "start"
            self._start(amounts, rates.copy(), start, worlds[max(0, k - 1) if at_start else k])
        found: Array = self._solver.step(stop, method="normal").y.copy()
        self._reached = stop, found.copy(), rates.copy()
        return found

    def _goes_on(self, start: float, amounts: Array, rates: Array) -> bool:
        if self._reached is None:
            return False
        time, reached, before = self._reached
        return time == start and np.array_equal(reached, amounts) and np.array_equal(before, rates)

    def _start(self, amounts: Array, rates: Array, start: float, world: World) -> None:
        local = World(world.theta, world.columns, dict(world.variables), eta=world.eta)

        def slopes(t: float, y: Array, out: Array) -> None:
            local.time, local.amounts = t, y
            self._slopes(local)
            for i in range(self._n):
                out[i] = local.variables[f"DADT({i + 1})"] + rates[i]

        self._solver = self._cvode(slopes, **self._options)
        self._solver.init_step(start, amounts.copy())


def six_digits(values: Array) -> Array:
    """Return ``values`` as Monolix prints them."""
    return np.array([float(f"{value:.6g}") for value in values])


def kept(name: str) -> Array:
    """Return the values of ``CASES[name]`` that were kept."""
    return np.loadtxt(KEPT / f"{name}.txt", dtype=np.float64)


def main(corpus: Path) -> None:
    """Write the values of all cases."""
    for name, case in CASES.items():
        model, data, theta = case.read(corpus)
        found = case.predicted(CvodeSimulation(model, data), theta)
        np.savetxt(KEPT / f"{name}.txt", found, fmt="%.12g")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
