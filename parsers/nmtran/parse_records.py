"""Records that are not code: from their text to syntax trees."""

from __future__ import annotations

from collections.abc import Iterator

from lark import Token, Tree

from ...engine.ir.span import Span
from ..problem import Problem, ProblemError
from .numbers import whole
from .parse import parse_tree
from .records import Record, Stream
from .syntax import (
    Compartment,
    Condition,
    DataSource,
    InputItem,
    MatrixItem,
    MatrixRecord,
    Option,
    Replacement,
    ThetaItem,
    ThetaRecord,
    Word,
)

_MOST_REPETITIONS = 9999
Child = Token | Tree[Token]


class _Parsed:
    """The parse tree of one record, with places in the file."""

    def __init__(self, stream: Stream, record: Record, grammar: str, start: str = "start") -> None:
        self._stream = stream
        self._base = record.start
        self.children = parse_tree(stream, record, grammar, start).children

    def trees(self) -> Iterator[Tree[Token]]:
        return (child for child in self.children if isinstance(child, Tree))

    def word(self, token: Child) -> Word:
        assert isinstance(token, Token)
        text = str(token)
        if len(text) > 1 and text[0] in "'\"" and text[-1] == text[0]:
            text = text[1:-1]
        return Word(text, self.at(token.start_pos, token.end_pos))

    def words(self, tree: Tree[Token], *types: str) -> tuple[Word, ...]:
        return tuple(self.word(t) for t in tree.children if isinstance(t, Token) and t.type in types)

    def optional(self, tree: Tree[Token], *types: str) -> Word | None:
        return next(iter(self.words(tree, *types)), None)

    def subtree(self, tree: Tree[Token], name: str) -> Tree[Token] | None:
        return next((c for c in tree.children if isinstance(c, Tree) and c.data == name), None)

    def at(self, start: int | None, stop: int | None) -> Span:
        assert start is not None and stop is not None
        return self._stream.source.span(self._base + start, self._base + stop)

    def span(self, tree: Tree[Token]) -> Span:
        return self.at(tree.meta.start_pos, tree.meta.end_pos)


def parse_input(stream: Stream, record: Record) -> tuple[InputItem, ...]:
    """Parse $INPUT."""
    parsed = _Parsed(stream, record, "input")
    items = []
    for tree in parsed.trees():
        names = parsed.words(tree, "LABEL")
        items.append(InputItem(names[0], names[1] if len(names) > 1 else None))
    return tuple(items)


def parse_data(stream: Stream, record: Record) -> DataSource:
    """Parse $DATA; a second one goes on with the options of the first."""
    first = stream.of("DATA")[0] is record
    parsed = _Parsed(stream, record, "data", "start" if first else "more")
    file: Word | None = None
    options: list[Option] = []
    filters: list[tuple[Word, tuple[Condition, ...]]] = []
    for tree in parsed.trees():
        match tree.data:
            case "file":
                file = parsed.word(tree.children[0])
            case "option":
                value = parsed.words(tree, "VALUE")
                options.append(Option(parsed.words(tree, "WORD")[0], value[0] if value else None))
            case "character":
                name, value_word = parsed.words(tree, "FILTER", "FILTERCHAR")
                options.append(Option(name, value_word))
            case "format":
                options.append(Option(Word("FORMAT", parsed.span(tree))))
            case "filter":
                conditions = tuple(_condition(parsed, c) for c in tree.children if isinstance(c, Tree))
                filters.append((parsed.words(tree, "FILTER")[0], conditions))
    return DataSource(file, tuple(options), tuple(filters))


def _condition(parsed: _Parsed, tree: Tree[Token]) -> Condition:
    operator = parsed.optional(tree, "OPERATOR")
    (item,) = parsed.words(tree, "CNAME")
    (value,) = parsed.words(tree, "CVALUE")
    return Condition(item, operator.text.upper() if operator else ".EQ.", value)


def parse_options(stream: Stream, record: Record) -> tuple[Option, ...]:
    """Parse any record that is a list of options."""
    parsed = _Parsed(stream, record, "options")
    return tuple(_option(parsed, tree) for tree in parsed.trees())


def _option(parsed: _Parsed, tree: Tree[Token]) -> Option:
    (name,) = parsed.words(tree, "WORD")
    group = parsed.subtree(tree, "list")
    items = parsed.words(group, "ITEM", "QUOTED") if group is not None else None
    return Option(name, parsed.optional(tree, "VALUE", "QUOTED"), items)


def parse_model(stream: Stream, record: Record) -> tuple[Option | Compartment, ...]:
    """Parse $MODEL: counts as options, and compartments."""
    parsed = _Parsed(stream, record, "model")
    pieces: list[Option | Compartment] = []
    for tree in parsed.trees():
        if tree.data == "count":
            pieces.append(Option(parsed.words(tree, "COUNT")[0], parsed.words(tree, "NUMBER")[0]))
        else:
            pieces.append(Compartment(parsed.words(tree, "ENTRY"), parsed.span(tree)))
    return tuple(pieces)


def parse_theta(stream: Stream, record: Record) -> ThetaRecord:
    """Parse $THETA."""
    parsed = _Parsed(stream, record, "theta")
    items, names, search = [], list[Word](), list[Word]()
    for tree in parsed.trees():
        if tree.data == "names":
            names += parsed.words(tree, "LABEL")
        elif tree.data == "search":
            search += parsed.words(tree, "SEARCH")
        else:
            group = parsed.subtree(tree, "group")
            inside = parsed.words(tree if group is None else group, "NUMBER", "COMMA", "WORD")
            after = () if group is None else parsed.words(tree, "WORD")
            times = parsed.optional(tree, "TIMES")
            items.append(
                ThetaItem(
                    parsed.optional(tree, "NAME"),
                    inside,
                    after,
                    _repetitions(times),
                    parsed.span(tree),
                )
            )
    return ThetaRecord(tuple(items), tuple(names), tuple(search), stream.span(record))


def _repetitions(word: Word | None) -> int:
    """Return n of ``xn`` or of SAME(n), 1 where there is none."""
    if word is None:
        return 1
    times = whole(word.text.lstrip("xX"))
    if times is None or not 1 <= times <= _MOST_REPETITIONS:
        raise ProblemError([Problem(f"a repetition is 1 to {_MOST_REPETITIONS} times", word.span)])
    return times


def parse_matrix(stream: Stream, record: Record) -> MatrixRecord:
    """Parse $OMEGA or $SIGMA."""
    parsed = _Parsed(stream, record, "omega")
    block: Word | None = None
    size: Word | None = None
    same: int | None = None
    values: tuple[Word, Word] | None = None
    names, options, items = list[Word](), list[Word](), list[MatrixItem]()
    for tree in parsed.trees():
        match tree.data:
            case "shape":
                word, number = parsed.word(tree.children[0]), parsed.optional(tree, "NUMBER")
                if isinstance(token := tree.children[0], Token) and token.type == "SAME":
                    same = _repetitions(number)
                else:
                    size = number
                    block = word if isinstance(token, Token) and token.type == "BLOCK" else block
            case "values":
                diagonal, off = parsed.words(tree, "NUMBER")
                values = (diagonal, off)
            case "names":
                names += parsed.words(tree, "LABEL")
            case "word":
                options.append(parsed.word(tree.children[0]))
                if items:  # without a block, a word after a value belongs to that value
                    items[-1] = items[-1].with_option(options[-1])
            case "item":
                items.append(_matrix_item(parsed, tree))
    return MatrixRecord(
        block, size, same, values, tuple(names), tuple(options), tuple(items), stream.span(record)
    )


def _matrix_item(parsed: _Parsed, tree: Tree[Token]) -> MatrixItem:
    group = parsed.subtree(tree, "group")
    times = parsed.optional(tree, "TIMES")
    holder = tree if group is None else group
    return MatrixItem(
        parsed.words(holder, "NUMBER")[0],
        parsed.optional(tree, "NAME"),
        () if group is None else parsed.words(group, "WORD"),
        _repetitions(times),
        parsed.span(tree),
    )


def parse_table(stream: Stream, record: Record) -> tuple[Option, ...]:
    """Parse $TABLE: options and items; an item with an index has it in ``items``."""
    parsed = _Parsed(stream, record, "table")
    pieces = []
    for tree in parsed.trees():
        name = parsed.words(tree, "WORD")[0]
        if tree.data == "element":
            pieces.append(Option(name, None, parsed.words(tree, "INDEX")))
        else:
            pieces.append(Option(name, parsed.optional(tree, "VALUE", "QUOTED")))
    return tuple(pieces)


def parse_abbreviated(stream: Stream, record: Record) -> tuple[Option | Replacement, ...]:
    """Parse $ABBREVIATED."""
    parsed = _Parsed(stream, record, "abbreviated")
    pieces: list[Option | Replacement] = []
    for tree in parsed.trees():
        if tree.data == "replace":
            sides = [_side(parsed, side) for side in tree.children if isinstance(side, Tree)]
            pieces.append(Replacement(sides[0], sides[1], parsed.span(tree)))
        elif tree.data == "other":
            (word,) = parsed.words(tree, "OTHER")
            pieces.append(Option(Word(word.text.split()[0].upper(), word.span)))
        else:
            name, *value = parsed.words(tree, "WORD")
            pieces.append(Option(name, value[0] if value else None))
    return tuple(pieces)


def _side(parsed: _Parsed, tree: Tree[Token]) -> Option:
    name = parsed.words(tree, "WORD", "QUOTED")[0]
    index = parsed.words(tree, "INDEX")
    return Option(name, None, index if tree.data == "element" else None)
