"""$ABBREVIATED: replacements of names in the code, declared variables, options without effect."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from .context import Context
from .numbers import whole
from .parse_abbreviated import AbbreviatedPiece
from .syntax import Apply, Declaration, Literal, Name, Node, Option, Replacement, Side, Word
from .words import resolve, suggest

_WITHOUT_EFFECT = (
    "DERIV1",
    "DERIV2",
    "COMRES",
    "COMSAV",
    "FASTDER",
    "NOFASTDER",
    "CHECKMU",
    "NOCHECKMU",
    "DES",
    "PROTECT",
)
_RANGE = re.compile(r"(\d{1,6})\s*(?::|TO)\s*(\d{1,6})(?:\s*(?:BY|:)\s*(-?\d{1,6}))?", re.IGNORECASE)
_LABEL = re.compile(r"[A-Z_][A-Z_0-9]*", re.IGNORECASE)
_DECLARED = re.compile(
    r"\s*(?:((?:INTEGER|DOWHILE|REAL|DOUBLE\s*PRECISION)(?:\s+DOWHILE)?)\s+)?"
    r"([A-Z_][A-Z_0-9]*)\s*(?:\(([^()]*)\))?[\s,]*",
    re.IGNORECASE,
)
_MOST_ELEMENTS = 10_000


@dataclass(frozen=True)
class Selection:
    """``ETA(OCC_CL)=ETA(5,7)``: which element is meant depends on the value of a data item, from 1.

    ``indices`` may hold 0: none. ``label`` is what stands in the parentheses of the code.
    """

    array: str
    label: str
    indices: tuple[int, ...]


Meaning = tuple[Node, ...] | Selection


@dataclass
class Abbreviations:
    """What $ABBREVIATED says about the code.

    ``meanings`` has what stands for ``"CL"`` or ``"THETA(CL)"``; ``arrays`` the dimensions of declared arrays
    (none for a plain variable), ``integers`` which declared names are whole numbers.
    """

    meanings: dict[str, Meaning] = field(default_factory=dict)
    arrays: dict[str, tuple[int, ...]] = field(default_factory=dict)
    integers: set[str] = field(default_factory=set)


def lower_abbreviated(context: Context, records: list[tuple[AbbreviatedPiece, ...]]) -> Abbreviations:
    """Return what the records declare and replace."""
    found = Abbreviations()
    for piece in (p for record in records for p in record):
        match piece:
            case Replacement():
                _replace(context, found, piece)
            case Declaration():
                _declare(context, found, piece)
            case Option():
                _option(context, piece)
    return found


def _option(context: Context, option: Option) -> None:
    text = option.name.text.upper()
    if resolve(text, _WITHOUT_EFFECT) is None:
        known = (*_WITHOUT_EFFECT, "REPLACE", "DECLARE")
        context.error(f"unknown option {text} of $ABBREVIATED", option.span, suggest(text, known))


def _declare(context: Context, found: Abbreviations, piece: Declaration) -> None:
    kind = piece.kind.text.upper()
    if kind == "FUNCTION":
        context.error(
            "functions of own subroutines cannot be run",
            piece.names.span,
            "write the function out in the code",
        )
        return
    text = piece.names.text
    position = 0
    while position < len(text):
        match = _DECLARED.match(text, position)
        if match is None:
            context.error(f"{kind} lists names", piece.names.span, "e.g. DECLARE X(10), INTEGER I")
            return
        _declared(context, found, piece.names, match)
        position = match.end()


def _declared(context: Context, found: Abbreviations, words: Word, match: re.Match[str]) -> None:
    kind, name, inside = match.group(1), match.group(2).upper(), match.group(3)
    sizes = tuple(whole(part) or 0 for part in inside.split(",")) if inside else ()
    count = 1
    for size in sizes:
        count *= size
    if len(sizes) > 2 or not 1 <= count <= _MOST_ELEMENTS:
        context.error(
            f"the dimensions of {name} must be one or two whole numbers", words.span, f"e.g. {name}(10)"
        )
        return
    found.arrays[name] = sizes
    if kind is not None and kind.upper().endswith(("INTEGER", "DOWHILE")):
        found.integers.add(name)


def _replace(context: Context, found: Abbreviations, piece: Replacement) -> None:
    left, right = piece.left, piece.right
    if left.index is None:
        _replace_name(context, found, left, right)
        return
    array = left.text.text.upper()
    labels = [label.strip().upper() for label in left.index.text.split(",")]
    if not all(_LABEL.fullmatch(label) or label.isdecimal() for label in labels):
        context.error(
            "REPLACE needs names to replace", left.index.span, "e.g. REPLACE THETA(CL,V)=THETA(1,2)"
        )
        return
    if right.index is None:
        if len(labels) == 1 and right.nodes:
            found.meanings[f"{array}({labels[0]})"] = right.nodes
        else:
            context.error("a replacement must be a name, an element or a number", right.text.span)
        return
    target = right.text.text.upper()
    indices = _indices(right.index.text)
    if indices is None:
        _replace_by_label(context, found, array, labels, right)
    elif len(labels) == 1 and len(indices) > 1:
        found.meanings[f"{array}({labels[0]})"] = Selection(target, labels[0], indices)
    elif len(labels) == len(indices):
        for label, index in zip(labels, indices, strict=True):
            found.meanings[f"{array}({label})"] = (_element(right, target, str(index)),)
    else:
        context.error(
            f"{len(labels)} names cannot stand for {len(indices)} elements",
            piece.span,
            "as many on the left as on the right, or one name with a data item: ETA(OCC_CL)=ETA(5,7)",
        )


def _replace_name(context: Context, found: Abbreviations, left: Side, right: Side) -> None:
    name = left.text.text.strip().upper()
    if not _LABEL.fullmatch(name):
        context.error("REPLACE needs a name to replace", left.text.span, "e.g. REPLACE CL=THETA(1)")
    elif right.index is not None:
        indices = _indices(right.index.text)
        target = right.text.text.upper()
        if indices is not None and len(indices) > 1:
            found.meanings[name] = Selection(target, name, indices)
        elif indices is not None:
            found.meanings[name] = (_element(right, target, str(indices[0])),)
        else:
            found.meanings[name] = (_element(right, target, right.index.text.strip()),)
    elif right.nodes:
        found.meanings[name] = right.nodes
    else:
        context.error("a replacement must be a name, an element or a number", right.text.span)


def _replace_by_label(
    context: Context, found: Abbreviations, array: str, labels: list[str], right: Side
) -> None:
    assert right.index is not None
    others = [label.strip().upper() for label in right.index.text.split(",")]
    if len(others) != len(labels) or not all(_LABEL.fullmatch(label) for label in others):
        context.error(
            "the indices of a REPLACE are whole numbers and ranges",
            right.index.span,
            "e.g. ETA(5,7) or ETA(5 to 9 by 2)",
        )
        return
    for label, other in zip(labels, others, strict=True):
        found.meanings[f"{array}({label})"] = (_element(right, right.text.text.upper(), other),)


def _element(side: Side, array: str, index: str) -> Apply:
    assert side.index is not None
    place = side.index.span
    argument: Node = Literal(index, place) if index.isdecimal() else Name(index.upper(), place)
    return Apply(array, (argument,), side.text.span.to(place), side.text.span)


def _indices(text: str) -> tuple[int, ...] | None:
    """Return the whole numbers of ``"4,7"``, ``"5 to 9 by 2"`` or ``",3:32"``.

    A comma in front only marks a list; a range runs down where its ends do or its step is negative.
    """
    found: list[int] = []
    for part in text.strip().removeprefix(",").split(","):
        ranged = _RANGE.fullmatch(part.strip())
        if ranged is not None:
            first, last, step = int(ranged.group(1)), int(ranged.group(2)), int(ranged.group(3) or 1)
            if step == 0 or abs(last - first) // abs(step) > _MOST_ELEMENTS:
                return None
            if step < 0 and first < last:
                first, last = last, first
            found += range(first, last + 1, step) if first <= last else range(first, last - 1, -abs(step))
        elif part.strip().isdecimal() and len(part.strip()) < 7:
            found.append(int(part))
        else:
            return None
    return tuple(found)
