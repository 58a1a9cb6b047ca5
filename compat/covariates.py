"""The words of the command line about covariates: candidates with forms, and parameter-covariate pairs."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Literal, NoReturn, TypeVar, get_args

from ..engine.ir.effects import Effect, Form
from ..engine.selection.candidates import CandidateError, CovariateSpec, Reference

_NAME = re.compile(r"[A-Za-z_]\w*")
_PATTERN = re.compile(r"[A-Za-z_*][\w*]*")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
Word = TypeVar("Word", bound=str)
_REFERENCES: tuple[Literal["mean", "median"], ...] = ("mean", "median")
_FORMS: tuple[Form, ...] = get_args(Form)


@dataclass(frozen=True)
class Pair:
    """Effects of a covariate on a parameter: names or patterns with ``*``, one level or all (None).

    ``option``, ``text``, ``start`` and ``stop`` tell where it was written.
    """

    parameter: str
    covariate: str
    level: float | None
    option: str
    text: str
    start: int
    stop: int


def parse_covariates(text: str | Sequence[str], option: str = "--covariates") -> tuple[CovariateSpec, ...]:
    """Return the candidates of ``"WT:power@mean, AGE:exp, SEX:cat, CRCL@median, BMI@25"``.

    After a colon comes the form (power, exp, linear, cat), after an at sign the reference (mean,
    median, a value; of a categorical covariate the reference level).

    Raises
    ------
    CandidateError
        Where the text does not read so, with the place.
    """
    specs = []
    for reader in _items(text, option):
        name = reader.take(_NAME, "the name of a covariate")
        form: Form | None = None
        reference: Reference = None
        if reader.skip(":"):
            form = reader.word(_FORMS, "form")
        if reader.skip("@"):
            reference = reader.number()
            if reference is None:
                reference = reader.word(_REFERENCES, "reference")
        reader.end("a covariate reads NAME, NAME:form, NAME@reference or NAME:form@reference")
        specs.append(CovariateSpec(name, form, reference))
    return tuple(specs)


def parse_names(text: str | Sequence[str], option: str = "--on") -> tuple[str, ...]:
    """Return the names of ``"KA, K, V"``."""
    names = []
    for reader in _items(text, option):
        names.append(reader.take(_NAME, "a name"))
        reader.end("names are separated by commas")
    return tuple(names)


def parse_pairs(text: str | Sequence[str], option: str = "--force") -> tuple[Pair, ...]:
    """Return the pairs of ``"KA~WT, V:SEX, CL~*, *~RACE=2"``."""
    pairs = []
    for reader in _items(text, option):
        begin = reader.position
        parameter = reader.take(_PATTERN, "a parameter (or *)")
        if not (reader.skip("~") or reader.skip(":")):
            reader.fail("expected ~ between parameter and covariate", "a pair reads PARAMETER~COVARIATE")
        covariate = reader.take(_PATTERN, "a covariate (or *)")
        level = None
        if reader.skip("="):
            level = reader.number()
            if level is None:
                reader.fail("expected the level of a categorical covariate", "e.g. CL~RACE=2")
        stop = reader.position
        reader.end("a pair reads PARAMETER~COVARIATE")
        pairs.append(Pair(parameter, covariate, level, option, reader.text, begin, stop))
    return tuple(pairs)


def match_pairs(pairs: Sequence[Pair], candidates: Sequence[Effect]) -> frozenset[int]:
    """Return the positions in ``candidates`` of all effects that any of ``pairs`` names.

    Raises
    ------
    CandidateError
        Where a pair names none.
    """
    found: set[int] = set()
    for pair in pairs:
        matches = {
            i
            for i, effect in enumerate(candidates)
            if fnmatchcase(effect.parameter.upper(), pair.parameter.upper())
            and fnmatchcase(effect.covariate.upper(), pair.covariate.upper())
            and pair.level in (None, effect.level)
        }
        if not matches:
            known = ", ".join(str(effect) for effect in candidates) or "none"
            raise CandidateError(
                _show(pair.option, pair.text, pair.start, pair.stop, "this is no candidate effect")
                + f"\n  hint: the candidates are {known}"
            )
        found |= matches
    return frozenset(found)


def _items(text: str | Sequence[str], option: str) -> Iterator[_Reader]:
    """Yield a reader for each item between commas."""
    whole = text if isinstance(text, str) else ", ".join(text)
    start = 0
    for item in whole.split(","):
        yield _Reader(option, whole, start, start + len(item))
        start += len(item) + 1


class _Reader:
    """Reads one item of a list, blanks between its parts left out."""

    def __init__(self, option: str, text: str, start: int, stop: int) -> None:
        self.option, self.text, self.stop = option, text, stop
        self.position = start
        self.blanks()

    def blanks(self) -> None:
        while self.position < self.stop and self.text[self.position].isspace():
            self.position += 1

    def match(self, pattern: re.Pattern[str]) -> str | None:
        found = pattern.match(self.text, self.position, self.stop)
        if found is None:
            return None
        self.position = found.end()
        self.blanks()
        return found.group()

    def take(self, pattern: re.Pattern[str], what: str) -> str:
        found = self.match(pattern)
        if found is None:
            self.fail(f"expected {what}", "items are separated by commas")
        return found

    def skip(self, sign: str) -> bool:
        return self.match(re.compile(re.escape(sign))) is not None

    def number(self) -> float | None:
        found = self.match(_NUMBER)
        return None if found is None else float(found)

    def word(self, known: tuple[Word, ...], what: str) -> Word:
        begin = self.position
        found = self.match(_NAME)
        for word in known:
            if found is not None and found.lower() == word:
                return word
        self.position = begin
        extra = " or a number" if what == "reference" else ""
        self.fail(f"unknown {what}", f"known: {', '.join(known)}{extra}", len(found or ""))

    def end(self, hint: str) -> None:
        if self.position < self.stop:
            self.fail("this does not belong here", hint, self.stop - self.position)

    def fail(self, message: str, hint: str, length: int = 1) -> NoReturn:
        place = _show(self.option, self.text, self.position, self.position + length, message)
        raise CandidateError(f"{place}\n  hint: {hint}")


def _show(option: str, text: str, start: int, stop: int, message: str) -> str:
    shown = text.replace("\n", " ").replace("\t", " ")
    stop = start + max(len(shown[start:stop].rstrip()), 1)
    lead = f"{option} "
    return f"{option}: {message}\n  {lead}{shown}\n  {' ' * (len(lead) + start)}{'^' * (stop - start)}"
