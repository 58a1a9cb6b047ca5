"""Which lines of the data file are records: RECORDS, IGNORE and ACCEPT of $DATA."""

from __future__ import annotations

from collections.abc import Callable
from operator import eq, ge, gt, le, lt, ne
from typing import Any

from ...engine.ir.dataset import Inputs, RowCondition
from .fields import EMPTY
from .numbers import number
from .rows import Rows

_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "==": eq,
    "!=": ne,
    "<": lt,
    "<=": le,
    ">": gt,
    ">=": ge,
}


def select(inputs: Inputs, rows: Rows) -> Rows:
    """Return the records: RECORDS counts lines before IGNORE and ACCEPT leave some out."""
    selection = inputs.rows
    skipped = int(dict(inputs.options).get("SKIP_RECORDS", "0"))
    stop = len(rows.lines)
    if selection.limit is not None:
        stop = min(stop, skipped + selection.limit)
    if selection.until_change is not None and rows.lines:
        first = rows.fields[0][selection.until_change]
        same = (i for i, row in enumerate(rows.fields) if row[selection.until_change] != first)
        stop = min(stop, next(same, stop))
    kept = list(range(skipped, stop))
    if selection.ignore or selection.accept:
        ignore = [_test(c, selection.null) for c in selection.ignore]
        accept = [_test(c, selection.null) for c in selection.accept]
        kept = [
            i
            for i in kept
            if not any(test(rows.fields[i]) for test in ignore)
            and (not accept or any(test(rows.fields[i]) for test in accept))
        ]
    return rows if len(kept) == len(rows.lines) else rows.take(kept)


def _test(condition: RowCondition, null: float) -> Callable[[list[str]], bool]:
    compare, position = _COMPARE[condition.operator], condition.column
    known: dict[str, bool] = {}

    def holds(text: str) -> bool:
        if not condition.numeric:
            return compare(text, condition.value)
        value = null if text in EMPTY else number(text)
        return value is not None and compare(value, number(condition.value))

    def test(row: list[str]) -> bool:
        text = row[position]
        if text not in known:
            known[text] = holds(text)
        return known[text]

    return test
