"""Closed-form amounts of one-compartment models by superposition of single doses.

Bolus and zero-order input, with or without first-order absorption (Gibaldi and Perrier,
Pharmacokinetics, 1982, chapter 1), written so that equal rate constants need no special case.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from ..data.batch import Batch
from ..ir.compartment import LinearDynamics
from .arithmetic import Environment, compile_expression
from .doses import DoseModifiers, Doses


def decay_mean(x: Tensor) -> Tensor:
    """Return (exp(x) - 1) / x, which is 1 at zero."""
    small = x.abs() < 1e-5
    safe = torch.where(small, 1.0, x)
    return torch.where(small, 1.0 + 0.5 * x + x * x / 6.0, torch.expm1(safe) / safe)


def exponential_integral(rate: Tensor, time: Tensor) -> Tensor:
    """Return the integral of exp(-rate u) over u from 0 to ``time``."""
    return time * decay_mean(-rate * time)


def difference(a: Tensor, b: Tensor, time: Tensor) -> Tensor:
    """Return (exp(-a time) - exp(-b time)) / (b - a), symmetric in a and b and finite where they meet."""
    low, high = torch.minimum(a, b), torch.maximum(a, b)
    return time * torch.exp(-low * time) * decay_mean(-(high - low) * time)


def integrated_difference(a: Tensor, b: Tensor, time: Tensor) -> Tensor:
    """Return the integral of :func:`difference` over time from 0."""
    gap = b - a
    middle = 0.5 * (a + b)
    near = gap.abs() < 1e-4 * middle
    product = middle * time
    # at the tie: (1 - exp(-m t) (1 + m t)) / m^2, relative error below gap^2
    tie = (-torch.expm1(-product) - product * torch.exp(-product)) / middle.square()
    safe = torch.where(near, 1.0, gap)
    apart = (exponential_integral(a, time) - exponential_integral(b, time)) / safe
    return torch.where(near, tie, apart)


class OneCompartment:
    """Amounts of a one-compartment model, with or without a first-order depot."""

    def __init__(self, dynamics: LinearDynamics, batch: Batch) -> None:
        shape = _shape(dynamics)
        assert shape is not None, "ask solves() first"
        self.central, self.depot = shape
        rates = {(t.source, t.target): compile_expression(t.rate) for t in dynamics.transfers}
        self._elimination = rates[(self.central, 0)]
        self._absorption = None if self.depot is None else rates[(self.depot, self.central)]
        self.doses = DoseModifiers(dynamics, batch)
        events = batch.events
        self._time = torch.from_numpy(events.time)
        self._valid = torch.from_numpy(events.reaches())
        self._epoch = torch.from_numpy(events.shares_epoch())
        into = torch.from_numpy(events.dose_compartment)
        self._into_central, self._into_depot = into == self.central, into == (self.depot or -1)
        used = events.dose_compartment[events.dose_valid]
        self._any_central, self._any_depot = (
            bool((used == self.central).any()),
            bool((used == self.depot).any()),
        )
        self._any_infusion = bool((events.dose_rate[events.dose_valid] != 0).any())

    def __call__(self, env: Environment, wanted: set[int]) -> dict[int, Float[Tensor, "draw id record"]]:
        """Return the amounts in the compartments ``wanted`` at every record."""
        elimination = self._elimination(env)[..., None]
        absorption = None if self._absorption is None else self._absorption(env)[..., None]
        doses = self.doses(env)
        since, acts = self._since(doses)
        amounts: dict[int, Tensor] = {}
        if self.central in wanted:
            amounts[self.central] = self._central(doses, since, acts, elimination, absorption)
        if self.depot is not None and self.depot in wanted:
            assert absorption is not None
            given = self._given(doses, acts, self._into_depot)
            amounts[self.depot] = self._decaying(doses, since, given, absorption).sum(-1)
        return amounts

    def varies(self, env: Environment) -> bool:
        """Return whether a rate constant changes within a subject, which the formulas do not allow."""
        rates = [self._elimination(env)] + ([] if self._absorption is None else [self._absorption(env)])
        return any(rate.ndim > 0 and rate.shape[-1] > 1 for rate in rates)

    def _central(
        self, doses: Doses, since: Tensor, acts: Tensor, elimination: Tensor, absorption: Tensor | None
    ) -> Tensor:
        total: Tensor | None = None
        if self._any_central:
            given = self._given(doses, acts, self._into_central)
            total = self._decaying(doses, since, given, elimination).sum(-1)
        if self._any_depot:
            assert absorption is not None
            given = self._given(doses, acts, self._into_depot)
            oral = (given * self._absorbed(doses, since, elimination, absorption)).sum(-1)
            total = oral if total is None else total + oral
        if total is None:
            total = (elimination * 0.0).sum(-1) + torch.zeros_like(self._time)
        return total

    def _since(self, doses: Doses) -> tuple[Tensor, Tensor]:
        """Return time since each dose (0 before it) and whether it acts, ``"draw id record dose"``."""
        elapsed = self._time[:, :, None] - doses.start[..., None, :]
        acts = (elapsed >= 0) & self._epoch if doses.lagged else self._valid
        return torch.where(acts, elapsed, 0.0), acts

    def _given(self, doses: Doses, acts: Tensor, into: Tensor) -> Tensor:
        return torch.where(acts & into[:, None, :], doses.amount[..., None, :], 0.0)

    def _decaying(self, doses: Doses, since: Tensor, given: Tensor, rate: Tensor) -> Tensor:
        """Amount left of what entered a compartment that empties at ``rate``."""
        bolus = torch.exp(-rate * since)
        if not self._any_infusion:
            return given * bolus
        duration = doses.duration[..., None, :]
        ended = (since - duration).clamp(min=0.0)
        infused = exponential_integral(rate, since) - exponential_integral(rate, ended)
        positive = duration > 0
        return given * torch.where(positive, infused / torch.where(positive, duration, 1.0), bolus)

    def _absorbed(self, doses: Doses, since: Tensor, elimination: Tensor, absorption: Tensor) -> Tensor:
        """Amount in the central compartment per unit dose into the depot."""
        bolus = difference(absorption, elimination, since)
        if self._any_infusion:
            duration = doses.duration[..., None, :]
            ended = (since - duration).clamp(min=0.0)
            infused = integrated_difference(absorption, elimination, since) - integrated_difference(
                absorption, elimination, ended
            )
            positive = duration > 0
            bolus = torch.where(positive, infused / torch.where(positive, duration, 1.0), bolus)
        return absorption * bolus


def solves(dynamics: LinearDynamics) -> bool:
    """Return whether the formulas here solve ``dynamics``: one compartment, with or without absorption."""
    parts = dynamics.compartments
    return (
        not dynamics.model_times
        and _shape(dynamics) is not None
        and not any(c.initial or c.initially_off for c in parts)
    )


def _shape(dynamics: LinearDynamics) -> tuple[int, int | None] | None:
    """Return the central compartment and the depot of a one-compartment graph, None for any other."""
    graph = {(t.source, t.target) for t in dynamics.transfers}
    n = len(dynamics.compartments)
    for central in range(1, n + 1):
        others = [c for c in range(1, n + 1) if c != central]
        if n == 1 and graph == {(central, 0)}:
            return central, None
        if n == 2 and graph == {(central, 0), (others[0], central)}:
            return central, others[0]
    return None
