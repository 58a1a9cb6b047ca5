"""Clock times and calendar dates of a data file, turned into relative times as NM-TRAN does.

A colon in any TIME, or a date item, makes all times clock times: hours since the first record of the
subject, or since its last reset, to two decimals. TRANSLATE divides them, and sets the number of decimals.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import date

import numpy as np
from numpy.typing import NDArray

from .numbers import number

Array = NDArray[np.float64]

DIGITS = 2  # decimals of a translated time
LAST20 = 50  # years up to this one with two digits are after 2000
# The order of day, month and year by the name of the date item.
DATE_ORDERS = {"DATE": "mdy", "DAT1": "dmy", "DAT2": "ymd", "DAT3": "ydm"}

_CLOCK = re.compile(r"([+-]?)(\d{1,6}):(\d{1,2})(?::(\d{1,2}(?:\.\d*)?))?")
_PLAIN_YEAR = 2001  # no leap year: for dates without a year


def hours(text: str) -> float | None:
    """Return the hours that ``hh:mm``, ``hh:mm:ss`` or a number mean, or None."""
    if ":" not in text:
        return number(text)
    match = _CLOCK.fullmatch(text)
    if match is None or int(match.group(3)) > 59:
        return None
    value = int(match.group(2)) + int(match.group(3)) / 60 + float(match.group(4) or 0.0) / 3600
    return -value if match.group(1) == "-" else value


def day_number(text: str, order: str, last20: int) -> float | None:
    """Return the number of the day that ``text`` means, or None if it is no date.

    ``order`` arranges d, m and y. One component is the day, any whole number; two are day and month.
    """
    single = number(text)
    if single is not None and single == int(single):
        return single
    parts = [part for part in re.split(r"[^0-9]+", text) if part]
    if len(parts) not in (2, 3) or any(len(part) > 4 for part in parts):
        return None
    wanted = order if len(parts) == 3 else order.replace("y", "")
    found = dict(zip(wanted, (int(part) for part in parts), strict=True))
    year = found.get("y", _PLAIN_YEAR)
    if year < 100:
        year += 2000 if year <= last20 else 1900
    try:
        return float(date(year, found["m"], found["d"]).toordinal())
    except ValueError:
        return None


def relative(absolute: Array, subject: NDArray[np.int64], restarts: NDArray[np.bool_]) -> Array:
    """Return times since the subject's first record, or since the last record that restarts time."""
    starts = restarts | (np.diff(subject, prepend=-1) != 0)
    first = np.maximum.accumulate(np.where(starts, np.arange(len(absolute)), 0))
    return absolute - absolute[first]


def parse_translate(text: str) -> dict[str, tuple[float, int]] | None:
    """Return factor and decimals by item of ``TIME/24/3,II/24.000``, or None if it is no such list."""
    found: dict[str, tuple[float, int]] = {}
    for part in text.upper().replace(" ", "").split(","):
        item, *words = part.split("/")
        numbers = [number(word) for word in words]
        if item not in ("TIME", "II") or len(words) not in (1, 2) or None in numbers or not numbers[0]:
            return None
        given = len(words[0].partition(".")[2])
        digits = int(numbers[1] or 0) if len(numbers) == 2 else given
        if not 0 <= digits <= 12:
            return None
        found[item] = (numbers[0], digits or DIGITS)
    return found


def written(values: Array, factor: float, digits: int) -> Array:
    """Return ``values`` divided by ``factor``, with the decimals that NM-TRAN writes into the data."""
    return np.round(values / factor, digits) + 0.0  # no negative zero


def reader(has_clock: bool) -> Callable[[str], float | None]:
    """Return what reads a field: clock times too where ``has_clock``."""
    return hours if has_clock else number
