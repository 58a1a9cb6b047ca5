"""Dose modifiers: bioavailability, lag, rate and duration of every dose, from the individual model."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..data.batch import Batch
from ..failure import ModelFailure
from ..ir.compartment import Compartment, Dynamics
from ..ir.expression import Expression
from .arithmetic import Environment, Evaluator, compile_expression


@dataclass(frozen=True)
class Doses:
    """Doses after their modifiers; all tensors broadcast to ``"draw id dose"``.

    ``amount`` is bioavailable; ``start`` includes the lag; ``duration`` is zero for a bolus.
    ``lagged`` tells whether any lag depends on the individual model.
    """

    amount: Tensor
    start: Tensor
    duration: Tensor
    lagged: bool


class DoseModifiers:
    """Compiled modifiers of every compartment of a model."""

    def __init__(self, dynamics: Dynamics, batch: Batch) -> None:
        events = batch.events
        self._time = torch.from_numpy(events.dose_time)
        self._amount = torch.from_numpy(events.dose_amount)
        self._rate = torch.from_numpy(events.dose_rate)
        self._record = torch.from_numpy(events.dose_record)
        self._infused = bool((events.dose_rate[events.dose_valid] != 0).any())
        compartments = torch.from_numpy(events.dose_compartment)
        used = sorted(set(events.dose_compartment[events.dose_valid].tolist()))
        self._into = {c: compartments == c for c in used}
        self._compiled = {
            c: {
                name: compile_expression(node)
                for name in ("bioavailability", "lag", "rate", "duration")
                if (node := getattr(dynamics.compartments[c - 1], name)) is not None
            }
            for c in used
        }
        self._check_modelled(dynamics, batch)

    def _check_modelled(self, dynamics: Dynamics, batch: Batch) -> None:
        events = batch.events
        for code, name in ((-1.0, "rate"), (-2.0, "duration")):
            asked = events.dose_valid & (events.dose_rate == code)
            for c in set(events.dose_compartment[asked].tolist()):
                compartment: Compartment = dynamics.compartments[c - 1]
                node: Expression | None = getattr(compartment, name)
                if node is None:
                    raise ModelFailure(
                        f"RATE={code:g} asks for a modelled {name} of compartment {c}, which the model lacks",
                        dynamics.span,
                        hint=f"assign {'R' if name == 'rate' else 'D'}{c}",
                    )

    def __call__(self, env: Environment) -> Doses:
        """Return the doses under the individual model in ``env``."""
        fraction = self._modifier(env, "bioavailability", 1.0)
        amount = self._amount if fraction is None else self._amount * fraction
        lag = self._modifier(env, "lag", 0.0)
        start = self._time if lag is None else self._time + lag
        duration = torch.zeros_like(self._amount)
        if self._infused:
            constant = self._rate > 0
            duration = torch.where(constant, amount / torch.where(constant, self._rate, 1.0), 0.0)
            rate = self._modifier(env, "rate", 1.0)
            if rate is not None:
                duration = torch.where(self._rate == -1, amount / rate, duration)
            length = self._modifier(env, "duration", 1.0)
            if length is not None:
                duration = torch.where(self._rate == -2, length, duration)
        return Doses(amount, start, duration, lag is not None)

    def _modifier(self, env: Environment, name: str, neutral: float) -> Tensor | None:
        """Return a modifier for each dose, or None where no compartment has it."""
        value: Tensor | None = None
        for c, into in self._into.items():
            evaluate: Evaluator | None = self._compiled[c].get(name)
            if evaluate is None:
                continue
            own = self.at_doses(evaluate(env))
            value = torch.where(into, own, neutral if value is None else value)
        return value

    def at_doses(self, value: Tensor) -> Tensor:
        """Return a record-wise value at the records that hold the doses."""
        if value.ndim == 0 or value.shape[-1] == 1:
            return value
        index = self._record.expand(*value.shape[:-2], *self._record.shape)
        return value.expand(*value.shape[:-2], self._record.shape[0], value.shape[-1]).gather(-1, index)
