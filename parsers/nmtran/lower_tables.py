"""$TABLE: what is to be written."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Literal

from ...engine.ir.span import Span
from ...engine.ir.task import TableTask
from .context import Context
from .option_words import TABLE_OPTIONS, TABLE_WORDS
from .syntax import Option
from .words import resolve, suggest

_HEADERS: dict[str, Literal["repeat", "once", "none"]] = {
    "ONEHEADER": "once",
    "ONEHEADERALL": "once",
    "ONEHEADERPERFILE": "once",
    "NOHEADER": "none",
}
_ROWS: dict[str, Literal["first", "last", "first_last"]] = {
    "FIRSTONLY": "first",
    "LASTONLY": "last",
    "FIRSTLASTONLY": "first_last",
}
_ETAS = re.compile(r"(\d{1,6}):(\d{1,6}|LAST)", re.IGNORECASE)
_ETA = re.compile(r"ETA(\d{1,6})")


def lower_tables(
    context: Context,
    records: list[tuple[Option, ...]],
    known: Collection[str],
    inner: Collection[str],
    n_etas: int,
) -> tuple[TableTask, ...]:
    """Return the output tables.

    ``known`` are the data items and variables they may name, ``inner`` those of $DES, which they may
    not.
    """
    heads = context.stream.of("TABLE")
    tables = (
        _Table(context, known, inner, n_etas).lower(record, context.stream.span(head))
        for record, head in zip(records, heads, strict=True)
    )
    return tuple(table for table in tables if table is not None)


class _Table:
    """Lowers one $TABLE record."""

    def __init__(self, context: Context, known: Collection[str], inner: Collection[str], n_etas: int) -> None:
        self.context = context
        self.known = known
        self.inner = inner
        self.n_etas = n_etas
        self.items: list[str] = []
        self.options: dict[str, str] = {}

    def lower(self, record: tuple[Option, ...], span: Span) -> TableTask | None:
        for piece in record:
            self.piece(piece)
        options = self.options
        if "OMITTED" in options:
            return None
        headers = [_HEADERS[name] for name in options if name in _HEADERS]
        rows = [_ROWS[name] for name in options if name in _ROWS]
        file = options.get("FILE")
        return TableTask(
            tuple(self.items),
            file,
            headers[-1] if headers else "repeat",
            title="NOTITLE" not in options,
            labels="NOLABEL" not in options,
            rows=rows[-1] if rows else "all",
            appended="NOAPPEND" not in options,
            format=options.get("FORMAT", "s1PE11.4"),
            print_in_report="NOPRINT" not in options,
            span=span,
        )

    def piece(self, piece: Option) -> None:
        text = piece.name.text.upper()
        if piece.items is not None:
            self.element(piece, text)
        elif piece.value is not None and not self.is_option(text):
            self.item(piece.value.text.upper(), piece, label=text)
        elif text not in self.known and self.is_option(text):
            self.option(piece, text)
        else:
            self.item(text, piece)

    @staticmethod
    def is_option(text: str) -> bool:
        return resolve(text, TABLE_OPTIONS) is not None

    def option(self, piece: Option, text: str) -> None:
        name = resolve(text, TABLE_OPTIONS)
        assert name is not None
        if name in ("BY", "RFORMAT", "LFORMAT", "IDFORMAT"):
            self.context.error(f"{name} of $TABLE is not supported yet", piece.span)
        elif name in ("FILE", "FORMAT") and piece.value is None:
            self.context.error(f"{name} needs a value", piece.span, f"{name}=...")
        self.options[name] = piece.value.text if piece.value is not None else ""

    def element(self, piece: Option, text: str) -> None:
        assert piece.items is not None
        index = piece.items[0].text.strip().upper()
        ranged = _ETAS.fullmatch(index.replace(" ", "").replace("TO", ":"))
        if text == "ETAS" and ranged is not None:
            last = self.n_etas if ranged.group(2) == "LAST" else min(int(ranged.group(2)), self.n_etas + 1)
            for i in range(int(ranged.group(1)), last + 1):
                self.item(f"ETA{i}", piece)
        elif text == "ETA" and index.isdecimal() and len(index) < 7:
            self.item(f"ETA{int(index)}", piece)
        else:
            self.context.error(f"{text}({index}) in $TABLE is not supported yet", piece.span)

    def item(self, name: str, piece: Option, label: str | None = None) -> None:
        eta = _ETA.fullmatch(name)
        if eta is not None and name not in self.known and not 1 <= int(eta.group(1)) <= self.n_etas:
            self.context.error(f"{name} does not exist: $OMEGA has {self.n_etas}", piece.span)
        elif name in self.inner and name not in self.known:
            self.context.error(f"{name} is assigned in $DES: tabulating it is not supported yet", piece.span)
        elif eta is None and name not in self.known and name not in TABLE_WORDS:
            self.context.error(
                f"{name} is not defined",
                piece.span,
                suggest(name, [*self.known, *TABLE_WORDS, *TABLE_OPTIONS]),
            )
        self.items.append(name if label is None else f"{label}={name}")
