"""The model: everything one problem of a control file says, language-neutral."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Literal

from .compartment import Dynamics
from .dataset import Inputs
from .observation import ObservationModel
from .parameter import CovarianceBlock, ThetaParameter, dimension
from .prior import Level, Mixture, Prior
from .span import Span
from .statement import Statement
from .task import CovarianceTask, EstimationTask, OtherTask, SimulationTask, TableTask


@dataclass(frozen=True)
class Notice:
    """Something a legacy engine would do and this one does otherwise, or that a user should know."""

    message: str
    span: Span | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True)
class Model:
    """One population model with its data source, tasks and outputs.

    ``individual`` statements turn theta, eta and data columns into individual parameters (at every
    record); ``dynamics`` turns those and doses into amounts (None: predictions come straight
    from the statements); ``observation`` turns amounts into the response.

    ``kept`` names the variables that start a record with the value they had at the end of the subject's
    record before (0 at the first); all others start at 0. ``individual_call`` says when the individual model
    is run: at every record, at every additional and lagged dose too, or at the subject's first record only.
    ``problem`` is the number of the problem in its file, of ``problems``.
    """

    title: str
    language: Literal["nmtran", "mlxtran"]
    path: str
    inputs: Inputs
    thetas: tuple[ThetaParameter, ...]
    omega: tuple[CovarianceBlock, ...]
    sigma: tuple[CovarianceBlock, ...]
    individual: tuple[Statement, ...]
    dynamics: Dynamics | None
    observation: ObservationModel
    estimations: tuple[EstimationTask, ...] = ()
    covariance: CovarianceTask | None = None
    tables: tuple[TableTask, ...] = ()
    kept: tuple[str, ...] = ()
    individual_call: Literal["record", "dose", "first"] = "record"
    mixture: Mixture | None = None
    prior: Prior | None = None
    levels: tuple[Level, ...] = ()
    simulation: SimulationTask | None = None
    other_tasks: tuple[OtherTask, ...] = ()
    problem: int = 1
    problems: int = 1
    notices: tuple[Notice, ...] = ()
    source: str = field(default="", compare=False, repr=False)  # the text as read
    source_sha256: str = field(default="", compare=False, repr=False)

    @property
    def n_etas(self) -> int:
        """Number of random effects per subject."""
        return dimension(self.omega)

    @property
    def n_eps(self) -> int:
        """Number of residual random effects."""
        return dimension(self.sigma)

    def replace(self, **changes: Any) -> Model:
        """Return a copy with the given fields replaced."""
        return replace(self, **changes)
