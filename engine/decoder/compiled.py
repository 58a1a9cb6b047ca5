"""The torch face of the compiled kernel: amounts and individual variables as differentiable tensors.

The kernel's forward sensitivities are kept as the Jacobian of one autograd function, whose backward pass
is a batched product; second derivatives are not available.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.autograd.function import once_differentiable

from ..data.batch import Batch
from ..ir.dataset import DataSet
from ..ir.expression import Amount, Eta, Expression, Known, Theta, Variable, nodes
from ..ir.model import Model
from ..ir.observation import ObservationModel
from ..ir.statement import Assign, Statement, assignments, expressions
from ..kernel.compile import compile_kernel
from ..kernel.kernel import Directions, Kernel
from ..kernel.subjects import Subjects
from .arithmetic import Environment, compile_expression, known_key
from .given_parameters import of_given_parameters
from .observed import PREDICTION

Floats = NDArray[np.float64]
# values at flat records and their derivatives, along the subjects' inputs and then along thetas
Run = Callable[[Floats, Floats, bool, bool], tuple[Floats, Floats]]


class CompiledAmounts:
    """Amounts of all subjects of a batch by the event loop.

    Where what the dynamics read is constant within subjects they run alone, differentiated along that; else
    along eta and theta, with the individual model run inside. With ``individual_inside`` only the kernel runs
    the individual model, since torch cannot follow it.
    """

    derivatives = 1

    def __init__(self, model: Model, batch: Batch, individual_inside: bool) -> None:
        self.individual_inside = individual_inside
        self._batch = batch
        read = sorted({n.compartment for n in _observed_nodes(model) if isinstance(n, Amount)})
        exported = _export(model, read, individual_inside)
        self._compiled = compile_kernel(exported)
        self._subjects = Subjects.build(model, _some(batch.data, batch.chosen))
        order = self._compiled.layout
        self._names = order.outputs[: len(exported.observation.statements)]
        self._psi = [compile_expression(e) for e in order.psi[: order.n_dynamic]]
        parts = nodes((model.individual, model.dynamics))
        self._thetas = sorted({n.index - 1 for n in parts if isinstance(n, Theta)})
        self._etas = sorted({n.index - 1 for n in parts if isinstance(n, Eta)})
        row = batch.events.row
        flat = np.where(row >= 0, row, row.max(axis=1, keepdims=True)) - int(row[0, 0])
        self._place = torch.from_numpy(flat)
        self._owner = np.repeat(np.arange(batch.n_subjects), (row >= 0).sum(1))
        self._nind = np.arange(batch.chosen.start + 1, batch.chosen.stop + 1, dtype=float)

    @cached_property
    def _kernel(self) -> Kernel:
        """The kernel that runs the individual model."""
        return Kernel(self._compiled, self._subjects)

    @cached_property
    def _dynamics(self) -> Kernel:
        """The kernel of the dynamics alone, whose random effects are the individual parameters."""
        compiled = self._compiled
        return Kernel(compile_kernel(of_given_parameters(compiled.model, compiled.layout)), self._subjects)

    def __call__(self, env: Environment) -> None:
        """Fill the amounts of ``env``, and its variables where the individual model is run inside."""
        owner = torch.from_numpy(self._owner)
        psi = None if self.individual_inside else self._constant(env)
        if psi is not None:
            values = _Records.apply(env.theta[:0].detach(), psi, owner, self._at_psi)  # type: ignore[no-untyped-call]
            self._fill(env, values)
            return
        draws = env.eta[0].shape[0] if env.eta else 1
        shape = (draws, self._batch.n_subjects, 1)
        zero = env.theta.new_zeros(shape)
        eta = torch.cat([e.expand(shape) for e in env.eta], -1) if env.eta else zero[..., :0]
        self._fill(env, _Records.apply(env.theta, eta, owner, self._whole))  # type: ignore[no-untyped-call]

    def _fill(self, env: Environment, values: Tensor) -> None:
        """Put the outputs of a kernel at flat records where the torch statements read them."""
        for position, name in enumerate(self._names):
            value = values[..., position][:, self._place]
            kind, _, rest = name.partition(" ")
            if kind == "amount":
                env.amounts[int(rest)] = value
            elif kind == "variable":
                env.variables[rest] = value
            else:
                env.known = env.known | {rest: value}

    def _constant(self, env: Environment) -> Tensor | None:
        """Return what the dynamics read, ``"draw id psi"``, None where any of it changes within a subject."""
        draws = env.eta[0].shape[0] if env.eta else 1
        shape = (draws, self._batch.n_subjects, 1)
        found = []
        for evaluate in self._psi:
            value = evaluate(env)
            if value.ndim and value.shape[-1] > 1:
                return None
            found.append(value.expand(shape))
        return torch.cat(found, -1) if found else env.theta.new_zeros(*shape[:2], 0)

    def _at_psi(self, _: Floats, psi: Floats, along_psi: bool, __: bool) -> tuple[Floats, Floats]:
        n = psi.shape[-1]
        identity = np.eye(n) if along_psi else np.zeros((n, 0))
        directions = Directions(np.zeros((0, identity.shape[1])), identity)
        done = self._dynamics.evaluate(np.zeros(0), psi, directions)
        return done.values[..., : len(self._names)], done.derivatives[..., : len(self._names), :]

    def _whole(self, theta: Floats, eta: Floats, along_eta: bool, along_theta: bool) -> tuple[Floats, Floats]:
        etas, thetas = (self._etas if along_eta else []), (self._thetas if along_theta else [])
        nq = len(etas) + len(thetas)
        directions = Directions(np.zeros((len(theta), nq)), np.zeros((eta.shape[-1], nq)))
        directions.eta[etas, np.arange(len(etas))] = 1.0
        directions.theta[thetas, len(etas) + np.arange(len(thetas))] = 1.0
        done = self._kernel.evaluate(theta, eta, directions, {"nind": self._nind})
        n = len(self._names)
        values, derivatives = done.values[..., :n], done.derivatives[..., :n, :]
        if not (along_eta or along_theta):
            return values, derivatives
        n_eta = eta.shape[-1] if along_eta else 0
        full = np.zeros((*values.shape, n_eta + (len(theta) if along_theta else 0)))
        full[..., etas] = derivatives[..., : len(etas)]
        full[..., [n_eta + j for j in thetas]] = derivatives[..., len(etas) :]
        return values, full


class _Records(torch.autograd.Function):
    """Record-wise values as a function of inputs of each subject, and of theta."""

    @staticmethod
    def forward(ctx: Any, theta: Tensor, own: Tensor, owner: Tensor, run: Run) -> Tensor:
        along_theta, along_own = ctx.needs_input_grad[:2]
        values, derivatives = run(theta.detach().numpy(), own.detach().numpy(), along_own, along_theta)
        ctx.save_for_backward(torch.from_numpy(derivatives), owner)
        ctx.shape = own.shape
        return torch.from_numpy(np.ascontiguousarray(values))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        derivatives, owner = ctx.saved_tensors
        along_theta, along_own = ctx.needs_input_grad[:2]
        # a value that no one reads has no part, whatever its derivative
        used = torch.where(gradient[..., None] == 0.0, 0.0, derivatives)
        by_record = (gradient[..., None] * used).sum(-2)
        n = ctx.shape[-1] if along_own else 0
        own = gradient.new_zeros(ctx.shape).index_add(1, owner, by_record[..., :n]) if along_own else None
        return (by_record[..., n:].sum((0, 1)) if along_theta else None), own, None, None


def _observed_nodes(model: Model) -> list[Expression]:
    return list(expressions(model.observation.statements))


def _export(model: Model, read: list[int], individual_inside: bool) -> Model:
    """Return ``model`` with statements in place of its observation model that hand out what torch needs."""
    prediction = model.observation.prediction
    wanted: list[tuple[str, Expression]] = [(f"amount {c}", Amount(c)) for c in read]
    if prediction is not None:
        wanted.append((f"amount {PREDICTION}", Variable(prediction)))
    if individual_inside:
        made = dict.fromkeys(a.target for a in assignments(model.individual))
        wanted += [(f"variable {name}", Variable(name)) for name in made]
        known = dict.fromkeys(n for n in _observed_nodes(model) if isinstance(n, Known))
        wanted += [(f"known {known_key(n)}", n) for n in known]
    statements: tuple[Statement, ...] = tuple(Assign(name, value) for name, value in wanted)
    kept = {a.target for a in assignments(model.individual)}
    return model.replace(
        observation=ObservationModel(statements, wanted[0][0], prediction),
        kept=tuple(name for name in model.kept if name in kept),
        sigma=(),
        tables=(),
    )


def _some(data: DataSet, chosen: slice) -> DataSet:
    """Return the data of some subjects."""
    if chosen.start == 0 and chosen.stop == data.n_subjects:
        return data
    kept = (data.subject >= chosen.start) & (data.subject < chosen.stop)
    return DataSet(
        path=data.path,
        values={k: v[kept] for k, v in data.values.items()},
        event={k: v[kept] for k, v in data.event.items()},
        subject=data.subject[kept] - chosen.start,
        ids=data.ids[chosen],
        line=data.line[kept],
        missing={k: v[kept] for k, v in data.missing.items()},
    )
