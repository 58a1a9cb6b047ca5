"""The events of all subjects as flat arrays, checked and with every default filled in."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..failure import ModelFailure
from ..ir.compartment import Dynamics
from ..ir.dataset import DataSet
from ..ir.model import Model

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

OUTPUT_NUMBERS = (100, 1000)  # what PREDPP lets stand for the output compartment
FIRST_HUGE_MODEL = 100  # from this many compartments on, 100 is a compartment


@dataclass(frozen=True, eq=False)
class Subjects:
    """Records of all subjects in the order of the data; those of subject ``i`` are ``first[i]:first[i + 1]``.

    Compartments count from 1, the output compartment being the last; 0 is none.

    Attributes
    ----------
    first
        int64[id + 1].
    time, amount, rate, interval
        Time, AMT, RATE (0 bolus, -1 modelled rate, -2 modelled duration) and II, in data units.
    evid, additional, steady
        EVID, ADDL and SS.
    dosed
        Compartment that a dose record doses, else 0.
    observed
        Compartment whose scaled amount is the prediction of the record.
    turned
        ``c``: compartment c is turned on by the record, ``-c``: turned off; 0 nothing.
    row
        Record in the data set.
    """

    data: DataSet
    first: Integers
    time: Floats
    evid: Integers
    amount: Floats
    rate: Floats
    interval: Floats
    additional: Integers
    steady: Integers
    dosed: Integers
    observed: Integers
    turned: Integers

    @property
    def n_subjects(self) -> int:
        """Number of subjects."""
        return len(self.first) - 1

    @property
    def n_records(self) -> int:
        """Number of records."""
        return len(self.time)

    @classmethod
    def build(cls, model: Model, data: DataSet) -> Subjects:
        """Return the events of ``data`` under ``model``.

        Raises
        ------
        ModelFailure
            With the data line, for event records that have no meaning.
        """
        order = data.subject
        counts = np.bincount(order, minlength=data.n_subjects)
        first = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        if not (order == np.repeat(np.arange(data.n_subjects), counts)).all():
            raise ModelFailure(f"{data.path}: the records of a subject must follow each other.")
        event = {name: np.ascontiguousarray(values, dtype=np.float64) for name, values in data.event.items()}
        evid = event["EVID"].astype(np.int64)
        n = data.n_records
        dosed, observed, turned = np.zeros(n, np.int64), np.zeros(n, np.int64), np.zeros(n, np.int64)
        if model.dynamics is not None:
            dosed, observed, turned = _compartments(model, model.dynamics, data, evid)
            _check(data, first, evid, event)
        return cls(
            data=data,
            first=first,
            time=event["TIME"],
            evid=evid,
            amount=event["AMT"],
            rate=event["RATE"],
            interval=event["II"],
            additional=event["ADDL"].astype(np.int64),
            steady=event["SS"].astype(np.int64),
            dosed=dosed,
            observed=observed,
            turned=turned,
        )


def failure_at(data: DataSet, row: int, message: str, hint: str = "") -> ModelFailure:
    """Return the failure with file, line and subject of record ``row``."""
    identity = data.ids[data.subject[row]]
    return ModelFailure(f"{data.path}:{data.line[row]}: subject {identity:g}: {message}", hint=hint)


def _require(data: DataSet, bad: NDArray[np.bool_], message: str, hint: str = "") -> None:
    if bad.any():
        raise failure_at(data, int(np.flatnonzero(bad)[0]), message, hint)


def _compartments(
    model: Model, dynamics: Dynamics, data: DataSet, evid: Integers
) -> tuple[Integers, Integers, Integers]:
    """Return the compartments that each record doses, observes and turns on or off."""
    n = len(dynamics.compartments)
    last = n + (dynamics.output is not None)
    written = data.event["CMT"].astype(np.int64)
    column = model.inputs.with_role("pcmt")
    predicted = data.event.get("PCMT")
    if predicted is None and column is not None:
        predicted = data.values.get(column.name)

    def resolve(numbers: Integers) -> Integers:
        codes = OUTPUT_NUMBERS if n < FIRST_HUGE_MODEL else OUTPUT_NUMBERS[1:]
        return np.where(
            np.isin(np.abs(numbers), codes) & (np.abs(numbers) > last), np.sign(numbers) * (n + 1), numbers
        )

    written = resolve(written)
    other = resolve(predicted.astype(np.int64)) if predicted is not None else np.zeros_like(written)
    is_dose, is_observation = np.isin(evid, (1, 4)), evid == 0
    used = np.where(evid == 3, 0, written)
    for numbers in (used, np.where(is_observation, 0, other)):
        beyond = np.abs(numbers) > last
        if beyond.any():
            row = int(np.flatnonzero(beyond)[0])
            raise failure_at(data, row, f"compartment {abs(int(numbers[row]))} of a model with {n}")
    _require(
        data, is_dose & (written < 0), "a dose cannot go into a compartment with a negative number (CMT)"
    )
    _require(data, is_dose & (written > n), "the output compartment takes no doses (CMT)")
    dosed = np.where(is_dose, np.where(written == 0, dynamics.default_dose, written), 0)
    closed = np.array([False, *(not c.takes_doses for c in dynamics.compartments)])
    _require(
        data, closed[dosed], "a dose goes into a compartment that takes none (CMT)", "see $MODEL: NODOSE"
    )

    asked = np.where(is_observation, np.abs(written), np.abs(other))
    observed = np.where(asked == 0, dynamics.default_observation, asked)
    turned = np.where(evid == 2, written, np.where(is_observation & (written < 0), written, 0))
    fixed = np.array([False, *(not c.can_be_off for c in dynamics.compartments), *[False] * (last - n)])
    _require(
        data,
        (turned < 0) & fixed[np.abs(turned)],
        "this compartment cannot be turned off (negative CMT)",
        "see $MODEL: NOOFF",
    )
    return dosed, observed.astype(np.int64), turned.astype(np.int64)


def _check(data: DataSet, first: Integers, evid: Integers, event: dict[str, Floats]) -> None:
    """Refuse event records that have no meaning."""
    is_dose = np.isin(evid, (1, 4))
    amount, rate, interval, steady = event["AMT"], event["RATE"], event["II"], event["SS"]
    additional, time = event["ADDL"], event["TIME"]
    for name in ("TIME", "AMT", "RATE", "II", "ADDL", "SS", "CMT"):
        _require(data, ~np.isfinite(event[name]), f"{name} is not a number")
    _require(data, (evid < 0) | (evid > 4), "EVID must be 0, 1, 2, 3 or 4")
    _require(data, is_dose & ~np.isin(steady, (0, 1, 2, 3)), "SS must be 0, 1, 2 or 3")
    _require(data, is_dose & (rate < 0) & ~np.isin(rate, (-1, -2)), "RATE must be positive, 0, -1 or -2")
    _require(data, is_dose & (amount < 0), "a dose has a negative amount (AMT)")
    _require(data, is_dose & (interval < 0), "the dosing interval (II) is negative")
    constant = is_dose & (steady > 0) & (amount == 0)
    _require(
        data,
        constant & (interval > 0),
        "a steady-state dose of amount 0 is an infusion without end and has no interval (II)",
        "set II to 0, or give AMT",
    )
    _require(data, constant & (rate == -2), "an infusion without end has no duration (RATE=-2)")
    _require(
        data,
        is_dose & (steady > 0) & (amount > 0) & (interval <= 0),
        "a steady-state dose needs a positive interval (II)",
    )
    _require(
        data,
        is_dose & (additional > 0) & (interval <= 0),
        "additional doses (ADDL) need a positive interval (II)",
    )
    _require(
        data,
        is_dose & (additional < 0),
        "a negative ADDL asks for the empirical steady state, which is not supported",
        "use SS=1 and II",
    )
    back = np.zeros(len(time), dtype=np.bool_)
    back[1:] = (time[1:] < time[:-1]) & (np.diff(data.subject) == 0) & ~np.isin(evid[1:], (3, 4))
    _require(data, back, "time goes back", "only a reset record (EVID 3 or 4) may restart time")
