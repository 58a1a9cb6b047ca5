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
    "ENDDO": "ENDDO",
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
        propagate_positions=name != "code",  # of code, the places of tokens are all that is used
        maybe_placeholders=False,
    )


def parse_tree(
    stream: Stream, record: Record, grammar: str, start: str = "start", text: str | None = None
) -> Tree[Token]:
    """Parse the body of ``record`` from the rule ``start``; tokens count offsets in that body.

    ``text`` replaces the body where something in it was blanked.

    Raises
    ------
    ProblemError
        With the first place where the text does not fit the grammar.
    """
    text = stream.body(record) if text is None else text
    try:
        return _grammar(grammar, start).parse(text)
    except UnexpectedInput as error:
        raise ProblemError([_problem(stream, record, text, error)]) from None


def parse_text(text: str, grammar: str, start: str) -> Tree[Token]:
    """Parse a text that is no record's body.

    Raises
    ------
    UnexpectedInput
        Where it does not fit the grammar.
    """
    return _grammar(grammar, start).parse(text)


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
        at = _opened_by(_IFS, text)
        message, hint, width = "this IF ... THEN has no ENDIF", "close it with ENDIF", 2
    elif "ENDDO" in expected and at >= end:
        at = _opened_by(_LOOPS, text)
        message, hint, width = "this DO WHILE has no ENDDO", "close it with ENDDO", 2
    elif ended:
        at, width = max(len(text[:at].rstrip()) - 1, 0), 1
        message = "the line ends too early" if by_lines else f"${record.name} ends too early"
        if not text.strip():
            return Problem(f"${record.name} is empty", record.head, hint)
    elif text[at] == ")" and opened is None:
        message, hint = "unbalanced parenthesis: there is no '(' to this ')'", "remove it, or add '('"
    else:
        message = f"'{text[at : at + width].strip()}' does not fit here"
        hint = "a comment begins with ;" if by_lines and text[at] == ":" else hint
    start = record.start + at
    return Problem(message, stream.source.span(start, start + width), hint)


_IFS = re.compile(r"^[ \t]*(END\s*IF\b|IF\b(?=.*\bTHEN\s*$))", re.IGNORECASE | re.MULTILINE)
_LOOPS = re.compile(r"^[ \t]*(END\s*DO\b|DO\s*WHILE\b)", re.IGNORECASE | re.MULTILINE)


def _opened_by(pattern: re.Pattern[str], text: str) -> int:
    """Return the offset of the last block that ``pattern`` finds opened and not closed."""
    opened = [0]
    for match in pattern.finditer(text):
        if not match.group(1).upper().startswith("END"):
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
