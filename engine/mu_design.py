"""Mu of the mu-referenced random effects in torch."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from .data.batch import Batch
from .ir.model import Model
from .mu_model import MuModel


class MuDesign:
    """A :class:`.mu_model.MuModel` over the subjects of a batch, differentiable in theta."""

    def __init__(self, model: Model, batch: Batch) -> None:
        constant = {k: v[:, 0].numpy() for k, v in batch.columns.items() if v.shape[1] == 1}
        made = MuModel(model, constant, batch.n_subjects)
        self.model, self.n_subjects = model, batch.n_subjects
        self.references, self.terms = made.references, made.terms
        self.mu_thetas = made.mu_thetas
        self.structural_thetas, self.residual_thetas = made.structural_thetas, made.residual_thetas
        self.offset = torch.from_numpy(made.offset)
        self._design = torch.from_numpy(made.design)
        self._theta = torch.tensor([t.theta for t in self.terms], dtype=torch.long)
        self._is_identity = torch.tensor([t.transform == "identity" for t in self.terms])
        self._is_logit = torch.tensor([t.transform == "logit" for t in self.terms])
        self._any_logit = bool(self._is_logit.any())

    def __call__(self, theta: Float[Tensor, " theta"]) -> Float[Tensor, "id eta"]:
        """Return mu for every subject; zero where an eta has none."""
        if not self.terms:
            return self.offset
        value = theta[self._theta]
        safe = torch.where(self._is_identity, 0.5, value)
        value = torch.where(self._is_identity, value, torch.log(safe))
        if self._any_logit:
            value = torch.where(self._is_logit, value - torch.log1p(-safe), value)
        return self.offset + (self._design @ value)
