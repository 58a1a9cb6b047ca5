"""Records that are not code: from their text to syntax trees."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

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
                (name,) = parsed.words(tree, "WORD")
                options.append(Option(name, parsed.optional(tree, "VALUE", "QUOTED")))
            case "loose":
                options.append(Option(parsed.words(tree, "VALUE", "QUOTED")[0]))
            case "translate":
                name, listed = parsed.words(tree, "TRANSLATE", "LIST")
                options.append(Option(name, listed))
            case "character":
                name, value_word = parsed.words(tree, "FILTER", "FILTERCHAR")
                options.append(Option(name, value_word))
            case "format":
                (listed,) = parsed.words(tree, "LIST")
                options.append(Option(Word("FORMAT", listed.span), listed))
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
    """Parse any record that is a list of options; that of $MSFI may begin with ``=``."""
    parsed = _Parsed(stream, record, "options", "file" if record.name == "MSFI" else "start")
    return tuple(_option(parsed, tree) for tree in parsed.trees())


def _option(parsed: _Parsed, tree: Tree[Token]) -> Option:
    if tree.data == "plain":
        return Option(parsed.words(tree, "QUOTED")[0])
    (name,) = parsed.words(tree, "WORD", "LPAR")
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
        elif tree.data == "link":
            pieces.append(Option(parsed.words(tree, "LINK")[0]))
        else:
            pieces.append(Compartment(parsed.words(tree, "ENTRY"), parsed.span(tree)))
    return tuple(pieces)


def parse_theta(stream: Stream, record: Record) -> ThetaRecord:
    """Parse $THETA."""
    parsed = _Parsed(stream, record, "theta")
    items, names, search = list[ThetaItem](), list[Word](), list[Word]()
    for tree in parsed.trees():
        if tree.data == "names":
            names += parsed.words(tree, "LABEL")
        elif tree.data == "search":
            search += parsed.words(tree, "SEARCH")
        elif tree.data == "late":
            items[-1] = replace(items[-1], after=items[-1].after + parsed.words(tree, "WORD"))
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
    times = whole(word.text.lstrip("xX \t"))
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
                items += _matrix_items(parsed, tree)
    return MatrixRecord(
        block, size, same, values, tuple(names), tuple(options), tuple(items), stream.span(record)
    )


def _matrix_items(parsed: _Parsed, tree: Tree[Token]) -> list[MatrixItem]:
    """Return the values of one item; a group in parentheses may hold several, and stand for repetitions."""
    group = parsed.subtree(tree, "group")
    name = parsed.optional(tree, "NAME")
    if group is None:
        return [MatrixItem(parsed.words(tree, "NUMBER")[0], name, (), 1, parsed.span(tree))]
    times = _repetitions(parsed.optional(tree, "TIMES"))
    before: list[Word] = []
    items: list[MatrixItem] = []
    for token in group.children:
        word = parsed.word(token)
        if isinstance(token, Token) and token.type == "NUMBER":
            items.append(MatrixItem(word, name, tuple(before), 1, word.span))
            name, before = None, []
        elif isinstance(token, Token) and token.type == "WORD":
            if items:
                items[-1] = items[-1].with_option(word)
            else:
                before.append(word)
    if not items:
        raise ProblemError([Problem("there is no value in these parentheses", parsed.span(tree))])
    if len(items) == 1:
        return [replace(items[0], repeat=times, span=parsed.span(tree))]
    return items * times


def parse_table(stream: Stream, record: Record) -> tuple[Option, ...]:
    """Parse $TABLE: options and items; an item with an index has it in ``items``, its label is the value."""
    parsed = _Parsed(stream, record, "table")
    pieces = []
    for tree in parsed.trees():
        name, *label = parsed.words(tree, "WORD")
        index = parsed.words(tree, "INDEX")
        if tree.data == "option":
            pieces.append(Option(name, parsed.optional(tree, "VALUE", "QUOTED")))
        elif index:
            pieces.append(Option(name, label[0] if label else None, index))
        else:  # LABEL=COM(1)
            pieces.append(Option(name, parsed.words(tree, "ELEMENT")[0]))
    return tuple(pieces)
