"""The decoder: a model compiled to batched torch, from theta and eta to predictions.

Three stages, so that each can be kept while only later ones change: individual parameters,
amounts (together :class:`Structure`), observation model (:class:`Prediction`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from ..data.batch import Batch
from ..data.events import beyond_torch
from ..failure import ModelFailure
from ..ir.compartment import LinearDynamics, OdeDynamics
from ..ir.derivative import derivative_name, differentiate
from ..ir.expression import Amount, Eps, Known, nodes
from ..ir.model import Model
from ..ir.running_extremes import followed
from ..ir.statement import assignments, expressions
from ..kernel.specialise import specialise
from .arithmetic import Environment, compile_statements
from .closed_form import OneCompartment, solves
from .observed import PREDICTION, ObservedAmounts
from .recursion import run_by_record

if TYPE_CHECKING:
    from .compiled import CompiledAmounts

Solver = Literal["compiled", "torchode"]
MAX_SUPERPOSED = 40  # doses of a subject up to which torch superposes them as quickly as events are followed
# what the torch statements know of a record without the event loop
_STATIC = frozenset("newind icall comact nirec ndrec nindr nind irep nrep nprob callfl npde_mode".split())


@dataclass(frozen=True)
class Structure:
    """Individual variables and amounts at every record, for given theta and eta."""

    env: Environment

    def detach(self) -> Structure:
        """Return the same values cut from the graph."""
        env = self.env
        return Structure(
            replace(
                env,
                theta=env.theta.detach(),
                eta=[e.detach() for e in env.eta],
                variables={k: v.detach() for k, v in env.variables.items()},
                amounts={k: v.detach() for k, v in env.amounts.items()},
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
    """A model compiled for the subjects of one batch.

    ``solver`` ``"compiled"`` moves amounts by the compiled event loop, or by torch formulas where these are
    quicker; ``"torchode"`` by torch alone.
    """

    def __init__(self, model: Model, batch: Batch, solver: Solver = "compiled") -> None:
        self.model, self.batch = model, batch
        # torch cannot follow running extremes, which no likelihood reads
        follows = isinstance(model.dynamics, OdeDynamics) and bool(followed(model.dynamics.statements))
        ready = specialise(model, wanted=None if follows else ())
        statements = ready.observation.statements
        try:
            for k in range(1, model.n_eps + 1):
                statements = differentiate(statements, Eps(k), f"EPS{k}")
        except NotImplementedError as error:
            raise ModelFailure(f"the residual error model needs {error}", model.observation.span) from error
        self._observation = compile_statements(statements)
        targets = {a.target for a in assignments(statements)}
        self._kept = tuple(name for name in model.kept if name in targets)
        self._individual = compile_statements(ready.individual)
        self._amounts: ObservedAmounts | CompiledAmounts | None = None
        if model.dynamics is not None:
            self._amounts = self._solver(ready, solver)

    def _solver(self, ready: Model, solver: Solver) -> ObservedAmounts | CompiledAmounts:
        """Return what moves the amounts of the specialised model."""
        batch = self.batch
        dynamics = self.model.dynamics if solver == "torchode" else ready.dynamics
        assert dynamics is not None
        observed = expressions(ready.observation.statements)
        read = {n.compartment for n in observed if isinstance(n, Amount)}
        limits = beyond_torch(ready, batch.data)
        if limits is None and max(read, default=0) > len(dynamics.compartments):
            limits = ModelFailure("this solver does not know an output compartment", dynamics.span)
        if solver == "torchode" and limits is not None:
            raise limits
        inside = needs_event_loop(ready)
        if limits is None and isinstance(dynamics, LinearDynamics) and solves(dynamics):
            few = batch.events.dose_time.shape[1] <= MAX_SUPERPOSED
            if (few or solver == "torchode") and not inside:
                closed = OneCompartment(dynamics, batch)
                if not closed.varies(self._typical()):
                    return ObservedAmounts(closed, dynamics, batch, read, 2)
        if solver == "torchode":
            from .ode import OrdinaryDifferentialEquations, as_equations  # torchode is slow to import

            if inside is not None:
                raise ModelFailure(f"this solver does not know {inside}", dynamics.span)
            equations = as_equations(dynamics)
            return ObservedAmounts(
                OrdinaryDifferentialEquations(equations, batch), dynamics, batch, read, order=1
            )
        from .compiled import CompiledAmounts  # so is numba

        return CompiledAmounts(ready, batch, individual_inside=inside is not None)

    def _typical(self) -> Environment:
        """Return the individual variables of typical subjects at the initial estimates."""
        theta = torch.tensor([t.initial for t in self.model.thetas], dtype=torch.float64)
        env = self._environment(theta, torch.zeros(1, 1, self.model.n_etas, dtype=torch.float64))
        self._individual(env)
        return env

    def _environment(self, theta: Tensor, eta: Tensor) -> Environment:
        etas = [eta[..., k : k + 1] for k in range(eta.shape[-1])]
        return Environment(theta, etas, self.batch.columns, known=self.batch.known)

    @property
    def derivatives(self) -> int:
        """Order to which results can be differentiated: 1 through solvers, 2 through formulas."""
        return 2 if self._amounts is None else self._amounts.derivatives

    @property
    def elements_per_draw(self) -> int:
        """Size of the largest intermediate for one draw of all subjects: what chunking counts."""
        doses = max(self.batch.events.dose_time.shape[1], 1)
        return self.batch.n_subjects * self.batch.n_records * (doses if self.derivatives == 2 else 4)

    def structure(self, theta: Float[Tensor, " theta"], eta: Float[Tensor, "draw id eta"]) -> Structure:
        """Return individual variables and amounts at every record."""
        env = self._environment(theta, eta)
        if self._amounts is None or not self._amounts.individual_inside:
            self._individual(env)
        if self._amounts is not None:
            self._amounts(env)
        return Structure(env)

    def observe(
        self,
        structure: Structure,
        theta: Float[Tensor, " theta"],
        sigma: Float[Tensor, "eps eps"],
        all_records: bool = False,
    ) -> Prediction:
        """Return predictions and residual variances; outside observations they may be anything.

        With ``all_records`` they are meant at every record (for tables). Where the model rejects its
        parameters the mean is NaN.
        """
        base = structure.env
        env = replace(base, theta=theta, variables=dict(base.variables))
        env.valid = None if all_records else self.batch.observed
        name = self.model.observation.prediction
        if name is not None and self._amounts is not None:
            env.variables[name] = base.amounts[PREDICTION]
        if self._kept:
            env.valid = None  # what a record keeps may come from any record
            run_by_record(self._observation, env, self._kept, self.batch.n_records)
        else:
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
        if env.rejected is not None:
            mean = torch.where(env.rejected, torch.nan, mean)
        return Prediction(mean.expand(shape), slopes, variance.expand(shape), env.variables)

    def predict(self, theta: Tensor, eta: Tensor, sigma: Tensor) -> Prediction:
        """Return :meth:`observe` of :meth:`structure`."""
        return self.observe(self.structure(theta, eta), theta, sigma)


def needs_event_loop(model: Model) -> str | None:
    """Return what of the model only the event loop can follow, None where torch can follow everything."""
    if model.individual_call != "record":
        return f"individual parameters that are computed once per {model.individual_call}"
    parts = nodes((model.individual, model.dynamics, model.observation))
    dynamic = next((n for n in parts if isinstance(n, Known) and n.quantity not in _STATIC), None)
    if dynamic is not None:
        return f"{dynamic.quantity}, which depends on events"
    targets = {a.target for a in assignments(model.individual)}
    kept = next((name for name in model.kept if name in targets), None)
    return None if kept is None else f"{kept}, whose value is kept from record to record"
