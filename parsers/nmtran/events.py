"""What the records of a data set mean to the model: doses, observations, other events."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ...engine.ir.dataset import Role
from ...engine.ir.model import Model
from ..problem import Problem
from ..source import Source
from .fields import field_span

Array = NDArray[np.float64]

_COLUMNS: dict[str, Role] = {
    "TIME": "time",
    "EVID": "evid",
    "MDV": "mdv",
    "AMT": "amt",
    "RATE": "rate",
    "II": "ii",
    "ADDL": "addl",
    "SS": "ss",
    "CMT": "cmt",
}
_DOSE = ("AMT", "RATE", "II", "ADDL", "SS")


def event_columns(
    model: Model,
    source: Source,
    values: dict[str, Array],
    subject: NDArray[np.int64],
    line: NDArray[np.int64],
) -> tuple[dict[str, Array], list[Problem]]:
    """Return the event columns, derived where the file lacks them, and what is wrong with them.

    Without compartments (``model.dynamics`` is None) every record with MDV 0 is an observation. With
    them, a missing EVID is 1 where a dose item is not zero, else 2 where MDV is 1, else 0; a
    missing MDV is 1 where EVID is not 0.
    """
    n = len(subject)
    id_column = model.inputs.with_role("id")
    assert id_column is not None
    event: dict[str, Array] = {}
    for name, role in _COLUMNS.items():
        column = model.inputs.with_role(role)
        if column is not None:
            event[name] = values[column.name]
    given = set(event)
    if model.dynamics is None:
        event["EVID"] = np.zeros(n)
        for name in (*_DOSE, "CMT"):
            event[name] = np.zeros(n)
        given &= {"MDV", "TIME"}
    for name in (*_DOSE, "CMT"):
        event.setdefault(name, np.zeros(n))
    if "EVID" not in given and model.dynamics is not None:
        dosed = np.logical_or.reduce([event[name] != 0 for name in _DOSE])
        other = event["MDV"] != 0 if "MDV" in event else np.zeros(n, dtype=bool)
        event["EVID"] = np.where(dosed, 1.0, np.where(other, 2.0, 0.0))
    if "MDV" not in given:
        event["MDV"] = (event["EVID"] != 0).astype(np.float64)
    if "TIME" not in given:
        starts = np.flatnonzero(np.diff(subject, prepend=-1))
        event["TIME"] = (np.arange(n) - starts[subject]).astype(np.float64)
    return event, _check(model, source, event, subject, values[id_column.name], line)


def _check(
    model: Model,
    source: Source,
    event: dict[str, Array],
    subject: NDArray[np.int64],
    ids: Array,
    line: NDArray[np.int64],
) -> list[Problem]:
    found: list[Problem] = []

    def report(bad: NDArray[np.bool_], name: str, message: str, hint: str = "") -> None:
        for i in np.flatnonzero(bad)[:3]:
            position = next(
                (p for p, c in enumerate(model.inputs.columns) if c.role == _COLUMNS.get(name)), 0
            )
            span = field_span(source, int(line[i]), position)
            found.append(Problem(message.format(value=f"{event[name][i]:g}"), span, hint))

    report(
        ~np.isin(event["MDV"], (0.0, 1.0)),
        "MDV",
        "MDV must be 0 or 1, not {value}",
        "MDV of 100 and more is not supported yet" if (event["MDV"] >= 100).any() else "",
    )
    if model.dynamics is None:
        return found
    report(~np.isin(event["EVID"], (0.0, 1.0, 2.0, 3.0, 4.0)), "EVID", "EVID must be 0 to 4, not {value}")
    rate = event["RATE"]
    report(
        (rate < 0) & ~np.isin(rate, (-1.0, -2.0)),
        "RATE",
        "RATE {value} is negative",
        "RATE=-1: the rate R1... is modelled; RATE=-2: the duration D1...",
    )
    report((event["AMT"] < 0), "AMT", "AMT {value} is negative")
    last = len(model.dynamics.compartments) + 1
    cmt = event["CMT"]
    report(
        (cmt > last) | (cmt != np.floor(cmt)),
        "CMT",
        "there is no compartment {value}",
        f"the model has {last - 1}, and {last} for the output",
    )
    back = (np.diff(event["TIME"], prepend=np.inf) < 0) & (np.diff(subject, prepend=-1) == 0)
    back &= ~np.isin(event["EVID"], (3.0, 4.0))
    for i in np.flatnonzero(back)[:3]:
        position = next(p for p, c in enumerate(model.inputs.columns) if c.role == "time")
        found.append(
            Problem(
                f"TIME {event['TIME'][i]:g} is before the record above ({event['TIME'][i - 1]:g}) "
                f"in subject {ids[i]:g}",
                field_span(source, int(line[i]), position),
                "sort the records by time; a new course of treatment needs EVID=3 or 4",
            )
        )
    return found
