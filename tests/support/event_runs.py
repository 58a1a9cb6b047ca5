"""Control streams with a few event records, run by the compiled kernel."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from elbomix.engine.kernel.compile import compile_kernel
from elbomix.engine.kernel.kernel import Kernel, Predictions
from elbomix.engine.kernel.subjects import Subjects
from elbomix.parsers.nmtran.data import read_records
from elbomix.parsers.read import parse_model
from elbomix.parsers.source import Source

Array = NDArray[np.float64]
Row = Sequence[float]

COLUMNS = ("ID", "TIME", "AMT", "RATE", "II", "ADDL", "SS", "EVID", "CMT", "WT", "DV")
DEFAULTS = {"ID": 1.0, "WT": 1.0}


def row(time: float, **items: float) -> dict[str, float]:
    """A record at ``time``: a dose where there is an amount or steady state, unless EVID is given."""
    record = {name: DEFAULTS.get(name, 0.0) for name in COLUMNS}
    record |= {"TIME": time, "EVID": float(items.get("AMT", 0) > 0 or items.get("SS", 0) > 0)}
    return record | items


def observations(times: Sequence[float], **items: float) -> list[dict[str, float]]:
    """Observation records."""
    return [row(t, **items) for t in times]


def control_stream(body: str, theta: Sequence[float]) -> str:
    """A control stream with the blocks ``body``, thetas, and as many etas."""
    lines = ["$PROBLEM events", f"$INPUT {' '.join(COLUMNS)}", "$DATA events.csv IGNORE=@", body]
    lines += [f"$THETA {value:.17g}" for value in theta]
    lines += ["$OMEGA 0.1" for _ in theta]
    return "\n".join([*lines, "$SIGMA 1", "$ESTIMATION METHOD=1 MAXEVAL=0"]) + "\n"


def kernel(body: str, theta: Sequence[float], rows: Sequence[dict[str, float]]) -> Kernel:
    """The kernel of the model ``body`` over the records ``rows``."""
    model = parse_model(control_stream(body, theta))
    text = "\n".join([",".join(COLUMNS), *(",".join(f"{r[name]:.17g}" for name in COLUMNS) for r in rows)])
    data = read_records(model, Source("events.csv", text + "\n"))
    return Kernel(compile_kernel(model), Subjects.build(model, data))


def run(body: str, theta: Sequence[float], rows: Sequence[dict[str, float]]) -> Array:
    """The response at every record, at eta = 0."""
    made = kernel(body, theta, rows)
    predictions = made.evaluate(np.array(theta), np.zeros((made.subjects.n_subjects, len(theta))))
    assert predictions.failure is None, predictions.failure
    return np.asarray(predictions.of("Y")[0])


def derivative_errors(
    body: str, theta: Sequence[float], rows: Sequence[dict[str, float]], step: float = 1e-4
) -> tuple[Array, Array]:
    """The derivatives of the response to all etas and thetas, and those by differences of fourth order."""
    made = kernel(body, theta, rows)
    n, size = made.subjects.n_subjects, len(theta)
    base, eta = np.array(theta), np.full((n, size), 0.05)

    def response(change: Array) -> Array:
        found = made.evaluate(base + change[size:], eta + change[:size])
        assert found.failure is None, found.failure
        return np.asarray(found.of("Y")[0])

    exact: Predictions = made.evaluate(base, eta, "eta+theta")
    assert exact.failure is None, exact.failure
    slot = exact.layout.output_slot("Y")
    differences = np.empty((made.subjects.n_records, 2 * size))
    for i in range(2 * size):
        h = np.zeros(2 * size)
        h[i] = step * (1.0 if i < size else abs(base[i - size]))
        near, far = response(h) - response(-h), response(2 * h) - response(-2 * h)
        differences[:, i] = (8 * near - far) / (12 * h[i])
    return exact.derivatives[0, :, slot, :], differences
