"""Reading a control file and its data: the entrance to the parsers."""

from __future__ import annotations

import gc
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..engine.ir.dataset import DataSet
from ..engine.ir.model import Model
from .problem import Problem, ProblemError
from .source import Source, read_source

_SECTION = re.compile(r"^[ \t]*<(DATAFILE|MODEL|MONOLIX)>", re.MULTILINE | re.IGNORECASE)


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
    if model.language == "mlxtran":
        from .mlxtran.data import read_records
    else:
        from .nmtran.data import read_records
    return read_records(model, source)


def _lower(source: Source) -> tuple[Model, ...]:
    # only the reader that is needed is imported, so that a check answers soon
    with _without_collections():
        if _is_project(source):
            from .mlxtran.lower import lower as lower_project

            return (lower_project(source),)
        from .nmtran.lower import lower

        return lower(source)


def _is_project(source: Source) -> bool:
    """Return whether ``source`` is a project of Monolix, by its name or because it has a section of one."""
    return source.path.lower().endswith(".mlxtran") or _SECTION.search(source.text) is not None


@contextmanager
def _without_collections() -> Iterator[None]:
    """Keep the garbage collector away: what is built lives on, and to look takes a third of the time."""
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()


def _reason(error: OSError) -> str:
    return error.strerror or type(error).__name__
