"""$TABLE: what is to be written."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Literal

from ...engine.ir.dataset import Inputs
from ...engine.ir.span import Span
from ...engine.ir.task import TableTask
from .context import Context
from .eta_lists import eta_list
from .option_words import TABLE_FLAGS, TABLE_OPTIONS, TABLE_WORDS
from .syntax import Option
from .words import CODE_RECORDS, resolve, suggest

_HEADERS: dict[str, Literal["repeat", "once", "none"]] = {
    "ONEHEADER": "once",
    "ONEHEADERALL": "once",
    "ONEHEADERPERFILE": "once",
    "NOHEADER": "none",
}
_ROWS: dict[str, Literal["first", "last", "first_last"]] = {
    "FIRSTONLY": "first",
    "FIRSTRECORDONLY": "first",
    "FIRSTRECONLY": "first",
    "LASTONLY": "last",
    "LASTRECORDONLY": "last",
    "LASTRECONLY": "last",
    "FIRSTLASTONLY": "first_last",
}
# Options that say which rows or columns there are and how they look; the others are kept as they are.
_UNDERSTOOD = frozenset({"FILE", "FORMAT", "IDFORMAT", "PRINT", "NOPRINT", "NOTITLE", "NOLABEL", "APPEND"})
_UNDERSTOOD |= {"NOAPPEND", "HEADER", *_HEADERS, *_ROWS}
_LASTING = ("FORMAT", "LFORMAT", "RFORMAT")
_WORD = re.compile(r"[A-Z_][A-Z_0-9]*", re.IGNORECASE)
_ETA = re.compile(r"ETA?(\d{1,6})")
_TWO_DIGITS = 10  # from here on the number of a random effect is headed ET10: labels had four letters once
# Made by the engine of the language: G11, H21 (derivatives), VA_1 (vectors), :003 and 0012 (working arrays).
_GENERATED = re.compile(r"[GH]\d{1,3}1|HH\d{1,2}|V[ABC]_\d|:\d{1,4}|\d{4}|(COM|VECTR[ABC])\(\d{1,4}\)")


def lower_tables(
    context: Context,
    records: list[tuple[Option, ...]],
    inputs: Inputs,
    known: Collection[str],
    inner: Collection[str],
    eta_names: Mapping[str, int],
    n_etas: int,
) -> tuple[TableTask, ...]:
    """Return the output tables.

    ``known`` are the data items and variables they may name, ``inner`` those of $DES; ``eta_names`` the
    numbers of the random effects that have names.
    """
    heads = context.stream.of("TABLE")
    spelled = _spellings(context, inputs)
    tables: list[TableTask] = []
    formats: dict[str, str] = {}  # FORMAT, LFORMAT and RFORMAT hold for the tables that follow, too
    for record, head in zip(records, heads, strict=True):
        one = _Table(context, {*known, *inner}, spelled, eta_names, n_etas)
        table = one.lower(record, context.stream.span(head), formats)
        formats = {name: one.options[name] for name in _LASTING if name in one.options}
        if table is not None:
            tables.append(table)
    return tuple(tables)


def _spellings(context: Context, inputs: Inputs) -> dict[str, str]:
    """Return what heads the column of a data item or variable: its synonym, or as it is first spelled."""
    code = "\n".join(context.stream.body(record) for record in context.stream.of(*CODE_RECORDS))
    spelled: dict[str, str] = {}
    for word in _WORD.findall(code):
        spelled.setdefault(word.upper(), word)
    for column in inputs.columns:
        if column.role != "dropped" and (column.label or not column.aliases):
            spelled |= dict.fromkeys((column.name, *column.aliases), column.label or column.name)
    return spelled


class _Table:
    """Lowers one $TABLE record."""

    def __init__(
        self,
        context: Context,
        known: Collection[str],
        spelled: Mapping[str, str],
        eta_names: Mapping[str, int],
        n_etas: int,
    ) -> None:
        self.context = context
        self.known = known
        self.spelled = spelled
        self.eta_names = eta_names
        self.n_etas = n_etas
        self.items: list[str] = []
        self.options: dict[str, str] = {}
        self.sorted_by: list[str] | None = None  # the items after BY
        self.excluded_by: list[str] | None = None  # the items after EXCLUDE_BY

    def lower(self, record: tuple[Option, ...], span: Span, formats: Mapping[str, str]) -> TableTask | None:
        """Return the table of ``record``; ``formats`` are those of the tables before it."""
        waiting: Option | None = None  # an option whose value stands after it without "="
        for piece in record:
            if waiting is not None and piece.value is None and piece.items is None:
                piece = Option(waiting.name, piece.name)
            elif waiting is not None:
                self.piece(waiting)
            waiting = piece if self.needs_value(piece) else None
            if waiting is None:
                self.piece(piece)
        if waiting is not None:
            self.piece(waiting)
        options = self.options
        for name, text in formats.items():
            options.setdefault(name, text)
        for name in ("LFORMAT", "RFORMAT"):
            if options.get(name, "").strip("\"'").upper() == "NONE":
                del options[name]
        if "OMITTED" in options:
            return None
        headers = [_HEADERS[name] for name in options if name in _HEADERS]
        rows = [_ROWS[name] for name in options if name in _ROWS]
        id_format = options.get("IDFORMAT")
        rest = [(name, value) for name, value in options.items() if name not in _UNDERSTOOD]
        for name, listed in (("BY", self.sorted_by), ("EXCLUDE_BY", self.excluded_by)):
            if listed is not None:
                rest.append((name, " ".join(listed)))
        return TableTask(
            tuple(self.items),
            options.get("FILE"),
            headers[-1] if headers else "repeat",
            title="NOTITLE" not in options,
            labels="NOLABEL" not in options,
            rows=rows[-1] if rows else "all",
            appended="NOAPPEND" not in options,
            format=options.get("FORMAT", "s1PE11.4"),
            column_formats=(("ID", id_format),) if id_format else (),
            options=tuple(rest),
            print_in_report="NOPRINT" not in options,
            span=span,
        )

    def needs_value(self, piece: Option) -> bool:
        text = piece.name.text.upper()
        if piece.value is not None or piece.items is not None or text in self.known or text in TABLE_WORDS:
            return False
        name = resolve(text, TABLE_OPTIONS)
        return name is not None and name not in TABLE_FLAGS

    def piece(self, piece: Option) -> None:
        text = piece.name.text.upper()
        if text.isdecimal() and len(text) != 4:
            self.context.error(f"{text} is no item of a table", piece.span, "a number needs a word before it")
            return
        option = None if text in TABLE_WORDS else resolve(text, TABLE_OPTIONS)  # NPD is not NPDTYPE
        if piece.items is not None and option == "FIXEDETAS":
            self.options[option] = piece.items[0].text
        elif piece.items is not None:
            self.element(piece, text)
        elif option is not None and (piece.value is not None or text not in self.known):
            self.option(piece, option)
        elif piece.value is not None:
            self.renamed(piece, text, piece.value.text.upper().replace(" ", ""))
        else:
            self.item(text, piece)

    def option(self, piece: Option, name: str) -> None:
        if name == "BY":
            self.sorted_by = []
        elif name == "EXCLUDE_BY":
            self.excluded_by = []
        elif piece.value is None and name not in TABLE_FLAGS:
            self.context.error(f"{name} needs a value", piece.span, f"{name}=...")
        elif name in ("RFORMAT", "LFORMAT") and piece.value is not None:
            self.options[name] = self.options.get(name, "") + piece.value.text  # given in pieces
        else:
            for rivals in (("PRINT", "NOPRINT"), ("APPEND", "NOAPPEND")):
                if name in rivals:
                    self.options.pop(rivals[1 - rivals.index(name)], None)
            self.options[name] = piece.value.text if piece.value is not None else ""

    def element(self, piece: Option, text: str) -> None:
        """Take ``ETAS(...)``, or one element of an array, perhaps with a label: ``COM(1)=G11``."""
        assert piece.items is not None
        index = piece.items[0].text.strip().upper()
        label = piece.value.text.upper() if piece.value is not None else None
        numbers = eta_list(index, self.n_etas) if text == "ETAS" else None
        if numbers is not None:
            for number in numbers:
                self.item(f"ETA{number}", piece)
        elif text == "ETA" and index in self.eta_names:
            self.add(f"ETA{self.eta_names[index]}", label)
        elif text == "ETA" and index.isdecimal() and len(index) < 7:
            self.item(f"ETA{int(index)}", piece, label)
        elif _GENERATED.fullmatch(f"{text}({index})"):
            self.item(f"{text}({index})", piece, label)
        else:
            hint = "ETAS(1:LAST), ETA(1), or the name of a variable"
            self.context.error(f"{text}({index}) is no item of a table", piece.span, hint)

    def renamed(self, piece: Option, left: str, right: str) -> None:
        """Take an item that the table calls otherwise; the name that means something is the item."""
        if self.is_item(left) and not (right in TABLE_WORDS and left not in TABLE_WORDS):
            self.item(left, piece, label=right)
        else:
            self.item(right, piece, label=left)

    def is_item(self, name: str) -> bool:
        known = name in self.known or name in TABLE_WORDS
        return known or _ETA.fullmatch(name) is not None or _GENERATED.fullmatch(name) is not None

    def item(self, name: str, piece: Option, label: str | None = None) -> None:
        eta = _ETA.fullmatch(name)
        if eta is not None and name not in self.known:
            name = f"ETA{int(eta.group(1))}"
            if not 1 <= int(eta.group(1)) <= self.n_etas:
                self.context.error(f"{name} does not exist: $OMEGA has {self.n_etas}", piece.span)
        elif not self.is_item(name):
            # no reason to refuse the model: what asks for the table will have to
            hint = suggest(name, [*self.known, *TABLE_WORDS, *TABLE_OPTIONS])
            message = f"{name} is not defined: a table with it cannot be written"
            self.context.notice(f"{message}; {hint}" if hint else message, piece.span)
        self.add(name, label)

    def add(self, name: str, label: str | None) -> None:
        if self.excluded_by is not None:
            self.excluded_by.append(name)
        elif self.sorted_by is not None:
            self.sorted_by.append(name)
        else:
            label = self.label(name) if label is None else label
            self.items.append(name if label == name else f"{label}={name}")

    def label(self, name: str) -> str:
        """Return what heads the column of ``name`` where the table does not say."""
        if name in self.known:
            return self.spelled.get(name, name)
        eta = _ETA.fullmatch(name)
        return f"ET{eta[1]}" if eta is not None and int(eta[1]) >= _TWO_DIGITS else name
