"""Predictions against scipy's integrator: closed form, compiled event loop and torchode."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.integrate import solve_ivp
from support.models import LINEAR, ODE, dataset, oral_model

from elbomix.engine.data.batch import build_batch
from elbomix.engine.decoder import compile
from elbomix.engine.decoder.compile import Decoder
from elbomix.engine.ir.compartment import Dynamics
from elbomix.engine.ir.expression import Binary, Column, Number
from elbomix.engine.ir.model import Model
from elbomix.engine.ir.statement import Assign

KA, K, V = 1.5, 0.09, 32.0
WAYS: dict[str, Dynamics] = {"closed form": LINEAR, "event loop": LINEAR, "torchode": ODE}
GRID = [0.5, 1.0, 2.0, 4.0, 7.0, 12.0, 24.0]


def observations(identity: int, times: list[float]) -> list[dict[str, float]]:
    return [{"ID": identity, "TIME": t, "DV": 1.0} for t in times]


CASES: dict[str, list[dict[str, float]]] = {
    "oral bolus": [{"ID": 1, "TIME": 0, "AMT": 320}, *observations(1, GRID)],
    "bolus into the central compartment": [
        {"ID": 1, "TIME": 0, "AMT": 320, "CMT": 2},
        *observations(1, GRID),
    ],
    "infusion": [{"ID": 1, "TIME": 0.25, "AMT": 320, "RATE": 100, "CMT": 2}, *observations(1, GRID)],
    "infusion into the depot": [{"ID": 1, "TIME": 0.25, "AMT": 320, "RATE": 100}, *observations(1, GRID)],
    "additional doses": [{"ID": 1, "TIME": 0, "AMT": 320, "ADDL": 3, "II": 4.0}, *observations(1, GRID)],
    "dose between samples": [
        {"ID": 1, "TIME": 0, "AMT": 320},
        *observations(1, [1.0, 2.0]),
        {"ID": 1, "TIME": 2, "AMT": 160},
        *observations(1, [2.0, 5.0]),
    ],
    "reset and dose": [
        {"ID": 1, "TIME": 0, "AMT": 320, "ADDL": 9, "II": 3.0, "EVID": 1},
        *observations(1, [1.0, 4.0]),
        {"ID": 1, "TIME": 5, "AMT": 100, "EVID": 4},
        *observations(1, [6.0, 9.0]),
    ],
}


def flow(t: float, amount: NDArray[Any], into_depot: float, into_central: float) -> NDArray[Any]:
    absorbed = KA * amount[0]
    return np.array([into_depot - absorbed, into_central + absorbed - K * amount[1]])


def by_scipy(rows: list[dict[str, float]]) -> list[float]:
    """Solve from scratch for every record with DOP853; additional doses act before records of their time."""
    doses = []  # time, row (-1: additional), epoch, compartment, amount, rate
    epochs = np.cumsum([r.get("EVID", 0) == 4 for r in rows])
    for index, r in enumerate(rows):
        for n in range(int(r.get("ADDL", 0)) + 1 if r.get("AMT") else 0):
            into = int(r.get("CMT", 1)) - 1
            time = r["TIME"] + n * r.get("II", 0)
            doses.append((time, index if n == 0 else -1, epochs[index], into, r["AMT"], r.get("RATE", 0.0)))
    out = []
    for index, r in enumerate(rows):
        acting = [d for d in doses if (d[0], d[1]) <= (r["TIME"], index) and d[2] == epochs[index]]
        marks = {d[0] for d in acting} | {d[0] + d[4] / d[5] for d in acting if d[5]} | {r["TIME"]}
        times = sorted(m for m in marks if m <= r["TIME"])
        state = np.zeros(2)
        for begin, end in zip(times, [*times[1:], times[-1]], strict=True):
            for start, _, _, into, amount, rate in acting:
                if start == begin and not rate:
                    state[into] += amount
            if end > begin:
                rates = [0.0, 0.0]
                for start, _, _, into, amount, rate in acting:
                    if rate and start <= begin < start + amount / rate:
                        rates[into] += rate
                solved = solve_ivp(
                    flow, (begin, end), state, "DOP853", args=(rates[0], rates[1]), rtol=1e-12, atol=1e-12
                )
                state = solved.y[:, -1]
        out.append(float(state[1] / V))
    return out


def decode(model: Model, rows: list[dict[str, float]], way: str, patch: pytest.MonkeyPatch) -> Decoder:
    """Return a decoder that moves amounts in the given way."""
    if way == "event loop":
        patch.setattr(compile, "MAX_SUPERPOSED", -1)
    return Decoder(model, build_batch(model, dataset(rows)), "torchode" if way == "torchode" else "compiled")


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", CASES)
def test_predictions_equal_scipy(name: str, way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = CASES[name]
    decoder = decode(oral_model(WAYS[way]), rows, way, monkeypatch)
    theta = torch.tensor([KA, K, V], dtype=torch.float64)
    prediction = decoder.predict(
        theta, torch.zeros(1, 1, 3, dtype=torch.float64), torch.eye(1, dtype=torch.float64)
    )
    expected = np.array(by_scipy(rows))
    # torchode interpolates to record times: some 1e-8 of the peak at tolerance 1e-9
    tolerance = 1e-6 if way == "torchode" else 1e-10
    np.testing.assert_allclose(prediction.mean[0, 0].numpy(), expected, rtol=tolerance, atol=tolerance * 10)


@pytest.mark.parametrize(  # rate constants that change within a subject have no closed form
    ("way", "varying"),
    [(way, varying) for varying in (False, True) for way in WAYS if not (varying and way == "closed form")],
)
def test_gradients_equal_differences(way: str, varying: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [*CASES["dose between samples"], *[{**r, "ID": 2} for r in CASES["infusion"]]]
    rows = [{**row, "WT": 1.0 + 0.1 * i * varying} for i, row in enumerate(rows)]
    model = oral_model(WAYS[way])
    ka, k, v = model.individual
    assert isinstance(k, Assign)
    model = model.replace(individual=(ka, Assign("K", Binary("*", k.value, Column("WT"))), v))
    decoder = decode(model, rows, way, monkeypatch)
    eta = 0.1 * torch.arange(6, dtype=torch.float64).reshape(1, 2, 3)
    theta = torch.tensor([KA, K, V], dtype=torch.float64)

    def total(theta: torch.Tensor, eta: torch.Tensor) -> torch.Tensor:
        mean = decoder.predict(theta, eta, torch.eye(1, dtype=torch.float64)).mean
        return torch.where(decoder.batch.observed, mean, 0.0).sum(-1)

    inputs = (theta.requires_grad_(), eta.requires_grad_())
    # the ODE's error control makes differences noisy at 1e-9 / 1e-4
    assert torch.autograd.gradcheck(
        total, inputs, eps=1e-4 if way == "torchode" else 1e-6, atol=2e-4, rtol=1e-4
    )


@pytest.mark.parametrize("ratio", [1.0, 1.0 + 1e-9, 1.0 + 1e-6, 1.0 + 1e-4])
def test_equal_rate_constants_are_no_special_case(ratio: float) -> None:
    """Against the limit D ka t exp(-ka t) / V and its first-order correction (exact to ratio - 1 squared)."""
    model = oral_model()
    decoder = Decoder(model, build_batch(model, dataset(CASES["oral bolus"])))
    theta = torch.tensor([K * ratio, K, V], dtype=torch.float64, requires_grad=True)
    mean = decoder.predict(
        theta, torch.zeros(1, 1, 3, dtype=torch.float64), torch.eye(1, dtype=torch.float64)
    ).mean
    t = np.array([0.0, *GRID])
    gap = K * (ratio - 1)
    limit = 320 / V * K * ratio * t * np.exp(-K * t) * (1 - gap * t / 2 + (gap * t) ** 2 / 6)
    np.testing.assert_allclose(mean[0, 0].detach().numpy(), limit, rtol=1e-9, atol=1e-12)
    (gradient,) = torch.autograd.grad(mean.sum(), theta)
    assert bool(torch.isfinite(gradient).all())


def test_lag_bioavailability_and_modelled_duration() -> None:
    """Lag shifts time, F scales the dose, D spreads it: each against the plain model."""
    rows = CASES["oral bolus"]
    shifted = [{**r, "TIME": r["TIME"] + (1.25 if "AMT" in r else 0)} for r in rows]
    spread = [{**r, **({"RATE": -2.0, "CMT": 2} if "AMT" in r else {})} for r in rows]
    constant = [{**r, **({"RATE": 160.0, "CMT": 2} if "AMT" in r else {})} for r in rows]
    depot, central = LINEAR.compartments

    def mean(data: list[dict[str, float]], **changes: Any) -> NDArray[Any]:
        dynamics = replace(LINEAR, compartments=(replace(depot, **changes), replace(central, **changes)))
        model = oral_model(dynamics)
        decoder = Decoder(model, build_batch(model, dataset(data)))
        theta = torch.tensor([KA, K, V], dtype=torch.float64)
        eta = torch.zeros(1, 1, 3, dtype=torch.float64)
        return decoder.predict(theta, eta, torch.eye(1, dtype=torch.float64)).mean[0, 0, 1:].numpy()

    np.testing.assert_allclose(mean(rows, lag=Number(1.25)), mean(shifted), rtol=1e-12)
    np.testing.assert_allclose(mean(rows, bioavailability=Number(0.3)), 0.3 * mean(rows), rtol=1e-12)
    np.testing.assert_allclose(mean(spread, duration=Number(2.0)), mean(constant), rtol=1e-12)


def test_time_varying_covariate_rules_the_interval_that_ends_at_its_record() -> None:
    """K = 0.05 WT with WT stepping: the exact decay of a bolus over each interval."""
    rows: list[dict[str, float]] = [
        {"ID": 1, "TIME": 0, "AMT": 100, "CMT": 2, "WT": 1},
        {"ID": 1, "TIME": 2, "WT": 1},
        {"ID": 1, "TIME": 3, "WT": 4},
        {"ID": 1, "TIME": 5, "WT": 2},
    ]
    model = oral_model(ODE)
    ka, _, v = model.individual
    model = model.replace(individual=(ka, Assign("K", Column("WT")), v))
    decoder = Decoder(model, build_batch(model, dataset(rows)))
    theta = torch.tensor([KA, K, V], dtype=torch.float64)
    mean = decoder.predict(
        theta, torch.zeros(1, 1, 3, dtype=torch.float64), torch.eye(1, dtype=torch.float64)
    ).mean
    exponent = np.cumsum([0, 2 * 1, 1 * 4, 2 * 2])
    np.testing.assert_allclose(mean[0, 0].numpy(), 100 / V * np.exp(-exponent), rtol=1e-6)
