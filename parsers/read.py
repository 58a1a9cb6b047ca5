"""Reading a control file and its data: the entrance to the parsers."""

from __future__ import annotations

from pathlib import Path

from ..engine.ir.dataset import DataSet
from ..engine.ir.model import Model
from .mlxtran.data import read_records as read_monolix_records
from .mlxtran.lower import is_project
from .mlxtran.lower import lower as lower_project
from .nmtran.data import read_records
from .nmtran.lower import lower
from .problem import Problem, ProblemError
from .source import Source, read_source


def read_model(path: str | Path) -> Model:
    """Read the control stream at ``path``: the model of its first problem.

    Raises
    ------
    ProblemError
        With every problem found, the unreadable file included.
    """
    return read_models(path)[0]


def read_models(path: str | Path) -> tuple[Model, ...]:
    """Read the control stream at ``path``: the models of all its problems, in order.

    Raises
    ------
    ProblemError
        With every problem found, the unreadable file included.
    """
    try:
        source = read_source(path)
    except OSError as error:
        raise ProblemError([Problem(f"cannot read {path}: {_reason(error)}", None)]) from None
    return _lower(source)


def parse_model(text: str, path: str = "model.ctl") -> Model:
    """Return the first model of a control stream given as text; ``path`` is its name in messages.

    Raises
    ------
    ProblemError
        With every problem found.
    """
    return parse_models(text, path)[0]


def parse_models(text: str, path: str = "model.ctl") -> tuple[Model, ...]:
    """Return the models of all problems of a control stream given as text.

    Raises
    ------
    ProblemError
        With every problem found.
    """
    return _lower(Source(path, text))


def read_data(model: Model, file: str | Path | None = None) -> DataSet:
    """Read the data of ``model``, or those in ``file`` in their place.

    A relative path in the control stream starts at the control stream's folder; ``file`` is taken as it
    is.

    Raises
    ------
    ProblemError
        Where the file is missing or its content does not fit the model.
    """
    path = Path(file) if file is not None else Path(model.path).parent / model.inputs.file
    try:
        source = read_source(path)
    except OSError as error:
        problem = Problem(
            f"cannot read the data file {path}: {_reason(error)}",
            model.inputs.file_span if file is None else None,
            "a relative path starts at the control stream's folder",
        )
        raise ProblemError([problem], {model.path: model.source}) from None
    return (read_monolix_records if model.language == "mlxtran" else read_records)(model, source)


def _lower(source: Source) -> tuple[Model, ...]:
    return (lower_project(source),) if is_project(source) else lower(source)


def _reason(error: OSError) -> str:
    return error.strerror or type(error).__name__
