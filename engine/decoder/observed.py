"""The prediction of torch solvers: the scaled amount in the compartment that a record observes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from ..data.batch import Batch
from ..ir.compartment import Dynamics
from .arithmetic import Environment, compile_expression

PREDICTION = 0  # its place among the amounts
Solver = Callable[[Environment, set[int]], dict[int, Tensor]]


class ObservedAmounts:
    """Amounts by a torch solver, and the prediction they make."""

    individual_inside = False  # the individual model is run before it

    def __init__(self, solver: Solver, dynamics: Dynamics, batch: Batch, read: set[int], order: int) -> None:
        """Prepare; ``read`` are compartments the observation model names, ``order`` that of derivatives."""
        self._solver, self.derivatives = solver, order
        events = batch.events
        at_dose = np.isin(events.evid, (1, 4)) | (events.compartment <= 0)
        where = np.where(at_dose, dynamics.default_observation, events.compartment)
        outputs = sorted(set(where.ravel().tolist()))
        self._masks = {c: torch.from_numpy(where == c) for c in outputs}
        self._scales = {
            c: None if (scale := dynamics.compartments[c - 1].scale) is None else compile_expression(scale)
            for c in outputs
        }
        self._wanted = read | set(outputs)

    def __call__(self, env: Environment) -> None:
        """Fill the amounts of ``env``; :data:`PREDICTION` is among them."""
        env.amounts = self._solver(env, self._wanted)
        prediction: Tensor | None = None
        for c, scale in self._scales.items():
            own = env.amounts[c] if scale is None else env.amounts[c] / scale(env)
            prediction = own if prediction is None else torch.where(self._masks[c], own, prediction)
        assert prediction is not None
        env.amounts[PREDICTION] = prediction
