"""From a finished run of the autoencoder to its complete result: likelihoods, errors, diagnostics."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np
import torch
from numpy.typing import NDArray

from ..diagnostics.residuals import Individual
from ..diagnostics.shrinkage import shrinkage
from ..estimate import Array
from ..fit import Fit
from ..individuals import Individuals
from ..inner.posterior import Posterior
from ..ir.model import Model
from ..iteration import Iteration, Status
from ..likelihood import ImportanceLikelihood
from ..methods.encoder import Encoder, Features
from ..methods.importance import Finished, evaluated_likelihood, tensors
from ..methods.vae import Trained, VaeSettings
from ..objective.bicc import penalty
from ..objective.elbo import minus_two_elbo
from ..objective.joint import LOG_2PI, Joint
from ..objective.linearised import linearised_likelihood
from ..objective.population import Population
from ..objective.sampling import weighted_moments
from ..parameterisation.unconstrained import Parameterisation
from ..selection.choice import with_errors
from ..selection.outcome import Selection
from ..tables.record_table import record_table
from ..uncertainty.observed_information import observed_information
from .stopwatch import Stopwatch

SMALL_ESS = 100.0  # draws: below this a subject's share of the likelihood is not to be trusted


def assemble(
    joint: Joint,
    base_model: Model,
    finished: Finished,
    status: Status,
    settings: VaeSettings,
    watch: Stopwatch,
    *,
    history: list[Iteration],
    warnings: list[str],
    selection: Selection | None,
    trained: Trained | None,
) -> Fit:
    """Return the :class:`Fit` of the final model over ``joint`` at ``finished``."""
    model, data, at = joint.model, joint.data, finished.estimate
    parameters = tensors(at)
    importance, mode, draws, weights = evaluated_likelihood(joint, at, finished.posterior.mean, settings)
    mean, covariance = weighted_moments(draws, weights)
    linearised = linearised_likelihood(joint, parameters, mode.mean)
    bound = minus_two_elbo(draws.z, draws.log_q, weights)
    watch.lap("likelihood")
    uncertainty = None
    if model.covariance is not None:
        uncertainty, why = observed_information(finished.likelihood, Parameterisation(model), finished.free)
        if uncertainty is None:
            warnings.append(f"no standard errors: {why}")
    watch.lap("uncertainty")
    constants = LOG_2PI * joint.batch.observed.sum(1).numpy()
    active = np.array(joint.active)
    cond_cov = np.zeros((joint.n_subjects, model.n_etas, model.n_etas))
    cond_cov[np.ix_(np.arange(joint.n_subjects), active, active)] = covariance.numpy()
    mu = joint.mu(parameters[0]).numpy().copy()
    mu[:, [k for k in range(model.n_etas) if k not in joint.mu.references]] = np.nan
    cond_mean = mean - joint.active_mu(parameters[0])
    individuals = Individuals(
        ebe=joint.full_eta(mode.mean[None])[0].numpy(),
        cond_mean=joint.full_eta(cond_mean[None])[0].numpy(),
        cond_cov=cond_cov,
        mu=mu,
        objective=importance.by_subject - constants,
    )
    population = Population(model, data, joint.threads)
    individual = Individual(individuals.ebe, individuals.ebe)
    table, residuals = record_table(population, at, individual, individuals.objective)
    iwres = residuals.without_options().by_eps()
    seen = np.repeat((population.n_observations > 0)[:, None], model.n_etas, 1)
    status = _checked(status, importance, mode)
    warnings += _warnings(data.ids, importance.ess, mode.converged.numpy())
    watch.lap("diagnostics")
    return Fit(
        model=model,
        base_model=base_model,
        data=data,
        method="vae",
        status=status,
        estimate=at,
        ofv=float(importance.value - constants.sum()),
        importance=importance,
        linearised=linearised,
        minus_two_elbo=bound,
        bicc=float(importance.value + penalty(model, joint.mu, data)),
        uncertainty=uncertainty,
        individuals=individuals,
        shrinkage=shrinkage(at, individuals.ebe, individuals.cond_cov, iwres, seen),
        table=table,
        history=tuple(history),
        selection=None if selection is None else with_errors(selection, uncertainty),
        seconds=watch.total(),
        seed=settings.seed,
        settings=asdict(settings),
        warnings=tuple(warnings),
        encoder=None if trained is None else _encoder_state(trained.encoder, trained.features),
    )


def _checked(status: Status, likelihood: ImportanceLikelihood, mode: Posterior) -> Status:
    """Return ``status``, or why a likelihood that is not to be trusted cannot count as converged."""
    lost = int((~mode.converged).sum())
    poor = int((likelihood.ess < SMALL_ESS).sum())
    if status.code != "converged" or not (lost or poor):
        return status
    return Status(
        "not_converged",
        f"the posteriors of {max(lost, poor)} subject(s) could not be sampled well",
        "try other initial estimates, or a model that the data can tell apart",
    )


def _warnings(ids: Array, ess: Array, converged: NDArray[np.bool_]) -> list[str]:
    found = []
    poor = ids[np.flatnonzero(ess < SMALL_ESS)]
    if len(poor):
        found.append(
            f"effective sample size below {SMALL_ESS:g} for subject(s) {_listed(poor)}: "
            "their likelihood contributions are uncertain"
        )
    lost = ids[np.flatnonzero(np.logical_not(converged))]
    if len(lost):
        found.append(f"the mode of the random effects was not found for subject(s) {_listed(lost)}")
    return found


def _listed(ids: Array) -> str:
    shown = ", ".join(f"{i:g}" for i in ids[:10])
    return shown + (f" and {len(ids) - 10} more" if len(ids) > 10 else "")


def _encoder_state(encoder: Encoder, features: Features) -> dict[str, object]:
    """Return the trained network and what is needed to use it on new subjects."""
    state: dict[str, torch.Tensor] = {k: v.clone() for k, v in encoder.state_dict().items()}
    return {
        "schema": 1,
        "hidden": encoder.hidden,
        "n_latent": encoder.n_latent,
        "scaling": features.scaling,
        "state": state,
    }
