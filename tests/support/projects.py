"""Mlxtran projects put together from their parts, with the model inline, and their data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from elbomix.engine.ir.dataset import DataSet
from elbomix.engine.ir.model import Model
from elbomix.parsers.read import parse_model, read_data

ORAL = "Cc = pkmodel(ka, V, Cl)"
INDIVIDUAL = {
    name: f"{{distribution=logNormal, typical={name}_pop, sd=omega_{name}}}" for name in "ka V Cl".split()
}


def project(
    equations: str = ORAL,
    individual: dict[str, str] | None = None,
    content: str = "",
    header: str = "ID, TIME, AMT, DV",
    observation: str = "{use=observation, name=y, type=continuous}",
    error: str = "y = {distribution=normal, prediction=Cc, errorModel=constant(a)}",
    covariate: str = "",
    correlation: str = "",
    fit: str = "data = y\nmodel = y",
    parameters: str = "",
    inputs: str = "",
    monolix: str = "",
    file_info: str = "delimiter = comma",
) -> str:
    """Return the text of a project; every individual parameter is an input of the model."""
    individual = INDIVIDUAL if individual is None else individual
    definitions = "\n".join(f"{name} = {text}" for name, text in individual.items())
    entries = [
        f"{n}_pop = {{value=1.5, method=MLE}}\nomega_{n} = {{value=0.5, method=MLE}}" for n in individual
    ]
    return f"""<DATAFILE>
[FILEINFO]
file = 'data.csv'
{file_info}
header = {{{header}}}
[CONTENT]
ID = {{use=identifier}}
TIME = {{use=time}}
AMT = {{use=amount}}
DV = {observation}
{content}
<MODEL>
{covariate}
[INDIVIDUAL]
DEFINITION:
{definitions}
{correlation}
[LONGITUDINAL]
input = {{{", ".join([*individual, "a"])}}}
{inputs}
EQUATION:
{equations}
DEFINITION:
{error}
<FIT>
{fit}
<PARAMETER>
a = {{value=0.7, method=MLE}}
{chr(10).join(entries)}
{parameters}
<MONOLIX>
[TASKS]
populationParameters()
{monolix}
"""


def read(folder: Path, data: str, **parts: Any) -> tuple[Model, DataSet]:
    """Return the model of :func:`project` and its records, from ``data`` written into ``folder``."""
    (folder / "data.csv").write_text(data, encoding="utf-8")
    model = parse_model(project(**parts), str(folder / "p.mlxtran"))
    return model, read_data(model)
