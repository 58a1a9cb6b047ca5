"""The syntax tree of a control stream: what was written, before any of it is understood."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

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
    """A statement of its own form (CALL, EXIT, WRITE...), a call protocol phrase or a verbatim line.

    ``word`` is its first word, upper case, ``"("`` or ``'"'``.
    """

    word: str
    text: str
    span: Span = field(compare=False)


@dataclass(frozen=True)
class Loop:
    """``DO WHILE``."""

    condition: Node
    body: tuple[CodeLine, ...]
    span: Span = field(compare=False)


CodeLine = Assignment | Conditional | Loop | Foreign

# --- records with options -----------------------------------------------------------------------


@dataclass(frozen=True)
class Word:
    """A word, number or quoted text; ``text`` has no quotes, case as written."""

    text: str
    span: Span = field(compare=False)


@dataclass(frozen=True)
class Option:
    """``NAME``, ``NAME=value`` or ``NAME=(list)``."""

    name: Word
    value: Word | None = None
    items: tuple[Word, ...] | None = None

    @property
    def span(self) -> Span:
        """From the name to the end of the value."""
        last = self.items[-1] if self.items else (self.value or self.name)
        return self.name.span.to(last.span)


@dataclass(frozen=True)
class InputItem:
    """One item of $INPUT, ``name`` or ``name=synonym``."""

    name: Word
    synonym: Word | None


@dataclass(frozen=True)
class Condition:
    """One condition of an IGNORE or ACCEPT list; ``operator`` as written, upper case."""

    item: Word
    operator: str
    value: Word


@dataclass(frozen=True)
class DataSource:
    """$DATA: the file (None in a second record), its options, and the IGNORE and ACCEPT lists."""

    file: Word | None
    options: tuple[Option, ...]
    filters: tuple[tuple[Word, tuple[Condition, ...]], ...]


@dataclass(frozen=True)
class Compartment:
    """COMPARTMENT=(...) of $MODEL: name and attributes as written."""

    entries: tuple[Word, ...]
    span: Span = field(compare=False)


@dataclass(frozen=True)
class Side:
    """One side of a REPLACE: a name, a quoted text, or a name with a list (``index``, as written).

    ``nodes`` is what a text means as code, where it means anything.
    """

    text: Word
    index: Word | None = None
    nodes: tuple[Node, ...] | None = None


@dataclass(frozen=True)
class Replacement:
    """``REPLACE left=right`` of $ABBREVIATED."""

    left: Side
    right: Side
    span: Span = field(compare=False)


@dataclass(frozen=True)
class Declaration:
    """``DECLARE`` or ``VECTOR`` of $ABBREVIATED, the names as written; or FUNCTION."""

    kind: Word
    names: Word


@dataclass(frozen=True)
class ThetaItem:
    """One element of $THETA: the words between the parentheses (``,`` included), those after."""

    name: Word | None
    inside: tuple[Word, ...]
    after: tuple[Word, ...]
    repeat: int
    span: Span = field(compare=False)


@dataclass(frozen=True)
class ThetaRecord:
    """$THETA: its elements, NAMES(...) and the words of the search for initial values."""

    items: tuple[ThetaItem, ...]
    names: tuple[Word, ...]
    search: tuple[Word, ...]
    span: Span = field(compare=False)


@dataclass(frozen=True)
class MatrixItem:
    """One value of $OMEGA or $SIGMA with the option words that belong to it alone."""

    value: Word
    name: Word | None
    options: tuple[Word, ...]
    repeat: int
    span: Span = field(compare=False)

    def with_option(self, word: Word) -> MatrixItem:
        """Return this item with one more option word."""
        return replace(self, options=(*self.options, word))


@dataclass(frozen=True)
class MatrixRecord:
    """$OMEGA or $SIGMA: its shape, all option words outside parentheses, its values in order.

    ``same`` counts the repetitions of SAME(m); ``values`` is VALUES(diagonal,off-diagonal).
    """

    block: Word | None
    size: Word | None
    same: int | None
    values: tuple[Word, Word] | None
    names: tuple[Word, ...]
    options: tuple[Word, ...]
    items: tuple[MatrixItem, ...]
    span: Span = field(compare=False)
