"""The result of a run: estimates, likelihoods, uncertainty, individuals, predictions, selection."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from .estimate import Estimate, is_fixed, labels, names
from .ir.dataset import DataSet
from .ir.effects import Effect as Effect
from .ir.effects import Form as Form
from .ir.model import Model

if TYPE_CHECKING:
    from .methods.step import Convergence, Search
    from .sampling_importance_resampling import Resampling

Array = NDArray[np.float64]
StatusCode = Literal["converged", "not_converged", "evaluated", "failed"]
MatrixState = Literal[
    "not_computed", "sound", "indefinite", "singular", "singular_indefinite", "unobtainable"
]


@dataclass(frozen=True)
class Status:
    """How a run ended, and what the user can do where it did not end well."""

    code: StatusCode
    message: str
    remedy: str = ""


@dataclass(frozen=True)
class Iteration:
    """One row of the iteration table.

    ``phase`` names the part of the method: ``"burn-in"``, ``"annealing"``, ``"main"``, ``"smoothing"``,
    ``"refinement"``, ``"likelihood"`` of the VAE, others of other methods; the numbers of a burn-in are
    negative. ``objective`` is the current objective without constant (of the VAE -2 ELBO, later -2LL).
    ``estimate`` follows the run's parameter order of :func:`~.estimate.names` of the *run model*:
    the user's model plus one theta for every candidate effect (zero where the effect is out).
    """

    phase: str
    number: int
    objective: float
    estimate: Estimate
    seconds: float
    expected_seconds_left: float | None = None


Observer = Callable[[Iteration], None]


@dataclass(frozen=True)
class ImportanceLikelihood:
    """-2 log-likelihood by importance sampling, 2 pi constants included.

    ``value``; its Monte Carlo standard error ``se``; per subject: contribution and effective sample
    size (both ``"id"``), out of ``draws`` draws each.
    """

    value: float
    se: float
    by_subject: Array
    ess: Array
    draws: int


@dataclass(frozen=True)
class LinearisedLikelihood:
    """-2 log-likelihood by linearisation at the conditional modes, constants included."""

    value: float
    by_subject: Array


@dataclass(frozen=True)
class Uncertainty:
    """Standard errors of the population parameters, in the order of :func:`~.estimate.names`.

    ``covariance`` is square over all parameters, rows and columns of fixed ones zero; ``se`` is NaN there.
    ``eigenvalues`` are those of the correlation matrix of the estimated ones, ascending.
    ``source`` says how it was computed.
    """

    covariance: Array
    se: Array
    eigenvalues: Array
    source: str

    @property
    def condition_number(self) -> float:
        """Largest over smallest eigenvalue of the correlation matrix."""
        if not len(self.eigenvalues) or self.eigenvalues[0] <= 0:
            return math.inf
        return float(self.eigenvalues[-1] / self.eigenvalues[0])


@dataclass(frozen=True)
class InformationMatrices:
    """What standard errors are made of, square over all parameters; zero rows of fixed and repeated ones.

    ``r``: observed information, half the second derivative of the OFV; ``s``: cross product of half the
    subjects' gradients; None where not computed or not finite. ``r_state`` and ``s_state``: whether there is
    a positive definite one, as it was computed.
    """

    r: Array | None
    s: Array | None
    r_state: MatrixState
    s_state: MatrixState


@dataclass(frozen=True)
class Individuals:
    """What is known of each subject's random effects.

    ``ebe`` conditional modes (id eta), ``cond_mean`` (id eta), ``cond_cov`` (id eta eta) of the true
    posterior by importance samples, ``mu`` (id eta) the typical value of the mu-referenced phi
    (NaN where an eta has none), ``objective`` (id) contributions to the OFV (no constant).
    """

    ebe: Array
    cond_mean: Array
    cond_cov: Array
    mu: Array
    objective: Array


@dataclass(frozen=True)
class Shrinkage:
    """Shrinkage in per cent, on the SD and on the variance scale.

    ``eta_*`` from the EBEs, ``ebv_*`` from the conditional variances, ``eps_*`` from IWRES (one per eps).
    ``etabar``, ``etabar_se``, ``etabar_p``: mean of the EBEs, its standard error, the p-value of zero.
    ``count``: of how many subjects each of these means is (None: of all with observations), ``effective``:
    less the degrees of freedom that random effects which groups of subjects share have taken;
    ``relative_information`` in per cent (None: not computed).
    """

    eta_sd: Array
    eta_var: Array
    ebv_sd: Array
    ebv_var: Array
    eps_sd: Array
    eps_var: Array
    etabar: Array
    etabar_se: Array
    etabar_p: Array
    count: NDArray[np.int64] | None = None
    effective: NDArray[np.int64] | None = None
    relative_information: Array | None = None


@dataclass(frozen=True, eq=False)
class Subpopulations:
    """What is known of the subjects of a mixture under each subpopulation.

    ``probabilities`` [id, component] given the data, ``eta`` [component, id, eta] conditional modes,
    ``covariance`` [component, id, eta, eta] of them, ``objective`` [component, id] contributions to the OFV
    were the subject of that subpopulation for certain; ``shrinkage`` of each over the subjects that most
    probably belong to it.
    """

    probabilities: Array
    eta: Array
    covariance: Array
    objective: Array
    shrinkage: tuple[Shrinkage, ...]


@dataclass(frozen=True)
class EffectResult:
    """A candidate at the end of the run: whether it is in, its value, what it does to BICc.

    ``theta`` is its number in the final model (None when out); ``bicc_change`` is BICc of the model
    with this one effect toggled minus the final BICc (positive: the choice was right).
    """

    effect: Effect
    selected: bool
    value: float
    se: float
    theta: int | None
    bicc_change: float
    forced: bool = False


@dataclass(frozen=True)
class Certificate:
    """An independent proof that the last selection is the global optimum of its L0 problem."""

    solver: str
    objective: float
    bound: float
    agrees: bool


@dataclass(frozen=True)
class Selection:
    """Covariate selection of one run.

    ``path`` has one row per iteration and one column per candidate (name of :class:`Effect`), holding
    the coefficient (0 where out), indexed by (phase, iteration).
    """

    results: tuple[EffectResult, ...]
    path: pd.DataFrame
    certificate: Certificate | None

    @property
    def selected(self) -> tuple[EffectResult, ...]:
        """The effects of the final model."""
        return tuple(r for r in self.results if r.selected)


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
    eta. ``earlier``: the fits of the steps before this one.
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
