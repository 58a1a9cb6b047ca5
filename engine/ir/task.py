"""Tasks and outputs: what the user asked to be run and written."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from .span import Span

Method = Literal[
    "fo",
    "foi",
    "foce",
    "focei",
    "laplace",
    "laplacei",
    "its",
    "imp",
    "impmap",
    "saem",
    "agq",
    "bayes",
    "nuts",
    "vae",
    "chain",
]


@dataclass(frozen=True)
class EstimationTask:
    """One estimation step as written: the method and the options it was given.

    ``options`` keeps the option words of the source language, normalised by its lowering, as
    (name, value) pairs; a method reads those it knows.
    """

    method: Method
    options: tuple[tuple[str, str], ...] = ()
    evaluate_only: bool = False
    span: Span | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True)
class CovarianceTask:
    """A request for standard errors, with its options as written."""

    options: tuple[tuple[str, str], ...] = ()
    print_eigenvalues: bool = False
    span: Span | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True)
class TableTask:
    """One output table.

    ``items`` are data columns, model variables or names the engine supplies (``"PRED"``,
    ``"CWRES"``, ``"ETA1"``...), in the order asked; ``"LABEL=NAME"`` gives one another label.
    ``headers``: ``"repeat"`` every 900 records, ``"once"`` per problem, ``"none"``; ``title`` and ``labels``
    switch the two header lines.
    ``rows``: all records, the first or the last of each subject, or both. ``appended``: DV, PRED,
    RES, WRES follow the items.
    """

    items: tuple[str, ...]
    file: str | None
    headers: Literal["repeat", "once", "none"] = "repeat"
    title: bool = True
    labels: bool = True
    rows: Literal["all", "first", "last", "first_last"] = "all"
    appended: bool = True
    format: str = "s1PE11.4"
    column_formats: tuple[tuple[str, str], ...] = ()  # item -> its own format
    options: tuple[tuple[str, str], ...] = ()  # SEED, ESAMPLE, VARCALC...: for items that need draws
    print_in_report: bool = True
    span: Span | None = field(default=None, compare=False, repr=False)


def labelled(item: str) -> tuple[str, str]:
    """Return the label and the name of a table item."""
    label, _, name = item.rpartition("=")
    return label or name, name


@dataclass(frozen=True)
class SimulationTask:
    """A request for simulated data: seeds, number of replicates and options as written."""

    seeds: tuple[int, ...]
    replicates: int = 1
    only: bool = False
    options: tuple[tuple[str, str], ...] = ()
    span: Span | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True)
class OtherTask:
    """A step of a legacy engine that is understood and not run by this one: asking for it is an error.

    ``name`` is the step ("nonparametric", "design", "chain", "msfi", "etas"...).
    """

    name: str
    options: tuple[tuple[str, str], ...] = ()
    span: Span | None = field(default=None, compare=False, repr=False)
