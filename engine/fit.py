"""What one estimation step produced."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from .estimate import Estimate, is_fixed, labels, names
from .individuals import Individuals, Shrinkage, Subpopulations
from .ir.dataset import DataSet
from .ir.model import Model
from .ir.task import EstimationTask
from .iteration import Iteration, Status
from .likelihood import ImportanceLikelihood, LinearisedLikelihood
from .methods.step import Convergence, Search
from .selection.outcome import Selection
from .uncertainty.sampling_importance_resampling import Resampling
from .uncertainty.standard_errors import InformationMatrices, Uncertainty

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Fit:
    """Everything one estimation step produced.

    ``model`` is the final model (chosen effects are thetas and statements of it), ``base_model`` the
    one that was read. ``method`` is the method that really ran, ``number`` which step of the run it was.
    ``ofv`` is the objective as the method defines it, without the 2 pi constant of the ``n_normal``
    observations whose density is normal (None: all); of the VAE it is the importance-sampling -2LL less
    that constant. ``bicc`` is NaN where the method has no likelihood.
    ``table`` has one row per record of ``data`` with every data column, model variable and residual under
    the names of the output tables.

    ``search``, ``convergence`` and ``objective_se`` are those of :class:`~.methods.step.Step`; ``score`` the
    derivatives of -ofv/2 in the order of :func:`~.estimate.names`. ``covariance_failure`` says why standard
    errors that were asked for are missing; ``information`` is what they are made of (None: not computed);
    ``resampling`` are the samples of the estimates where they were asked for. ``print_interval``: every how
    many iterations output files show a row. ``with_prior`` is False where the step left priors out, whether
    the model has any or not; ``shows_phi`` where files of individuals have mu + eta after EM methods, not
    eta. ``task`` is the step as written that was run (None: the method has none in the model). ``earlier``:
    the fits of the steps before this one.
    """

    model: Model
    base_model: Model
    data: DataSet
    method: str
    status: Status
    estimate: Estimate
    ofv: float
    importance: ImportanceLikelihood | None
    linearised: LinearisedLikelihood | None
    minus_two_elbo: float | None
    bicc: float
    uncertainty: Uncertainty | None
    individuals: Individuals
    shrinkage: Shrinkage
    table: pd.DataFrame
    history: tuple[Iteration, ...]
    selection: Selection | None
    seconds: dict[str, float]
    seed: int
    settings: dict[str, Any]
    warnings: tuple[str, ...] = ()
    encoder: Any = field(default=None, repr=False)  # trained recognition network, see methods.encoder
    number: int = 1
    n_normal: int | None = None
    search: Search | None = None
    convergence: Convergence | None = None
    objective_se: float | None = None
    score: Array | None = None
    subpopulations: Subpopulations | None = None
    covariance_failure: str = ""
    information: InformationMatrices | None = None
    resampling: Resampling | None = None
    print_interval: int = 1
    with_prior: bool = True
    shows_phi: bool = True
    task: EstimationTask | None = None
    earlier: tuple[Fit, ...] = field(default=(), repr=False)

    @property
    def n_subjects(self) -> int:
        """Number of subjects."""
        return self.data.n_subjects

    def parameters(self) -> pd.DataFrame:
        """Return all parameters by name: label, value, standard error, relative error (%), whether fixed."""
        value, fixed = self.estimate.flatten(), is_fixed(self.model)
        se = np.full(len(value), np.nan) if self.uncertainty is None else self.uncertainty.se
        given = labels(self.model)
        columns = {
            "label": [given.get(name, "") for name in names(self.model)],
            "value": value,
            "se": se,
            "rse": [100 * s / abs(v) if v else np.nan for s, v in zip(se, value, strict=True)],
            "fixed": fixed,
        }
        return pd.DataFrame(columns, index=pd.Index(names(self.model), name="parameter"))

    def etas(self) -> pd.DataFrame:
        """Return conditional modes, means and SDs of the random effects, one row per subject."""
        individuals = self.individuals
        sd = np.sqrt(np.einsum("ikk->ik", individuals.cond_cov))
        columns: dict[str, Array] = {}
        for k in range(self.model.n_etas):
            columns[f"ETA{k + 1}"] = individuals.ebe[:, k]
            columns[f"ETA{k + 1}_mean"] = individuals.cond_mean[:, k]
            columns[f"ETA{k + 1}_sd"] = sd[:, k]
        return pd.DataFrame(columns, index=pd.Index(self.data.ids, name="ID"))

    @property
    def n_observations(self) -> int:
        """Number of observations."""
        return self.data.n_observations

    @property
    def constant(self) -> float:
        """N log(2 pi) of the normal observations, which ``ofv`` leaves out."""
        n = self.n_observations if self.n_normal is None else self.n_normal
        return n * math.log(2 * math.pi)

    @property
    def has_likelihood(self) -> bool:
        """Whether ``ofv`` is -2 log-likelihood, exact or approximate; that of SAEM is none."""
        return self.method != "saem"
