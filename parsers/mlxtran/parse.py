"""From the text of a definition or of equations to syntax trees."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from lark import Lark, Token, Tree
from lark.exceptions import UnexpectedCharacters, UnexpectedInput, UnexpectedToken

from ...engine.ir.span import Span
from ..problem import Problem, ProblemError
from .lexical import Document, joined
from .syntax import (
    Apply,
    Assignment,
    Braces,
    Conditional,
    Infix,
    Item,
    Line,
    Literal,
    Name,
    Node,
    Prefix,
    Quoted,
)

# What a reader of messages calls a terminal.
_TERMINALS = {
    "NAME": "a name",
    "NUMBER": "a number",
    "QUOTED": "a quoted text",
    "RPAR": "')'",
    "RBRACE": "'}'",
    "EQUAL": "'='",
    "COMMA": "','",
    "_NL": "end of line",
    "END": "end",
}
_DEEPEST = 150  # nested brackets; more would exhaust the stack


@cache
def _grammar() -> Lark:
    return Lark.open(
        "grammars/mlxtran.lark",
        rel_to=__file__,
        start=["definition", "equations"],
        parser="lalr",
        propagate_positions=True,
        maybe_placeholders=True,
    )


def parse_value(document: Document, start: int, stop: int) -> Node | None:
    """Return the value that stands from ``start`` to ``stop``, None where there is only blank.

    Raises
    ------
    ProblemError
        With the first place that does not fit.
    """
    text = document.clean[start:stop].replace("\n", " ")
    tree = _parse(document, text, start, "definition")
    children = [child for child in tree.children if child is not None]
    return _Builder(document, start).node(children[0]) if children else None


def parse_equations(document: Document, start: int, stop: int) -> list[Line]:
    """Return the statements that stand from ``start`` to ``stop``.

    Raises
    ------
    ProblemError
        With the first place that does not fit.
    """
    tree = _parse(document, joined(document.clean[start:stop]), start, "equations")
    builder = _Builder(document, start)
    return [builder.line(child) for child in tree.children if isinstance(child, Tree)]


def _parse(document: Document, text: str, offset: int, rule: str) -> Tree[Token]:
    depth = 0
    for i, c in enumerate(text):
        depth += (c in "({") - (c in ")}")
        if depth > _DEEPEST:
            span = document.source.span(offset + i, offset + i + 1)
            raise ProblemError([Problem("too many brackets inside each other", span, "use more variables")])
    try:
        return _grammar().parse(text, start=rule)
    except UnexpectedInput as error:
        raise ProblemError([_problem(document, text, offset, error)]) from None


def _problem(document: Document, text: str, offset: int, error: UnexpectedInput) -> Problem:
    at, width, expected = len(text.rstrip()), 1, set[str]()
    if isinstance(error, UnexpectedToken):
        expected = set(error.accepts or error.expected)
        if error.token.type != "$END" and error.token.start_pos is not None:
            at, width = error.token.start_pos, len(error.token.strip()) or 1
    elif isinstance(error, UnexpectedCharacters):
        at, expected = error.pos_in_stream or 0, set(error.allowed or ())
    words = sorted({_TERMINALS[name] for name in expected if name in _TERMINALS})
    hint = f"expected {' or '.join(words)}" if words else ""
    if at >= len(text.rstrip()) or text[at] == "\n":
        opened = _open_bracket(text[:at])
        if opened is not None:
            at, message, hint = opened, "this bracket is never closed", "close it"
        elif "END" in expected and at >= len(text.rstrip()):
            at, message = max(len(text.rstrip()) - 1, 0), "an 'if' has no 'end'"
        else:
            at, message = max(len(text[:at].rstrip()) - 1, 0), "the statement ends too early"
        width = 1
    else:
        message = f"'{text[at : at + width].strip()}' does not fit here"
    return Problem(message, document.source.span(offset + at, offset + at + width), hint)


def _open_bracket(text: str) -> int | None:
    opened: list[int] = []
    for i, c in enumerate(text):
        if c in "({":
            opened.append(i)
        elif c in ")}" and opened:
            opened.pop()
    return opened[-1] if opened else None


@dataclass(frozen=True)
class _Builder:
    """Turns Lark's trees into ours; ``offset`` is where their text stands in the document."""

    document: Document
    offset: int

    def _span(self, tree: Tree[Token] | Token) -> Span:
        if isinstance(tree, Token):
            start, stop = tree.start_pos or 0, tree.end_pos or 0
        else:
            start, stop = tree.meta.start_pos, tree.meta.end_pos
        return self.document.source.span(self.offset + start, self.offset + stop)

    def line(self, tree: Tree[Token]) -> Line:
        span = self._span(tree)
        if tree.data == "apply":
            return self._apply(tree)
        if tree.data == "assignment":
            target, value = tree.children
            assert isinstance(target, Tree)
            names = [t for t in target.children if isinstance(t, Token) and t.type == "NAME"]
            return Assignment(tuple(Name(str(t), self._span(t)) for t in names), self.node(value), span)
        branches, otherwise = [], tuple[Line, ...]()
        parts = [child for child in tree.children if isinstance(child, Tree)]
        branches.append((self.node(parts[0]), self._body(parts[1])))
        for part in parts[2:]:
            inner = [child for child in part.children if isinstance(child, Tree)]
            if part.data == "elseif":
                branches.append((self.node(inner[0]), self._body(inner[1])))
            else:
                otherwise = self._body(inner[0])
        return Conditional(tuple(branches), otherwise, span)

    def _body(self, tree: Tree[Token]) -> tuple[Line, ...]:
        return tuple(self.line(child) for child in tree.children if isinstance(child, Tree))

    def node(self, tree: Tree[Token] | Token) -> Node:
        assert isinstance(tree, Tree)
        span = self._span(tree)
        match tree.data:
            case "number":
                return Literal(str(tree.children[0]), span)
            case "name":
                return Name(str(tree.children[0]), span)
            case "text":
                return Quoted(str(tree.children[0])[1:-1], span)
            case "group":
                inner = next(child for child in tree.children if isinstance(child, Tree))
                return self.node(inner)
            case "prefix":
                return Prefix(str(tree.children[0]), self.node(tree.children[1]), span)
            case "infix":
                left, operator, right = tree.children
                return Infix(str(operator), self.node(left), self.node(right), span)
            case "apply":
                return self._apply(tree)
            case "braces":
                return Braces(self._items(tree), span)
        raise AssertionError(f"unknown rule {tree.data}")

    def _apply(self, tree: Tree[Token]) -> Apply:
        return Apply(str(tree.children[0]), self._items(tree), self._span(tree))

    def _items(self, tree: Tree[Token]) -> tuple[Item, ...]:
        items = []
        for child in tree.children:
            if isinstance(child, Tree) and child.data == "item":
                first, second = (child.children[0], child.children[-1])
                assert first is not None
                has_key = second is not None and len(child.children) > 1
                key = self.node(first) if has_key else None
                items.append(Item(key, self.node(second if has_key else first), self._span(child)))
        return tuple(items)
