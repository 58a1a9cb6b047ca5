"""Statements whose variables keep their values from record to record, run one record after the other."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from .arithmetic import Environment, Runner


def run_by_record(run: Runner, env: Environment, kept: tuple[str, ...], n_records: int) -> None:
    """Run statements over records in order, handing the variables ``kept`` on; results go into ``env``.

    Every variable then is ``"draw id record"``. ``kept`` are zero at the first record.
    """
    zero = torch.zeros((), dtype=torch.float64)
    before = {name: zero for name in kept}
    found: list[dict[str, Tensor]] = []
    rejected: list[Tensor | None] = []
    for r in range(n_records):
        here = _at_record(env, r)
        here.variables.update(before)
        run(here)
        before = {name: here.variables[name] for name in kept}
        found.append(here.variables)
        rejected.append(here.rejected)
    for name in found[-1]:
        env.variables[name] = _joined([variables[name] for variables in found])
    if any(mask is not None for mask in rejected):
        none = torch.tensor(False)
        env.rejected = _joined([none if mask is None else mask for mask in rejected])


def _at_record(env: Environment, r: int) -> Environment:
    def one(value: Tensor) -> Tensor:
        return value if value.ndim == 0 or value.shape[-1] == 1 else value[..., r : r + 1]

    return replace(
        env,
        columns={k: one(v) for k, v in env.columns.items()},
        variables={k: one(v) for k, v in env.variables.items()},
        amounts={k: one(v) for k, v in env.amounts.items()},
        known={k: one(v) for k, v in env.known.items()},
        valid=None if env.valid is None else one(env.valid),
        rejected=None,
    )


def _joined(values: list[Tensor]) -> Tensor:
    shape = torch.broadcast_shapes(*(v.shape for v in values), (1, 1, 1))  # type: ignore[no-untyped-call]
    return torch.cat([v.expand(shape) for v in values], -1)
