"""What a run says of its covariate selection."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from ..ir.effects import Effect


@dataclass(frozen=True)
class EffectResult:
    """A candidate at the end of the run: whether it is in, its value, what it does to BICc.

    ``theta`` is its number in the final model (None when out); ``bicc_change`` is BICc of the model
    with this one effect toggled minus the final BICc (positive: the choice was right).
    """

    effect: Effect
    selected: bool
    value: float
    se: float
    theta: int | None
    bicc_change: float
    forced: bool = False


@dataclass(frozen=True)
class Certificate:
    """An independent proof that the last selection is the global optimum of its L0 problem."""

    solver: str
    objective: float
    bound: float
    agrees: bool


@dataclass(frozen=True)
class Selection:
    """Covariate selection of one run.

    ``path`` has one row per iteration and one column per candidate (name of :class:`Effect`), holding
    the coefficient (0 where out), indexed by (phase, iteration).
    """

    results: tuple[EffectResult, ...]
    path: pd.DataFrame
    certificate: Certificate | None

    @property
    def selected(self) -> tuple[EffectResult, ...]:
        """The effects of the final model."""
        return tuple(r for r in self.results if r.selected)
