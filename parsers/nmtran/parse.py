"""From the text of a record to its syntax tree, by the grammar of its kind."""

from __future__ import annotations

import re
from functools import cache

from lark import Lark, Token, Tree
from lark.exceptions import UnexpectedCharacters, UnexpectedInput, UnexpectedToken

from ..problem import Problem, ProblemError
from .records import Record, Stream
from .words import CODE_RECORDS

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
def _grammar(name: str, start: str) -> Lark:
    return Lark.open(
        f"grammars/{name}.lark",
        rel_to=__file__,
        start=start,
        parser="lalr",
        propagate_positions=True,
        maybe_placeholders=False,
    )


def parse_tree(stream: Stream, record: Record, grammar: str, start: str = "start") -> Tree[Token]:
    """Parse the body of ``record`` from the rule ``start``; tokens count offsets in that body.

    Raises
    ------
    ProblemError
        With the first place where the text does not fit the grammar.
    """
    text = stream.body(record)
    try:
        return _grammar(grammar, start).parse(text)
    except UnexpectedInput as error:
        raise ProblemError([_problem(stream, record, text, error)]) from None


def _problem(stream: Stream, record: Record, text: str, error: UnexpectedInput) -> Problem:
    end = len(text.rstrip())
    at, width, expected = end, 1, set[str]()
    if isinstance(error, UnexpectedToken):
        expected = set(error.accepts or error.expected)
        if error.token.type != "$END" and error.token.start_pos is not None:
            at, width = error.token.start_pos, len(error.token.strip()) or 1
    elif isinstance(error, UnexpectedCharacters):
        at, expected = error.pos_in_stream or 0, set(error.allowed or ())

    by_lines = record.name in CODE_RECORDS
    opened = _open_parenthesis(text, text.rfind("\n", 0, at) + 1 if by_lines else 0, at)
    ended = at >= end or text[at] == "\n"
    if opened is None:
        expected -= {"RPAR", "_RPAR", "COMMA"}
    words = sorted({_TERMINALS[name] for name in expected if name in _TERMINALS})
    hint = f"expected {' or '.join(words)}" if words else ""
    if ended and opened is not None:
        at, message, hint = opened, "this parenthesis is never closed", "add ')'"
    elif "ENDIF" in expected and at >= end:
        at = _open_if(text)
        message, hint, width = "this IF ... THEN has no ENDIF", "close it with ENDIF", 2
    elif ended:
        at, width = max(len(text[:at].rstrip()) - 1, 0), 1
        message = "the line ends too early" if by_lines else f"${record.name} ends too early"
        if not text.strip():
            return Problem(f"${record.name} is empty", record.head, hint)
    elif text[at] == ")" and opened is None:
        message, hint = "unbalanced parenthesis: there is no '(' to this ')'", "remove it, or add '('"
    elif text[at] == '"' and by_lines:
        message, hint = "verbatim code is not supported yet", "write it as abbreviated code"
        width = len(text[at:].split("\n", 1)[0].rstrip())
    else:
        message = f"'{text[at : at + width].strip()}' does not fit here"
    start = record.start + at
    return Problem(message, stream.source.span(start, start + width), hint)


def _open_if(text: str) -> int:
    """Return the offset of the last block IF without ENDIF."""
    opened = [0]
    for match in re.finditer(r"^[ \t]*(END\s*IF\b|IF\b(?=.*\bTHEN\s*$))", text, re.I | re.M):
        if match.group(1).upper() == "IF":
            opened.append(match.start(1))
        elif len(opened) > 1:
            opened.pop()
    return opened[-1]


def _open_parenthesis(text: str, start: int, stop: int) -> int | None:
    """Return the offset of the last parenthesis that is open at ``stop``, or None."""
    opened: list[int] = []
    for match in re.compile(r"[()]").finditer(text, start, stop):
        if match.group() == "(":
            opened.append(match.start())
        elif opened:
            opened.pop()
    return opened[-1] if opened else None
