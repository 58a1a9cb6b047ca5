"""$ESTIMATION, $COVARIANCE and $TABLE: what is to be computed and written."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Literal

from ...engine.ir.task import CovarianceTask, EstimationTask, Method, TableTask
from .context import Context
from .numbers import number
from .option_words import (
    COVARIANCE_OPTIONS,
    ESTIMATION_ALIASES,
    ESTIMATION_OFF,
    ESTIMATION_OPTIONS,
    METHOD_ALIASES,
    METHODS,
    TABLE_OPTIONS,
    TABLE_WORDS,
)
from .syntax import Option
from .words import resolve, suggest

_SAMPLING: dict[str, Method] = {
    "ITS": "its",
    "IMP": "imp",
    "IMPMAP": "impmap",
    "SAEM": "saem",
    "BAYES": "bayes",
    "NUTS": "nuts",
    "DIRECT": "imp",
    "CHAIN": "chain",
    "VAE": "vae",
}
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
_ETAS = re.compile(r"(\d+):(\d+|LAST)", re.IGNORECASE)
_ETA = re.compile(r"ETA(\d+)")


def lower_estimations(context: Context, records: list[tuple[Option, ...]]) -> tuple[EstimationTask, ...]:
    """Return the estimation steps; each starts from the options of the one before."""
    tasks: list[EstimationTask] = []
    carried: dict[str, str] = {}
    for record, head in zip(records, context.stream.of("ESTIMATION"), strict=True):
        carried = dict(carried)
        for option in record:
            _estimation_option(context, option, carried)
        if carried.pop("OMITTED", None) is not None:
            continue
        tasks.append(
            EstimationTask(
                _method(carried),
                tuple(carried.items()),
                _evaluate_only(carried),
                span=context.stream.span(head),
            )
        )
    return tuple(tasks)


def _estimation_option(context: Context, option: Option, carried: dict[str, str]) -> None:
    text = option.name.text.upper()
    switched = ESTIMATION_OFF.get(text) or (
        ESTIMATION_OFF.get(resolve(text, ESTIMATION_OFF) or "") if text.startswith("NO") else None
    )
    name = resolve(text, ESTIMATION_OPTIONS, ESTIMATION_ALIASES)
    if switched is not None and text not in ESTIMATION_OPTIONS:
        carried.pop(switched, None)
        return
    if name is None:
        words = (*ESTIMATION_OPTIONS, *ESTIMATION_ALIASES, *ESTIMATION_OFF)
        context.error(f"unknown option {text} of $ESTIMATION", option.name.span, suggest(text, words))
        return
    value = _value(option)
    if name == "METHOD":
        method = resolve(value, METHODS, METHOD_ALIASES)
        if method is None:
            context.error(f"unknown method {value.upper()}", option.span, suggest(value, METHODS))
            return
        value = method
    elif name == "MAXEVALS" and (number(value) is None or value.startswith("-")):
        context.error("MAXEVALS needs a number", option.span, "e.g. MAXEVALS=9999, or 0 to evaluate only")
    carried[name] = value


def _value(option: Option) -> str:
    if option.items is not None:
        return "(" + ",".join(word.text for word in option.items) + ")"
    return option.value.text if option.value is not None else ""


def _method(options: dict[str, str]) -> Method:
    word = options.get("METHOD", "ZERO")
    if word in _SAMPLING:
        return _SAMPLING[word]
    interaction = "INTERACTION" in options
    if word == "ZERO":
        return "foi" if interaction else "fo"
    if "LAPLACIAN" in options:
        return "laplacei" if interaction else "laplace"
    return "focei" if interaction else "foce"


def _evaluate_only(options: dict[str, str]) -> bool:
    word = options.get("METHOD", "ZERO")

    def value(name: str) -> float | None:
        return number(options[name]) if name in options else None

    if word in ("ZERO", "CONDITIONAL", "HYBRID"):
        return value("MAXEVALS") == 0
    if word in ("IMP", "IMPMAP", "DIRECT"):
        return value("EONLY") in (1.0, 2.0, 3.0) or value("NITER") == 0
    if word == "VAE":
        return value("MAXEVALS") == 0 or value("EONLY") in (1.0, 2.0, 3.0) or value("NITER") == 0
    return word in ("ITS", "SAEM") and value("NITER") == 0 and value("NBURN") in (None, 0.0)


def lower_covariance(context: Context, records: list[tuple[Option, ...]]) -> CovarianceTask | None:
    """Return the request for standard errors, or None where there is none."""
    if not records:
        return None
    options: dict[str, str] = {}
    for option in (o for record in records for o in record):
        name = resolve(option.name.text, COVARIANCE_OPTIONS)
        if name is None:
            text = option.name.text.upper()
            context.error(
                f"unknown option {text} of $COVARIANCE", option.name.span, suggest(text, COVARIANCE_OPTIONS)
            )
        else:
            options[name] = _value(option).upper()
    if options.pop("OMITTED", None) is not None:
        return None
    return CovarianceTask(
        tuple(options.items()),
        print_eigenvalues="E" in options.get("PRINT", ""),
        span=context.stream.span(context.stream.of("COVARIANCE")[0]),
    )


def lower_tables(
    context: Context, records: list[tuple[Option, ...]], known: Collection[str], n_etas: int
) -> tuple[TableTask, ...]:
    """Return the output tables; ``known`` are the data items and variables they may name."""
    heads = context.stream.of("TABLE")
    tables = (
        _Table(context, known, n_etas).lower(record, context.stream.span(head))
        for record, head in zip(records, heads, strict=True)
    )
    return tuple(table for table in tables if table is not None)


class _Table:
    """Lowers one $TABLE record."""

    def __init__(self, context: Context, known: Collection[str], n_etas: int) -> None:
        self.context = context
        self.known = known
        self.n_etas = n_etas
        self.items: list[str] = []
        self.options: dict[str, str] = {}

    def lower(self, record: tuple[Option, ...], span: object) -> TableTask | None:
        for piece in record:
            self.piece(piece)
        options = self.options
        if "OMITTED" in options:
            return None
        headers = [_HEADERS[name] for name in options if name in _HEADERS]
        rows = [_ROWS[name] for name in options if name in _ROWS]
        file = options.get("FILE")
        from ...engine.ir.span import Span

        assert isinstance(span, Span)
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
            last = self.n_etas if ranged.group(2) == "LAST" else int(ranged.group(2))
            for i in range(int(ranged.group(1)), last + 1):
                self.item(f"ETA{i}", piece)
        elif text == "ETA" and index.isdigit():
            self.item(f"ETA{int(index)}", piece)
        else:
            self.context.error(f"{text}({index}) in $TABLE is not supported yet", piece.span)

    def item(self, name: str, piece: Option, label: str | None = None) -> None:
        eta = _ETA.fullmatch(name)
        if eta is not None and name not in self.known and not 1 <= int(eta.group(1)) <= self.n_etas:
            self.context.error(f"{name} does not exist: $OMEGA has {self.n_etas}", piece.span)
        elif eta is None and name not in self.known and name not in TABLE_WORDS:
            self.context.error(
                f"{name} is not defined",
                piece.span,
                suggest(name, [*self.known, *TABLE_WORDS, *TABLE_OPTIONS]),
            )
        self.items.append(name if label is None else f"{label}={name}")
