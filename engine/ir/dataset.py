"""The data set: records by columns, in the order of the file, no torch."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from .expression import Comparison
from .span import Span

Role = Literal[
    "id",
    "time",
    "amt",
    "rate",
    "ii",
    "addl",
    "ss",
    "evid",
    "cmt",
    "dv",
    "mdv",
    "dvid",
    "l1",
    "l2",
    "call",
    "pcmt",
    "cont",
    "raw",
    "marginal",
    "repeat",
    "date",
    "cens",
    "limit",
    "covariate",
    "dropped",
]


@dataclass(frozen=True)
class InputColumn:
    """A column of the data file.

    ``name`` is what the output uses, ``aliases`` other names under which the model may call it. ``label`` is
    what heads it in a table (empty: ``name``).
    """

    name: str
    role: Role
    aliases: tuple[str, ...] = ()
    span: Span | None = field(default=None, compare=False, repr=False)
    label: str = ""


@dataclass(frozen=True)
class RowCondition:
    """A field of a data line compared to a value, as texts unless ``numeric``.

    ``column`` is the position (from 0) in :attr:`Inputs.columns`; dropped columns can be named too.
    """

    column: int
    operator: Comparison
    value: str
    numeric: bool


@dataclass(frozen=True)
class RowSelection:
    """Which lines of the data file are records, and how their empty fields read.

    Lines beginning with ``comment`` are none (``"@"``: with a letter, ``@`` or ``#`` after blanks; empty:
    no such lines). Of the others, at most ``limit``, or those before column ``until_change`` takes a second
    value, are looked at. One is left out where any of ``ignore`` holds, and where ``accept`` is not empty
    and none of it holds. An empty field counts as ``null``, and is missing; so is a field that equals
    ``missing_code``.
    """

    comment: str = "#"
    ignore: tuple[RowCondition, ...] = ()
    accept: tuple[RowCondition, ...] = ()
    limit: int | None = None
    until_change: int | None = None
    null: float = 0.0
    missing_code: float | None = None


@dataclass(frozen=True)
class Inputs:
    """The data source: file as written, and its columns (dropped ones included, in file order).

    ``interval_value`` says which record's data items rule the interval between two records: that at
    its end (NONMEM) or that at its start (last observation carried forward).
    ``options`` are choices of the source language on how the file reads, for its own reader.
    """

    file: str
    columns: tuple[InputColumn, ...]
    rows: RowSelection = RowSelection()
    interval_value: Literal["end", "start"] = "end"
    options: tuple[tuple[str, str], ...] = ()
    span: Span | None = field(default=None, compare=False, repr=False)
    file_span: Span | None = field(default=None, compare=False, repr=False)

    @property
    def names(self) -> tuple[str, ...]:
        """All names of kept columns, aliases included."""
        kept = (column for column in self.columns if column.role != "dropped")
        return tuple(name for column in kept for name in (column.name, *column.aliases))

    def resolve(self, name: str) -> InputColumn | None:
        """Return the kept column called ``name`` (case-insensitive, aliases too), or None."""
        return self._by_name.get(name.upper())

    @cached_property
    def _by_name(self) -> dict[str, InputColumn]:
        kept = [column for column in self.columns if column.role != "dropped"]
        # where two share a name, the first has it
        return {name.upper(): c for c in reversed(kept) for name in (c.name, *c.aliases)}

    def with_role(self, role: Role) -> InputColumn | None:
        """Return the column that plays ``role``, or None."""
        return next((c for c in self.columns if c.role == role), None)


@dataclass(frozen=True)
class DataSet:
    """Records after all filters, complete in the words of the engine.

    ``values`` maps every kept column name to a float array over records; columns that the file lacks
    but the engine needs are present too: ``EVID``, ``MDV``, ``AMT``, ``RATE``, ``II``, ``ADDL``, ``SS``,
    ``CMT`` (0: default compartment) are always filled in ``event`` under these upper-case keys,
    derived by the rules of the source language. ``event["TIME"]`` is in data units; where the
    model has no time it counts the records of each subject.

    ``subject`` is the subject number of each record (from 0, in file order), ``ids`` the ID value of
    each subject, ``line`` the line of each record in ``path`` (from 1). ``missing`` is True where the file
    had no value for a kept column (``values`` holds the language's substitute there). ``shown`` has the
    columns that tables show otherwise than the model reads them, with a code for missing values say.
    ``held_out`` is True where an observation is not for estimation, but predicted and compared in tables.
    """

    path: str
    values: dict[str, NDArray[np.float64]]
    event: dict[str, NDArray[np.float64]]
    subject: NDArray[np.int64]
    ids: NDArray[np.float64]
    line: NDArray[np.int64]
    missing: dict[str, NDArray[np.bool_]] = field(default_factory=dict)
    shown: dict[str, NDArray[np.float64]] = field(default_factory=dict)
    held_out: NDArray[np.bool_] | None = None

    @property
    def n_records(self) -> int:
        """Number of records."""
        return len(self.subject)

    @property
    def n_subjects(self) -> int:
        """Number of subjects."""
        return len(self.ids)

    def for_tables(self) -> DataSet:
        """Return the data where observations that are held out of estimation are like all others."""
        if self.held_out is None or not self.held_out.any():
            return self
        missing = np.where(self.held_out, 0.0, self.event["MDV"])
        return replace(self, event=self.event | {"MDV": missing}, held_out=None)

    @property
    def is_observation(self) -> NDArray[np.bool_]:
        """True where the record holds an observation (EVID 0 and MDV 0)."""
        return np.asarray((self.event["EVID"] == 0) & (self.event["MDV"] == 0))

    @property
    def n_observations(self) -> int:
        """Number of observation records."""
        return int(self.is_observation.sum())
