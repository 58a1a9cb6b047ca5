"""Lists of random effects as tables name them: ``1:LAST``, ``1 TO 10 BY 3``, ``1,5,12``."""

from __future__ import annotations

import re

_RANGE = re.compile(
    r"(\d{1,6}|LAST)(?:\s*(?::|-|\bTO\b)\s*(\d{1,6}|LAST)(?:\s*\bBY\b\s*([+-]?\d{1,6}))?)?", re.IGNORECASE
)


def eta_list(text: str, n_etas: int) -> list[int] | None:
    """Return the numbers that ``text`` lists, or None where it is no list.

    A number beyond the last effect is kept once, for the caller to refuse.
    """
    numbers: list[int] = []
    for part in text.split(","):
        match = _RANGE.fullmatch(part.strip())
        if match is None:
            return None
        first = _number(match[1], n_etas)
        last = _number(match[2], n_etas) if match[2] else first
        step = abs(int(match[3] or 1)) or 1
        backward = first > last or (match[3] or "").startswith("-")
        low, high = min(first, last), max(first, last)
        numbers += range(high, low - 1, -step) if backward else range(low, high + 1, step)
    return numbers


def _number(text: str, n_etas: int) -> int:
    return n_etas if text.upper() == "LAST" else min(int(text), n_etas + 1)
