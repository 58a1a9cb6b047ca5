"""$OMEGA and $SIGMA: blocks of variances and covariances."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from ...engine.ir.parameter import CovarianceBlock
from .context import Context
from .labels import add_name, comment_label, with_next
from .numbers import number, whole
from .syntax import MatrixItem, MatrixRecord, Word
from .words import resolve, suggest

_LARGEST_BLOCK = 500
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


class MatrixLowering:
    """Collects the blocks of one covariance matrix from its records in order."""

    def __init__(self, context: Context, word: str, names: dict[str, int]) -> None:
        self.context = context
        self.word = word
        self.names = names
        self.blocks: list[CovarianceBlock] = []
        self.first = 1
        self.last_block: int | None = None  # the block that SAME repeats

    def lower(self, records: list[MatrixRecord]) -> tuple[CovarianceBlock, ...]:
        """Return the blocks that ``records`` declare."""
        for record in records:
            start = self.first
            if record.same is not None:
                self._same(record)
            elif record.block is not None:
                self._block(record)
            else:
                self._diagonal(record)
            for index, word in enumerate(record.names, start=start):
                self._name(index, add_name(self.context, self.names, word, index), word)
        return tuple(self.blocks)

    def _add(self, block: CovarianceBlock) -> None:
        self.blocks.append(block)
        self.first += block.size

    def _name(self, index: int, label: str, word: Word) -> None:
        """Give the random effect ``index`` its label."""
        for i, block in enumerate(self.blocks):
            if block.first <= index < block.first + block.size:
                labels = list(block.labels)
                labels[index - block.first] = label
                self.blocks[i] = replace(block, labels=tuple(labels))
                return
        self.context.error(f"there is no value for the name {label}", word.span)

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
                    labels=("",) * model.size,
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
            self.context.error(f"DIAGONAL({size}) needs {size} values, found {total}", record.span)
        for item, following in with_next(record.items):
            words = self._words([*common, *item.options])
            if words & {"CHOLESKY", "CORRELATION"}:
                self.context.error("this word needs a BLOCK", item.span, "BLOCK(n) CHOLESKY ...")
            value = _value(item)
            variance = value * abs(value) if "STANDARD" in words else value
            label = comment_label(self.context, item.span, following.span if following else None)
            if item.name is not None:
                label = add_name(self.context, self.names, item.name, self.first)
            plain = "STANDARD" not in words and item.repeat == 1
            for _ in range(item.repeat):
                self.last_block = len(self.blocks)
                self._add(
                    CovarianceBlock(
                        self.first,
                        1,
                        (variance,),
                        "FIXED" in words,
                        labels=(label,),
                        span=item.span,
                        value_spans=(item.value.span if plain else None,),
                    )
                )

    def _block(self, record: MatrixRecord) -> None:
        size = _count(record.size)
        if size is None or not 1 <= size <= _LARGEST_BLOCK:
            self.context.error(
                f"BLOCK needs its size, 1 to {_LARGEST_BLOCK}", record.span, "BLOCK(2) or BLOCK SAME"
            )
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
        labels = [self._row_label(elements, i) for i in range(size)]
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

    def _row_label(self, elements: list[tuple[float, MatrixItem | None, MatrixItem | None]], i: int) -> str:
        """Return the name that stands in row ``i`` (from 0), or the comment after its diagonal element."""
        row = elements[i * (i + 1) // 2 : i * (i + 3) // 2 + 1]
        for _, item, _ in row:
            if item is not None and item.name is not None:
                return add_name(self.context, self.names, item.name, self.first + i)
        _, item, following = row[-1]
        if item is None:
            return ""
        return comment_label(self.context, item.span, following.span if following else None)

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
            for item, following in with_next(record.items)
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
    return whole(word.text) if word is not None else None


def _value(item: MatrixItem) -> float:
    value = number(item.value.text)
    return math.inf if value is None else value  # too large: reported as infinite
