"""Numbers as Fortran writes them."""

from __future__ import annotations

import math
import re

_COUNTABLE = 1e7
_NUMBER = re.compile(r"\s*([+-]?(?:\d+\.?\d*|\.\d+))(?:[EeDd]([+-]?\d+)|([+-]\d+))?\s*")


def number(text: str) -> float | None:
    """Return the value of ``text`` (``.5``, ``1.E-3``, ``1D3``, ``1+3``), or None if it has none.

    A number too large for a double is none.
    """
    match = _NUMBER.fullmatch(text)
    if match is None:
        return None
    exponent = match.group(2) or match.group(3) or "0"
    value = float(f"{match.group(1)}e{exponent}")
    return None if math.isinf(value) else value


def whole(text: str) -> int | None:
    """Return the value of ``text`` if it is a whole number of a size to count with, else None."""
    value = number(text)
    if value is None or value != value // 1 or abs(value) >= _COUNTABLE:
        return None
    return int(value)
