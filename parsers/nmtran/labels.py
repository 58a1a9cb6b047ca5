"""Names and labels of parameters: given by the user, or taken from comments."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from ...engine.ir.span import Span
from .context import Context
from .syntax import Word

Piece = TypeVar("Piece")


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
