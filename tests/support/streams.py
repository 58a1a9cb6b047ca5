"""Control streams and data as text, read as a user's files are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from elbomix.engine.ir.dataset import DataSet
from elbomix.engine.ir.model import Model
from elbomix.parsers.read import parse_model, read_data

Row = Mapping[str, float]


def read(folder: Path, stream: str, rows: Sequence[Row], name: str = "data.csv") -> tuple[Model, DataSet]:
    """Write ``rows`` (missing items are 0) and read the model of ``stream`` with them."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    lines = [",".join(repr(float(row.get(c, 0.0))) for c in columns) for row in rows]
    (folder / name).write_text("\n".join([",".join(columns), *lines]) + "\n")
    model = parse_model(stream.format(columns=" ".join(columns), file=name), str(folder / "run.ctl"))
    return model, read_data(model)
