"""The syntax tree of a control stream: what was written, before any of it is understood."""

from __future__ import annotations

from dataclasses import dataclass, field

from ...engine.ir.span import Span

# --- abbreviated code ---------------------------------------------------------------------------


@dataclass(frozen=True)
class Literal:
    """A number as written."""

    text: str
    span: Span = field(compare=False)


@dataclass(frozen=True)
class Name:
    """A bare name, upper case."""

    text: str
    span: Span = field(compare=False)


@dataclass(frozen=True)
class Apply:
    """A name with arguments: a function, an array element or a labelled parameter."""

    name: str
    arguments: tuple[Node, ...]
    span: Span = field(compare=False)
    name_span: Span = field(compare=False)


@dataclass(frozen=True)
class Unary:
    """``-``, ``+`` or ``not`` before an operand."""

    operator: str
    operand: Node
    span: Span = field(compare=False)


@dataclass(frozen=True)
class Infix:
    """Two operands; operators are spelled as in the IR."""

    operator: str
    left: Node
    right: Node
    span: Span = field(compare=False)


Node = Literal | Name | Apply | Unary | Infix


@dataclass(frozen=True)
class Assignment:
    """``target = value``."""

    target: Name | Apply
    value: Node
    span: Span = field(compare=False)


@dataclass(frozen=True)
class Conditional:
    """A one-line or block IF."""

    branches: tuple[tuple[Node, tuple[CodeLine, ...]], ...]
    otherwise: tuple[CodeLine, ...]
    span: Span = field(compare=False)


@dataclass(frozen=True)
class Foreign:
    """A statement that is recognised but has no meaning here (CALL, DO WHILE, EXIT...)."""

    word: str
    span: Span = field(compare=False)


CodeLine = Assignment | Conditional | Foreign

# --- records with options -----------------------------------------------------------------------


@dataclass(frozen=True)
class Word:
    """A word, number or quoted text; ``text`` has no quotes, case as written."""

    text: str
    span: Span = field(compare=False)


@dataclass(frozen=True)
class Option:
    """``NAME``, ``NAME=value`` or ``NAME=(list)``; a bare parenthesis has an empty name."""

    name: Word
    value: Word | None = None
    items: tuple[Word, ...] | None = None

    @property
    def span(self) -> Span:
        """From the name to the end of the value."""
        last = self.items[-1] if self.items else (self.value or self.name)
        return self.name.span.to(last.span)


@dataclass(frozen=True)
class Condition:
    """One condition of an IGNORE or ACCEPT list."""

    item: Word
    operator: str
    value: Word


@dataclass(frozen=True)
class DataSource:
    """$DATA: the file (None when missing) and what follows it.

    An option that holds conditions carries them in place of a value.
    """

    file: Word | None
    options: tuple[tuple[Option, tuple[Condition, ...]], ...]


@dataclass(frozen=True)
class ThetaItem:
    """One element of $THETA: the words between the parentheses (``,`` included), those after."""

    name: Word | None
    inside: tuple[Word, ...]
    after: tuple[Word, ...]
    repeat: int
    span: Span = field(compare=False)


@dataclass(frozen=True)
class MatrixItem:
    """One value of $OMEGA or $SIGMA with the option words that belong to it alone."""

    value: Word
    name: Word | None
    options: tuple[Word, ...]
    repeat: int
    span: Span = field(compare=False)


@dataclass(frozen=True)
class MatrixRecord:
    """$OMEGA or $SIGMA: its shape, the record-wide option words and its values in order."""

    block: bool
    size: int | None
    same: int | None  # number of repetitions
    values: tuple[Word, Word] | None  # VALUES(diagonal, off-diagonal)
    names: tuple[Word, ...]
    options: tuple[Word, ...]
    items: tuple[MatrixItem, ...]
    span: Span = field(compare=False)
