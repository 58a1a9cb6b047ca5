"""One estimation run from model and data to a :class:`~.fit.Fit`: the engine's entrance."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, replace

import numpy as np
import torch

from .diagnostics import check_tables, record_table, shrinkage
from .estimate import Array, Estimate, initial
from .failure import ModelFailure
from .fit import (
    Certificate,
    Effect,
    EffectResult,
    Fit,
    Individuals,
    Iteration,
    Observer,
    Selection,
    Status,
)
from .inner.posterior import gaussian_posterior
from .ir.dataset import DataSet
from .ir.effects import add_effects
from .ir.model import Model
from .methods.encoder import Encoder, Features
from .methods.importance import Finished, evaluated_likelihood, maximise, propose, tensors
from .methods.mstep import EffectPenalty, L0Problem
from .methods.vae import Trained, VaeSettings, VariationalAutoencoder, gaussian_divergence, train
from .objective.bicc import penalty as bicc_penalty
from .objective.joint import LOG_2PI, Joint
from .objective.linearised import linearised_likelihood
from .objective.sampling import chunk_log_weights, weighted_moments
from .parameterisation import Parameterisation
from .randomness import normal_points
from .selection.neighbourhood import CovariateSearch, Scored
from .uncertainty import observed_information

SMALL_ESS = 100.0  # draws: below this a subject's share of the likelihood is not to be trusted


class Stopwatch:
    """Seconds spent in each phase."""

    def __init__(self) -> None:
        self.began = self._last = time.perf_counter()
        self.seconds: dict[str, float] = {}

    def lap(self, phase: str) -> None:
        """Book the time since the last lap under ``phase``."""
        now = time.perf_counter()
        self.seconds[phase] = self.seconds.get(phase, 0.0) + now - self._last
        self._last = now


def estimate(
    model: Model,
    data: DataSet,
    settings: VaeSettings,
    *,
    candidates: tuple[Effect, ...] = (),
    forced: frozenset[int] = frozenset(),
    forbidden: frozenset[int] = frozenset(),
    start: Estimate | None = None,
    evaluate: bool = False,
    observer: Observer | None = None,
) -> Fit:
    """Fit ``model`` to ``data`` with the variational autoencoder.

    ``candidates`` are covariate effects to select from, those numbered in ``forced`` (``forbidden``) always
    in (out). ``start`` replaces the model's initial estimates; with ``evaluate`` the likelihood and all
    diagnostics are computed there. Raises :class:`ModelFailure` before any fitting where the engine lacks
    something the model or the data ask for.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # parallel over chunks of subjects, whose sums do not depend on threads
    try:
        run = _Run(model, data, settings, candidates, observer)
        if evaluate:
            return run.evaluate(start or initial(model))
        return run.fit(start or initial(model), forced, forbidden)
    finally:
        torch.set_num_threads(threads)


@dataclass(frozen=True)
class _Choice:
    """The outcome of selection in the run model: support, estimate, BICc changes, last L0 problem."""

    scored: Scored
    problem: L0Problem
    toggles: Array


class _Run:
    def __init__(
        self,
        model: Model,
        data: DataSet,
        settings: VaeSettings,
        candidates: tuple[Effect, ...],
        observer: Observer | None,
    ) -> None:
        self.watch = Stopwatch()
        self.base, self.data, self.settings = model, data, settings
        self.candidates, self.observer = candidates, observer
        self.warnings: list[str] = []
        self.history: list[Iteration] = []
        check_tables(model)
        self.model = add_effects(model, candidates) if candidates else model
        self.joint = Joint(self.model, data, settings.threads)
        if self.joint.n_active == 0:
            raise ModelFailure("the model has no random effects with non-zero variance", hint="add $OMEGA")
        if not Parameterisation(self.model).size:
            raise ModelFailure("every parameter is fixed", hint="use --evaluate")
        self._check_candidates()
        self.watch.lap("compile")

    def _check_candidates(self) -> None:
        missing = [e for e in self.candidates if e.eta - 1 not in self.joint.mu.references]
        if missing:
            raise ModelFailure(
                f"{missing[0].parameter} is not mu-referenced, so {missing[0]} cannot be a candidate"
            )

    # fitting

    def fit(self, start: Estimate, forced: frozenset[int], forbidden: frozenset[int]) -> Fit:
        n = len(self.base.thetas)
        if len(start.theta) == n and self.candidates:
            start = replace(start, theta=np.concatenate([start.theta, np.zeros(len(self.candidates))]))
        penalty = self._penalty(forced, forbidden) if self.candidates else None
        method = VariationalAutoencoder(self.joint, self.settings, penalty)
        trained = train(method, start, self._observe, self.watch.began)
        self.history += trained.history
        if not trained.settled:
            self.warnings.append("training ended before the estimates settled; the finish went on from there")
        self.watch.lap("training")
        centre = trained.q_mean - self.joint.active_mu(torch.from_numpy(trained.estimate.theta))
        selection: Selection | None = None
        final_model, joint, estimate_ = self.model, self.joint, trained.estimate
        finished: Finished | None = None
        if penalty is not None:
            choice = self._select(trained, centre, penalty)
            chosen = np.flatnonzero(choice.scored.support)
            final_model = add_effects(self.base, [self.candidates[j] for j in chosen])
            joint = Joint(final_model, self.data, self.settings.threads)
            estimate_ = _project(choice.scored.estimate, n, chosen)
            self.watch.lap("selection")
            finished = self._finish(joint, estimate_, centre)
            self.watch.lap("refinement")
            selection = self._selection_result(choice, finished, penalty, n)
            self.watch.lap("selection")
        else:
            finished = self._finish(joint, estimate_, centre)
            self.watch.lap("refinement")
        status = (
            Status("converged", "the likelihood has no more to gain on fresh draws")
            if finished.converged
            else Status(
                "not_converged",
                f"fresh draws still gained likelihood after {self.settings.max_rounds} rounds",
                "try other initial estimates, or a model with fewer parameters",
            )
        )
        return self._result(joint, final_model, finished, status, selection, trained)

    def _observe(self, row: Iteration) -> None:
        if self.observer is not None:
            self.observer(row)

    def _penalty(self, forced: frozenset[int], forbidden: frozenset[int]) -> EffectPenalty:
        n, count = len(self.base.thetas), len(self.candidates)
        inside = np.isin(np.arange(count), list(forced))
        outside = np.isin(np.arange(count), list(forbidden))
        if (inside & outside).any():
            both = self.candidates[int(np.flatnonzero(inside & outside)[0])]
            raise ModelFailure(f"{both} is both forced and forbidden")
        price = np.full(count, np.log(self.data.n_subjects))
        return EffectPenalty(tuple(range(n, n + count)), price, inside, outside)

    def _select(self, trained: Trained, centre: torch.Tensor, penalty: EffectPenalty) -> _Choice:
        """Choose effects on importance samples; draw again where the choice moved the model."""
        joint, settings = self.joint, self.settings
        support = trained.support if trained.support is not None else penalty.forced
        current, begin = trained.estimate, centre
        for attempt in range(3):
            mode, sample = propose(
                joint,
                current,
                begin,
                settings.search_draws,
                seed=settings.seed,
                name=f"selection/{attempt}",
                keep=True,
            )
            begin = mode.mean
            parameters = tensors(current)
            with torch.no_grad():
                prior_free = [
                    chunk_log_weights(joint, sample, p, parameters, with_prior=False)
                    for p in range(len(sample.chunks))
                ]
            base = torch.cat(prior_free, 1).numpy()
            search = CovariateSearch(joint, sample, base, penalty)
            scored, problem = search.search(current, support)
            moved = bool((scored.support != support).any())
            support, current = scored.support, scored.estimate
            if not moved and attempt > 0:
                break
        return _Choice(scored, problem, search.toggles(scored))

    def _finish(self, joint: Joint, start: Estimate, centre: torch.Tensor) -> Finished:
        finished = maximise(joint, start, centre, self.settings, None, self.watch.began)
        self.history += [self._in_run_model(joint, row) for row in finished.history]
        for row in self.history[-len(finished.history) :]:
            self._observe(row)
        return finished

    def _in_run_model(self, joint: Joint, row: Iteration) -> Iteration:
        """Return a row of the final model's estimates in the run model's thetas."""
        if joint.model is self.model:
            return row
        n = len(self.base.thetas)
        theta = np.zeros(len(self.model.thetas))
        theta[:n] = row.estimate.theta[:n]
        labels = [t.label for t in self.model.thetas]
        for extra, parameter in enumerate(joint.model.thetas[n:]):
            theta[labels.index(parameter.label, n)] = row.estimate.theta[n + extra]
        return replace(row, estimate=replace(row.estimate, theta=theta))

    def _selection_result(
        self, choice: _Choice, finished: Finished, penalty: EffectPenalty, n: int
    ) -> Selection:
        import pandas as pd

        from .selection.certificate import certify  # pyomo is slow to import

        problem = choice.problem
        certificate: Certificate = certify(
            problem.gram,
            problem.linear,
            penalty.price,
            problem.solution,
            forced=penalty.forced,
            forbidden=penalty.forbidden,
        )
        results = []
        position = n
        for j, effect in enumerate(self.candidates):
            selected = bool(choice.scored.support[j])
            theta = position + 1 if selected else None
            value = float(finished.estimate.theta[position]) if selected else 0.0
            position += selected
            results.append(
                EffectResult(
                    effect,
                    selected,
                    value,
                    np.nan,
                    theta,
                    float(choice.toggles[j]),
                    bool(penalty.forced[j]),
                )
            )
        path = pd.DataFrame(
            [row.estimate.theta[n:] for row in self.history],
            columns=[str(e) for e in self.candidates],
            index=pd.MultiIndex.from_tuples(
                [(row.phase, row.number) for row in self.history], names=["phase", "iteration"]
            ),
        )
        if not certificate.agrees:
            self.warnings.append("the independent solver disagrees with the last selection step")
        return Selection(tuple(results), path, certificate)

    # evaluation and results

    def evaluate(self, at: Estimate) -> Fit:
        """Return likelihood, individuals and diagnostics at ``at``."""
        joint = self.joint
        parameterisation = Parameterisation(self.model)
        free = parameterisation.pack(at)
        start = torch.zeros(joint.n_subjects, joint.n_active, dtype=torch.float64)
        maximum = replace(self.settings, max_rounds=1)
        mode, sample = propose(
            joint, at, start, maximum.finish_draws, seed=maximum.seed, name="evaluation",
            keep=not joint.mu.structural_thetas,
        )  # fmt: skip
        from .objective.sampling import MarginalLikelihood

        likelihood = MarginalLikelihood(joint, parameterisation, sample)
        finished = Finished(at, free, mode, likelihood, (), True)
        status = Status("evaluated", "the likelihood was evaluated at the given estimates")
        return self._result(joint, self.model, finished, status, None, None)

    def _result(
        self,
        joint: Joint,
        model: Model,
        finished: Finished,
        status: Status,
        selection: Selection | None,
        trained: Trained | None,
    ) -> Fit:
        at = finished.estimate
        parameters = tensors(at)
        importance, mode, draws, weights = evaluated_likelihood(
            joint, at, finished.posterior.mean, self.settings
        )
        mean, covariance = weighted_moments(draws, weights)
        linearised = linearised_likelihood(joint, parameters, mode.mean)
        elbo = self._minus_two_elbo(joint, parameters, mode)
        if trained is None and not Parameterisation(model).size:
            elbo = None
        self.watch.lap("likelihood")
        uncertainty = None
        if model.covariance is not None:
            uncertainty, why = observed_information(
                finished.likelihood, Parameterisation(model), finished.free
            )
            if uncertainty is None:
                self.warnings.append(f"no standard errors: {why}")
        self.watch.lap("uncertainty")
        constants = LOG_2PI * joint.batch.observed.sum(1).numpy()
        n_etas = model.n_etas
        ebe, cond_mean = (
            joint.full_eta(v[None])[0].numpy() for v in (mode.mean, mean - joint.active_mu(parameters[0]))
        )
        cond_cov = np.zeros((joint.n_subjects, n_etas, n_etas))
        cond_cov[np.ix_(np.arange(joint.n_subjects), joint.active, joint.active)] = covariance.numpy()
        mu = joint.mu(parameters[0]).numpy().copy()
        mu[:, [k for k in range(n_etas) if k not in joint.mu.references]] = np.nan
        individuals = Individuals(ebe, cond_mean, cond_cov, mu, importance.by_subject - constants)
        table, iwres = record_table(joint, at, mode.mean, individuals.objective)
        self._warn(importance.ess, mode.converged.numpy())
        bicc = importance.value + bicc_penalty(model, joint.mu, self.data)
        if selection is not None and uncertainty is not None:
            results = tuple(
                replace(r, se=float(uncertainty.se[r.theta - 1])) if r.theta is not None else r
                for r in selection.results
            )
            selection = replace(selection, results=results)
        self.watch.lap("diagnostics")
        return Fit(
            model=model,
            base_model=self.base,
            data=self.data,
            method="vae",
            status=status,
            estimate=at,
            ofv=float(importance.value - constants.sum()),
            importance=importance,
            linearised=linearised,
            minus_two_elbo=elbo,
            bicc=float(bicc),
            uncertainty=uncertainty,
            individuals=individuals,
            shrinkage=shrinkage(at, individuals, iwres),
            table=table,
            history=tuple(self.history),
            selection=selection,
            seconds={**self.watch.seconds, "total": time.perf_counter() - self.watch.began},
            seed=self.settings.seed,
            settings=asdict(self.settings),
            warnings=tuple(self.warnings),
            encoder=None if trained is None else _encoder_state(trained.encoder, trained.features),
        )

    def _minus_two_elbo(
        self,
        joint: Joint,
        parameters: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
        mode: object,
    ) -> float:
        """Return -2 ELBO of the refined Gaussian posteriors, on fresh normal points."""
        from .inner.posterior import Posterior

        assert isinstance(mode, Posterior)
        theta, omega, sigma = parameters
        n = joint.n_active
        nodes = normal_points(16, joint.n_subjects, n, self.settings.seed, "elbo/nodes")
        nodes = torch.cat([nodes, -nodes])
        q = gaussian_posterior(
            joint, theta, omega, sigma, mode.mean, nodes, mode.chol, iterations=15, tolerance=1e-4
        )
        points = normal_points(512, joint.n_subjects, n, self.settings.seed, "elbo/points")
        points = torch.cat([points, -points])
        with torch.no_grad():
            eta = q.mean + torch.einsum("ikl,nil->nik", q.chol, points)
            expected = joint.log_likelihood(theta, sigma, eta).mean(0).sum()
            divergence = gaussian_divergence(q.mean, q.chol, joint.active_omega(omega))
        return float(2.0 * (divergence - expected))

    def _warn(self, ess: Array, converged: Array) -> None:
        ids = self.data.ids
        poor = np.flatnonzero(ess < SMALL_ESS)
        if len(poor):
            self.warnings.append(
                f"effective sample size below {SMALL_ESS:g} for subject(s) {_listed(ids[poor])}: "
                "their likelihood contributions are uncertain"
            )
        lost = np.flatnonzero(~converged)
        if len(lost):
            self.warnings.append(
                f"the mode of the random effects was not found for subject(s) {_listed(ids[lost])}"
            )


def _listed(ids: Array) -> str:
    shown = ", ".join(f"{i:g}" for i in ids[:10])
    return shown + (f" and {len(ids) - 10} more" if len(ids) > 10 else "")


def _project(full: Estimate, n: int, chosen: Array) -> Estimate:
    """Return the run model's estimate with only the chosen candidates' thetas."""
    return Estimate(np.concatenate([full.theta[:n], full.theta[n:][chosen]]), full.omega, full.sigma)


def _encoder_state(encoder: Encoder, features: Features) -> dict[str, object]:
    """Return the trained network and what is needed to use it on new subjects."""
    return {
        "schema": 1,
        "hidden": encoder.hidden,
        "n_latent": encoder.n_latent,
        "scaling": features.scaling,
        "state": {k: v.clone() for k, v in encoder.state_dict().items()},
    }
