"""Whole lines by a Fortran format (LFORMAT and RFORMAT of ``$TABLE``): ``(F8.0,4(',',1PE12.5))``.

Values are taken in turn by the edit descriptors F, E, ES, D, G, I and A; X, literals, / and : stand between
them. Where values remain at the end, the format goes on on a new line with its last group, as in Fortran.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from .numbers import FieldFormat

_TOKEN = re.compile(
    r"\s*(?:(?P<scale>[+-]?\d+)P|(?P<text>'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\")|(?P<skip>\d*)X|"
    r"(?P<count>\d*)(?P<open>\()|(?P<close>\))|(?P<mark>[,/:])|"
    r"(?P<times>\d*)(?P<kind>ES|[FEDGIA])(?P<width>\d*)(?:\.(?P<decimals>\d+))?(?:E(?P<exponent>\d+))?)",
    re.IGNORECASE,
)
_MOST = 100_000  # pieces of one line


@dataclass(frozen=True)
class _Piece:
    """One edit descriptor: ``kind`` F, E, G, I, A for values, "text" for literals and blanks, ``/`` or ``:``.

    ``factor`` multiplies the values of F (the scale factor kP, which stays in force for what follows it).
    """

    kind: str
    text: str = ""
    form: FieldFormat | None = None
    width: int = 0
    factor: float = 1.0

    @property
    def takes_value(self) -> bool:
        """Whether a value is written here."""
        return self.kind in "FEGIA"


@dataclass(frozen=True)
class RecordFormat:
    """A format: its pieces with all repetitions written out, and where its last group begins."""

    pieces: tuple[_Piece, ...]
    last_group: int

    def lines(self, values: Sequence[float | str]) -> list[str]:
        """Return the lines that ``values`` make."""
        made, line, left = [], "", list(values)
        rest = iter(self.pieces)
        while True:
            piece = next(rest, None)
            if piece is None:
                if not left:
                    break
                made.append(line)
                line, rest = "", iter(self.pieces[self.last_group :])
                continue
            if (piece.takes_value or piece.kind == ":") and not left:
                break
            if piece.kind == "/":
                made.append(line)
                line = ""
            elif piece.takes_value:
                line += _edited(piece, left.pop(0))
            else:
                line += piece.text
        return [*made, line]


def parse_record_format(text: str) -> RecordFormat:
    """Read a format. Raises ``ValueError`` where the text is none, or takes no value."""
    body = text.strip()
    if not (body.startswith("(") and body.endswith(")")):
        raise ValueError(f"'{text}' is no Fortran format: it has to stand in parentheses")
    pieces, last_group, end = _group(body, 1, [0])
    if body[end:].strip():
        raise ValueError(f"'{text}': something follows the closing parenthesis")
    if not any(piece.takes_value for piece in pieces[last_group:]):
        raise ValueError(f"'{text}' has no place for a number")
    return RecordFormat(tuple(pieces), last_group)


def _group(text: str, start: int, scale: list[int]) -> tuple[list[_Piece], int, int]:
    """Return the pieces up to the closing parenthesis, where the last group begins, the place after it."""
    pieces: list[_Piece] = []
    last, at = 0, start
    while True:
        match = _TOKEN.match(text, at)
        if match is None:
            raise ValueError(f"'{text}': no edit descriptor at '{text[at : at + 10]}'")
        at = match.end()
        if match["close"]:
            return pieces, last, at
        if match["open"]:
            inner, _, at = _group(text, at, scale)
            last, count = len(pieces), int(match["count"] or 1)
            if count * len(inner) > _MOST:
                raise ValueError(f"'{text}' is too long")
            pieces += inner * count
        elif match["scale"]:
            scale[0] = int(match["scale"])
        elif match["mark"]:
            pieces += [_Piece(match["mark"])] if match["mark"] != "," else []
        else:
            pieces += list(_simple(match, scale[0], text))
        if len(pieces) > _MOST:
            raise ValueError(f"'{text}' is too long")


def _simple(match: re.Match[str], scale: int, text: str) -> Iterator[_Piece]:
    if match["text"]:
        quote = match["text"][0]
        yield _Piece("text", match["text"][1:-1].replace(2 * quote, quote))
        return
    if match["skip"] is not None:
        yield _Piece("text", " " * int(match["skip"] or 1))
        return
    kind, width = match["kind"].upper(), int(match["width"] or 0)
    if kind not in "AI" and (not width or match["decimals"] is None):
        raise ValueError(f"'{text}': {kind} needs a width and decimals, as in {kind}12.5")
    form, factor = None, 1.0
    if kind not in "AI":
        name = {"ES": "E", "D": "E"}.get(kind, kind)
        own = 1 if kind == "ES" else 0 if name == "F" else scale
        digits = int(match["exponent"] or 2)
        assert name in ("E", "F", "G")
        form = FieldFormat("", name, width, int(match["decimals"]), own, digits)  # type: ignore[arg-type]
        factor = 10.0**scale if name == "F" else 1.0
        kind = name
    for _ in range(int(match["times"] or 1)):
        yield _Piece(kind, form=form, width=width, factor=factor)


def _edited(piece: _Piece, value: float | str) -> str:
    if piece.form is not None and not isinstance(value, str):
        return piece.form.number(piece.factor * value)
    if piece.kind == "I" and not isinstance(value, str):
        return str(round(value)).rjust(piece.width)
    text = str(value)
    width = piece.width or len(text)
    return text[:width].rjust(width)
