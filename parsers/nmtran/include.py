"""INCLUDE: text of other files, put in place of the line that names them."""

from __future__ import annotations

import re
from pathlib import Path

from ..problem import Problem
from ..source import Piece, Source, read_source

_LARGEST = 4_000_000  # bytes; a control stream has some thousand
_MOST_COPIES = 99
# Comes with NONMEM and declares its internal variables to Fortran: nothing that concerns a model.
_DECLARATIONS = "nonmem_reserved_"
_LINE = re.compile(
    r"""^[ \t]*(?P<word>\$INC(?:L(?:U(?:DE?)?)?)?|INCLUDE)[ \t]+(?![=(])
        (?P<file>'[^'\n]*'|"[^"\n]*"|[^\s,;'"]+)(?:[ \t,]+(?P<times>\d+))?[ \t\r]*(?:;[^\n]*)?$""",
    re.IGNORECASE | re.MULTILINE | re.VERBOSE,
)
_RECORD = re.compile(r"^[ \t]*\$([A-Za-z]+)", re.MULTILINE)


def include_files(source: Source) -> tuple[Source, list[Problem]]:
    """Return ``source`` with the files in it that its INCLUDE lines name, and what went wrong.

    A relative path starts at the folder of ``source``. A line that fails is left blank. Included files may
    not include others.
    """
    problems: list[Problem] = []
    pieces: list[Piece] = []
    texts: list[str] = []
    length = done = 0

    def add(part: Source, start: int, stop: int) -> None:
        nonlocal length
        if stop > start:
            pieces.append(Piece(length, part, start))
            texts.append(part.text[start:stop])
            length += stop - start

    for match in _LINE.finditer(source.text):
        if not match["word"].startswith("$") and _in_title(source.text, match.start()):
            continue
        add(source, done, match.start())
        done = match.end()
        included = _read(source, match, problems)
        if included is not None:
            times = int(match["times"] or 1)
            if times > _MOST_COPIES:
                span = source.span(*match.span("times"))
                problems.append(Problem(f"a file is included at most {_MOST_COPIES} times", span))
                times = 1
            for _ in range(times):
                add(included, 0, len(included.text))
    if not done:
        return source, problems
    add(source, done, len(source.text))
    return Source(source.path, "".join(texts), source.sha256, tuple(pieces)), problems


def _in_title(text: str, offset: int) -> bool:
    """Tell whether ``offset`` stands in the text of $PROBLEM, which may begin a line with any word."""
    words = _RECORD.findall(text, 0, offset)
    return bool(words) and words[-1].upper().startswith("PRO")


def _read(source: Source, match: re.Match[str], problems: list[Problem]) -> Source | None:
    name = match["file"].strip("'\"")
    if re.split(r"[/\\]", name)[-1].lower().startswith(_DECLARATIONS):
        return None
    span = source.span(*match.span("file"))
    path = Path(source.path).parent / name
    try:
        if not path.is_file():
            reason = "it is a folder" if path.is_dir() else "there is no such file"
        elif path.stat().st_size > _LARGEST:
            reason = f"it has more than {_LARGEST} bytes"
        else:
            included = read_source(path)
            if _LINE.search(included.text) is None:
                return included
            reason = "it includes another file, and included files may not"
    except (OSError, ValueError) as error:  # ValueError: a null character in the name
        reason = getattr(error, "strerror", None) or str(error)
    hint = "a relative path starts at the control stream's folder"
    problems.append(Problem(f"cannot include {name}: {reason}", span, hint))
    return None
