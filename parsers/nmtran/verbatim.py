"""Verbatim code: lines of Fortran, begun with ``"``, inside abbreviated code."""

from __future__ import annotations

import re

_LINE = re.compile(r"^[ \t]*(\")([^\n]*)", re.MULTILINE)
_NAME = r"[A-Z][A-Z_0-9]*"
# Lines that mean in Fortran what they mean in abbreviated code.
_STATEMENT = re.compile(
    rf"\s*({_NAME}\s*(\([^()=]*(\([^()=]*\)[^()=]*)*\))?\s*=(?!=)|(ELSE\s*)?IF\s*\(|ELSE\s*$|END\s*(IF|DO)\s*$|"
    r"DO\s*WHILE\s*\(|CALL\s|(WRITE|OPEN|CLOSE|REWIND)\s*\(|PRINT\s*[*'\"]|RETURN\s*$|CONTINUE\s*$)",
    re.IGNORECASE,
)
_COMMENT = re.compile(r"\s*(!.*|[C*](\s.*)?|MAIN\s*|FIRST\s*|LAST\s*)?", re.IGNORECASE)
_DECLARATION = re.compile(
    r"\s*(INTEGER|REAL|LOGICAL|CHARACTER|DOUBLE\s*PRECISION|COMMON|USE|SAVE|EXTERNAL|IMPLICIT|DIMENSION)\b"
    r"(?!\s*=)",
    re.IGNORECASE,
)
_KIND = re.compile(r"(\([^()]*\)|\*\s*\d+)?\s*(,[^:]*)?(::)?", re.IGNORECASE)

# Settings of a legacy engine's own work space.
WITHOUT_EFFECT = frozenset({"IMAX", "IDUM1", "IDUM2", "IDUM4", "IDUM5", "MAXFCN", "ISSMOD"})


def unwrap(text: str) -> str:
    """Return ``text`` with the mark blanked where a verbatim line is an ordinary statement.

    Lengths stay; declarations, comments, and what is not understood keep their mark.
    """

    def change(match: re.Match[str]) -> str:
        line = match.group(2)
        if not _STATEMENT.match(line) or _DECLARATION.match(line):
            return match.group()
        remark = re.search(r"!", line) if "'" not in line else None
        if remark is not None:
            line = line[: remark.start()].ljust(len(line))
        return match.group()[: -len(line) - 1] + " " + line.replace('"', " ")

    return _LINE.sub(change, text)


def is_remark(line: str) -> bool:
    """Tell whether a verbatim line (with its mark) is a comment or says where the next lines belong."""
    return _COMMENT.fullmatch(line.lstrip(' \t"')) is not None


def declared(line: str) -> tuple[str, tuple[str, ...]] | None:
    """Return kind and names of a declaration in a verbatim line (with its mark), or None if it is none."""
    content = line.replace('"', " ")
    match = _DECLARATION.match(content)
    if match is None:
        return None
    kind = " ".join(match.group(1).upper().split())
    rest = content[match.end() :]
    if kind == "USE":
        rest = rest.partition(":")[2]
    elif kind == "COMMON":
        rest = re.sub(r"/[^/]*/", " ", rest)
    else:
        rest = rest[_KIND.match(rest).end() :]  # type: ignore[union-attr]  # it matches nothing at least
    return kind, tuple(name.upper() for name in re.findall(_NAME, rest, re.IGNORECASE))
