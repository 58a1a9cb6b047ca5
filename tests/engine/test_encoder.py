"""The recognition network: padding is invisible, the start is the typical values, inputs are finite."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from support.models import dataset, oral_model
from torch import Tensor

from elbomix.engine.data.batch import build_batch
from elbomix.engine.ir.dataset import DataSet, InputColumn, Inputs
from elbomix.engine.ir.model import Model
from elbomix.engine.methods.encoder import Encoder, Features, build_features
from elbomix.engine.randomness import generator

ROWS: list[dict[str, float]] = [
    {"ID": 1, "TIME": 0, "AMT": 320, "WT": 70},
    {"ID": 1, "TIME": 1, "DV": 8.1, "WT": 70},
    {"ID": 2, "TIME": 0, "AMT": 160, "WT": 55},
    {"ID": 2, "TIME": 0.5, "DV": 2.2, "WT": 55},
    {"ID": 2, "TIME": 4, "DV": 6.0, "WT": 55},
    {"ID": 2, "TIME": 12, "AMT": 160, "WT": 55},
    {"ID": 2, "TIME": 13, "DV": 7.5, "WT": 55},
    {"ID": 3, "TIME": 0, "AMT": 320, "WT": 82},
    {"ID": 3, "TIME": 2, "DV": 9.3, "WT": 82},
    {"ID": 3, "TIME": 24, "DV": 1.3, "WT": 82},
]


def features(rows: list[dict[str, float]] = ROWS, model: Model | None = None) -> Features:
    model = model or oral_model()
    data: DataSet = dataset(rows)
    return build_features(model, data, build_batch(model, data))


def network(inputs: Features, latent: int = 3, spread: float = 1.0) -> Encoder:
    """A network whose output really depends on its input: the initial head is scaled up."""
    encoder = Encoder(inputs, latent, 8, generator(1, "weights"))
    with torch.no_grad():
        encoder.head.weight.mul_(1e3 * spread)
    return encoder


def outputs(encoder: Encoder, inputs: Features) -> tuple[Tensor, Tensor]:
    with torch.no_grad():
        mean, chol = encoder(inputs)
    return mean, chol


def test_what_stands_in_padded_records_is_never_seen() -> None:
    inputs = features()
    encoder = network(inputs)
    assert inputs.lengths.tolist() == [2, 5, 3]
    noise = torch.randn(inputs.records.shape, dtype=torch.float64, generator=generator(2, "noise"))
    padded = torch.arange(inputs.records.shape[1])[None] >= inputs.lengths[:, None]
    dirty = replace(inputs, records=torch.where(padded[..., None], 100 * noise, inputs.records))
    for clean, other in zip(outputs(encoder, inputs), outputs(encoder, dirty), strict=True):
        torch.testing.assert_close(clean, other, rtol=0, atol=0)


def test_longer_padding_changes_nothing() -> None:
    inputs = features()
    encoder = network(inputs)
    longer = replace(inputs, records=torch.nn.functional.pad(inputs.records, (0, 0, 0, 7)))
    for a, b in zip(outputs(encoder, inputs), outputs(encoder, longer), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-13, atol=1e-14)


def test_a_subject_alone_has_the_same_posterior() -> None:
    inputs = features()
    encoder = network(inputs)
    mean, chol = outputs(encoder, inputs)
    for i, length in enumerate(inputs.lengths.tolist()):
        alone = replace(
            inputs,
            records=inputs.records[i : i + 1, :length],
            lengths=inputs.lengths[i : i + 1],
            static=inputs.static[i : i + 1],
        )
        own_mean, own_chol = outputs(encoder, alone)
        torch.testing.assert_close(own_mean[0], mean[i], rtol=1e-12, atol=1e-13)
        torch.testing.assert_close(own_chol[0], chol[i], rtol=1e-12, atol=1e-13)


def test_the_last_record_and_the_covariates_are_seen() -> None:
    inputs = features()
    encoder = network(inputs)
    mean, _ = outputs(encoder, inputs)
    changed = inputs.records.clone()
    changed[1, 4, 3] += 0.5  # DV of the last record of subject 2
    other, _ = outputs(encoder, replace(inputs, records=changed))
    assert float((other - mean)[1].abs().max()) > 1e-3
    torch.testing.assert_close(other[[0, 2]], mean[[0, 2]])
    heavier, _ = outputs(encoder, replace(inputs, static=inputs.static + 0.5))
    assert float((heavier - mean).abs().min(1).values.max()) > 1e-3


def test_every_subject_starts_at_the_typical_values() -> None:
    inputs = features()
    encoder = Encoder(inputs, 3, 25, generator(1, "weights"))
    typical = torch.tensor([0.4, -2.4, 3.4], dtype=torch.float64)
    sd = torch.tensor([0.05, 0.02, 0.1], dtype=torch.float64)
    encoder.start_at(typical, sd)
    mean, chol = outputs(encoder, inputs)
    # the head's weights have SD 1e-3, and its 26 inputs are of size 1
    torch.testing.assert_close(mean, typical.expand(3, -1), rtol=0, atol=0.03)
    torch.testing.assert_close(chol.diagonal(dim1=1, dim2=2), sd.expand(3, -1), rtol=0.03, atol=0)
    torch.testing.assert_close(chol, chol.tril(), rtol=0, atol=0)
    assert float(chol.tril(-1).abs().max()) < 0.03


@pytest.mark.parametrize("latent", [1, 2, 5])
def test_scales_are_lower_triangular_and_positive(latent: int) -> None:
    inputs = features()
    mean, chol = outputs(network(inputs, latent, 3.0), inputs)
    assert mean.shape == (3, latent)
    torch.testing.assert_close(chol, chol.tril(), rtol=0, atol=0)
    assert float(chol.diagonal(dim1=1, dim2=2).min()) > 0
    if latent > 1:
        assert float(chol.tril(-1).abs().max()) > 0


def test_same_seed_same_weights() -> None:
    inputs = features()
    one, two, other = (Encoder(inputs, 3, 8, generator(s, "weights")) for s in (1, 1, 2))
    for a, b in zip(one.parameters(), two.parameters(), strict=True):
        assert torch.equal(a, b)
    assert not torch.equal(next(one.parameters()), next(other.parameters()))


DULL: dict[str, list[dict[str, float]]] = {
    "one observation in all": [{"ID": 1, "TIME": 0, "AMT": 1}, {"ID": 1, "TIME": 1, "DV": 3.0}],
    "equal observations and covariates": [
        {"ID": i, "TIME": t, "DV": 0.0 if t == 0 else 5.0, "AMT": 10.0 if t == 0 else 0.0, "WT": 70}
        for i in (1, 2)
        for t in (0, 1, 2)
    ],
    "all at time zero": [
        {"ID": i, "TIME": 0, "DV": 0.0 if k == 0 else float(i + k), "AMT": 10.0 if k == 0 else 0.0}
        for i in (1, 2)
        for k in (0, 1, 2)
    ],
    "no doses": [{"ID": i, "TIME": t, "DV": float(i * t)} for i in (1, 2) for t in (1, 2, 3)],
    "huge and tiny": [
        {"ID": 1, "TIME": 0, "AMT": 1e12},
        {"ID": 1, "TIME": 1e6, "DV": 1e-12},
        {"ID": 2, "TIME": 0, "AMT": 1e-9},
        {"ID": 2, "TIME": 1e-6, "DV": 1e9},
    ],
    "an infusion": [{"ID": 1, "TIME": 0, "AMT": 100, "RATE": 10}, {"ID": 1, "TIME": 1, "DV": 3.0}],
    "modelled rates": [{"ID": 1, "TIME": 0, "AMT": 100, "RATE": -2}, {"ID": 1, "TIME": 1, "DV": 3.0}],
    "a covariate that changes": [{"ID": 1, "TIME": float(t), "DV": 2.0, "WT": 70.0 + t} for t in range(4)],
}


@pytest.mark.parametrize("name", DULL)
def test_inputs_are_finite(name: str) -> None:
    inputs = features(DULL[name])
    assert bool(torch.isfinite(inputs.records).all()) and bool(torch.isfinite(inputs.static).all())
    assert float(inputs.records.abs().max()) < 1e3
    mean, chol = outputs(network(inputs), inputs)
    assert bool(torch.isfinite(mean).all()) and bool(torch.isfinite(chol).all())


def test_inputs_do_not_depend_on_units() -> None:
    """Times in minutes, doses in micrograms, concentrations in other units: the same numbers go in."""
    scaled = [
        {**r, "TIME": 60 * r["TIME"], "AMT": 1e3 * r.get("AMT", 0.0), "DV": 1e-3 * r.get("DV", 0.0)}
        for r in ROWS
    ]
    one, two = features(), features(scaled)
    torch.testing.assert_close(one.records, two.records, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(one.static, two.static, rtol=1e-12, atol=1e-12)


def test_a_second_output_is_told_from_the_first() -> None:
    rows = [{**r, "CMT": 2.0 if r.get("DV") == 6.0 else 0.0} for r in ROWS]
    assert features(rows).records.shape[-1] == features().records.shape[-1] + 1
    columns = (*oral_model().inputs.columns, InputColumn("DVID", "dvid"))
    model = oral_model().replace(inputs=Inputs("data.csv", columns))
    rows = [{**r, "DVID": 2.0 if r.get("DV") == 6.0 else 1.0} for r in ROWS]
    assert features(rows, model).records.shape[-1] == features().records.shape[-1] + 1


def test_standardisation_is_kept() -> None:
    inputs = features()
    observed = np.array([r["DV"] for r in ROWS if "DV" in r])
    centre, spread = inputs.scaling["DV"]
    assert centre == pytest.approx(observed.mean())
    assert spread == pytest.approx(observed.std(ddof=1))
    assert inputs.scaling["TIME"] == [0.0, 24.0]
    centre, spread = inputs.scaling["WT"]
    assert (centre, spread) == pytest.approx((np.mean([70, 55, 82]), np.std([70, 55, 82], ddof=1)))
