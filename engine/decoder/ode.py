"""Amounts of general differential equations through torchode, on the event table.

The time line of a subject is cut into segments at doses, ends of infusions and resets; each segment
is one batched solve in which every subject has its own start and end. Gradients run through the
accepted steps with the step-size control detached.
"""

from __future__ import annotations

from typing import Any

import torch
import torchode
from jaxtyping import Float
from torch import Tensor

from ..data.batch import Batch
from ..failure import ModelFailure
from ..ir.compartment import Dynamics, OdeDynamics
from ..ir.derivative import ZERO, add, subtract
from ..ir.expression import Amount, Binary, Column, Eta, Expression, Variable
from ..ir.held_variables import held_variables
from ..ir.statement import Assign, expressions
from .arithmetic import Environment, compile_expression, compile_statements
from .doses import DoseModifiers
from .segments import Segments, build_segments

MAX_STEPS = 20_000


class OrdinaryDifferentialEquations:
    """Compiled right-hand side, initial amounts and segments of an ODE model for one batch."""

    def __init__(self, dynamics: OdeDynamics, batch: Batch) -> None:
        unusual = next((c for c in dynamics.compartments if c.equilibrium or c.initially_off), None)
        if unusual is not None or dynamics.start is not None:
            what = (
                "a start time"
                if unusual is None
                else f"equilibrium or switched compartments ({unusual.name})"
            )
            raise ModelFailure(f"this solver does not know {what}", dynamics.span)
        held = held_variables(dynamics.statements, ())
        if held:
            raise ModelFailure(
                f"this solver does not know variables that keep values ({', '.join(held)})",
                dynamics.span,
            )
        self._dynamics = dynamics
        self._n = len(dynamics.compartments)
        self._run = compile_statements(dynamics.statements)
        nodes = list(expressions(dynamics.statements))
        assigned = {f"DADT({i + 1})" for i in range(self._n)}
        self._variables = sorted({n.name for n in nodes if isinstance(n, Variable)} - assigned)
        self._columns = sorted({n.name for n in nodes if isinstance(n, Column)})
        self._etas = sorted({n.index for n in nodes if isinstance(n, Eta)})
        self._initial = [
            None if c.initial is None else compile_expression(c.initial) for c in dynamics.compartments
        ]
        self.doses = DoseModifiers(dynamics, batch)
        self._batch = batch
        self._check(dynamics, batch)
        self._segments: dict[bool, Segments] = {}

    def _check(self, dynamics: OdeDynamics, batch: Batch) -> None:
        events = batch.events
        infused = events.dose_valid & (events.dose_rate != 0)
        for c, compartment in enumerate(dynamics.compartments, start=1):
            into = events.dose_valid & (events.dose_compartment == c)
            if compartment.lag is not None and into.any():
                message = f"a lag time (ALAG{c}) with differential equations is not supported yet"
                raise ModelFailure(message, dynamics.span)
            modelled = (into & infused & (events.dose_rate < 0)).any()
            if modelled or (compartment.bioavailability is not None and (into & infused).any()):
                message = f"infusions of modelled length into compartment {c} with differential equations"
                raise ModelFailure(f"{message} are not supported yet", dynamics.span)

    def __call__(self, env: Environment, wanted: set[int]) -> dict[int, Float[Tensor, "draw id record"]]:
        """Return the amounts in the compartments ``wanted`` at every record; NaN where the solver failed."""
        shape = (env.eta[0].shape[0] if env.eta else 1, self._batch.n_subjects)
        varying = any(_varies(env.variables[v]) for v in self._variables if v in env.variables)
        varying = varying or any(_varies(env.columns[c]) for c in self._columns)
        segments = self._segments.setdefault(varying, build_segments(self._batch.events, varying))
        initial = self._initial_amounts(env, shape)
        boluses, rates = self._inputs(env, segments, shape)
        state = initial
        out: Tensor = env.theta.new_full((*shape, self._batch.n_records, self._n), torch.nan)
        for s in range(segments.n_segments):
            reset = segments.reset[:, s, None]
            state = torch.where(reset, initial, state) + boluses[:, :, s]
            values, end = self._solve(env, segments, s, state, rates[:, :, s], varying)
            inside = segments.record_segment == s
            index = segments.record_slot.clamp(max=values.shape[2] - 1)
            picked = values.gather(2, index[None, :, :, None].expand(*shape, -1, self._n))
            out = torch.where(inside[None, :, :, None], picked, out)
            state = torch.where(segments.active[:, s, None], end, state)
        return {c: out[..., c - 1] for c in wanted}

    def _initial_amounts(self, env: Environment, shape: tuple[int, int]) -> Tensor:
        zero = env.theta.new_zeros(shape)
        columns = []
        for evaluate in self._initial:
            value = zero if evaluate is None else evaluate(env)
            columns.append(value[..., 0].expand(shape) if value.ndim == 3 else value.expand(shape))
        return torch.stack(columns, -1)

    def _inputs(self, env: Environment, segments: Segments, shape: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Return boluses at the start and infusion rates of each segment, ``"draw id segment cmt"``."""
        size = (*shape, segments.n_segments, self._n)
        if segments.bolus.shape[-1] == 0:
            zero = env.theta.new_zeros(size)
            return zero, zero
        amount = self.doses(env).amount.expand(*shape, -1)
        into = torch.nn.functional.one_hot(segments.dose_compartment - 1, self._n).to(amount.dtype)
        boluses = torch.einsum("...id,isd,idc->...isc", amount, segments.bolus, into)
        rates = torch.einsum("isd,idc->isc", segments.infusion, into).expand(size)
        return boluses, rates

    def _solve(
        self, env: Environment, segments: Segments, s: int, state: Tensor, rate: Tensor, varying: bool
    ) -> tuple[Tensor, Tensor]:
        """Return amounts at the evaluation times of segment ``s`` and at its end."""
        draws, subjects = state.shape[:2]
        local = self._local_environment(env, segments.parameter_record[:, s], draws, varying)
        flat_rate = rate.reshape(draws * subjects, self._n)

        def right_hand_side(t: Tensor, y: Tensor, _: Any) -> Tensor:
            inner = Environment(
                env.theta,
                local.eta,
                local.columns,
                dict(local.variables),
                {c + 1: y[:, c] for c in range(self._n)},
                t,
            )
            self._run(inner)
            slopes = [inner.variables[f"DADT({c + 1})"].expand(len(t)) for c in range(self._n)]
            return torch.stack(slopes, -1) + flat_rate

        dynamics = self._dynamics
        term = torchode.ODETerm(right_hand_side, with_args=True, with_stats=False)
        method = torchode.Dopri5(term=term)
        controller = torchode.IntegralController(
            atol=dynamics.absolute_tolerance, rtol=dynamics.relative_tolerance, term=term
        )
        solver = torchode.AutoDiffAdjoint(
            method, controller, max_steps=MAX_STEPS, backprop_through_step_size_control=False
        )
        problem = torchode.InitialValueProblem(
            y0=state.reshape(draws * subjects, self._n),
            t_start=segments.start[:, s].repeat(draws),
            t_end=segments.end[:, s].repeat(draws),
            t_eval=segments.evaluation[:, s].repeat(draws, 1),
        )
        solution = solver.solve(problem, term=term, args=0)
        complete = solution.stats["n_initialized"] >= problem.t_eval.shape[1]
        values = torch.where(complete[:, None, None], solution.ys, torch.nan)
        values = values.reshape(draws, subjects, -1, self._n)
        return values, values[:, :, -1]

    def _local_environment(self, env: Environment, record: Tensor, draws: int, varying: bool) -> Environment:
        """Return individual values flattened over draws and subjects, at the record that rules a segment."""
        subjects = self._batch.n_subjects
        position = record[None, :, None].expand(draws, -1, -1)

        def flat(value: Tensor) -> Tensor:
            if value.ndim == 0:
                return value
            full = value.expand(draws, subjects, value.shape[-1])
            at = full.gather(-1, position) if _varies(value) else full
            return at.reshape(draws * subjects)

        local = Environment(env.theta, [], {})
        local.eta = [flat(e) if i + 1 in self._etas else e for i, e in enumerate(env.eta)]
        local.columns = {c: flat(env.columns[c]) for c in self._columns}
        local.variables = {v: flat(env.variables[v]) for v in self._variables if v in env.variables}
        return local


def as_equations(dynamics: Dynamics) -> OdeDynamics:
    """Return ``dynamics`` as differential equations: a linear system becomes its mass balance."""
    if isinstance(dynamics, OdeDynamics):
        return dynamics
    change: dict[int, Expression] = {i: ZERO for i in range(1, len(dynamics.compartments) + 1)}
    for transfer in dynamics.transfers:
        flow = Binary("*", transfer.rate, Amount(transfer.source))
        change[transfer.source] = subtract(change[transfer.source], flow)
        if transfer.target:
            change[transfer.target] = add(change[transfer.target], flow)
    return OdeDynamics(
        dynamics.compartments,
        tuple(Assign(f"DADT({i})", slope) for i, slope in change.items()),
        dynamics.default_dose,
        dynamics.default_observation,
        relative_tolerance=1e-9,
        absolute_tolerance=1e-12,
        span=dynamics.span,
    )


def _varies(value: Tensor) -> bool:
    return value.ndim > 0 and value.shape[-1] > 1
