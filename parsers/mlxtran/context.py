"""What the lowering of all sections shares: the documents, and the problems found so far."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass, field

from ...engine.ir.model import Notice
from ...engine.ir.span import Span
from ..problem import Problem, ProblemError
from ..source import Source
from .lexical import Block, Definition, Document, definitions
from .parse import parse_equations, parse_value
from .syntax import Apply, Line, Node, elements, word


@dataclass(frozen=True)
class Entry:
    """A definition with its value parsed; ``value`` is None where nothing stands after the ``=``."""

    key: str
    value: Node | None
    span: Span
    is_call: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        """The words of a list of words."""
        found = elements(self.value) if self.value is not None else ()
        return tuple(text for node in found if (text := word(node)) is not None)


@dataclass
class Context:
    """One project on its way to a model."""

    project: Document
    problems: list[Problem] = field(default_factory=list)
    notices: list[Notice] = field(default_factory=list)
    texts: dict[str, str] = field(default_factory=dict)
    broken: bool = False  # some equations could not be read: what they define is not known

    def __post_init__(self) -> None:
        self.add_source(self.project.source)

    def add_source(self, source: Source) -> None:
        """Note a file whose lines problems may show."""
        self.texts[source.path] = source.text

    @property
    def top(self) -> Span:
        """The place of what is missing altogether: the start of the project."""
        heads = [b.head for b in self.project.blocks if b.section]
        return heads[0] if heads else self.project.source.span(0, 0)

    def error(self, message: str, span: Span | None, hint: str = "") -> None:
        """Note a problem; reading goes on to find more."""
        self.problems.append(Problem(message, span, hint))

    def notice(self, message: str, span: Span | None) -> None:
        """Note something that the user should know but need not change."""
        self.notices.append(Notice(message, span))

    def entries(self, document: Document, blocks: Iterable[Block]) -> list[Entry]:
        """Return the parsed definitions of ``blocks``, noting those that do not parse."""
        found = []
        for block in blocks:
            for definition in definitions(document, block):
                if isinstance(definition, Problem):
                    self.problems.append(definition)
                    continue
                try:
                    found.append(_entry(document, definition))
                except ProblemError as error:
                    self.problems += error.problems
        return found

    def lines(self, document: Document, blocks: Iterable[Block]) -> list[Line]:
        """Return the statements of equation blocks, noting what does not parse."""
        found: list[Line] = []
        for block in blocks:
            try:
                found += parse_equations(document, block.start, block.stop)
            except ProblemError as error:
                self.problems += error.problems
                self.broken = True
        return found

    def stop_at_errors(self) -> None:
        """Raise what was found, if anything was."""
        if self.problems:
            first = self.project.source.path
            self.problems.sort(
                key=lambda p: (p.span.file != first, p.span.file, p.span.start) if p.span else (False, "", -1)
            )
            raise ProblemError(self.problems, self.texts)


def _entry(document: Document, definition: Definition) -> Entry:
    value = parse_value(document, definition.start, definition.stop)
    if definition.is_call:
        if not isinstance(value, Apply):
            problem = Problem("this is no definition", definition.key_span, "name = value, or name(...)")
            raise ProblemError([problem])
        return Entry(value.name, value, value.span, True)
    span = definition.key_span.to(value.span) if value is not None else definition.key_span
    return Entry(definition.key.strip("'\""), value, span)


def suggest(text: str, names: Iterable[str]) -> str:
    """Return ``"did you mean X?"`` for the nearest of ``names``, or an empty text."""
    by_lower = {name.lower(): name for name in names}
    near = difflib.get_close_matches(text.lower(), list(by_lower), n=1, cutoff=0.6)
    return f"did you mean {by_lower[near[0]]}?" if near else ""


def listed(node: Node | None) -> tuple[Node, ...]:
    """Return the elements of an optional list, in nested braces or not."""
    return elements(node) if node is not None else ()
