"""Names and labels of parameters: given by the user, or taken from comments."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import TypeVar

from ...engine.ir.parameter import CovarianceBlock, ThetaParameter
from ...engine.ir.span import Span
from .context import Context
from .syntax import Word

Piece = TypeVar("Piece")
_FIRST_WORD = re.compile(r"(?:\d+[.;:)]?\s*)?([A-Z_][A-Z_0-9]*)(?=$|[\s,;:(\[])", re.IGNORECASE)


def comment_label(context: Context, span: Span, following: Span | None) -> str:
    """Return the comment at the end of the line of ``span`` if nothing stands between them."""
    if following is not None and following.line == span.end_line:
        return ""
    comment = context.stream.comments.get((span.file, span.end_line))
    return comment.text if comment is not None and comment.start >= span.stop else ""


def add_name(context: Context, names: dict[str, int], word: Word, index: int) -> str:
    """Note that a parameter has a name, and return the name as written."""
    name = word.text.upper()
    if names.setdefault(name, index) != index:
        context.error(f"the name {name} is given twice", word.span)
    return word.text


def with_next(items: Sequence[Piece]) -> list[tuple[Piece, Piece | None]]:
    """Return each item with the one after it."""
    return list(zip(items, [*items[1:], None], strict=True)) if items else []


def labelled_parameters(
    name: str,
    thetas: Sequence[ThetaParameter],
    omega: Sequence[CovarianceBlock],
    sigma: Sequence[CovarianceBlock],
) -> Iterator[tuple[str, int]]:
    """Yield the parameters, as ``("ETA", 2)``, whose comment begins with ``name``, maybe after a number."""
    for i, theta in enumerate(thetas, start=1):
        if _begins(theta.label, name):
            yield "THETA", i
    for word, blocks in (("ETA", omega), ("EPS", sigma)):
        for block in blocks:
            for i, label in enumerate(block.labels, start=block.first):
                if _begins(label, name):
                    yield word, i


def _begins(label: str, name: str) -> bool:
    match = _FIRST_WORD.match(label)
    return match is not None and match.group(1).upper() == name
