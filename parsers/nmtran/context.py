"""What the lowering of all records shares: the text, its records, and the problems found so far."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from ...engine.ir.model import Notice
from ...engine.ir.span import Span
from ..problem import Problem, ProblemError
from .records import Record, Stream

Parsed = TypeVar("Parsed")


@dataclass
class Context:
    """One problem of a control stream on its way to a model.

    ``trees`` holds what :meth:`parse` found before: problems of one file share records.
    """

    stream: Stream
    problems: list[Problem] = field(default_factory=list)
    notices: list[Notice] = field(default_factory=list)
    trees: dict[tuple[str, int], Any] = field(default_factory=dict)

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
        found = (self.parse_one(parse, record) for record in self.stream.of(*names))
        return [tree for tree in found if tree is not None]

    def parse_one(self, parse: Callable[[Stream, Record], Parsed], record: Record) -> Parsed | None:
        """Return the syntax tree of ``record``, or None where it does not parse."""
        key = (parse.__name__, record.start)
        if key not in self.trees:
            try:
                self.trees[key] = parse(self.stream, record)
            except ProblemError as error:
                self.problems += error.problems
                return None
        tree: Parsed = self.trees[key]
        return tree

    def stop_at_errors(self) -> None:
        """Raise what was found, if anything was."""
        if self.problems:
            raise ProblemError(in_order(self.problems), self.stream.source.files)


def in_order(problems: list[Problem]) -> list[Problem]:
    """Return ``problems`` in the order of the text, each once."""
    return sorted(dict.fromkeys(problems), key=lambda p: p.span.start if p.span else -1)
