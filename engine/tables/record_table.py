"""The table of all records: data, variables of the model, predictions and residuals."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd

from ..diagnostics.residuals import Individual, Residuals
from ..diagnostics.simulation_residuals import Limits
from ..estimate import Array, Estimate
from ..ir.expression import Expression, Known, Number, nodes
from ..ir.model import Model
from ..ir.statement import transform_statements
from ..objective.population import Population
from .items import SIMULATED, TableSettings, asked, slope_item
from .tabulation import Tabulation

EVENTS = ("TIME", "AMT", "EVID", "MDV", "CMT", "RATE", "II", "ADDL", "SS")


def record_table(
    population: Population,
    estimate: Estimate,
    individual: Individual,
    objective: Array,
    *,
    interaction: bool = True,
    first_order: bool = False,
) -> tuple[pd.DataFrame, Residuals]:
    """Return one row for each record under the names that tables use, and the residuals of the fit.

    Data items, variables of the model at the etas that are shown, these etas, all predictions and residuals.
    Those by simulation and derivatives (G11, H21, ...) are there where a table asks for them. Subjects whose
    model has no value there have NaN. In the table observations that the fit leaves out are like all others.

    Parameters
    ----------
    objective
        [id], contributions to the objective (OBJI).
    interaction, first_order
        See :class:`.residuals.Residuals`.
    """
    model, data = population.model, population.data.for_tables()
    wanted, settings = asked(model), TableSettings.of(model)
    shown = population if data is population.data else Population(model, data, population.threads)
    tabulation = Tabulation(shown)
    made = tabulation(
        estimate, individual.eta, individual.component, individual.component_eta, conditional=individual.shown
    )
    columns: dict[str, Array] = {
        name.upper(): made.values[0, :, i] for i, name in enumerate(made.layout.outputs) if "@" not in name
    }
    left_out = columns.setdefault("MDVRES", np.zeros(data.n_records))

    def of(which: Population) -> Residuals:
        return Residuals(
            which,
            estimate,
            individual,
            interaction=interaction,
            first_order=first_order,
            settings=settings,
            left_out=left_out,
        )

    residuals = of(shown)
    columns = residuals.columns() | columns  # a variable of the user's own goes by its name
    if wanted & set(SIMULATED):
        columns = _simulated(residuals, individual, first_order) | columns
    columns = _slopes(model, residuals, individual, wanted) | columns
    columns |= {"OBJI": objective[data.subject]}
    columns |= {f"ETA{k + 1}": individual.eta[data.subject, k] for k in range(model.n_etas)}
    table = pd.DataFrame(columns | _data_items(population))
    return table, residuals if shown is population else of(population)


def _simulated(residuals: Residuals, individual: Individual, first_order: bool) -> dict[str, Array]:
    """Return the residuals by simulation, where the model may say otherwise what an observation is."""
    population, estimate = residuals.population, residuals.estimate
    model = _computing_errors(population.model)
    if model != population.model:
        population = Population(model, population.data, population.threads)
    made = Tabulation(population)(
        estimate, individual.eta, individual.component, individual.component_eta, conditional=individual.shown
    )
    upper_case = [name.upper() for name in made.layout.outputs]

    def variable(name: str, default: float) -> Array:
        if name in upper_case:
            return made.values[0, :, upper_case.index(name)]
        return np.full(population.data.n_records, default)

    own = Residuals(
        population,
        estimate,
        individual,
        interaction=residuals.interaction,
        first_order=first_order,
        settings=residuals.settings,
        left_out=variable("MDVRES", 0.0),
    )
    limits = Limits(variable("DV_LOQ", -np.inf), variable("DV_LAQ", np.inf))
    if not np.isfinite([limits.lower, limits.upper]).any():
        return own.simulated()
    return own.simulated(limits, quantified=residuals.normal)


def _computing_errors(model: Model) -> Model:
    """Return ``model`` as it is where normalised prediction errors are computed."""
    if Known("npde_mode") not in nodes((model.individual, model.observation.statements)):
        return model

    def change(node: Expression) -> Expression:
        return Number(1.0) if node == Known("npde_mode") else node

    observation = model.observation
    return model.replace(
        individual=transform_statements(model.individual, change),
        observation=replace(observation, statements=transform_statements(observation.statements, change)),
    )


def _slopes(model: Model, residuals: Residuals, individual: Individual, wanted: set[str]) -> dict[str, Array]:
    """Return the derivatives of the response at the etas that are shown, of those that tables ask for."""
    items = {name: slope for name in wanted if (slope := slope_item(name)) is not None}
    if not items:
        return {}
    response = residuals.response(individual.eta)
    out = {}
    for name, item in items.items():
        if item.number > (model.n_etas if item.kind == "eta" else model.n_eps):
            continue
        if item.eta:
            out[name] = response.eps_slope[:, item.number - 1, item.eta - 1]
        else:
            out[name] = (response.slope if item.kind == "eta" else response.eps)[:, item.number - 1]
    return out


def _data_items(population: Population) -> dict[str, Array]:
    """Return the data items by all their names, and what the events are where the data do not say."""
    data = population.data
    values = data.values | data.shown
    columns = {name.upper(): own for name, own in values.items()}
    for column in population.model.inputs.columns:
        for alias in column.aliases:
            columns.setdefault(alias.upper(), values[column.name])
    for name in EVENTS:
        columns.setdefault(name, data.event[name])
    return columns
