"""Fields of a data line, and their places in the file."""

from __future__ import annotations

import re

from ...engine.ir.span import Span
from ..source import Source

# Blanks around a comma or tab belong to it; elsewhere any number of blanks is one separator.
SEPARATOR = re.compile(r" *[,\t] *| +")
BLANK = " \r\x1a"
EMPTY = ("", ".")


def split_fields(text: str) -> list[str]:
    """Return the fields of a data line without its blank ends."""
    return SEPARATOR.split(text) if " " in text or "\t" in text else text.split(",")


def raw_line(source: Source, line: int) -> str:
    """Return the text of a line (from 1), without its end."""
    start = source.offset(line)
    end = source.text.find("\n", start)
    return source.text[start : end if end >= 0 else len(source.text)]


def line_span(source: Source, line: int) -> Span:
    """Return the place of a whole line."""
    start = source.offset(line)
    return source.span(start, start + max(1, len(raw_line(source, line).rstrip())))


def field_span(source: Source, line: int, position: int) -> Span:
    """Return the place of field ``position`` (from 0) of a line, or of the line where it has none."""
    start = source.offset(line)
    raw = raw_line(source, line).rstrip(BLANK)
    begin = len(raw) - len(raw.lstrip(BLANK))
    for _ in range(position):
        match = SEPARATOR.search(raw, begin)
        if match is None:
            return line_span(source, line)
        begin = match.end()
    match = SEPARATOR.search(raw, begin)
    stop = match.start() if match is not None else len(raw)
    return source.span(start + begin, start + max(stop, begin + 1))
