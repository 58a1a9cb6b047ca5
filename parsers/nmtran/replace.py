"""$ABBREVIATED: replacements of names in the code, and options without effect."""

from __future__ import annotations

from .context import Context
from .numbers import number, whole
from .syntax import Apply, Literal, Name, Node, Option, Replacement, Word
from .words import resolve, suggest

_OPTIONS = ("DERIV1", "DERIV2", "COMRES", "COMSAV", "PROTECT", "FASTDER", "NOFASTDER", "CHECKMU", "NOCHECKMU")
_UNSUPPORTED = ("DECLARE", "FUNCTION", "VECTOR", "COMRES", "COMSAV")


def lower_abbreviated(context: Context, records: list[tuple[Option | Replacement, ...]]) -> dict[str, Node]:
    """Return what stands for each replaced name (``"CL"`` or ``"THETA(CL)"``)."""
    replacements: dict[str, Node] = {}
    for piece in (p for record in records for p in record):
        if isinstance(piece, Replacement):
            right = _right(context, piece.right)
            key = _left(context, piece.left)
            if right is not None and key is not None:
                replacements[key] = right
        else:
            _option(context, piece)
    return replacements


def _option(context: Context, option: Option) -> None:
    text = option.name.text.upper()
    name = resolve(text, (*_OPTIONS, *_UNSUPPORTED))
    if name is None:
        context.error(f"unknown option {text} of $ABBREVIATED", option.span, suggest(text, _OPTIONS))
    elif name in _UNSUPPORTED:
        context.error(f"{name} of $ABBREVIATED is not supported yet", option.span)


def _left(context: Context, side: Option) -> str | None:
    name = side.name.text.upper()
    if side.items is None:
        return name
    index = side.items[0].text.strip().upper()
    if index.replace("_", "").isalnum():
        return f"{name}({index})"
    context.error("this form of REPLACE is not supported yet", side.span, "one index, e.g. THETA(CL)")
    return None


def _right(context: Context, side: Option) -> Node | None:
    word = side.name
    if side.items is None:
        if number(word.text) is not None:
            return Literal(word.text, word.span)
        return _plain(context, word)
    index = side.items[0]
    if whole(index.text) is None:
        context.error(
            "this form of REPLACE is not supported yet", index.span, "one whole number, e.g. ETA(CL)=ETA(1)"
        )
        return None
    literal = Literal(index.text.strip(), index.span)
    return Apply(word.text.upper(), (literal,), word.span.to(index.span), word.span)


def _plain(context: Context, word: Word) -> Name | None:
    text = word.text.upper()
    if text.replace("_", "").isalnum():
        return Name(text, word.span)
    context.error("a replacement must be a name, an element or a number", word.span)
    return None
