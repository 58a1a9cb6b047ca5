"""A place in a source text."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Span:
    """A half-open stretch of one file: lines and columns count from 1, offsets from 0.

    ``start`` and ``stop`` are character offsets into the file's text, so a writer can replace
    exactly what a reader saw.
    """

    file: str
    line: int
    column: int
    end_line: int
    end_column: int
    start: int
    stop: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"

    def to(self, other: Span) -> Span:
        """Return the span from the start of this one to the end of ``other``."""
        return Span(
            self.file, self.line, self.column, other.end_line, other.end_column, self.start, other.stop
        )
