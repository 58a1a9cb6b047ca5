"""Reading a control file and its data: the entrance to the parsers."""

from __future__ import annotations

from pathlib import Path

from ..engine.ir.dataset import DataSet
from ..engine.ir.model import Model
from .nmtran.data import read_records
from .nmtran.lower import lower
from .problem import Problem, ProblemError
from .source import Source, read_source


def read_model(path: str | Path) -> Model:
    """Read the control stream at ``path``.

    Raises
    ------
    ProblemError
        With every problem found, the unreadable file included.
    """
    try:
        source = read_source(path)
    except OSError as error:
        raise ProblemError([Problem(f"cannot read {path}: {_reason(error)}", None)]) from None
    return lower(source)


def parse_model(text: str, path: str = "model.ctl") -> Model:
    """Return the model of a control stream given as text; ``path`` is its name in messages.

    Raises
    ------
    ProblemError
        With every problem found.
    """
    return lower(Source(path, text))


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
    return read_records(model, source)


def _reason(error: OSError) -> str:
    return error.strerror or type(error).__name__
