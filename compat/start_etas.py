"""Random effects that searches may begin with: $ETAS and $PHIS, values or the table of an earlier run.

Where initial estimates are taken from an ``.ext`` file, the ``.phi`` file beside it tells in which mode each
subject was.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..engine.estimate import Estimate, initial
from ..engine.ir.dataset import DataSet
from ..engine.ir.evaluate import evaluate
from ..engine.ir.model import Model
from ..engine.ir.mu import linear_variable
from ..engine.ir.task import OtherTask
from ..engine.mu_model import MuTermColumn
from ..parsers.problem import Problem, ProblemError

Array = NDArray[np.float64]
_BETWEEN = re.compile(r"\s*,\s*(?![^(]*\))|\s+")  # the comma inside ETC(1,1) is none
LAST = "last"
_NUMBER = re.compile(r"TABLE NO\.\s+(\d+)")


def start_etas(model: Model, data: DataSet, start: Estimate | None = None) -> Array | None:
    """Return the random effects [id, eta] that $ETAS or $PHIS of ``model`` give, None where neither is there.

    Phis are MU_n plus eta, MU_n taken at ``start`` (default: the initial estimates). Raises
    :class:`ProblemError` where the file cannot be read or does not fit.
    """
    tasks = [task for task in model.other_tasks if task.name in ("etas", "phis")]
    if not tasks:
        return None
    if len(tasks) > 1:
        raise _problem("$ETAS and $PHIS are given more than once", tasks[1], "keep one of them")
    (task,) = tasks
    options = dict(task.options)
    if "FILE" in options:
        values, is_phi = _read(model, data, task, options)
    else:
        values, is_phi = _same_for_all(model, data, task, options), task.name == "phis"
    return _etas(values, model, data, task, start) if is_phi else values


def etas_beside(path: Path, model: Model, data: DataSet, start: Estimate) -> Array | None:
    """Return the random effects [id, eta] in the ``.phi`` file beside the estimates at ``path``.

    Its last table counts. None where there is no such file or it is of another model or other data: the
    values are only where searches begin.
    """
    file = path.with_suffix(".phi")
    if path.suffix.lower() != ".ext" or not file.is_file():
        return None
    task = OtherTask("etas", (("FILE", str(file.resolve())), ("TBLN", LAST)))
    try:
        values, is_phi = _read(model, data, task, dict(task.options))
        return _etas(values, model, data, task, start) if is_phi else values
    except ProblemError:
        return None


def _etas(values: Array, model: Model, data: DataSet, task: OtherTask, start: Estimate | None) -> Array:
    """Return the etas of phis [id, eta], which are changed."""
    theta = (start or initial(model)).theta
    for k in range(model.n_etas):
        values[:, k] -= _mu(model, data, theta, k + 1, task)
    return values


def _mu(model: Model, data: DataSet, theta: Array, eta: int, task: OtherTask) -> Array:
    """Return MU_eta [id] at the first record of each subject; 0 where the model has no such variable.

    As in NONMEM the name makes the reference: without it phi is eta.
    """
    try:
        found = linear_variable(model, f"MU_{eta}")
    except KeyError:
        return np.zeros(data.n_subjects)
    if found is None:
        raise _problem(
            f"MU_{eta} is no linear function of thetas or their logarithms, so the phi of ETA({eta}) is not "
            "known",
            task,
            "give etas with $ETAS",
        )
    first = np.searchsorted(data.subject, np.arange(data.n_subjects))
    columns = {name: values[first] for name, values in (data.event | data.values).items()}
    mu = np.zeros(data.n_subjects)
    if found.offset is not None:
        mu += evaluate(found.offset, columns)
    for term in found.terms:
        design = evaluate(term.design, columns) * np.ones(data.n_subjects)
        column = MuTermColumn(eta - 1, term.theta - 1, term.transform, design)
        mu += design * column.to_scale(float(theta[column.theta]))
    return mu


def _problem(message: str, task: OtherTask, hint: str = "") -> ProblemError:
    return ProblemError([Problem(message, task.span, hint)])


def _same_for_all(model: Model, data: DataSet, task: OtherTask, options: dict[str, str]) -> Array:
    words = re.split(r"[\s,]+", options.get("VALUES", "").strip())
    try:
        given = [float(word.replace("D", "E")) for word in words if word]
    except ValueError as error:
        raise _problem(f"${task.name.upper()} holds text that is no number: {error}", task) from error
    if not given or len(given) > model.n_etas:
        raise _problem(f"${task.name.upper()} has {len(given)} values for {model.n_etas} etas", task)
    row = np.zeros(model.n_etas)
    row[: len(given)] = given
    return np.tile(row, (data.n_subjects, 1))


def _read(model: Model, data: DataSet, task: OtherTask, options: dict[str, str]) -> tuple[Array, bool]:
    """Return the values of the table asked for, by ID, and whether they are phis."""
    path = Path(model.path).parent / options["FILE"].strip("\"'")
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError as error:
        raise _problem(f"cannot read the random effects in {path}: {error.strerror}", task) from error
    wanted = options.get("TBLN", "1")
    tables: dict[str, list[list[str]]] = {}
    current = tables.setdefault("1", [])
    for line in lines:
        head = _NUMBER.match(line.strip())
        if head:
            current = tables[head.group(1)] = []
        elif line.strip():
            current.append(_BETWEEN.split(line.strip()))
    rows = list(tables.values())[-1] if wanted == LAST else tables.get(wanted, [])
    if len(rows) < 2:
        raise _problem(f"{path} has no table {wanted}", task, "see TBLN")
    labels = [label.upper() for label in rows[0]]
    letters = "PHI" if "PHI(1)" in labels else "ETA"
    names = [f"{letters}({i + 1})" for i in range(model.n_etas)]
    lacking = [name for name in ("ID", *names) if name not in labels]
    if lacking:
        raise _problem(
            f"{path} has no column {lacking[0]}", task, "expected a .phi file of a run of this model"
        )
    columns = [labels.index(name) for name in ("ID", *names)]
    try:
        table = np.array([[float(row[c]) for c in columns] for row in rows[1:]])
    except (ValueError, IndexError) as error:
        raise _problem(f"table {wanted} of {path} cannot be read: {error}", task) from error
    return _by_id(table, data, task, path), letters == "PHI"


def _by_id(table: Array, data: DataSet, task: OtherTask, path: Path) -> Array:
    """Return one row a subject: those of equal ID in their order."""
    waiting: dict[float, list[Array]] = {}
    for row in table:
        waiting.setdefault(float(row[0]), []).append(row[1:])
    found = []
    for ident in data.ids:
        rows = waiting.get(float(ident), [])
        if not rows:
            raise _problem(f"{path} has no random effects of ID {ident:g}", task)
        found.append(rows.pop(0) if len(rows) > 1 else rows[0])
    return np.array(found)
