"""What the observations say of each subject's random effects: -2 log p(y | eta) with exact derivatives.

The numpy face of the likelihood, under all classical methods. Constants as NONMEM counts them: a normal
observation contributes (y - f)^2 / v + log v, without log 2 pi; a likelihood -2 log L.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ..data.kept import without_unused_memory
from ..data.switches import with_switch_times
from ..failure import ModelFailure
from ..ir.compartment import OdeDynamics
from ..ir.dataset import DataSet
from ..ir.model import Model
from ..kernel.compile import compile_kernel
from ..kernel.kernel import Directions, Kernel, Predictions
from ..kernel.status import Status, describe
from ..kernel.subjects import Subjects
from .terms import FLAGGED, LIKELIHOOD, MINUS_TWO_LL, NORMAL, UNOBSERVED, subject_terms
from .tolerance import tightened

Array = NDArray[np.float64]
Along = Literal["none", "eta", "eta+theta"]


KINDS = {"normal": NORMAL, "likelihood": LIKELIHOOD, "minus_two_ll": MINUS_TWO_LL}


@dataclass(frozen=True, eq=False)
class Terms:
    """-2 log p(y_i | eta) of every draw and subject.

    Attributes
    ----------
    value
        [draw, id], no 2 pi constant; infinite where the model failed or the density is not defined.
    gradient
        [draw, id, direction]: to the etas, then (``"eta+theta"``) the thetas.
    sigma_gradient
        [draw, id, eps, eps], symmetric: the change is the sum over all elements of gradient times change.
    information
        [draw, id, eta, eta]: half of the expected second derivative to eta (Wang 2007, equation 17:
        f' f'^T / v + v' v'^T / (2 v^2)); the posterior information is this plus the inverse of omega.
    status
        int64[draw, id] of the kernel.
    """

    value: Array
    gradient: Array
    sigma_gradient: Array
    information: Array
    status: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Frozen:
    """Slopes of the response to eps at eta = 0, [draw or 1, record, eps], and derivatives [.., nq].

    With them the residual variance does not depend on eta: no interaction.
    """

    slopes: Array
    derivatives: Array


class ObservationLikelihood:
    """A model over a data set, ready to be evaluated at any theta, sigma and etas.

    ``component`` is the subpopulation (from 1) of a mixture. ``n_observations`` counts normal and other
    observations of each subject. ``model`` is the one given but for its tolerance (:mod:`.tolerance`).
    """

    def __init__(self, model: Model, data: DataSet, threads: int = 1, component: int | None = None) -> None:
        model = tightened(model)
        self.model, self.data, self.threads, self.component = model, data, threads, component
        prepared = with_switch_times(without_unused_memory(model, data), data)
        compiled = compile_kernel(prepared, wanted=None)
        self.layout = compiled.layout
        self._rough: tuple[float, ObservationLikelihood] | None = None
        self.kernel = Kernel(compiled, Subjects.build(compiled.model, data))
        self.n_subjects, self.n_etas, self.n_eps = data.n_subjects, model.n_etas, model.n_eps
        self.first = self.kernel.subjects.first
        column = model.inputs.with_role("dv")
        if column is None:
            raise ModelFailure("the data have no observations: no data item is DV")
        self.dv = np.ascontiguousarray(data.values[column.name], dtype=np.float64)
        flag = model.observation.flag
        slot = None if flag is None else self.layout.output_slot(flag)
        self.flag = -1 if slot is None else slot
        code = KINDS[model.observation.kind] if flag is None else FLAGGED
        self.kind = np.where(data.is_observation, code, UNOBSERVED).astype(np.int64)
        self.group = _groups(model, data)

    def roughly(self, tolerance: float) -> ObservationLikelihood | None:
        """Return this likelihood with differential equations integrated at a relative ``tolerance``.

        None where there are none, or the model asks for no more than ten times as much.
        """
        compiled = self.kernel.compiled
        dynamics = compiled.model.dynamics
        if not isinstance(dynamics, OdeDynamics) or dynamics.relative_tolerance > 0.1 * tolerance:
            return None
        if self._rough is None or self._rough[0] != tolerance:
            loose = compiled.model.replace(dynamics=replace(dynamics, relative_tolerance=tolerance))
            made = copy.copy(self)
            made.kernel = Kernel(replace(compiled, model=loose), self.kernel.subjects)
            self._rough = tolerance, made
        return self._rough[1]

    @cached_property
    def reads_sigma(self) -> bool:
        """Whether the statements themselves read elements of sigma (then slopes to sigma miss that part)."""
        return any(known.quantity == "sigma" for known in self.layout.known)

    @cached_property
    def reads_omega(self) -> bool:
        """Whether the statements themselves read elements of omega."""
        return any(known.quantity == "omega" for known in self.layout.known)

    def predict(
        self,
        theta: Array,
        eta: Array,
        directions: Along | Directions = "none",
        sigma: Array | None = None,
        omega: Array | None = None,
    ) -> Predictions:
        """Return the kernel's predictions; ``theta`` [theta] or [draw, theta], ``eta`` [draw, id, eta].

        ``sigma`` and ``omega`` are needed where the statements read them (one matrix for all draws).
        """
        known: dict[str, float | Array] = {}
        if self.component is not None:
            known["mixnum"] = float(self.component)
            known["mixest"] = float(self.component)
        for name, wanted, matrix in (
            ("sigma", self.reads_sigma, sigma),
            ("omega", self.reads_omega, omega),
        ):
            if wanted:
                if matrix is None:
                    raise ValueError(f"the model reads {name}, which was not given")
                known |= _elements(name, matrix)
        return self.kernel.evaluate(theta, eta, directions, known or None, self.threads)

    def frozen(self, theta: Array, directions: Along = "none", sigma: Array | None = None) -> Frozen:
        """Return the slopes at eta = 0 for :meth:`terms` without interaction.

        ``theta`` [theta] or [draw, theta]. Derivatives follow the directions of the later call.
        """
        draws = np.atleast_2d(theta).shape[0]
        zero = np.zeros((draws, self.n_subjects, self.n_etas))
        made = self.predict(theta, zero, directions, sigma)
        slopes = np.ascontiguousarray(made.values[:, :, 1 : 1 + self.n_eps])
        derivatives = np.ascontiguousarray(made.derivatives[:, :, 1 : 1 + self.n_eps])
        if directions != "none":
            derivatives[..., : self.n_etas] = 0.0
        return Frozen(slopes, derivatives)

    def terms(
        self,
        theta: Array,
        sigma: Array,
        eta: Array,
        directions: Along = "none",
        frozen: Frozen | None = None,
        omega: Array | None = None,
    ) -> Terms:
        """Return -2 log p(y_i | eta) with derivatives.

        Parameters
        ----------
        theta, sigma
            [theta] or [draw, theta]; [eps, eps] or [draw, eps, eps].
        eta
            [draw, id, eta], or [id, eta] for one draw.
        frozen
            Slopes at eta = 0, made with the same ``directions``: no interaction.
        """
        if (self.reads_sigma or self.reads_omega) and np.ndim(sigma) == 3:
            raise ValueError("the statements read sigma or omega: give one matrix for all draws")
        return self.summed(self.predict(theta, eta, directions, sigma, omega), sigma, frozen)

    def summed(
        self, made: Predictions, sigma: Array, frozen: Frozen | None = None, leading: int | None = None
    ) -> Terms:
        """Return the terms of predictions made before, ``sigma`` [eps, eps] or [draw, eps, eps].

        The information is that of the first ``leading`` directions (None: the etas).
        """
        draws, nq = made.values.shape[0], made.derivatives.shape[3]
        sigma = np.ascontiguousarray(sigma if np.ndim(sigma) == 3 else np.asarray(sigma)[None], dtype=float)
        n = self.n_subjects
        value = np.zeros((draws, n))
        gradient = np.zeros((draws, n, nq))
        sigma_gradient = np.zeros((draws, n, self.n_eps, self.n_eps))
        wanted = self.n_etas if leading is None else leading
        n_eta = wanted if nq >= wanted else 0
        information = np.zeros((draws, n, n_eta, n_eta))
        slopes = np.zeros((0, 0, 0)) if frozen is None else frozen.slopes
        dslopes = np.zeros((0, 0, 0, nq)) if frozen is None else frozen.derivatives
        subject_terms(
            made.values,
            made.derivatives,
            self.dv,
            self.kind,
            self.group,
            self.flag,
            self.first,
            sigma,
            n_eta,
            slopes,
            dslopes,
            value,
            gradient,
            sigma_gradient,
            information,
        )
        value[~np.isfinite(value)] = np.inf
        return Terms(value, gradient, sigma_gradient, information, made.status)

    def normal_counts(self, theta: Array, sigma: Array, omega: Array) -> NDArray[np.int64]:
        """Return how many observations of each subject [id] have a normal density, at eta = 0."""
        normal = self.kind == NORMAL
        if (self.kind == FLAGGED).any():
            zero = np.zeros((1, self.n_subjects, self.n_etas))
            flags = self.predict(theta, zero, "none", sigma, omega).values[0, :, self.flag]
            normal |= (self.kind == FLAGGED) & (flags == NORMAL)
        counts = np.bincount(self.data.subject, normal, self.n_subjects)
        return np.asarray(counts, dtype=np.int64)

    def failure(self, terms: Terms) -> Status | None:
        """Return the first failure of the model in words, or None."""
        failed = terms.status[terms.status != 0]
        return describe(int(failed[0])) if failed.size else None


def _elements(name: str, matrix: Array) -> Mapping[str, float | Array]:
    rows, columns = np.tril_indices(len(matrix))
    return {
        f"{name}({k + 1})": float(matrix[i, j]) for k, (i, j) in enumerate(zip(rows, columns, strict=True))
    }


def _groups(model: Model, data: DataSet) -> NDArray[np.int64]:
    """Return, for each record, one past the last record that shares its eps."""
    n = data.n_records
    alone = np.arange(1, n + 1, dtype=np.int64)
    if model.observation.level is None or n == 0:
        return alone
    level = data.values[model.observation.level]
    changes = (np.diff(level) != 0) | (np.diff(data.subject) != 0)
    ends = np.append(np.flatnonzero(changes) + 1, n)
    return np.asarray(ends[np.searchsorted(ends, np.arange(n), side="right")], dtype=np.int64)
