"""The event table: doses, resets and records of every subject on one time line.

Additional doses are expanded, so a decoder sees single doses only. Records keep the order of the
file; at equal times a dose acts on the records that follow its own (its own included), while an
additional dose acts on every record at its time (NONMEM Users Guide VI, "PREDPP").
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..failure import ModelFailure
from ..ir.dataset import DataSet
from ..ir.model import Model

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


@dataclass(frozen=True)
class EventTable:
    """Records and doses of all subjects, padded to the longest; times in data units.

    Records (``"id record"``): ``row`` index into the data set (-1 where padded), ``time`` (padded
    with the last time), ``epoch`` number of resets up to and including the record, ``evid``,
    ``compartment`` as written, ``observed`` true for observations.

    Doses (``"id dose"``): ``dose_valid`` false where padded, ``dose_time``, ``dose_amount``, ``dose_rate``
    (0 bolus, positive constant, -1 and -2 modelled rate and duration), ``dose_compartment`` (from 1),
    ``dose_record`` position of the record that holds it, ``dose_additional`` (0: the dose itself),
    ``dose_epoch``.
    """

    row: Integers
    time: Floats
    epoch: Integers
    evid: Integers
    compartment: Integers
    observed: NDArray[np.bool_]
    dose_valid: NDArray[np.bool_]
    dose_time: Floats
    dose_amount: Floats
    dose_rate: Floats
    dose_compartment: Integers
    dose_record: Integers
    dose_additional: Integers
    dose_epoch: Integers

    @property
    def n_subjects(self) -> int:
        """Number of subjects."""
        return int(self.row.shape[0])

    def reaches(self) -> NDArray[np.bool_]:
        """Return whether a dose without lag acts on a record, ``"id record dose"``."""
        later = self.time[:, :, None] >= self.dose_time[:, None, :]
        order = np.arange(self.row.shape[1])[None, :, None] >= self.dose_record[:, None, :]
        same_time = self.time[:, :, None] == self.dose_time[:, None, :]
        itself = self.dose_additional[:, None, :] == 0
        in_order = np.where(same_time & itself, order, True)
        return later & in_order & self.shares_epoch()

    def shares_epoch(self) -> NDArray[np.bool_]:
        """Return whether no reset lies between dose and record, ``"id record dose"``."""
        same = self.epoch[:, :, None] == self.dose_epoch[:, None, :]
        return np.asarray(same & self.dose_valid[:, None, :] & (self.row >= 0)[:, :, None])


def _fail(data: DataSet, row: int, message: str, hint: str = "") -> ModelFailure:
    identity = data.ids[data.subject[row]]
    return ModelFailure(f"{data.path}:{data.line[row]}: subject {identity:g}: {message}", hint=hint)


def build_events(model: Model, data: DataSet) -> EventTable:
    """Return the event table of ``data`` under ``model``.

    It serves the torch decoders; what they do not know is left out: see :func:`beyond_torch`.
    """
    event = data.event
    counts = np.bincount(data.subject, minlength=data.n_subjects)
    width = int(counts.max())
    starts = np.concatenate([[0], np.cumsum(counts)[:-1]])
    position = np.arange(data.n_records) - starts[data.subject]
    row = np.full((data.n_subjects, width), -1, dtype=np.int64)
    row[data.subject, position] = np.arange(data.n_records)
    last = row[np.arange(data.n_subjects), counts - 1]
    filled = np.where(row >= 0, row, last[:, None])

    evid = event["EVID"].astype(np.int64)
    reset = np.isin(evid, (3, 4)).astype(np.int64)
    running = np.cumsum(reset)
    before = np.concatenate([[0], running])[starts]
    epoch = running - before[data.subject]

    doses = np.flatnonzero(np.isin(evid, (1, 4))) if model.dynamics is not None else np.array([], int)
    repeats = np.where(event["II"][doses] > 0, event["ADDL"][doses], 0).astype(np.int64) + 1
    source = np.repeat(doses, repeats)
    additional = np.arange(len(source)) - np.repeat(np.cumsum(repeats) - repeats, repeats)
    time = event["TIME"][source] + additional * event["II"][source]
    subject = data.subject[source]
    order = np.lexsort((additional, source, time, subject))
    source, additional, time, subject = source[order], additional[order], time[order], subject[order]
    dose_counts = np.bincount(subject, minlength=data.n_subjects)
    dose_width = int(dose_counts.max()) if len(source) else 0
    dose_starts = np.concatenate([[0], np.cumsum(dose_counts)[:-1]]).astype(np.int64)
    slot = np.arange(len(source)) - dose_starts[subject]

    def spread(values: NDArray[Any], fill: float, kind: type) -> NDArray[Any]:
        table: NDArray[Any] = np.full((data.n_subjects, dose_width), fill, dtype=kind)
        table[subject, slot] = values
        return table

    compartment = event["CMT"].astype(np.int64)
    default = model.dynamics.default_dose if model.dynamics is not None else 0
    into = np.where(compartment[source] <= 0, default, compartment[source])
    return EventTable(
        row=row,
        time=event["TIME"][filled],
        epoch=epoch[filled],
        evid=evid[filled],
        compartment=compartment[filled],
        observed=data.is_observation[filled] & (row >= 0),
        dose_valid=spread(np.ones(len(source)), 0, np.bool_),
        dose_time=spread(time, 0.0, np.float64),
        dose_amount=spread(event["AMT"][source], 0.0, np.float64),
        dose_rate=spread(event["RATE"][source], 0.0, np.float64),
        dose_compartment=spread(into, max(default, 1), np.int64),
        dose_record=spread(position[source], 0, np.int64),
        dose_additional=spread(additional, 0, np.int64),
        dose_epoch=spread(epoch[source], -1, np.int64),
    )


def beyond_torch(model: Model, data: DataSet) -> ModelFailure | None:
    """Return why the torch decoders cannot serve these events, None where they can.

    Steady states, compartments turned off, output compartments and model times need the event loop.
    """
    event = data.event
    dosed = np.isin(event["EVID"], (1, 4))
    n = len(model.dynamics.compartments) if model.dynamics is not None else 0
    for bad, message in (
        (dosed & (event["SS"] != 0), "steady-state doses (SS)"),
        (event["CMT"] < 0, "compartments turned off (negative CMT)"),
        ((event["CMT"] > n) & (n > 0), "an output compartment"),
        (
            dosed & (event["ADDL"] > 0) & (event["II"] <= 0),
            "additional doses (ADDL) without an interval (II)",
        ),
    ):
        if bad.any():
            hint = "leave --solver at its default"
            return _fail(data, int(np.flatnonzero(bad)[0]), f"this solver does not know {message}", hint)
    return None
