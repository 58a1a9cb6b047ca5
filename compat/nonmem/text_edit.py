"""Edits of a control stream's text by character offsets."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

WIDTH = 80  # older NM-TRAN reads no further


@dataclass(frozen=True)
class Edit:
    """Replace the characters from ``start`` up to ``stop`` by ``text``.

    ``code`` marks a change inside a line of abbreviated code, which is continued where it gets too long.
    """

    start: int
    stop: int
    text: str
    code: bool = False


def apply_edits(text: str, edits: Sequence[Edit]) -> str:
    """Return ``text`` with all ``edits`` made; they do not overlap.

    Of two insertions at one place the first in ``edits`` comes first. Line ends follow the text's.
    """
    result = ""
    position = 0
    touched: set[int] = set()  # line numbers in the result
    for edit in sorted(edits, key=lambda e: e.start):
        assert edit.start >= position, "overlapping edits"
        result += text[position : edit.start]
        if edit.code:
            touched.add(result.count("\n"))
        result += edit.text
        position = edit.stop
    result += text[position:]
    lines = result.splitlines(keepends=True)
    result = "".join(_split(line) if number in touched else line for number, line in enumerate(lines))
    if "\r\n" in text:
        result = re.sub(r"(?<!\r)\n", "\r\n", result)
    return result


def line_start(text: str, offset: int) -> int:
    """Return the offset of the first character of the line that holds ``offset``."""
    return text.rfind("\n", 0, offset) + 1


def line_end(text: str, offset: int) -> int:
    """Return the offset after the line that holds ``offset``, its line break included."""
    found = text.find("\n", offset)
    return len(text) if found < 0 else found + 1


def _split(line: str) -> str:
    """Return ``line`` continued by ``&`` where its code is longer than :data:`WIDTH`."""
    code = line.split(";", 1)[0].rstrip()
    if len(code) <= WIDTH:
        return line
    indent = " " * (len(code) - len(code.lstrip()) + 4)
    # before a lone * or a + between operands; never inside ** or a number's exponent
    places = [m.start() for m in re.finditer(r"(?<!\*)\*(?!\*)|(?<=[\w)])(?<![\d.][EeDd])\+", code)]
    fitting = [p for p in places if len(indent) < p <= WIDTH - 2]
    if not fitting:
        return line
    place = fitting[-1]
    return f"{line[:place].rstrip()} &\n" + _split(indent + line[place:])
