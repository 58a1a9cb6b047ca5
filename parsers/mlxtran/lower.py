"""From the sections of a project to a model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from ...engine.ir.model import Model
from ..source import Source
from .context import Context, suggest
from .covariates import lower_covariates
from .individual import lower_individual
from .lexical import read_document
from .longitudinal import Longitudinal, lower_longitudinal
from .lower_inputs import lower_data_file
from .lower_tasks import lower_tasks
from .observations import lower_observations
from .parameters import lower_parameters
from .structure import Structure, lower_structure

# <SECTION> -> its [SUBSECTION]s
_SECTIONS: dict[str, set[str]] = {
    "DATAFILE": {"", "FILEINFO", "CONTENT", "SETTINGS", "FILTER", "APPLICATION"},
    "DATA_FORMATTING": {"", "FILEINFO", "CONTENT", "OPERATIONS", "SETTINGS"},
    "MODEL": {"", "COVARIATE", "INDIVIDUAL", "LONGITUDINAL", "POPULATION"},
    "FIT": {""},
    "PARAMETER": {""},
    "MONOLIX": {"", "TASKS", "SETTINGS", "COMMENTS"},
}


def lower(source: Source) -> Model:
    """Return the model that the project ``source`` describes, with the model file it names.

    Raises
    ------
    ProblemError
        With everything found.
    """
    context = Context(read_document(source))
    try:
        model = _lower(context)
    except RecursionError:  # hundreds of terms in one sum
        model = None
        context.error("an expression is nested too deeply", context.top, "split it into several equations")
    context.stop_at_errors()
    assert model is not None
    return model.replace(notices=tuple(context.notices))


def _lower(context: Context) -> Model | None:
    if not _check_sections(context):
        return None
    data = lower_data_file(context)
    parameters = lower_parameters(context)
    if data is None:
        return None
    covariates = lower_covariates(context, data)
    individual = lower_individual(context, parameters, covariates)
    estimations, covariance = lower_tasks(context)
    model = lower_longitudinal(context, data, individual.names)
    if model is None or context.broken:
        return None
    structure = lower_structure(context, model, data)
    _check_outputs(context, model, structure)
    observed = lower_observations(context, model, structure, data, parameters)
    if observed is None:
        return None
    observation, sigma, types = observed
    reading = replace(data.reading, observed=types, routes=structure.routes)
    source = context.project.source
    return Model(
        Path(source.path).stem,
        "mlxtran",
        source.path,
        replace(data.inputs, options=reading.options()),
        tuple(parameters.thetas),
        individual.omega,
        sigma,
        (*covariates.statements, *individual.statements, *structure.individual),
        structure.dynamics,
        observation,
        estimations,
        covariance,
        source=source.text,
        source_sha256=source.sha256,
    )


def _check_sections(context: Context) -> bool:
    """Report what is no project, and note sections that are not known."""
    document = context.project
    sections = {block.section for block in document.blocks}
    if not {"DATAFILE", "MODEL"} <= sections:
        old = next(
            (b for b in document.blocks if not b.section and b.name in ("DATA", "STRUCTURAL_MODEL")), None
        )
        if old is not None:
            context.error(
                "projects of Monolix 4.2 and before are not supported",
                old.head,
                "open it in a later version and save it",
            )
        else:
            missing = "DATAFILE" if "DATAFILE" not in sections else "MODEL"
            context.error(f"there is no <{missing}>", context.top, "a project has <DATAFILE> and <MODEL>")
        return False
    for block in document.blocks:
        if block.section and block.section not in _SECTIONS:
            if not block.subsection and not block.name:
                hint = suggest(block.section, _SECTIONS)
                context.notice(f"<{block.section}> is not known and has no effect {hint}".strip(), block.head)
        elif block.section and block.subsection not in _SECTIONS[block.section] and not block.name:
            context.notice(f"[{block.subsection}] is not known here and has no effect", block.head)
        elif block.subsection == "POPULATION" and block.section == "MODEL" and not block.name:
            context.error("prior distributions ([POPULATION]) are not supported yet", block.head)
    return True


def _check_outputs(context: Context, model: Longitudinal, structure: Structure) -> None:
    for name, span in model.outputs:
        if name not in structure.known and name not in structure.amounts:
            known = {*structure.known, *structure.amounts, *(d.key for _, d in model.observations)}
            if name not in known:
                context.error(f"the output {name} is not defined", span, suggest(name, known))
