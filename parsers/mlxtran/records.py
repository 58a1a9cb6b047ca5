"""What a line of the data means: doses along their routes, observations, resets, and their order in time."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from .fields import Row
from .reading import Observed
from .table import Table


@dataclass(frozen=True)
class Event:
    """One record: its line, subject (from 0), occasion, and what it is in the words of the engine.

    ``steady`` marks a dose at steady state, before :func:`arrange` has expanded it.
    """

    row: Row
    subject: int
    occasion: int
    time: float
    evid: int
    mdv: int
    response: float | None = None
    amount: float = 0.0
    rate: float = 0.0
    interval: float = 0.0
    additional: int = 0
    compartment: int = 0
    steady: bool = False


def events_of_line(table: Table, row: Row, subject: int) -> list[Event]:
    """Return the records of a line: a reset, its dose along every route, its observation, or its time."""
    mdv = _whole(table, row, "mdv") or 0
    if mdv == 2:
        return []
    if mdv not in (0, 1):
        table.report("mdv", f"the value {mdv} is not 0, 1 or 2", row, table.role("mdv") or "")
    name = table.role("time")
    assert name is not None
    time = table.value(row, name)
    if time is None:
        if not any(p.span == table.span(row, name) for p in table.problems):
            table.report("no time", "this line has no time", row, name)
        return []
    evid = _whole(table, row, "evid")
    if evid is not None and evid not in range(5):
        table.report(
            "evid", f"the event identifier must be 0 to 4, not {evid}", row, table.role("evid") or ""
        )
        return []
    plain = Event(row, subject, 0, time, 2, 1)
    found = _doses(table, row, plain, evid)
    response = _observation(table, row, mdv, evid)
    if response is not None:
        found.append(replace(plain, evid=0, mdv=0, response=response))
    return found or [plain]


def _whole(table: Table, row: Row, role: str) -> int | None:
    name = table.role(role)
    value = table.value(row, name) if name is not None else None
    if value is None or name is None:
        return None
    if value != math.floor(value):
        table.report(role, f"{value:g} is no whole number", row, name)
        return None
    return int(value)


def _number(table: Table, row: Row, role: str) -> float:
    name = table.role(role)
    return (table.value(row, name) or 0.0) if name is not None else 0.0


def _doses(table: Table, row: Row, plain: Event, evid: int | None) -> list[Event]:
    amount = _number(table, row, "amt")
    has_dose = evid in (1, 4) if evid is not None else amount > 0
    if table.model.dynamics is None or not (has_dose or evid == 3):
        return []
    if not has_dose:
        return [replace(plain, evid=3)]
    name = table.role("amt")
    if name is None or amount < 0:
        table.report("amt", "this dose has no amount of zero or more", row, name or table.role("evid") or "")
        return []
    adm = _whole(table, row, "cmt")
    adm = 1 if adm is None else adm
    routes = [route for route in table.reading.routes if route.adm == adm]
    if not routes:
        known = ", ".join(str(a) for a in sorted({r.adm for r in table.reading.routes})) or "none"
        place = table.role("cmt") or name
        table.report(
            "adm",
            f"the model has no administration {adm}",
            row,
            place,
            f"it has {known}; see adm= of its macros",
        )
        return []
    steady = _whole(table, row, "ss") or 0
    if steady not in (0, 1):
        table.report(
            "ss", f"steady state {steady} is not supported yet", row, table.role("ss") or "", "0 or 1"
        )
    interval, additional = _number(table, row, "ii"), max(0, _whole(table, row, "addl") or 0)
    if (steady or additional) and interval <= 0:
        table.report("ii", "repeated doses need an interval above zero", row, table.role("ii") or name)
        return []
    rate = _rate(table, row, amount)
    dose = replace(
        plain,
        evid=4 if evid == 4 else 1,
        amount=amount,
        interval=interval if additional or steady else 0.0,
        additional=additional,
        steady=steady == 1,
    )
    rates = {"given": rate, "bolus": 0.0, "duration": -2.0}
    found = [replace(dose, compartment=r.compartment, rate=rates[r.kind]) for r in routes]
    return [found[0], *(replace(other, evid=1) for other in found[1:])]


def _rate(table: Table, row: Row, amount: float) -> float:
    """Return the rate of an infusion, 0 for a bolus."""
    if table.reading.infusion_time:
        duration = table.value(row, table.reading.infusion_time) or 0.0
        return amount / duration if duration > 0 else 0.0
    return max(0.0, _number(table, row, "rate"))


def _observation(table: Table, row: Row, mdv: int, evid: int | None) -> float | None:
    """Return the response on the scale on which it is normal, None where the line has none that is fitted."""
    name = table.role("dv")
    assert name is not None
    if mdv != 0 or (evid is not None and evid != 0) or not table.text(row, name):
        return None
    kind = _kind(table, row)
    if kind is None:
        return None
    value = table.value(row, name)
    censored = table.role("cens")
    if censored is not None and (table.value(row, censored) or 0.0) != 0.0:
        table.report(
            "cens",
            "censored observations are not supported yet",
            row,
            censored,
            "leave them out with mdv, or use the value as if it were exact (censored 0)",
        )
        return None
    if value is None or kind.transform == "identity":
        return value
    if kind.transform == "log":
        if value > 0:
            return math.log(value)
        table.report("log", f"the logarithm of {value:g} does not exist", row, name, "distribution=normal")
        return None
    unit = (value - kind.low) / (kind.high - kind.low)
    if 0 < unit < 1:
        return math.log(unit / (1.0 - unit))
    table.report("logit", f"{value:g} is not between {kind.low:g} and {kind.high:g}", row, name)
    return None


def _kind(table: Table, row: Row) -> Observed | None:
    """Return the type of the line's observation, None where that is not fitted."""
    name = table.role("dvid")
    if name is None:
        return table.reading.observed[0]
    text = table.text(row, name)
    for observed in table.reading.observed:
        if observed.text == text or _same_number(observed.text, text):
            return observed
    return None


def _same_number(a: str, b: str) -> bool:
    try:
        return float(a) == float(b)
    except ValueError:
        return False


def arrange(table: Table, events: list[Event]) -> list[Event]:
    """Return the records by subject, occasion and time, with doses at steady state expanded.

    Records of one time keep the order of the file. Times are compared within a course of treatment, from one
    reset to the next. Where an occasion begins before the one before it ends, the system starts anew.
    """
    by_subject: dict[int, list[Event]] = {}
    for event in events:
        by_subject.setdefault(event.subject, []).append(event)
    found: list[Event] = []
    for members in by_subject.values():
        occasions: dict[tuple[str, ...], int] = {}
        marked: list[tuple[int, int, Event]] = []
        course: dict[int, int] = {}
        for event in members:
            key = tuple(table.text(event.row, name) for name in table.reading.occasions)
            occasion = occasions.setdefault(key, len(occasions))
            course[occasion] = course.get(occasion, 0) + (event.evid in (3, 4))
            marked.append((occasion, course[occasion], replace(event, occasion=occasion)))
        marked.sort(key=lambda item: (item[0], item[1], item[2].time))
        last = -math.inf
        previous: tuple[int, int] | None = None
        ordered: list[Event] = []
        for occasion, number, event in marked:
            if previous is not None and occasion != previous[0] and event.time < last:
                ordered.append(replace(_bare(event), evid=3))
            previous, last = (occasion, number), event.time
            ordered.append(event)
        found += _expand(table, ordered)
    return found


def _bare(event: Event) -> Event:
    return Event(event.row, event.subject, event.occasion, event.time, 2, 1)


def _expand(table: Table, events: list[Event]) -> list[Event]:
    """Replace each dose at steady state by a start from nothing with the doses that come before it."""
    count = table.reading.steady_state_doses
    found: list[Event] = []
    begun = -math.inf  # time of the last record of the course so far
    for event in events:
        if not event.steady:
            found.append(event)
            begun = event.time
            continue
        start = event.time - count * event.interval
        together = bool(found) and found[-1].row == event.row and found[-1].evid in (1, 4)
        if begun > start and not together:
            table.report(
                "steady state",
                "a dose at steady state after other records is not supported yet",
                event.row,
                table.role("ss") or "",
                f"its {count} doses before it would begin at time {start:g}; write them as lines",
            )
            continue
        found.append(
            replace(
                event,
                time=start,
                evid=1 if together else 4,
                additional=event.additional + count,
                steady=False,
            )
        )
    return found
