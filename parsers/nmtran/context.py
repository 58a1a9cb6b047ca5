"""What the lowering of all records shares: the text, its records, and the problems found so far."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from ...engine.ir.model import Notice
from ...engine.ir.span import Span
from ..problem import Problem, ProblemError
from .records import Record, Stream

Parsed = TypeVar("Parsed")


@dataclass
class Context:
    """One control stream on its way to a model."""

    stream: Stream
    problems: list[Problem] = field(default_factory=list)
    notices: list[Notice] = field(default_factory=list)

    @property
    def top(self) -> Span:
        """The place of what is missing altogether: the first record's name."""
        records = self.stream.records
        return records[0].head if records else self.stream.source.span(0, 0)

    def error(self, message: str, span: Span | None, hint: str = "") -> None:
        """Note a problem; reading goes on to find more."""
        self.problems.append(Problem(message, span, hint))

    def notice(self, message: str, span: Span | None) -> None:
        """Note something that the user should know but need not change."""
        self.notices.append(Notice(message, span))

    def parse(self, parse: Callable[[Stream, Record], Parsed], *names: str) -> list[Parsed]:
        """Return the syntax trees of all records with ``names``, noting those that do not parse."""
        trees = []
        for record in self.stream.of(*names):
            try:
                trees.append(parse(self.stream, record))
            except ProblemError as error:
                self.problems += error.problems
        return trees

    def stop_at_errors(self) -> None:
        """Raise what was found, if anything was."""
        if self.problems:
            source = self.stream.source
            self.problems.sort(key=lambda p: p.span.start if p.span else -1)
            raise ProblemError(self.problems, {source.path: source.text})
