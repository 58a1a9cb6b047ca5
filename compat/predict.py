"""Population predictions of a model at given estimates, as a table: ``elbomix predict``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from ..engine.estimate import initial
from ..engine.failure import ModelFailure
from ..engine.ir.compartment import OdeDynamics
from ..engine.ir.dataset import DataSet
from ..engine.ir.model import Model
from ..parsers.problem import Problem, ProblemError
from ..parsers.read import read_data
from .run import read
from .start_values import read_estimates

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from ..engine.prediction.cvode import CvodeSettings

PredictionSolver = Literal["compiled", "cvode"]


def predict(
    model: Model | str | Path,
    *,
    data: str | Path | DataSet | None = None,
    estimates_from: str | Path | None = None,
    solver: PredictionSolver = "compiled",
) -> pd.DataFrame:
    """Return observations and predictions for typical subjects (eta = 0), one row for each observation.

    Columns: ``ID``, ``TIME``, ``DVID`` where there are several types of observation, ``DV`` and ``PRED``, the
    last two on the scale of the data file.

    Parameters
    ----------
    model, data, estimates_from
        As in :func:`.run.fit`.
    solver
        What solves differential equations: ``"compiled"``, as exact as the model asks; or ``"cvode"``,
        SUNDIALS' CVODE at the tolerances of the program that the model was written for, so that digits can be
        compared: of Monolix those in its documentation, of NONMEM TOL and ATOL (ADVAN14 is CVODE).

    Raises
    ------
    ProblemError
        Something in the input is wrong or cannot be predicted.
    NumericalFailure
        The equations cannot be solved at these estimates.
    """
    import pandas as pd

    from ..engine.prediction.population import population_predictions

    source = model if isinstance(model, Model) else read(model)
    settings = cvode_settings(source) if solver == "cvode" else None
    records = data if isinstance(data, DataSet) else _data(source, data)
    estimate = initial(source) if estimates_from is None else read_estimates(Path(estimates_from), source)
    try:
        found = population_predictions(source, records, estimate, settings)
    except ModelFailure as failure:
        raise _problem(source, failure) from failure
    rows = np.flatnonzero(records.is_observation)
    dv, kind = source.inputs.with_role("dv"), source.inputs.with_role("dvid")
    table: dict[str, NDArray[np.float64]] = {
        "ID": records.ids[records.subject[rows]],
        "TIME": records.event["TIME"][rows],
    }
    if kind is not None:
        table["DVID"] = records.values[kind.name][rows]
    observed = np.full(rows.size, np.nan) if dv is None else records.values[dv.name][rows]
    if source.language == "mlxtran":
        from ..parsers.mlxtran.observation_scale import to_data_scale

        observed, found = to_data_scale(source, records, observed), to_data_scale(source, records, found)
    return pd.DataFrame(table | {"DV": observed, "PRED": found})


def cvode_settings(model: Model) -> CvodeSettings:
    """Return how the program that ``model`` was written for would call CVODE.

    Monolix (Mlxtran user guide, "Type of ODE"): Adams methods with 1e-3 relative and 1e-6 absolute, for stiff
    systems backward differentiation with 1e-6 and 1e-9; begun anew at each record of a regressor.
    """
    from ..engine.prediction.cvode import CvodeSettings, is_installed

    if not is_installed():
        missing = "CVODE comes with the package scikit-sundae, which is not here"
        raise ProblemError([Problem(missing, None, 'pip install "elbomix[cvode]"')])
    dynamics = model.dynamics
    if not isinstance(dynamics, OdeDynamics):
        raise _problem(
            model,
            ModelFailure(
                "the model has no differential equations for CVODE to solve",
                None if dynamics is None else dynamics.span,
                "leave --solver at its default: closed forms are exact",
            ),
        )
    if model.language == "mlxtran":
        regressors = any(key == "regressor" for key, _ in model.inputs.options)
        if dynamics.stiff:
            return CvodeSettings("BDF", 1e-6, 1e-9, regressors)
        return CvodeSettings("Adams", 1e-3, 1e-6, regressors)
    method: Literal["Adams", "BDF"] = "BDF" if dynamics.stiff else "Adams"
    return CvodeSettings(method, dynamics.relative_tolerance, dynamics.absolute_tolerance)


def _data(model: Model, file: str | Path | None) -> DataSet:
    # joining an absolute path leaves it as it is
    return read_data(model, None if file is None else Path(model.path).parent / file)


def _problem(model: Model, failure: ModelFailure) -> ProblemError:
    problem = Problem(failure.message, failure.span, failure.hint)
    return ProblemError([problem], {model.path: model.source})
