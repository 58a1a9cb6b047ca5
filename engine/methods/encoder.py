"""The recognition network: a subject's records and covariates to a Gaussian posterior of z.

One LSTM layer over the records, its last state joined with the static covariates, one linear head
(Rohleff et al. 2025, section 2.2.1). Unlike there, records carry doses, event kinds and times since
the last dose.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..data.batch import Batch
from ..ir.dataset import DataSet
from ..ir.model import Model

HEAD_SPREAD = 1e-3  # SD of the head's initial weights: every subject starts at the initial typical values


@dataclass(frozen=True)
class Features:
    """Standardised inputs: ``records`` (id record feature), their ``lengths`` (id), ``static`` (id feature).

    ``scaling`` keeps what is needed to standardise the records of new subjects in the same way.
    """

    records: Tensor
    lengths: Tensor
    static: Tensor
    scaling: dict[str, list[float]]


def build_features(model: Model, data: DataSet, batch: Batch) -> Features:
    """Return the encoder's inputs for all subjects of ``batch``."""
    events = batch.events
    valid = torch.from_numpy(events.row >= 0)
    time = torch.from_numpy(events.time)
    observed = batch.observed
    scaling: dict[str, list[float]] = {}

    def standardised(name: str, values: Tensor, mask: Tensor) -> Tensor:
        inside = values[mask]
        centre = float(inside.mean()) if len(inside) else 0.0
        spread = float(inside.std()) if len(inside) > 1 else 0.0
        scaling[name] = [centre, spread]
        return torch.where(mask, (values - centre) / (spread if spread > 0 else 1.0), 0.0)

    span = float(time.max()) if float(time.max()) > 0 else 1.0
    scaling["TIME"] = [0.0, span]
    dosed = torch.from_numpy(np.isin(events.evid, (1, 4))) & valid
    amount, rate = (batch.columns[c].expand_as(time) for c in ("AMT", "RATE"))
    last_dose = torch.where(dosed, time, -torch.inf).cummax(1).values
    since = torch.where(torch.isfinite(last_dose), time - last_dose, 0.0)
    parts = [
        time / span,
        torch.diff(time, dim=1, prepend=time[:, :1]) / span,
        since / span,
        standardised("DV", batch.dv, observed),
        observed.double(),
        dosed.double(),
        _share(amount) * dosed,
        _share(rate.clamp(min=0.0)) * dosed,
    ]
    compartments = torch.from_numpy(events.compartment)
    for c in sorted(set(compartments[observed].tolist()))[1:]:  # a second output and on
        parts.append(((compartments == c) & observed).double())
    static: list[Tensor] = []
    for column in model.inputs.columns:
        if column.role not in ("covariate", "dvid"):
            continue
        values = batch.columns[column.name]
        if values.shape[1] == 1:
            everyone = torch.ones_like(values, dtype=torch.bool)
            static.append(standardised(column.name, values, everyone)[:, 0])
        else:
            parts.append(standardised(column.name, values, valid))
    records = torch.stack(parts, -1) * valid[..., None]
    joined = torch.stack(static, -1) if static else torch.zeros(batch.n_subjects, 0, dtype=torch.float64)
    return Features(records, valid.sum(1), joined, scaling)


def _share(values: Tensor) -> Tensor:
    top = float(values.abs().max())
    return values / top if top > 0 else values


class Encoder(nn.Module):
    """q(z | records, covariates) = N(mean, L L') with L lower triangular, exp on its diagonal."""

    def __init__(self, features: Features, n_latent: int, hidden: int, generator: torch.Generator) -> None:
        super().__init__()
        self.n_latent, self.hidden = n_latent, hidden
        inputs, static = features.records.shape[-1], features.static.shape[-1]
        self.lstm = nn.LSTM(inputs, hidden, batch_first=True, dtype=torch.float64)
        outputs = n_latent + n_latent * (n_latent + 1) // 2
        self.head = nn.Linear(hidden + static, outputs, dtype=torch.float64)
        rows, columns = np.tril_indices(n_latent, -1)
        self._rows, self._columns = torch.from_numpy(rows), torch.from_numpy(columns)
        bound = 1.0 / hidden**0.5
        with torch.no_grad():
            for weight in self.lstm.parameters():
                weight.copy_(
                    (2.0 * torch.rand(weight.shape, dtype=torch.float64, generator=generator) - 1) * bound
                )
            noise = torch.randn(self.head.weight.shape, dtype=torch.float64, generator=generator)
            self.head.weight.copy_(HEAD_SPREAD * noise)
            self.head.bias.zero_()

    def start_at(self, mean: Float[Tensor, " latent"], sd: Float[Tensor, " latent"]) -> None:
        """Set the head's bias so that every subject starts at ``mean`` with SDs ``sd``."""
        n = self.n_latent
        with torch.no_grad():
            self.head.bias[:n] = mean
            self.head.bias[n : 2 * n] = torch.log(sd)

    def forward(
        self, features: Features
    ) -> tuple[Float[Tensor, "id latent"], Float[Tensor, "id latent latent"]]:
        """Return means and lower Cholesky factors."""
        n = self.n_latent
        states, _ = self.lstm(features.records)  # padding follows the records, so it cannot reach their state
        index = (features.lengths - 1)[:, None, None].expand(-1, 1, self.hidden)
        last = states.gather(1, index)[:, 0]
        out = self.head(torch.cat([last, features.static], -1))
        chol = torch.diag_embed(torch.exp(out[:, n : 2 * n]))
        if n > 1:
            chol = chol.index_put(
                (torch.arange(len(out))[:, None], self._rows, self._columns), out[:, 2 * n :]
            )
        return out[:, :n], chol
