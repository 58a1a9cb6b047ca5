"""What tables may ask for, and the options of tables that change what is computed."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from ..failure import ModelFailure
from ..ir.compartment import OdeDynamics
from ..ir.model import Model
from ..ir.span import Span
from ..ir.statement import assignments
from ..ir.task import TableTask, labelled

POPULATION = ("PRED", "RES", "WRES", "NPRED", "NRES", "NWRES", "PREDI", "RESI", "WRESI")
CONDITIONAL = ("CPRED", "CRES", "CWRES", "CPREDI", "CRESI", "CWRESI")
INDIVIDUAL = ("CIPRED", "CIRES", "CIWRES", "CIPREDI", "CIRESI", "CIWRESI")
TYPICAL = ("IPRD", "IRS", "IWRS", "NIPRED", "NIRES", "NIWRES", "IPREDI", "IRESI", "IWRESI")
SIMULATED = ("EPRED", "ERES", "EWRES", "ECWRES", "EIPRED", "EIRES", "EIWRES", "NPD", "NPDE")
ITEMS = (*POPULATION, *CONDITIONAL, *INDIVIDUAL, *TYPICAL, *SIMULATED, "OBJI", "MDVRES")
"""The predictions and residuals that tables may ask for by name."""
EVENTS = ("EVID", "MDV")
"""Data items that every record has, whether the file has them or not."""

_SLOPE = re.compile(r"(G|HH?)(?:(\d{1,3})1|\((\d{1,3}),(\d{1,3})\))")


@dataclass(frozen=True)
class TableSettings:
    """How residuals by simulation and weighted residuals are computed.

    Attributes
    ----------
    draws, seed
        Number of simulated data sets, and where their random numbers start.
    cholesky
        Cholesky roots of covariance matrices in place of symmetric ones.
    simulated_observations
        Moments and probabilities from simulated observations alone, not from the residual variance.
    fixed_etas
        Numbers (from 1) of random effects taken as fixed effects at their conditional estimates.
    """

    draws: int = 300
    seed: int = 11456
    cholesky: bool = False
    simulated_observations: bool = False
    fixed_etas: tuple[int, ...] = ()

    @classmethod
    def of(cls, model: Model) -> TableSettings:
        """Return what the tables of ``model`` ask for; the first that gives an option decides."""
        options: dict[str, tuple[str, Span | None]] = {}
        for table in model.tables:
            for name, value in table.options:
                options.setdefault(name, (value, table.span))

        def whole(name: str, default: int, least: int) -> int:
            text, span = options.get(name, (str(default), None))
            if not text.isdecimal() or int(text) < least:
                raise ModelFailure(f"{name}={text}: a whole number of at least {least} is needed", span)
            return int(text)

        fixed: tuple[int, ...] = ()
        if "FIXEDETAS" in options:
            text, span = options["FIXEDETAS"]
            fixed = _numbers(text, model.n_etas, span)
        return cls(
            draws=whole("ESAMPLE", 300, 2),
            seed=whole("SEED", 11456, 0),
            cholesky="WRESCHOL" in options,
            simulated_observations=whole("NPDTYPE", 0, 0) == 1,
            fixed_etas=fixed,
        )


def _numbers(text: str, n_etas: int, span: Span | None) -> tuple[int, ...]:
    """Return the numbers of a list such as ``1,3-5``."""
    found: list[int] = []
    for part in re.split(r"[,\s]+", text.strip(" ()")):
        match = re.fullmatch(r"(\d+)(?:[-:](\d+))?", part)
        if match is None:
            raise ModelFailure(
                f"FIXEDETAS: {part!r} is no number of a random effect", span, "FIXEDETAS=(1,3-5)"
            )
        first, last = int(match[1]), int(match[2] or match[1])
        found += range(first, last + 1)
    if not all(1 <= k <= n_etas for k in found):
        raise ModelFailure(f"FIXEDETAS: the model has random effects 1 to {n_etas}", span)
    return tuple(sorted(set(found)))


@dataclass(frozen=True)
class SlopeItem:
    """A derivative of the response: to an eta or eps (``kind``) and then to ``eta``, numbers from 1, 0: none.

    G(2,1) is that to ETA(2), H(1,1) that to EPS(1), H(1,3) that to EPS(1) and ETA(2).
    """

    kind: Literal["eta", "eps"]
    number: int
    eta: int = 0


def slope_item(item: str) -> SlopeItem | None:
    """Return the derivative of the response that ``item`` is, or None."""
    match = _SLOPE.fullmatch(item.upper())
    if match is None:
        return None
    kind: Literal["eta", "eps"] = "eta" if match[1] == "G" else "eps"
    return SlopeItem(kind, int(match[2] or match[3]), int(match[4] or 1) - 1)


def asked(model: Model) -> set[str]:
    """Return in upper case the names of all items that tables ask for."""
    return {name.upper() for table in model.tables for name in _named(table)}


def _named(table: TableTask) -> list[str]:
    listed = [labelled(item)[1] for item in table.items]
    for name, value in table.options:
        if name in ("BY", "EXCLUDE_BY"):
            listed += value.split()
    return listed


def check_tables(model: Model) -> None:
    """Raise :class:`ModelFailure` at the table that asks for an item there is no value for."""
    TableSettings.of(model)
    statements = (*model.individual, *model.observation.statements)
    if isinstance(model.dynamics, OdeDynamics):
        statements = (*statements, *model.dynamics.statements)
    variables = {a.target.upper() for a in assignments(statements)}
    known = variables | {f"ETA{k + 1}" for k in range(model.n_etas)} | set(ITEMS)
    for table in model.tables:
        for item in _named(table):
            if item.upper() in known or item.upper() in EVENTS or model.inputs.resolve(item):
                continue
            slope = slope_item(item)
            if slope is not None:
                if slope.kind == "eta" and slope.eta:
                    message = f"second derivatives to random effects ({item}) are not computed"
                    raise ModelFailure(message, table.span, "G(1,1), H(1,1) and H(1,2) are there")
                count = model.n_etas if slope.kind == "eta" else model.n_eps
                if 1 <= slope.number <= count and 0 <= slope.eta <= model.n_etas:
                    continue
                message = f"{item} is the derivative to an ETA or EPS that does not exist"
                raise ModelFailure(message, table.span, f"there are {model.n_etas} ETA, {model.n_eps} EPS")
            message = f"the table item {item} is not supported yet, or no such variable exists"
            raise ModelFailure(message, table.span, f"residuals and predictions: {', '.join(ITEMS)}")
        for name, value in table.options:
            if name == "VARCALC" and value.strip() not in ("", "0"):
                raise ModelFailure(
                    "standard errors of variables (VARCALC) are not computed yet", table.span, "VARCALC=0"
                )
