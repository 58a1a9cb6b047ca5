"""Texts spoilt at random, for readers that must survive anything."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

_PIECES = (
    "$", "(", ")", ",", "=", ";", "&", '"', "'", "*", "**", ".", "-", "+", "\n", "\r\n", "\t", " ", "\0",
    "\xa0", "\u00e9", "1", "0", "1E400", "-1", "99999999999", "1D3", ".5", "1+3", "FIX", "SAME",
    "BLOCK(2)", "BLOCK(0)", "(", "x3", "THETA(1)", "ETA(99)", "EPS(0)", "A(1)", "DADT(1)", "IF (",
    "THEN", "ELSE", "ENDIF", "DO WHILE (", "ENDDO", "CALL RANDOM (2,R)", "EXIT 1 2", ".EQ.", "==", "/=",
    ".AND.", "EXP(", "LOG(", "INF", "UNINT", "VALUES(1,2)", "NAMES(A,B)", "CL=", "ETAS(1:LAST)",
    "COM(1)=X", "IGNORE=(ID.EQ.1)", "ACCEPT=(", "$PROBLEM again", "$PK", "$ERROR", "$PRED", "$DES",
    "$MIX", "$AES", "$THETA", "$OMEGA", "$SIGMA", "$ESTIMATION", "$TABLE", "$PRIOR NWPRI", "$THETAP 1",
    "$OMEGAP", "$MSFI x", "$LEVEL", "$SIMULATION", "$INCLUDE x", "$THETAI", "$DATA *", "$INPUT",
    "$SUBS ADVAN6 TOL=3", "$MODEL", "$ABBR REPLACE", "$ETAS", "$SUPER", "MTIME(1)=", "ALAG1=",
    "F_FLAG=1", "NEWIND", "ICALL", "Y=", "CALLFL=1",
)  # fmt: skip

Mutation = Callable[[random.Random, str, Sequence[str]], str]


def _delete(draw: random.Random, text: str, _: Sequence[str]) -> str:
    start = draw.randrange(len(text) + 1)
    return text[:start] + text[start + draw.choice((1, 1, 1, 5, 30, 200)) :]


def _insert(draw: random.Random, text: str, _: Sequence[str]) -> str:
    start = draw.randrange(len(text) + 1)
    return text[:start] + draw.choice(_PIECES) * draw.choice((1, 1, 1, 2, 40)) + text[start:]


def _replace(draw: random.Random, text: str, _: Sequence[str]) -> str:
    start = draw.randrange(len(text) + 1)
    return text[:start] + draw.choice(_PIECES) + text[start + draw.choice((1, 2, 8)) :]


def _repeat(draw: random.Random, text: str, _: Sequence[str]) -> str:
    lines = text.split("\n")
    start = draw.randrange(len(lines))
    stretch = lines[start : start + draw.choice((1, 1, 3, 20))]
    place = draw.randrange(len(lines) + 1)
    return "\n".join(lines[:place] + stretch + lines[place:])


def _swap(draw: random.Random, text: str, _: Sequence[str]) -> str:
    lines = text.split("\n")
    i, j = draw.randrange(len(lines)), draw.randrange(len(lines))
    lines[i], lines[j] = lines[j], lines[i]
    return "\n".join(lines)


def _splice(draw: random.Random, text: str, others: Sequence[str]) -> str:
    other = draw.choice(others)
    start = draw.randrange(len(other) + 1)
    place = draw.randrange(len(text) + 1)
    return text[:place] + other[start : start + draw.choice((20, 200, 2000))] + text[place:]


def _cut(draw: random.Random, text: str, _: Sequence[str]) -> str:
    return text[: draw.randrange(len(text) + 1)]


_MUTATIONS: tuple[Mutation, ...] = (
    _delete,
    _delete,
    _insert,
    _insert,
    _replace,
    _replace,
    _repeat,
    _swap,
    _splice,
    _cut,
)


def mutate(draw: random.Random, texts: Sequence[str]) -> str:
    """Return one of ``texts`` with one to four random changes."""
    text = draw.choice(texts)
    for _ in range(draw.choice((1, 1, 1, 2, 4))):
        text = draw.choice(_MUTATIONS)(draw, text, texts)
    return text
