"""$ABBREVIATED: from the text of the record to its pieces."""

from __future__ import annotations

from lark import Token, Tree

from .parse import parse_tree
from .parse_code import parse_expression
from .records import Record, Stream
from .syntax import Declaration, Option, Replacement, Side, Word

AbbreviatedPiece = Option | Replacement | Declaration


def parse_abbreviated(stream: Stream, record: Record) -> tuple[AbbreviatedPiece, ...]:
    """Parse $ABBREVIATED.

    Raises
    ------
    ProblemError
        Where the record does not fit the grammar.
    """
    tree = parse_tree(stream, record, "abbreviated")
    abbreviated = _Abbreviated(stream, record)
    return tuple(abbreviated.piece(child) for child in tree.children if isinstance(child, Tree))


class _Abbreviated:
    def __init__(self, stream: Stream, record: Record) -> None:
        self.stream = stream
        self.base = record.start

    def piece(self, tree: Tree[Token]) -> AbbreviatedPiece:
        words = [self.word(child) for child in tree.children if isinstance(child, Token)]
        match tree.data:
            case "replace":
                left, right = (self.side(child) for child in tree.children if isinstance(child, Tree))
                return Replacement(left, right, left.text.span.to((right.index or right.text).span))
            case "declare":
                return Declaration(words[0], words[1])
            case "function":
                return Declaration(Word("FUNCTION", words[0].span), words[0])
        return Option(words[0], words[1] if len(words) > 1 else None)

    def side(self, tree: Tree[Token]) -> Side:
        tokens = [child for child in tree.children if isinstance(child, Token)]
        text = self.word(tokens[0])
        if tree.data == "element":
            return Side(text, self.word(tokens[1]))
        start = self.base + (tokens[0].start_pos or 0) + (tokens[0].type == "QUOTED")
        return Side(text, None, parse_expression(self.stream, text.text, start))

    def word(self, token: Token) -> Word:
        start = self.base + (token.start_pos or 0)
        span = self.stream.source.span(start, start + len(token.rstrip()))
        quoted = token.type == "QUOTED"
        return Word(str(token)[1:-1] if quoted else str(token).strip(), span)
