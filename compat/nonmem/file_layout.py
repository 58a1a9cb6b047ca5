"""How the files beside the report look: separator, numbers and order of parameters, as $ESTIMATION asks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain, permutations

import numpy as np
from numpy.typing import NDArray

from ...engine.fit import Fit
from ...engine.ir.model import Model
from ...engine.ir.span import Span
from ...parsers.problem import Problem
from .numbers import ADDITIONAL, FieldFormat, objective, parse_format

_NUMBERS = "1PE12.5"  # where FORMAT names a separator alone
_FIRST, _COUNT, _FLAG = 13, 12, 9  # characters of a row's number, of a count within a row, of a flag
_ORDERS = tuple("".join(letters) + form for letters in permutations("TSO") for form in "LU")


@dataclass(frozen=True)
class FileLayout:
    """The layout of one block of ``.ext``, ``.phi``, ``.cov`` and the like.

    ``order`` names the parameters in turn (T: thetas, S: sigmas, O: omegas), and whether matrices stand by
    the rows of their lower (L) or upper (U) triangle. ``titled`` and ``labelled`` say whether the two lines
    before the rows are there.
    """

    form: FieldFormat = ADDITIONAL
    order: str = "TSOL"
    titled: bool = True
    labelled: bool = True

    def head(self, title: str, labels: str) -> list[str]:
        """Return those of the two lines before the rows that are there."""
        return [line for line, there in ((title, self.titled), (labels, self.labelled)) if there]

    def labels(self, names: Iterable[str]) -> str:
        """Return the line of column labels, without blanks after the last one."""
        return self.form.row([self.form.label(name) for name in names]).rstrip(" ")

    def line(self, fields: Iterable[str]) -> str:
        """Return a row of fields, the first by :meth:`first` or :meth:`name`."""
        if self.form.compact:
            return self.form.separator.join(field.strip() for field in fields)
        return self.form.separator.join(fields)

    def first(self, number: int) -> str:
        """Return the number that a row begins with."""
        return f"{number:{_FIRST}d}".ljust(self.form.width + 1)

    def name(self, label: str) -> str:
        """Return the label that a row begins with."""
        return f" {self.form.label(label)}"

    def count(self, number: int) -> str:
        """Return a count within a row."""
        return f"{number:{_COUNT}d}".ljust(self.form.width)

    def flag(self, number: int) -> str:
        """Return a 0 or 1."""
        return f"{number:{_FLAG}d}"

    def identifier(self, value: float) -> str:
        """Return an ID; one that is no whole number as a real."""
        if float(value).is_integer() and abs(value) < 1e12:
            return str(int(value)).rjust(self.form.width)
        return self.form.number(value)

    def reals(self, values: Iterable[float]) -> list[str]:
        """Return the fields of numbers."""
        return [self.form.number(float(value)) for value in values]

    def objective(self, value: float) -> str:
        """Return an objective, which has digits of its own."""
        return objective(value)[1:]

    def arranged(self, n_thetas: int, n_eps: int, n_etas: int) -> NDArray[np.int64]:
        """Return the positions, in the order thetas, sigmas, omegas by lower triangles, of the parameters."""
        starts = {"T": 0, "S": n_thetas, "O": n_thetas + n_eps * (n_eps + 1) // 2}
        parts = {
            "T": list(range(n_thetas)),
            "S": _triangle(n_eps, starts["S"], self.order[3]),
            "O": _triangle(n_etas, starts["O"], self.order[3]),
        }
        return np.array(list(chain.from_iterable(parts[letter] for letter in self.order[:3])), dtype=np.int64)


def _triangle(n: int, start: int, form: str) -> list[int]:
    if form == "L":
        return list(range(start, start + n * (n + 1) // 2))
    return [start + j * (j + 1) // 2 + i for i in range(n) for j in range(i, n)]


def parameter_order(fit: Fit, layout: FileLayout) -> NDArray[np.int64]:
    """Return the positions of the parameters of ``fit`` in the order of ``layout``."""
    return layout.arranged(len(fit.model.thetas), fit.model.n_eps, fit.model.n_etas)


def layout_of(fit: Fit, form: str | None = None) -> FileLayout:
    """Return the layout of the block of ``fit``, that of its step; ``form`` is a FORMAT in place of its."""
    options = {} if fit.task is None else dict(fit.task.options)
    return _layout(options if form is None else {**options, "FORMAT": form})


def layout_problems(model: Model) -> list[Problem]:
    """Return what would keep these files from being written as asked: ask before a run."""
    asked: list[tuple[dict[str, str], Span | None]] = [(dict(t.options), t.span) for t in model.estimations]
    if model.covariance is not None:
        asked.append((dict(model.covariance.options), model.covariance.span))
    problems = []
    for options, span in asked:
        try:
            _layout(options)
        except ValueError as error:
            problems.append(Problem(str(error), span, "e.g. FORMAT=s1PE12.5 ORDER=TSOL"))
    return problems


def _layout(options: dict[str, str]) -> FileLayout:
    order = options.get("ORDER", "TSOL").upper()
    if order not in _ORDERS:
        raise ValueError(f"ORDER={order}: the letters T, S and O in some order, then L or U, are needed")
    text = options.get("FORMAT", "").strip("\"'")
    form = parse_format(text, _NUMBERS) if text else ADDITIONAL
    return FileLayout(form, order, not _is_on(options, "NOTITLE"), not _is_on(options, "NOLABEL"))


def _is_on(options: dict[str, str], name: str) -> bool:
    return name in options and options[name] != "0"


def block(layout: FileLayout, title: str, labels: Sequence[str], rows: Iterable[list[str]]) -> list[str]:
    """Return the lines of a block."""
    return [*layout.head(title, layout.labels(labels)), *(layout.line(row) for row in rows)]
