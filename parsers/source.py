"""A source file as text, with its checksum and places in it."""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from dataclasses import dataclass, field
from pathlib import Path

from ..engine.ir.span import Span


@dataclass(frozen=True)
class Piece:
    """A stretch of a text, from ``start`` to the next piece: it stands in ``source`` from ``offset`` on."""

    start: int
    source: Source
    offset: int


@dataclass(frozen=True)
class Source:
    """The text of one file; ``path`` is the name that messages use.

    A text put together from several files has ``pieces``, in order; places in it are places in those files.
    """

    path: str
    text: str
    sha256: str = ""
    pieces: tuple[Piece, ...] = ()
    _line_starts: tuple[int, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        starts = [0]
        position = self.text.find("\n")
        while position >= 0:
            starts.append(position + 1)
            position = self.text.find("\n", position + 1)
        object.__setattr__(self, "_line_starts", tuple(starts))

    def span(self, start: int, stop: int) -> Span:
        """Return the place of the characters ``start`` up to ``stop``."""
        if self.pieces:
            number = bisect_right(self.pieces, start, key=lambda piece: piece.start) - 1
            piece = self.pieces[number]
            end = self.pieces[number + 1].start if number + 1 < len(self.pieces) else len(self.text)
            shift = piece.offset - piece.start
            return piece.source.span(start + shift, max(start, min(stop, end)) + shift)
        line, column = self.place(start)
        end_line, end_column = self.place(stop)
        return Span(self.path, line, column, end_line, end_column, start, stop)

    @property
    def files(self) -> dict[str, str]:
        """The text of each file that this one is made of, by its path."""
        return {piece.source.path: piece.source.text for piece in self.pieces} or {self.path: self.text}

    def place(self, offset: int) -> tuple[int, int]:
        """Return line and column (from 1) of a character offset."""
        line = bisect_right(self._line_starts, offset)
        return line, offset - self._line_starts[line - 1] + 1

    def offset(self, line: int) -> int:
        """Return the offset of the first character of a line (from 1)."""
        return self._line_starts[line - 1]


def read_source(path: str | Path) -> Source:
    """Read a text file; bytes that are not UTF-8 are taken as Windows-1252.

    Raises
    ------
    OSError
        When the file cannot be read.
    """
    raw = Path(path).read_bytes()
    return Source(str(path), decode(raw), hashlib.sha256(raw).hexdigest())


def decode(raw: bytes) -> str:
    """Decode the bytes of a user's file, dropping a byte-order mark; lines end with a line feed."""
    text = _decode(raw)
    return text if "\n" in text else text.replace("\r", "\n")  # lines of the old Macintosh


def _decode(raw: bytes) -> str:
    if raw.startswith((b"\xff\xfe", b"\xfe\xff")):
        return raw.decode("utf-16", errors="replace")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        return raw.decode("cp1252", errors="replace")
