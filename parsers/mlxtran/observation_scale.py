"""The scale of observations: the model's, on which they are normal, and that of the data file."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ...engine.ir.dataset import DataSet
from ...engine.ir.model import Model
from .reading import codes, reading_of

Array = NDArray[np.float64]


def to_data_scale(model: Model, data: DataSet, values: Array) -> Array:
    """Return ``values``, one for each observation of ``data``, on the scale of the data file."""
    observed = reading_of(model.inputs).observed
    kind = model.inputs.with_role("dvid")
    numbers = codes(tuple(o.text for o in observed))
    found = values.copy()
    for o in observed:
        rows = np.ones(values.size, dtype=bool)
        if kind is not None and len(observed) > 1:
            rows = data.values[kind.name][data.is_observation] == numbers[o.text]
        if o.transform == "log":
            found[rows] = np.exp(values[rows])
        elif o.transform == "logit":
            found[rows] = o.low + (o.high - o.low) / (1.0 + np.exp(-values[rows]))
    return found
