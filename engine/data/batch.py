"""A data set as padded tensors over subjects and records."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ..ir.dataset import DataSet
from ..ir.model import Model
from .events import EventTable, build_events


@dataclass(frozen=True)
class Batch:
    """What a decoder needs of the data, for some or all subjects.

    ``columns`` maps data items to ``"id record"`` tensors, or ``"id 1"`` where the item is constant
    within every subject of the whole data set. ``dv`` is zero where ``observed`` is false.
    """

    columns: dict[str, Tensor]
    dv: Float[Tensor, "id record"]
    observed: Bool[Tensor, "id record"]
    events: EventTable

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
        return Batch(columns, self.dv[index], self.observed[index], events)


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
    return Batch(columns, dv, observed, events)


def _dv_name(model: Model) -> str:
    column = model.inputs.with_role("dv")
    assert column is not None, "the reader asks for a DV column"
    return column.name
