"""One step to run: which method, with which settings, and what is wanted beside the estimates."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from ..ir.task import EstimationTask, Method
from ..methods.conditional import ConditionalSettings
from ..methods.importance_sampling import ImportanceSettings
from ..methods.its import TwoStageSettings
from ..methods.saem import SaemSettings
from ..objective.nesting import NestingSettings
from ..uncertainty.covariance_step import CovarianceSettings

if TYPE_CHECKING:
    from ..methods.vae import VaeSettings

    Settings = ConditionalSettings | TwoStageSettings | ImportanceSettings | SaemSettings | VaeSettings


@dataclass(frozen=True)
class PlannedStep:
    """One step to run: its number (from 1), method and settings.

    ``evaluate_only``: the objective is evaluated where the step starts. ``covariance`` is None where no
    standard errors are wanted. ``with_prior`` is False where the priors of the model are left out.
    ``table_etas`` says which random effects tables show after a method that samples: the conditional modes
    (residuals belong to the conditional means then, as in the legacy engine), the means, or the modes
    everywhere. ``influential_etas``: shrinkage leaves out random effects that a subject's data do not
    depend on. ``print_interval``: every how many iterations output files show a row; ``shows_phi``: whether
    they have mu + eta after EM methods, or eta. ``seed`` of all random numbers. ``nesting`` says how random
    effects that groups of subjects share are made (None: there are none, or in the default way).
    ``begins_at_etas``: searches for modes begin at the random effects given for the run, where there are any.
    ``task`` is the step as written whose options these are (None: the model has no step of this method).
    """

    number: int
    method: Method
    settings: Settings
    evaluate_only: bool = False
    covariance: CovarianceSettings | None = None
    with_prior: bool = True
    table_etas: Literal["modes", "means", "modes everywhere"] = "modes"
    influential_etas: bool = False
    print_interval: int = 1
    shows_phi: bool = True
    seed: int = 0
    nesting: NestingSettings | None = None
    begins_at_etas: bool = True
    task: EstimationTask | None = None
