"""Typical values of the mu-referenced random effects, linear in transformed thetas."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from .data.batch import Batch
from .estimate import Array, initial
from .ir.evaluate import evaluate
from .ir.expression import Theta
from .ir.model import Model
from .ir.mu import MuReference, mu_references
from .ir.statement import expressions


@dataclass(frozen=True)
class MuTermColumn:
    """One term of one mu: ``design`` (id) times g(theta), g = log, logit or identity."""

    eta: int  # from 0
    theta: int  # from 0
    transform: str
    design: Array

    def to_scale(self, value: float) -> float:
        """Return g(value)."""
        if self.transform == "log":
            return float(np.log(value))
        if self.transform == "logit":
            return float(np.log(value) - np.log1p(-value))
        return value

    def from_scale(self, value: float) -> float:
        """Return the theta whose g is ``value``."""
        if self.transform == "log":
            return float(np.exp(value))
        if self.transform == "logit":
            return float(1.0 / (1.0 + np.exp(-value)))
        return value


class MuDesign:
    """Design of all mu-referenced etas over the subjects of a batch.

    An eta whose mu uses data items that change within a subject, or whose variance is zero, is left out:
    its thetas are then structural, estimated by gradient.
    """

    def __init__(self, model: Model, batch: Batch) -> None:
        self.model = model
        self.n_subjects = batch.n_subjects
        constant = {k: v[:, 0].numpy() for k, v in batch.columns.items() if v.shape[1] == 1}
        self.references: dict[int, MuReference] = {}
        self.terms: list[MuTermColumn] = []
        offset = np.zeros((batch.n_subjects, model.n_etas))
        variance = np.diag(initial(model).omega)
        for reference in mu_references(model):
            k = reference.eta - 1
            if reference.columns - constant.keys() or variance[k] == 0:
                continue
            self.references[k] = reference
            ones = np.ones(batch.n_subjects)
            if reference.offset is not None:
                offset[:, k] = evaluate(reference.offset, constant) * ones
            for term in reference.terms:
                design = evaluate(term.design, constant) * ones
                self.terms.append(MuTermColumn(k, term.theta - 1, term.transform, design))
        self.offset = torch.from_numpy(offset)
        place = np.zeros((batch.n_subjects, model.n_etas, len(self.terms)))
        for position, t in enumerate(self.terms):
            place[:, t.eta, position] = t.design
        self._design = torch.from_numpy(place)
        self._theta = torch.tensor([t.theta for t in self.terms], dtype=torch.long)
        self._is_identity = torch.tensor([t.transform == "identity" for t in self.terms])
        self._is_logit = torch.tensor([t.transform == "logit" for t in self.terms])
        self._any_logit = bool(self._is_logit.any())
        used = {t.theta for t in self.terms}
        free = {j for j, t in enumerate(model.thetas) if not t.fixed}
        self.mu_thetas = sorted(used & free)
        nodes = list(expressions(model.individual))
        if model.dynamics is not None:
            nodes += list(expressions(getattr(model.dynamics, "statements", ())))
        inside = {n.index - 1 for n in nodes if isinstance(n, Theta)}
        observed = {n.index - 1 for n in expressions(model.observation.statements) if isinstance(n, Theta)}
        if model.dynamics is None:  # all statements stand in the observation model
            inside |= observed
        self.structural_thetas = sorted((inside - used) & free)
        self.residual_thetas = sorted((observed - used - inside) & free)

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
