"""The decoder: a model compiled to batched torch, from theta and eta to predictions.

Three stages, so that each can be kept while only later ones change: individual parameters,
amounts (together :class:`Structure`), observation model (:class:`Prediction`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ..data.batch import Batch
from ..failure import ModelFailure
from ..ir.compartment import LinearDynamics, OdeDynamics
from ..ir.derivative import derivative_name, differentiate
from ..ir.expression import Amount, Eps, Variable
from ..ir.model import Model
from ..ir.statement import expressions
from .arithmetic import Environment, compile_expression, compile_statements
from .closed_form import OneCompartment

if TYPE_CHECKING:
    from .ode import OrdinaryDifferentialEquations


@dataclass(frozen=True)
class Structure:
    """Individual variables and amounts at every record, for given theta and eta."""

    env: Environment

    def detach(self) -> Structure:
        """Return the same values cut from the graph."""
        env = self.env
        return Structure(
            Environment(
                env.theta.detach(),
                [e.detach() for e in env.eta],
                env.columns,
                {k: v.detach() for k, v in env.variables.items()},
                {k: v.detach() for k, v in env.amounts.items()},
            )
        )


@dataclass(frozen=True)
class Prediction:
    """What the observation model says of every record.

    ``mean`` is the response at eps = 0 (``"draw id record"``), ``slopes`` its derivatives to every eps (each
    broadcastable to it), ``variance`` the residual variance, ``variables`` all variables of the model.
    """

    mean: Float[Tensor, "draw id record"]
    slopes: list[Tensor]
    variance: Float[Tensor, "draw id record"]
    variables: dict[str, Tensor]


class Decoder:
    """A model compiled for the subjects of one batch."""

    def __init__(self, model: Model, batch: Batch) -> None:
        self.model, self.batch = model, batch
        self._individual = compile_statements(model.individual)
        statements = model.observation.statements
        try:
            for k in range(1, model.n_eps + 1):
                statements = differentiate(statements, Eps(k), f"EPS{k}")
        except NotImplementedError as error:
            raise ModelFailure(f"the residual error model needs {error}", model.observation.span) from error
        self._observation = compile_statements(statements)
        self._wanted = {
            node.compartment for node in expressions(model.observation.statements) if isinstance(node, Amount)
        }
        self._dynamics: OneCompartment | OrdinaryDifferentialEquations | None = None
        if isinstance(model.dynamics, LinearDynamics):
            self._dynamics = OneCompartment(model.dynamics, batch)
        elif isinstance(model.dynamics, OdeDynamics):
            from .ode import OrdinaryDifferentialEquations  # torchode is slow to import

            self._dynamics = OrdinaryDifferentialEquations(model.dynamics, batch)
        if self._dynamics is not None:
            self._observed_compartment()

    def _observed_compartment(self) -> None:
        """Find the compartment whose scaled amount is the prediction at each record."""
        dynamics, events = self.model.dynamics, self.batch.events
        assert dynamics is not None
        at_dose = np.isin(events.evid, (1, 4)) | (events.compartment == 0)
        where = np.where(at_dose, dynamics.default_observation, events.compartment)
        self._outputs = sorted(set(where.ravel().tolist()))
        self._output_mask = {c: torch.from_numpy(where == c) for c in self._outputs}
        self._scales = {
            c: None if (s := dynamics.compartments[c - 1].scale) is None else compile_expression(s)
            for c in self._outputs
        }
        self._wanted |= set(self._outputs)

    @property
    def elements_per_draw(self) -> int:
        """Size of the largest intermediate for one draw of all subjects: what chunking counts."""
        doses = max(self.batch.events.dose_time.shape[1], 1)
        linear = isinstance(self._dynamics, OneCompartment)
        return self.batch.n_subjects * self.batch.n_records * (doses if linear else 4)

    def structure(self, theta: Float[Tensor, " theta"], eta: Float[Tensor, "draw id eta"]) -> Structure:
        """Return individual variables and amounts at every record."""
        env = Environment(theta, [eta[..., k : k + 1] for k in range(eta.shape[-1])], self.batch.columns)
        self._individual(env)
        if self._dynamics is not None:
            env.amounts = self._dynamics(env, self._wanted)
        return Structure(env)

    def observe(
        self,
        structure: Structure,
        theta: Float[Tensor, " theta"],
        sigma: Float[Tensor, "eps eps"],
        all_records: bool = False,
    ) -> Prediction:
        """Return predictions and residual variances; outside observations they may be anything.

        With ``all_records`` they are meant at every record (for tables).
        """
        base = structure.env
        env = Environment(theta, base.eta, base.columns, dict(base.variables), base.amounts)
        env.valid = None if all_records else self.batch.observed
        name = self.model.observation.prediction
        if name is not None and self._dynamics is not None:
            env.variables[name] = self._scaled(env)
        self._observation(env)
        mean = env.variables[self.model.observation.response]
        zero = torch.zeros((), dtype=mean.dtype)
        response = self.model.observation.response
        slopes = [
            env.variables.get(derivative_name(response, f"EPS{k + 1}"), zero) for k in range(sigma.shape[0])
        ]
        variance = zero
        for k, a in enumerate(slopes):
            variance = variance + a.square() * sigma[k, k]
            for m in range(k):
                variance = variance + 2.0 * a * slopes[m] * sigma[k, m]
        draws = base.eta[0].shape[0] if base.eta else 1
        shape = (draws, self.batch.n_subjects, self.batch.n_records)
        return Prediction(mean.expand(shape), slopes, variance.expand(shape), env.variables)

    def predict(self, theta: Tensor, eta: Tensor, sigma: Tensor) -> Prediction:
        """Return :meth:`observe` of :meth:`structure`."""
        return self.observe(self.structure(theta, eta), theta, sigma)

    def _scaled(self, env: Environment) -> Tensor:
        value: Tensor | None = None
        for c in self._outputs:
            scale = self._scales[c]
            own = env.amounts[c] if scale is None else env.amounts[c] / scale(env)
            value = own if value is None else torch.where(self._output_mask[c], own, value)
        assert value is not None
        return value


def model_variables(model: Model) -> set[str]:
    """Return the names of all variables the model's statements use."""
    nodes = [*expressions(model.individual), *expressions(model.observation.statements)]
    return {n.name for n in nodes if isinstance(n, Variable)}
