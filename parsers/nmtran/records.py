"""A control stream as a sequence of records.

The records' text is *cleaned*: comments, continuation marks and carriage returns become blanks, so
every character keeps its offset in the file and grammars see nothing but the language.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from ...engine.ir.span import Span
from ..problem import Problem
from ..source import Source
from .words import RECORD_ALIASES, RECORDS, resolve_record, suggest

_RECORD = re.compile(r"^[ \t]*\$([A-Za-z_0-9]*)", re.MULTILINE)
_COMMENT = re.compile(r";[^\n]*")
# What editors and file transfers leave behind: no-break space, form feed, end-of-file marks.
_BLANKS = dict.fromkeys(map(ord, "\r\f\v\0\x1a\xa0\ufeff"), " ")
_CONTINUED = re.compile(r"&([ \t]*)\n")


@dataclass(frozen=True)
class Comment:
    """A comment: its offset in its file and its text without ``;``."""

    start: int
    text: str


@dataclass(frozen=True)
class Record:
    """One record: full name, place of its name, and its body as offsets into the stream's text."""

    name: str
    head: Span
    start: int
    stop: int


@dataclass(frozen=True)
class Stream:
    """A control stream cut into records; ``clean`` has the length of the file's text."""

    source: Source
    clean: str
    records: tuple[Record, ...]
    comments: dict[tuple[str, int], Comment]  # by file and line, from 1

    def body(self, record: Record) -> str:
        """Return the cleaned text of ``record`` after its name."""
        return self.clean[record.start : record.stop]

    def span(self, record: Record) -> Span:
        """Return the place of a whole record, without the blank end."""
        start = record.start - (record.head.stop - record.head.start)
        return self.source.span(start, start + len(self.clean[start : record.stop].rstrip()))

    def of(self, *names: str) -> list[Record]:
        """Return the records with one of ``names``, in the order of the file."""
        return [r for r in self.records if r.name in names]


def split_records(source: Source) -> tuple[Stream, list[Problem]]:
    """Cut ``source`` into records, and report unknown ones and text before the first."""
    problems: list[Problem] = []
    clean, comments = _clean(source)
    found = list(_RECORD.finditer(clean))
    records: list[Record] = []
    first = found[0].start() if found else len(clean)
    before = clean[:first]
    if before.strip():
        start = len(before) - len(before.lstrip())
        stop = before.index("\n", start) if "\n" in before[start:] else first
        problems.append(
            Problem(
                "text before the first record",
                source.span(start, stop),
                "a control stream begins with $PROBLEM; put ; before a comment",
            )
        )
    elif not found:
        problems.append(
            Problem("the file holds no record", source.span(0, 0), "is it a control stream ($PROBLEM ...)?")
        )
    ends = [match.start() for match in found[1:]] + [len(clean)] * bool(found)
    for match, following in zip(found, ends, strict=True):
        word = match.group(1)
        head = source.span(match.start(1) - 1, match.end(1))
        name = resolve_record(word)
        if name is None:
            known = [f"${name}" for name in (*RECORDS, *RECORD_ALIASES)]
            hint = suggest(f"${word}", known) if len(word) > 2 else "three letters at least"
            problems.append(Problem(f"unknown record ${word.upper()}", head, hint))
            continue
        records.append(Record(name, head, match.end(1), following))
    return Stream(source, clean, tuple(records), comments), problems


def _clean(source: Source) -> tuple[str, dict[tuple[str, int], Comment]]:
    text = source.text.translate(_BLANKS)
    comments: dict[tuple[str, int], Comment] = {}

    def blank(match: re.Match[str]) -> str:
        span = source.span(match.start(), match.end())
        comments[span.file, span.line] = Comment(span.start, match.group()[1:].strip())
        return " " * len(match.group())

    text = _COMMENT.sub(blank, text)
    return _CONTINUED.sub(lambda m: " " * len(m.group()), text), comments
