"""From the text of a record to its syntax tree, by the grammar of its kind."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache

from lark import Lark, Token, Tree
from lark.exceptions import UnexpectedCharacters, UnexpectedEOF, UnexpectedInput, UnexpectedToken

from ..problem import Problem, ProblemError
from .records import Record, Stream
from .syntax import (
    Condition,
    DataSource,
    MatrixItem,
    MatrixRecord,
    Option,
    ThetaItem,
    Word,
)

Item = Token | Tree[Token]

# What a reader of messages calls a terminal.
_TERMINALS = {
    "NAME": "a name",
    "NUMBER": "a number",
    "RPAR": "')'",
    "_RPAR": "')'",
    "LPAR": "'('",
    "_LPAR": "'('",
    "EQUAL": "'='",
    "_EQ": "'='",
    "COMMA": "','",
    "_NL": "end of line",
    "$END": "end of the record",
    "THEN": "THEN",
    "ENDIF": "ENDIF",
    "WORD": "a word",
    "LABEL": "a name",
    "VALUE": "a value",
    "QUOTED": "a quoted text",
    "PATH": "a file name",
    "CNAME": "a data item",
    "CVALUE": "a value",
    "COMPARE": "a comparison",
}


@cache
def _grammar(name: str) -> Lark:
    return Lark.open(
        f"grammars/{name}.lark",
        rel_to=__file__,
        parser="lalr",
        propagate_positions=True,
        maybe_placeholders=False,
    )


def parse_tree(stream: Stream, record: Record, grammar: str) -> Tree[Token]:
    """Parse the body of ``record``; every token's ``start_pos`` is an offset into that body.

    Raises
    ------
    ProblemError
        With the first place where the text does not fit the grammar.
    """
    text = stream.body(record)
    try:
        return _grammar(grammar).parse(text)
    except UnexpectedInput as error:
        raise ProblemError([_problem(stream, record, text, error)]) from None


def _problem(stream: Stream, record: Record, text: str, error: UnexpectedInput) -> Problem:
    at = len(text.rstrip())
    length = 1
    expected: set[str] = set()
    if isinstance(error, UnexpectedToken):
        expected = set(error.accepts or error.expected)
        if error.token.type != "$END" and error.token.start_pos is not None:
            at, length = error.token.start_pos, len(error.token.strip()) or 1
    elif isinstance(error, UnexpectedCharacters):
        at = error.pos_in_stream
        expected = set(error.allowed or ())
    elif not isinstance(error, UnexpectedEOF):
        raise AssertionError(f"unknown parse error {error!r}")

    def span(start: int, width: int) -> Problem:
        return Problem(
            message, stream.source.span(record.start + start, record.start + start + width), hint
        )

    hint = ""
    begin = text.rfind("\n", 0, at) + 1 if grammar_of_lines(record) else 0
    opened = _open_parenthesis(text, begin, at)
    ended = at >= len(text.rstrip()) or text[at] == "\n"
    if ended and opened is not None:
        message = "this parenthesis is never closed"
        return span(opened, 1)
    if not ended and text[at] == ")" and opened is None:
        message = "unbalanced parenthesis: there is no '(' to this ')'"
        return span(at, 1)
    if text[at : at + 1] == '"' and grammar_of_lines(record):
        message = "verbatim code is not supported yet"
        hint = "write it as abbreviated code"
        return span(at, 1)
    words = sorted({_TERMINALS[e] for e in expected if e in _TERMINALS})
    hint = f"expected {' or '.join(words)}" if words else ""
    if ended and at > 0:
        message = f"${record.name} ends too early" if at >= len(text.rstrip()) else "the line ends too early"
        return span(max(at - 1, 0), 1)
    message = f"'{text[at : at + length].strip() or text[at]}' does not fit here"
    return span(at, length)


def grammar_of_lines(record: Record) -> bool:
    """Return True where line breaks matter in ``record``."""
    from .words import CODE_RECORDS

    return record.name in CODE_RECORDS


def _open_parenthesis(text: str, begin: int, stop: int) -> int | None:
    """Return the offset of the last parenthesis opened and not closed before ``stop``."""
    opened: list[int] = []
    for match in re.compile(r"[()]").finditer(text, begin, stop):
        if match.group() == "(":
            opened.append(match.start())
        elif opened:
            opened.pop()
    return opened[-1] if opened else None
