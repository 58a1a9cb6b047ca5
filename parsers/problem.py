"""Problems: what is wrong with the user's text, where, and what to try.

A problem is a value; reading collects as many as it can and raises them together as one
:class:`ProblemError`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from ..engine.ir.span import Span


@dataclass(frozen=True)
class Problem:
    """One problem: a message, its place (None when the whole file is meant), a hint."""

    message: str
    span: Span | None
    hint: str = ""
    severity: Literal["error", "warning"] = "error"

    def show(self, text: str | None) -> str:
        """Return the message, the source line with a caret, and the hint.

        ``text`` is the text of ``span.file`` (None: unreadable; then no line is shown).
        """
        head = f"{self.span}: " if self.span else ""
        lines = [f"{head}{self.severity}: {self.message}"]
        if self.span is not None and text is not None:
            rows = text.split("\n")
            if 0 < self.span.line <= len(rows):
                row = rows[self.span.line - 1].rstrip("\r")
                number = f"{self.span.line:5d} | "
                stop = self.span.end_column if self.span.end_line == self.span.line else len(row) + 1
                width = max(1, min(stop, len(row) + 1) - self.span.column)
                lead = "".join("\t" if c == "\t" else " " for c in row[: self.span.column - 1])
                lines += [number + row, " " * len(number) + lead + "^" * width]
        if self.hint:
            lines.append(f"  hint: {self.hint}")
        return "\n".join(lines)


class ProblemError(Exception):
    """Raised when a file cannot become a model; holds every problem found.

    ``texts`` maps each file name used in spans to its text, for the caret lines.
    """

    def __init__(self, problems: Sequence[Problem], texts: dict[str, str] | None = None) -> None:
        self.problems = tuple(problems)
        self.texts = dict(texts or {})
        super().__init__(str(self))

    def __str__(self) -> str:
        return "\n".join(
            p.show(self.texts.get(p.span.file) if p.span is not None else None) for p in self.problems
        )
