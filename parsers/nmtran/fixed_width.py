"""Data in fixed columns: the FORMAT specification of $DATA.

``(F4.0,2X,3E6.2/2F5.1)``: descriptors F, E, D, G and I with a width, X and T to move, ``/`` for
the next line, all with repetitions, and groups in parentheses.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_TOKEN = re.compile(r"\s*(?:(\d+)?\s*([FEDGIX/(])|(T)(\d+)|([,)]))\s*", re.IGNORECASE)
_WIDTH = re.compile(r"(\d+)(?:\.(\d+))?(?:E\d+)?", re.IGNORECASE)
_MANTISSA = re.compile(r"([+-]?)(\d+)((?:[EeDd][+-]?\d+|[+-]\d+)?)")
_MOST_FIELDS = 1000


@dataclass(frozen=True)
class FixedField:
    """One field: its line within the record (from 0), its columns, and digits after an unwritten point."""

    line: int
    start: int
    stop: int
    decimals: int


@dataclass(frozen=True)
class FixedFormat:
    """The fields of one record, which takes ``lines`` lines."""

    fields: tuple[FixedField, ...]
    lines: int

    def split(self, lines: list[str]) -> list[str]:
        """Return the fields of a record as texts that read as numbers."""
        return [_text(lines[f.line][f.start : f.stop].strip(), f.decimals) for f in self.fields]


def _text(text: str, decimals: int) -> str:
    """Put the decimal point where the format says it is, in a text without one."""
    match = _MANTISSA.fullmatch(text) if decimals and "." not in text else None
    if match is None:
        return text
    digits = match.group(2).rjust(decimals + 1, "0")
    return f"{match.group(1)}{digits[:-decimals]}.{digits[-decimals:]}{match.group(3)}"


def parse_format(text: str) -> FixedFormat | None:
    """Return what a FORMAT specification (with its parentheses) means, or None if it is none."""
    words = _words(text.strip()[1:], 0, 0)
    if words is None or words[1] != len(text.strip()) - 1:
        return None
    fields: list[FixedField] = []
    line, column = 0, 0
    for letter, width, decimals in words[0]:
        if letter == "/":
            line, column = line + 1, 0
        elif letter == "T":
            column = width - 1
        else:
            if letter != "X":
                fields.append(FixedField(line, column, column + width, decimals))
            column += width
    if not fields or any(field.start < 0 or field.stop <= field.start for field in fields):
        return None
    return FixedFormat(tuple(fields), line + 1)


def _words(text: str, at: int, depth: int) -> tuple[list[tuple[str, int, int]], int] | None:
    """Return (letter, width, decimals) of all descriptors up to ``)``, and the offset after it."""
    found: list[tuple[str, int, int]] = []
    while match := _TOKEN.match(text, at):
        at = match.end()
        count, letter, _, place, mark = match.groups()
        if mark == ")":
            return found, at
        if mark == ",":
            continue
        repeat = int((count or "1")[:6])
        if repeat > _MOST_FIELDS:
            return None
        if place is not None:
            found.append(("T", int(place[:6]), 0))
        elif letter == "/":
            found += [("/", 0, 0)] * repeat
        elif letter in "Xx":
            found.append(("X", repeat, 0))
        elif letter == "(":
            inner = _words(text, at, depth + 1) if depth < 5 else None
            if inner is None:
                return None
            found += inner[0] * repeat
            at = inner[1]
        else:
            width = _WIDTH.match(text, at)
            if width is None:
                return None
            at = width.end()
            found += [(letter.upper(), int(width.group(1)[:6]), int((width.group(2) or "0")[:2]))] * repeat
        if len(found) > _MOST_FIELDS:
            return None
    return None
