"""A data set as padded tensors over subjects and records."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from numpy.typing import NDArray
from torch import Tensor

from ..ir.dataset import DataSet
from ..ir.model import Model
from .events import EventTable, build_events


@dataclass(frozen=True)
class Batch:
    """What a decoder needs of the data, for some or all subjects.

    ``columns`` maps data items to ``"id record"`` tensors, or ``"id 1"`` where the item is constant
    within every subject of the whole data set; ``known`` does the same for what the run knows of a record
    (:data:`~..ir.expression.KNOWN`). ``dv`` is zero where ``observed`` is false. The batch holds the
    subjects ``chosen`` of ``data``.
    """

    columns: dict[str, Tensor]
    known: dict[str, Tensor]
    dv: Float[Tensor, "id record"]
    observed: Bool[Tensor, "id record"]
    events: EventTable
    data: DataSet
    chosen: slice

    @property
    def n_subjects(self) -> int:
        """Number of subjects."""
        return self.dv.shape[0]

    @property
    def n_records(self) -> int:
        """Records of the longest subject."""
        return self.dv.shape[1]

    def subjects(self, index: slice) -> Batch:
        """Return the batch of some subjects."""
        events = EventTable(**{k: v[index] for k, v in vars(self.events).items()})
        columns = {k: v[index] for k, v in self.columns.items()}
        known = {k: v if v.ndim == 0 else v[index] for k, v in self.known.items()}
        first, stop, _ = index.indices(self.n_subjects)
        chosen = slice(self.chosen.start + first, self.chosen.start + stop)
        return Batch(columns, known, self.dv[index], self.observed[index], events, self.data, chosen)


def build_batch(model: Model, data: DataSet) -> Batch:
    """Return ``data`` as padded float64 tensors with its event table."""
    events = build_events(model, data)
    last = events.row.max(axis=1, keepdims=True)
    filled = np.where(events.row >= 0, events.row, last)
    columns: dict[str, Tensor] = {}
    sources = dict(data.event)
    sources.update(data.values)
    for name, values in sources.items():
        padded = values[filled]
        constant = bool((padded == padded[:, :1]).all())
        columns[name] = torch.from_numpy(np.ascontiguousarray(padded[:, :1] if constant else padded))
    observed = torch.from_numpy(events.observed)
    name = _dv_name(model)
    dv = torch.from_numpy(np.where(events.observed, data.values[name][filled], 0.0))
    return Batch(columns, _known(model, events), dv, observed, events, data, slice(0, data.n_subjects))


def _known(model: Model, events: EventTable) -> dict[str, Tensor]:
    """Return what does not depend on parameters; the rest only the event loop knows."""
    inside = events.row >= 0
    n_subjects, n_records = events.row.shape
    newind = np.full((n_subjects, n_records), 2.0)
    newind[:, 0] = 1.0
    newind[0, 0] = 0.0

    def by_subject(values: NDArray[Any]) -> NDArray[np.float64]:
        return np.asarray(values, dtype=float)[:, None]

    arrays = {
        "newind": newind,
        "nirec": by_subject(inside.sum(1)),
        "ndrec": np.arange(1.0, n_records + 1.0)[None, :].repeat(n_subjects, 0),
        "nindr": by_subject(events.observed.sum(1)),
        "nind": by_subject(np.arange(1, n_subjects + 1)),
    }
    known = {name: torch.from_numpy(values) for name, values in arrays.items()}
    zero = dict.fromkeys(("comact", "callfl", "npde_mode"), 0)
    constant = zero | {"icall": 2, "irep": 1, "nrep": 1, "nprob": model.problem}
    return known | {name: torch.tensor(float(value)) for name, value in constant.items()}


def _dv_name(model: Model) -> str:
    column = model.inputs.with_role("dv")
    assert column is not None, "the reader asks for a DV column"
    return column.name
