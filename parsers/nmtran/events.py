"""What the records of a data set mean to the model: doses, observations, other events."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ...engine.ir.dataset import Role
from ...engine.ir.model import Model
from ..problem import Problem
from .rows import Rows

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
# Arrays that are there only where $INPUT names the item.
_OPTIONAL: dict[str, Role] = {"PCMT": "pcmt", "CALL": "call", "CONT": "cont", "L2": "l2"}
_DOSE = ("AMT", "RATE", "II", "ADDL", "SS")
_OUTPUT_NUMBERS = (
    1000.0,
    100.0,
)  # CMT of the output compartment in a model of any (of up to 99) compartments
_SMALL = 99


def event_columns(
    model: Model, rows: Rows, values: dict[str, Array], subject: NDArray[np.int64], ids: Array
) -> tuple[dict[str, Array], list[Problem]]:
    """Return the event columns, derived where the file lacks them, and what is wrong with them.

    Without compartments (``model.dynamics`` is None) every record with MDV 0 is an observation. With
    them, a missing EVID is 1 where a dose item is not zero, else 2 where MDV is 1 or 101, else 0; a
    missing MDV is 1 where EVID is not 0. MDV of 100 and 101 counts as 1: NONMEM leaves these records out
    of estimation; for all other purposes ``values`` gets 0 and 1.
    """
    n = len(subject)
    event: dict[str, Array] = {}
    later = np.zeros(n, dtype=np.bool_)
    for name, role in (*_COLUMNS.items(), *_OPTIONAL.items()):
        column = model.inputs.with_role(role)
        if column is not None:
            event[name] = values[column.name]
            if role == "mdv":
                later = np.isin(event[name], (100.0, 101.0))
                event[name] = np.where(later, 1.0, event[name])
                values[column.name] = np.where(later, values[column.name] - 100.0, values[column.name])
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
        column = model.inputs.with_role("mdv")
        other = values[column.name] != 0 if column is not None else np.zeros(n, dtype=bool)
        event["EVID"] = np.where(dosed, 1.0, np.where(other, 2.0, 0.0))
    if "MDV" not in given:
        event["MDV"] = (event["EVID"] != 0).astype(np.float64)
    starts = np.flatnonzero(np.diff(subject, prepend=-1))
    if "TIME" not in given:
        event["TIME"] = (np.arange(n) - starts[subject]).astype(np.float64)
    if model.dynamics is not None:
        _continue(event, subject)
        _number_output(event, len(model.dynamics.compartments))
    return event, _check(model, rows, event, subject, ids, later)


def _continue(event: dict[str, Array], subject: NDArray[np.int64]) -> None:
    """Let records that the next one continues (CONT=1) do nothing, at the time of the record before."""
    if "CONT" not in event or not event["CONT"].any():
        return
    continued = event["CONT"] != 0
    for name in ("EVID", "MDV", *_DOSE, "CMT", "TIME"):
        event[name] = event[name].copy()
    event["EVID"][continued], event["MDV"][continued] = 2.0, 1.0
    for name in (*_DOSE, "CMT"):
        event[name][continued] = 0.0
    for i in np.flatnonzero(continued):
        if i and subject[i] == subject[i - 1]:
            event["TIME"][i] = event["TIME"][i - 1]
        else:
            later = np.flatnonzero((subject == subject[i]) & ~continued)
            event["TIME"][i] = event["TIME"][later[0]] if later.size else 0.0


def _number_output(event: dict[str, Array], compartments: int) -> None:
    """Replace the numbers that stand for the output compartment by its own."""
    for name in ("CMT", "PCMT"):
        for code in _OUTPUT_NUMBERS[: 2 if compartments <= _SMALL else 1]:
            if name in event and compartments < code:
                numbers = event[name]
                replaced = np.sign(numbers) * (compartments + 1)
                event[name] = np.where(np.abs(numbers) == code, replaced, numbers)


def _check(
    model: Model,
    rows: Rows,
    event: dict[str, Array],
    subject: NDArray[np.int64],
    ids: Array,
    later: NDArray[np.bool_],
) -> list[Problem]:
    found: list[Problem] = []
    roles = [column.role for column in model.inputs.columns]

    def report(bad: NDArray[np.bool_], name: str, message: str, hint: str = "") -> None:
        role = (_COLUMNS | _OPTIONAL)[name]
        position = roles.index(role) if role in roles else 0
        for i in np.flatnonzero(bad)[:3]:
            text = message.format(value=f"{event[name][i]:g}")
            found.append(Problem(text, rows.place(int(i), position), hint))

    report(~np.isin(event["MDV"], (0.0, 1.0)), "MDV", "MDV must be 0 or 1 (100 or 101), not {value}")
    if model.dynamics is None:
        return found
    evid = event["EVID"]
    report(~np.isin(evid, (0.0, 1.0, 2.0, 3.0, 4.0)), "EVID", "EVID must be 0 to 4, not {value}")
    report(
        later & np.isin(evid, (1.0, 3.0, 4.0)),
        "MDV",
        "a dose or reset that does not count in estimation (MDV of 100 or more) is not supported",
        "give it MDV=1, or ignore the record",
    )
    rate = event["RATE"]
    report(
        (rate < 0) & ~np.isin(rate, (-1.0, -2.0)),
        "RATE",
        "RATE {value} is negative",
        "RATE=-1: the rate R1... is modelled; RATE=-2: the duration D1...",
    )
    report((event["AMT"] < 0), "AMT", "AMT {value} is negative")
    if "evid" in roles:
        gives_none = np.isin(evid, (0.0, 2.0, 3.0))
        hint = "a dose has EVID=1 (or 4); other records have 0 in the dose items"
        for name in ("AMT", "RATE"):
            report(
                gives_none & (event[name] != 0),
                name,
                f"{name} {{value}} on a record that gives no dose",
                hint,
            )
    last = len(model.dynamics.compartments) + 1
    for name in ("CMT", "PCMT"):
        if name in event:
            number = event[name]
            report(
                ((np.abs(number) > last) | (number != np.floor(number))) & (evid != 3),
                name,
                "there is no compartment {value}",
                f"the model has {last - 1}, and {last} for the output",
            )
    time = event["TIME"]
    back = (
        (np.diff(time, prepend=np.inf) < 0) & (np.diff(subject, prepend=-1) == 0) & ~np.isin(evid, (3.0, 4.0))
    )
    for i in np.flatnonzero(back)[:3]:
        found.append(
            Problem(
                f"TIME {time[i]:g} is before the record above ({time[i - 1]:g}) in subject {ids[i]:g}",
                rows.place(int(i), roles.index("time") if "time" in roles else 0),
                "sort the records by time; a new course of treatment needs EVID=3 or 4",
            )
        )
    return found
