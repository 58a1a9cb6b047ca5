"""The words of NM-TRAN: record names, and how they may be shortened."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

# In order of precedence: a shortened word means the first record that it begins.
RECORDS: tuple[str, ...] = (
    "PROBLEM",
    "INPUT",
    "DATA",
    "SUBROUTINES",
    "MODEL",
    "PK",
    "PRED",
    "ERROR",
    "DES",
    "THETA",
    "OMEGA",
    "SIGMA",
    "ESTIMATION",
    "COVARIANCE",
    "TABLE",
    "ABBREVIATED",
    "SCATTERPLOT",
    "SIMULATION",
    "SIZES",
    "MSFI",
    "MIX",
    "AES",
    "AESINITIAL",
    "TOL",
    "INFN",
    "INDEX",
    "CONTR",
    "NONPARAMETRIC",
    "PRIOR",
    "THETAI",
    "THETAR",
    "THETAP",
    "THETAPV",
    "OMEGAP",
    "OMEGAPD",
    "SIGMAP",
    "SIGMAPD",
    "TTDF",
    "OLKJDF",
    "OVARF",
    "SLKJDF",
    "SVARF",
    "ETAS",
    "PHIS",
    "LEVEL",
    "CHAIN",
    "ANNEAL",
    "DESIGN",
    "BIND",
    "FORMAT",
    "INCLUDE",
    "WARNINGS",
    "OMIT",
    "DEFAULT",
    "RCOV",
    "RCOVI",
    "SUPERPROBLEM",
)

# Spellings that are no beginning of the full word.
RECORD_ALIASES: dict[str, str] = {
    "INFILE": "DATA",
    "INPT": "INPUT",
    "ESTIMATE": "ESTIMATION",
    "ESTM": "ESTIMATION",
    "COVR": "COVARIANCE",
    "SIML": "SIMULATION",
    "SIMULATE": "SIMULATION",
    "SUBS": "SUBROUTINES",
    "SUPER": "SUPERPROBLEM",
    "SCATTERGRAMS": "SCATTERPLOT",
    "INDXS": "INDEX",
    "INDEXES": "INDEX",
    "AES0": "AESINITIAL",
    "DEFAULTS": "DEFAULT",
    "NON": "NONPARAMETRIC",
    "THI": "THETAI",
    "THR": "THETAR",
    "WARN": "WARNINGS",
}

# Records whose content is abbreviated code.
CODE_RECORDS = frozenset({"PK", "PRED", "ERROR", "DES", "MIX", "AES", "AESINITIAL", "INFN", "TOL"})


def resolve_record(word: str) -> str | None:
    """Return the full name of the record that ``word`` (no ``$``) names, or None."""
    return resolve(word, RECORDS, RECORD_ALIASES)


def resolve(word: str, names: Iterable[str], aliases: dict[str, str] | None = None) -> str | None:
    """Return the name that ``word`` spells or shortens (three letters at least), or None.

    A full spelling wins; else the first of ``names`` that begins with ``word``.
    """
    upper = word.upper()
    if aliases and upper in aliases:
        return aliases[upper]
    known = tuple(names)
    if upper in known:
        return upper
    if len(upper) < 3:
        return None
    found = next((name for name in known if name.startswith(upper)), None)
    if found is None and aliases:
        found = next((full for alias, full in aliases.items() if alias.startswith(upper)), None)
    return found


def suggest(word: str, names: Iterable[str]) -> str:
    """Return ``"did you mean X?"`` for the nearest of ``names``, or an empty text."""
    by_upper = {name.upper(): name for name in names}
    near = difflib.get_close_matches(word.upper(), list(by_upper), n=1, cutoff=0.6)
    return f"did you mean {by_upper[near[0]]}?" if near else ""
