"""$THETA, $OMEGA and $SIGMA: initial values, bounds, blocks, names and labels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from ...engine.ir.parameter import CovarianceBlock, ThetaParameter
from ...engine.ir.span import Span
from .context import Context
from .numbers import number
from .syntax import MatrixItem, MatrixRecord, ThetaItem, ThetaRecord, Word
from .words import resolve, suggest

Piece = TypeVar("Piece")

_INFINITE = 1e6  # a bound this large is none
_THETA_WORDS = ("FIXED", "UNINT")
_MATRIX_WORDS = (
    "FIXED",
    "STANDARD",
    "SD",
    "VARIANCE",
    "CORRELATION",
    "COVARIANCE",
    "CHOLESKY",
    "UNINT",
)
_ALIASES = {"CORRELATON": "CORRELATION", "SD": "STANDARD"}


@dataclass(frozen=True)
class Parameters:
    """All population parameters, and the numbers that names stand for (``THETA(CL)``)."""

    thetas: tuple[ThetaParameter, ...]
    omega: tuple[CovarianceBlock, ...]
    sigma: tuple[CovarianceBlock, ...]
    names: dict[str, dict[str, int]]  # "THETA" | "ETA" | "EPS" -> name -> number


def lower_parameters(
    context: Context,
    thetas: list[ThetaRecord],
    omegas: list[MatrixRecord],
    sigmas: list[MatrixRecord],
) -> Parameters:
    """Return the parameters that the records declare."""
    names: dict[str, dict[str, int]] = {"THETA": {}, "ETA": {}, "EPS": {}}
    lowered = _thetas(context, thetas, names["THETA"])
    omega = _Matrix(context, "OMEGA", names["ETA"]).lower(omegas)
    sigma = _Matrix(context, "SIGMA", names["EPS"]).lower(sigmas)
    return Parameters(tuple(lowered), omega, sigma, names)


def comment_label(context: Context, span: Span, following: Span | None) -> str:
    """Return the comment at the end of the line of ``span`` if nothing stands between them."""
    if following is not None and following.line == span.end_line:
        return ""
    comment = context.stream.comments.get(span.end_line)
    return comment.text if comment is not None and comment.start >= span.stop else ""


def _add_name(context: Context, names: dict[str, int], word: Word, index: int) -> str:
    name = word.text.upper()
    if names.setdefault(name, index) != index:
        context.error(f"the name {name} is given twice", word.span)
    return word.text


def _thetas(context: Context, records: list[ThetaRecord], names: dict[str, int]) -> list[ThetaParameter]:
    thetas: list[ThetaParameter] = []
    for record in records:
        offset = len(thetas)
        for item, following in _with_next(record.items):
            label = comment_label(context, item.span, following.span if following else None)
            if item.name is not None:
                label = _add_name(context, names, item.name, len(thetas) + 1)
            theta = _theta(context, item, label)
            for _ in range(item.repeat):
                thetas.append(replace(theta, name=f"THETA{len(thetas) + 1}"))
        for i, word in enumerate(record.names, start=offset):
            if i >= len(thetas):
                context.error(f"there is no THETA for the name {word.text}", word.span)
                break
            thetas[i] = replace(thetas[i], label=_add_name(context, names, word, i + 1))
        for word in record.search:
            context.notice(
                f"{word.text.upper()} of $THETA has no effect: no initial values are searched", word.span
            )
    return thetas


def _theta(context: Context, item: ThetaItem, label: str) -> ThetaParameter:
    slots: list[Word | None] = []
    fixed, empty = False, True
    for word in (*item.inside, *item.after):
        if word.text == ",":
            if empty:
                slots.append(None)
            empty = True
        elif word.text.upper().lstrip("+-")[:3] == "INF" or number(word.text) is not None:
            slots.append(word)
            empty = False
        elif (full := resolve(word.text, _THETA_WORDS)) is not None:
            fixed = fixed or full == "FIXED"
        else:
            context.error(
                f"unknown word {word.text.upper()} in $THETA", word.span, suggest(word.text, _THETA_WORDS)
            )
    if not 1 <= len(slots) <= 3:
        context.error("a THETA has one to three values", item.span, "(lower,initial,upper)")
        return ThetaParameter("", 1.0, label=label, span=item.span)
    low, middle, high = (None, slots[0], None) if len(slots) == 1 else (*slots, None)[:3]
    lower = -math.inf if low is None else _bound(low)
    upper = math.inf if high is None else _bound(high)
    if middle is None:
        if not (math.isfinite(lower) and math.isfinite(upper)):
            context.error("this THETA has no initial value", item.span, "(lower,initial,upper)")
            return ThetaParameter("", 1.0, label=label, span=item.span)
        initial = (lower + upper) / 2
        context.notice("no initial value: the middle of the bounds is taken", item.span)
    else:
        initial = _bound(middle)
    if lower == upper == initial:
        fixed = True
    _check_theta(context, item, initial, lower, upper, fixed, middle)
    return ThetaParameter(
        "",
        initial,
        lower,
        upper,
        fixed,
        label,
        span=item.span,
        value_span=middle.span if middle is not None and item.repeat == 1 else None,
    )


def _check_theta(
    context: Context,
    item: ThetaItem,
    initial: float,
    lower: float,
    upper: float,
    fixed: bool,
    word: Word | None,
) -> None:
    span = word.span if word is not None else item.span
    if fixed:
        if not lower <= initial <= upper:
            context.error(f"the value {initial:g} is outside its bounds", span)
    elif math.isinf(initial):
        context.error("an initial value must be finite", span)
    elif not lower < initial < upper:
        context.error(
            f"the initial value {initial:g} is not between its bounds {lower:g} and {upper:g}",
            span,
            "write (lower,initial,upper) with lower < initial < upper, or FIX the value",
        )
    elif initial == 0.0:
        context.error(
            "an initial value of zero must be fixed", span, "start from a small number, or write 0 FIX"
        )


def _bound(word: Word) -> float:
    """Return a number; INF words and values of a million or more are infinite."""
    value = number(word.text)
    if value is None:
        return -math.inf if word.text.startswith("-") else math.inf
    return math.copysign(math.inf, value) if abs(value) >= _INFINITE else value


def _with_next(items: Sequence[Piece]) -> list[tuple[Piece, Piece | None]]:
    return list(zip(items, [*items[1:], None], strict=True)) if items else []


class _Matrix:
    """Collects the blocks of one covariance matrix from its records in order."""

    def __init__(self, context: Context, word: str, names: dict[str, int]) -> None:
        self.context = context
        self.word = word
        self.names = names
        self.blocks: list[CovarianceBlock] = []
        self.first = 1
        self.last_block: int | None = None  # the block that SAME repeats

    def lower(self, records: list[MatrixRecord]) -> tuple[CovarianceBlock, ...]:
        for record in records:
            start = self.first
            if record.same is not None:
                self._same(record)
            elif record.block is not None:
                self._block(record)
            else:
                self._diagonal(record)
            for i, word in enumerate(record.names):
                _add_name(self.context, self.names, word, start + i)
        return tuple(self.blocks)

    def _add(self, block: CovarianceBlock) -> None:
        self.blocks.append(block)
        self.first += block.size

    def _words(self, words: Sequence[Word]) -> set[str]:
        found: set[str] = set()
        for word in words:
            full = resolve(word.text, _MATRIX_WORDS, _ALIASES)
            if full is None:
                self.context.error(
                    f"unknown word {word.text.upper()} in ${self.word}",
                    word.span,
                    suggest(word.text, (*_MATRIX_WORDS, "BLOCK", "SAME", "DIAGONAL", "VALUES")),
                )
            else:
                found.add(_ALIASES.get(full, full))
        return found

    def _same(self, record: MatrixRecord) -> None:
        assert record.same is not None
        if self.last_block is None:
            self.context.error("SAME needs a block before it", record.span)
            return
        model = self.blocks[self.last_block]
        size = _count(record.size)
        if size is not None and size != model.size:
            self.context.error(
                f"SAME repeats a block of size {model.size}, not {size}",
                record.span,
                f"BLOCK({model.size}) SAME",
            )
            return
        for _ in range(record.same):
            self._add(
                replace(
                    model,
                    first=self.first,
                    same_as=self.last_block,
                    labels=(),
                    span=record.span,
                    value_spans=(),
                )
            )

    def _diagonal(self, record: MatrixRecord) -> None:
        begin = record.items[0].span.start if record.items else math.inf
        common = [w for w in record.options if w.span.start < begin]
        size = _count(record.size)
        total = sum(item.repeat for item in record.items)
        if size is not None and size != total:
            self.context.error(f"DIAGONAL({size}) with {total} values", record.span)
        for item, following in _with_next(record.items):
            words = self._words([*common, *item.options])
            if words & {"CHOLESKY", "CORRELATION"}:
                self.context.error("this word needs a BLOCK", item.span, "BLOCK(n) CHOLESKY ...")
            value = _value(item)
            variance = value**2 if "STANDARD" in words else value
            label = comment_label(self.context, item.span, following.span if following else None)
            if item.name is not None:
                label = _add_name(self.context, self.names, item.name, self.first)
            plain = "STANDARD" not in words and item.repeat == 1
            for _ in range(item.repeat):
                self.last_block = len(self.blocks)
                self._add(
                    CovarianceBlock(
                        self.first,
                        1,
                        (variance if value >= 0 else -variance,),
                        "FIXED" in words,
                        labels=(label,),
                        span=item.span,
                        value_spans=(item.value.span if plain else None,),
                    )
                )

    def _block(self, record: MatrixRecord) -> None:
        size = _count(record.size)
        if size is None or size < 1:
            self.context.error("BLOCK needs its size", record.span, "BLOCK(2) or BLOCK SAME")
            return
        words = self._words(
            [*record.options, *(o for i in record.items for o in i.options if o not in record.options)]
        )
        elements = self._elements(record, size)
        needed = size * (size + 1) // 2
        if len(elements) != needed:
            self.context.error(
                f"BLOCK({size}) needs {needed} values (a lower triangle), found {len(elements)}",
                record.span,
                "one value for each pair: (1,1) (2,1) (2,2) ...",
            )
            return
        labels = [""] * size
        for i in range(size):
            _, item, following = elements[i * (i + 3) // 2]
            if item is not None:
                labels[i] = comment_label(self.context, item.span, following.span if following else None)
                if item.name is not None:
                    labels[i] = _add_name(self.context, self.names, item.name, self.first + i)
        scaled = bool(words & {"STANDARD", "CORRELATION", "CHOLESKY"})
        self.last_block = len(self.blocks)
        self._add(
            CovarianceBlock(
                self.first,
                size,
                covariances([value for value, _, _ in elements], size, words),
                "FIXED" in words,
                labels=tuple(labels),
                span=record.span,
                value_spans=tuple(
                    None if scaled or item is None or item.repeat > 1 else item.value.span
                    for _, item, _ in elements
                ),
            )
        )

    @staticmethod
    def _elements(
        record: MatrixRecord, size: int
    ) -> list[tuple[float, MatrixItem | None, MatrixItem | None]]:
        """Return value, item and following item of each element of the lower triangle."""
        if record.values is not None:
            on, off = (number(word.text) or 0.0 for word in record.values)
            return [(on if i == j else off, None, None) for i in range(size) for j in range(i + 1)]
        return [
            (_value(item), item, following)
            for item, following in _with_next(record.items)
            for _ in range(item.repeat)
        ]


def covariances(values: list[float], size: int, words: set[str]) -> tuple[float, ...]:
    """Return the lower triangle of variances and covariances that ``values`` mean under ``words``."""
    if not words & {"STANDARD", "CORRELATION", "CHOLESKY"}:
        return tuple(values)
    rows = [values[i * (i + 1) // 2 : i * (i + 3) // 2 + 1] for i in range(size)]
    if "CHOLESKY" in words:
        return tuple(
            sum(rows[i][k] * rows[j][k] for k in range(j + 1)) for i in range(size) for j in range(i + 1)
        )
    diagonal = [rows[i][i] for i in range(size)]
    variances = [d * abs(d) if "STANDARD" in words else d for d in diagonal]
    scale = [math.sqrt(abs(v)) for v in variances] if "CORRELATION" in words else [1.0] * size
    return tuple(
        variances[i] if i == j else rows[i][j] * scale[i] * scale[j]
        for i in range(size)
        for j in range(i + 1)
    )


def _count(word: Word | None) -> int | None:
    value = number(word.text) if word is not None else None
    return None if value is None else int(value)


def _value(item: MatrixItem) -> float:
    value = number(item.value.text)
    assert value is not None
    return value
