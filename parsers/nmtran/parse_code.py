"""Abbreviated code: from the text of a record to statements."""

from __future__ import annotations

import re

from lark import Token, Tree
from lark.exceptions import UnexpectedInput

from ...engine.ir.span import Span
from .parse import parse_text, parse_tree
from .records import Record, Stream
from .syntax import (
    Apply,
    Assignment,
    CodeLine,
    Conditional,
    Foreign,
    Infix,
    Literal,
    Loop,
    Name,
    Node,
    Unary,
)
from .verbatim import unwrap

_FOREIGN = re.compile(r"[(\"]|GO\s*TO|[A-Z]+", re.IGNORECASE)
_COMPARISONS = {
    ".EQ.": "==",
    ".EQN.": "==",
    "==": "==",
    ".NE.": "!=",
    ".NEN.": "!=",
    "/=": "!=",
    ".LT.": "<",
    "<": "<",
    ".LE.": "<=",
    "<=": "<=",
    ".GT.": ">",
    ">": ">",
    ".GE.": ">=",
    ">=": ">=",
}


def parse_code(stream: Stream, record: Record) -> tuple[CodeLine, ...]:
    """Return the statements of a code record.

    Raises
    ------
    ProblemError
        Where the code does not fit the grammar.
    """
    text = stream.body(record)
    if '"' in text:
        text = unwrap(text)
    tree = parse_tree(stream, record, "code", text=text)
    return _Code(stream, record.start).lines(tree.children)


def parse_expression(stream: Stream, text: str, start: int) -> tuple[Node, ...] | None:
    """Return the expressions, with commas between, that ``text`` at offset ``start`` is, or None."""
    try:
        tree = parse_text(text, "code", "values")
    except UnexpectedInput:
        return None
    code = _Code(stream, start)
    return tuple(code.node(child) for child in tree.children)


class _Code:
    """Turns the parse tree of one record into statements with places in the file."""

    def __init__(self, stream: Stream, base: int) -> None:
        self.source = stream.source
        self.base = base

    def place(self, token: Token) -> Span:
        start = self.base + (token.start_pos or 0)
        return self.source.span(start, start + len(token.rstrip()))

    def lines(self, children: list[Token | Tree[Token]]) -> tuple[CodeLine, ...]:
        return tuple(self.line(child) for child in children if isinstance(child, Tree))

    def line(self, tree: Tree[Token]) -> CodeLine:
        match tree.data:
            case "assignment":
                target, value = (self.node(child) for child in tree.children)
                assert isinstance(target, Name | Apply)
                return Assignment(target, value, target.span.to(value.span))
            case "foreign":
                (token,) = tree.children
                assert isinstance(token, Token)
                word = _FOREIGN.match(token)
                assert word is not None
                return Foreign(" ".join(word.group().upper().split()), str(token), self.place(token))
            case "one_line_if":
                head, condition, body = tree.children
                assert isinstance(head, Token) and isinstance(body, Tree)
                line = self.line(body)
                return Conditional(((self.node(condition), (line,)),), (), self.place(head).to(line.span))
            case "conditional":
                return self.conditional(tree)
            case "loop":
                head, condition, body, last = tree.children
                assert isinstance(head, Token) and isinstance(body, Tree) and isinstance(last, Token)
                span = self.place(head).to(self.place(last))
                return Loop(self.node(condition), self.lines(body.children), span)
        raise AssertionError(f"no statement called {tree.data}")

    def conditional(self, tree: Tree[Token]) -> Conditional:
        head, last = tree.children[0], tree.children[-1]
        assert isinstance(head, Token) and isinstance(last, Token)
        first_body = next(c for c in tree.children if isinstance(c, Tree) and c.data == "body")
        branches = [(self.node(tree.children[1]), self.lines(first_body.children))]
        otherwise: tuple[CodeLine, ...] = ()
        for child in tree.children:
            if not isinstance(child, Tree) or child.data not in ("elseif", "else"):
                continue
            body = child.children[-1]
            assert isinstance(body, Tree)
            if child.data == "elseif":
                branches.append((self.node(child.children[0]), self.lines(body.children)))
            else:
                otherwise = self.lines(body.children)
        return Conditional(tuple(branches), otherwise, self.place(head).to(self.place(last)))

    def node(self, tree: Token | Tree[Token]) -> Node:
        assert isinstance(tree, Tree)
        children = tree.children
        match tree.data:
            case "number":
                (token,) = children
                assert isinstance(token, Token)
                return Literal(str(token), self.place(token))
            case "name":
                (token,) = children
                assert isinstance(token, Token)
                return Name(token.upper(), self.place(token))
            case "apply":
                name, *arguments, end = children
                assert isinstance(name, Token) and isinstance(end, Token)
                span = self.place(name).to(self.place(end))
                return Apply(name.upper(), tuple(self.node(a) for a in arguments), span, self.place(name))
            case "signed" | "negate":
                sign, operand = children
                assert isinstance(sign, Token)
                inner = self.node(operand)
                operator = "not" if tree.data == "negate" else str(sign)
                return Unary(operator, inner, self.place(sign).to(inner.span))
            case "infix":
                left, middle, right = children
                assert isinstance(middle, Token)
                operator = _COMPARISONS.get(middle.upper(), str(middle))
                return self.pair(operator, left, right)
            case "both" | "either":
                left, right = children
                return self.pair("and" if tree.data == "both" else "or", left, right)
        raise AssertionError(f"no expression called {tree.data}")

    def pair(self, operator: str, left: Token | Tree[Token], right: Token | Tree[Token]) -> Infix:
        first, second = self.node(left), self.node(right)
        return Infix(operator, first, second, first.span.to(second.span))
