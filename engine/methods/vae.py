"""The variational autoencoder: encoder by stochastic gradients, population parameters by M-steps.

Rohleff et al. (2025): burn-in with almost no Kullback-Leibler term, annealing of its weight, and
smoothing of the sufficient statistics. Beyond the paper: several antithetic draws a step, E_q of the
squared residual, block omega, general residual models, a convergence test.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..decoder.compile import Prediction, Solver, Structure
from ..estimate import Array, Estimate
from ..iteration import Iteration, Observer
from ..objective.elbo import gaussian_divergence
from ..objective.joint import LOG_2PI, Joint, log_likelihood
from ..parameterisation.tensor import TensorParameterisation
from ..randomness import generator
from .adam import Adam
from .encoder import Encoder, Features, build_features
from .mstep import EffectPenalty, L0Problem, Moments, MuRegression, ResidualModel, update_omega

# of differential equations: integration errors small beside the noise of stochastic gradients
TRAINING_TOLERANCE = 1e-5

Phase = Literal["burn-in", "annealing", "main", "smoothing"]


@dataclass(frozen=True)
class VaeSettings:
    """Settings of the method; defaults serve data sets of 10 to 1000 subjects.

    ``draws`` per subject and gradient step (even: antithetic pairs); iterations are M-steps, each after
    ``steps`` gradient steps; ``burn_in_weight`` is the weight of the Kullback-Leibler term in burn-in and
    where annealing starts; the L0 price falls from ``first_price`` to 1 times log(N) while annealing.
    ``window`` iterations are compared with the window before by the convergence test. -2 log-likelihood is
    that of ``likelihood_replicates`` of ``likelihood_draws`` a subject; where draws cost the solution of
    equations, of no more than bring its standard error below ``likelihood_error``.
    """

    seed: int = 1
    threads: int = 1
    solver: Solver = "compiled"
    hidden: int = 25
    draws: int = 4
    steps: int = 5
    burn_in: int = 40
    annealing: int = 25
    smoothing: int = 15
    max_iterations: int = 300
    window: int = 10
    drift: float = 0.1
    learning_rate_burn_in: float = 1.6e-2
    learning_rate: float = 8e-3
    burn_in_weight: float = 1e-2
    first_price: float = 2.0
    search_draws: int = 400
    finish_draws: int = 1024
    likelihood_draws: int = 1024
    likelihood_replicates: int = 8
    likelihood_error: float = 0.03
    max_rounds: int = 10

    def draws_for(self, draws: int, subjects: int) -> int:
        """Return ``draws`` per subject, fewer where many subjects average their errors out."""
        return max(min(draws, 100 * draws // subjects), 200)

    def draws_of_round(self, number: int, doublings: int, joint: Joint, *, keep: bool) -> int:
        """Return the draws of a round of the refinement; ``keep``: whether decoder stages are kept.

        Where every evaluation solves equations at all draws there are few at first, and twice as many after
        each of the ``doublings``.
        """
        most = self.draws_for(self.finish_draws, joint.n_subjects)
        if not keep and joint.decoder.derivatives == 1:
            return min(most, max(most // 8, 64) << doublings)
        return max(most // 4, 128) if number == 1 else most

    def likelihood_sizes(self, joint: Joint) -> tuple[int, int]:
        """Return the draws of a replicate of the likelihood, and how many replicates there may be.

        Where draws cost the solution of equations replicates are small, so that they can end early.
        """
        draws = self.draws_for(self.likelihood_draws, joint.n_subjects)
        if joint.decoder.derivatives == 1:
            return draws // 4, 4 * self.likelihood_replicates
        return draws, self.likelihood_replicates


@dataclass
class VaeState:
    """What one iteration hands to the next."""

    encoder: Encoder
    optimiser: Adam
    structural: Tensor
    estimate: Estimate
    moments: Moments | None = None
    support: NDArray[np.bool_] | None = None
    problem: L0Problem | None = None
    number: int = 0
    phase: Phase = "burn-in"
    smoothing_start: int | None = None
    track: list[Array] = field(default_factory=list)
    supports: list[NDArray[np.bool_]] = field(default_factory=list)
    failures: int = 0
    settled: bool = False


@dataclass(frozen=True)
class Trained:
    """The end of training: estimate, q (means and factors of z), encoder."""

    estimate: Estimate
    q_mean: Tensor
    q_chol: Tensor
    encoder: Encoder
    features: Features
    problem: L0Problem | None
    support: NDArray[np.bool_] | None
    settled: bool


class VariationalAutoencoder:
    """The method over one model and data set (``joint``)."""

    def __init__(self, joint: Joint, settings: VaeSettings, penalty: EffectPenalty | None = None) -> None:
        self.joint, self.settings, self.penalty = joint, settings, penalty
        self.parameterisation = TensorParameterisation(joint.model)
        self.regression = MuRegression(joint)
        self.residual = ResidualModel(joint, self.parameterisation)
        self.features = build_features(joint.model, joint.data, joint.batch)
        self._normals = generator(settings.seed, "vae/draws")
        self.decoder = joint.loosened(TRAINING_TOLERANCE).decoder
        self._structural = [
            p for p, j in enumerate(self.parameterisation.free_thetas) if j in joint.mu.structural_thetas
        ]

    def init(self, start: Estimate) -> VaeState:
        """Return the state in which every subject sits at the typical values of ``start``."""
        s, joint = self.settings, self.joint
        encoder = Encoder(self.features, joint.n_active, s.hidden, generator(s.seed, "vae/weights"))
        theta, omega = torch.from_numpy(start.theta), torch.from_numpy(start.omega)
        sd = joint.active_omega(omega).diagonal().sqrt()
        encoder.start_at(joint.active_mu(theta).mean(0), 0.1 * sd.clamp(max=1.0))
        free = self.parameterisation.pack(start)
        structural = torch.from_numpy(free[self._structural]).requires_grad_()
        optimiser = Adam([*encoder.parameters(), structural], s.learning_rate_burn_in)
        return VaeState(encoder, optimiser, structural, start)

    def step(self, state: VaeState) -> float:
        """Run one iteration, gradient steps then the M-step; return -2 ELBO without constant."""
        weight, price = self._schedule(state)
        for _ in range(self.settings.steps):
            objective, q, drawn, prediction = self._gradient_step(state, weight)
        self._m_step(state, q, drawn, prediction, price)
        state.number += 1
        state.track.append(self._tracked(state.estimate))
        if state.support is not None:
            state.supports.append(state.support)
        return objective

    def _schedule(self, state: VaeState) -> tuple[float, float | None]:
        s = self.settings
        if state.number < s.burn_in:
            state.phase = "burn-in"
            return s.burn_in_weight, None
        done = min((state.number - s.burn_in) / s.annealing, 1.0)
        if state.number == s.burn_in:
            state.optimiser.rate = s.learning_rate
        if state.smoothing_start is None:
            state.phase = "annealing" if done < 1.0 else "main"
        return (
            s.burn_in_weight + (1.0 - s.burn_in_weight) * done,
            s.first_price + (1.0 - s.first_price) * done,
        )

    def _gradient_step(
        self, state: VaeState, weight: float
    ) -> tuple[float, tuple[Tensor, Tensor], Structure, Prediction]:
        joint, estimate = self.joint, state.estimate
        theta = self._theta(state)
        omega, sigma = torch.from_numpy(estimate.omega), torch.from_numpy(estimate.sigma)
        mean, chol = state.encoder(self.features)
        half = self.settings.draws // 2
        noise = torch.randn(half, *mean.shape, dtype=mean.dtype, generator=self._normals)
        noise = torch.cat([noise, -noise])
        z = mean + torch.einsum("ikl,nil->nik", chol, noise)
        mu = joint.active_mu(torch.from_numpy(estimate.theta))
        structure = self.decoder.structure(theta, joint.full_eta(z - mu))
        prediction = self.decoder.observe(structure, theta, sigma)
        expected = log_likelihood(prediction, joint.batch).mean(0).sum()
        divergence = gaussian_divergence(mean - mu, chol, joint.active_omega(omega))
        loss = weight * divergence - expected
        gradients = torch.autograd.grad(loss, state.optimiser.parameters)
        if all(bool(torch.isfinite(g).all()) for g in (loss, *gradients)):
            state.optimiser.step(gradients)
            state.failures = 0
        else:
            state.failures += 1
        objective = float(2.0 * (divergence - expected).detach())
        return (
            objective - joint.data.n_observations * LOG_2PI,
            (mean.detach(), chol.detach()),
            structure,
            prediction,
        )

    def _theta(self, state: VaeState) -> Tensor:
        """Return theta with the structural ones attached to the optimiser's tensor."""
        theta = torch.from_numpy(state.estimate.theta)
        if not self._structural:
            return theta
        free = torch.from_numpy(self.parameterisation.pack(state.estimate))
        free = free.index_put((torch.tensor(self._structural),), state.structural)
        moving = self.parameterisation.unpack(free)[0]
        index = [self.parameterisation.free_thetas[p] for p in self._structural]
        return theta.index_put((torch.tensor(index),), moving[index])

    def _m_step(
        self,
        state: VaeState,
        q: tuple[Tensor, Tensor],
        drawn: Structure,
        prediction: Prediction,
        price: float | None,
    ) -> None:
        joint, estimate = self.joint, state.estimate
        mean, chol = q
        fresh = Moments(mean.numpy(), (chol @ chol.mT).numpy())
        if not all(np.isfinite(m).all() for m in (fresh.mean, fresh.covariance)):
            state.failures += 1
            return
        gamma = self._gamma(state)
        state.moments = fresh if state.moments is None else state.moments.towards(fresh, gamma)
        theta = self._theta(state).detach().numpy().copy()
        penalty = None
        if self.penalty is not None:
            times = np.inf if price is None else price
            penalty = replace(self.penalty, price=self.penalty.price * times)
            if price is None:  # burn-in: only what is forced
                penalty = replace(penalty, price=self.penalty.price, forbidden=~self.penalty.forced)
        active = joint.active_omega(torch.from_numpy(estimate.omega)).numpy()
        if penalty is None:
            theta = self.regression.fixed(state.moments.mean, active, theta)
        else:
            theta, state.problem = self.regression.penalised(
                state.moments.mean, active, theta, penalty, state.support
            )
            state.support = state.problem.solution.support
        for j in joint.mu.mu_thetas:
            theta[j] = self.parameterisation.clip_theta(j, float(theta[j]))
        deviation = state.moments.mean - joint.active_mu(torch.from_numpy(theta)).numpy()
        omega = estimate.omega
        if price is not None:  # in burn-in the initial omega keeps individuals from straying
            omega = update_omega(joint.model, joint, omega, deviation, state.moments.covariance)
        after = Estimate(theta, omega, estimate.sigma)
        state.estimate = self._residual_step(after, drawn, prediction, gamma)

    def _gamma(self, state: VaeState) -> float:
        if state.smoothing_start is None:
            return 1.0
        return 1.0 / (state.number - state.smoothing_start + 1)

    def _residual_step(
        self, estimate: Estimate, drawn: Structure, prediction: Prediction, gamma: float
    ) -> Estimate:
        """Return the estimate with the residual model updated from the draws of the last step."""
        if not self.residual.positions:
            return estimate
        draws = prediction.mean.shape[0]
        share = torch.full((draws, self.joint.n_subjects), 1.0 / draws, dtype=torch.float64)
        sigma = self.residual.closed_form(prediction, share, estimate.sigma)
        if sigma is not None:
            moved = Estimate(estimate.theta, estimate.omega, sigma)
        else:
            kept = drawn.detach()

            def expected(parameters: tuple[Tensor, Tensor, Tensor]) -> Tensor:
                theta, _, sigma = parameters
                observed = self.decoder.observe(kept, theta, sigma)
                return -2.0 * (share * log_likelihood(observed, self.joint.batch)).sum()

            moved = self.residual.newton(estimate, expected, steps=1)
        if not all(np.isfinite(v).all() for v in (moved.sigma, moved.theta)):
            return estimate
        if gamma == 1.0:
            return moved
        old, new = self.parameterisation.pack(estimate), self.parameterisation.pack(moved)
        index = self.residual.positions
        old[index] += gamma * (new[index] - old[index])
        smoothed = self.parameterisation.natural(old)
        theta = estimate.theta.copy()
        residual = self.joint.mu.residual_thetas
        theta[residual] = smoothed.theta[residual]
        return Estimate(theta, estimate.omega, smoothed.sigma)

    def _tracked(self, estimate: Estimate) -> Array:
        """Return what the convergence test watches: mu in SDs, log variances, other thetas free."""
        joint = self.joint
        sd = np.sqrt(np.diag(estimate.omega)[joint.active])
        mu = joint.active_mu(torch.from_numpy(estimate.theta)).numpy().mean(0) / sd
        variances = np.concatenate([np.diag(estimate.sigma), sd**2])
        free = self.parameterisation.pack(estimate)
        others = [p for p in self.residual.positions if p < len(self.parameterisation.free_thetas)]
        return np.concatenate([mu, np.log(variances[variances > 0]), free[others + self._structural]])

    def terminate(self, state: VaeState) -> bool:
        """Return whether training is over; starts smoothing once nothing drifts beyond its noise."""
        s = self.settings
        if state.failures > 20:
            return True
        if state.smoothing_start is not None:
            return state.number >= state.smoothing_start + s.smoothing
        since = state.number - s.burn_in - s.annealing
        if since >= 2 * s.window:
            recent = np.array(state.track[-s.window :])
            before = np.array(state.track[-2 * s.window : -s.window])
            drift = np.abs(recent.mean(0) - before.mean(0))
            noise = np.sqrt(recent.var(0) + before.var(0)) / np.sqrt(s.window)
            same = all((a == state.support).all() for a in state.supports[-s.window :])
            state.settled = bool((drift < np.maximum(s.drift, 2.0 * noise)).all()) and same
        if state.settled or state.number >= s.max_iterations:
            state.smoothing_start, state.phase = state.number, "smoothing"
        return False


def train(method: VariationalAutoencoder, start: Estimate, observer: Observer, began: float) -> Trained:
    """Run the method to its end: the driver's loop over ``init``, ``step`` and ``terminate``."""
    state = method.init(start)
    s = method.settings
    likely = s.burn_in + s.annealing + 2 * s.window + s.smoothing
    done = False
    while not done:
        objective = method.step(state)
        seconds = time.perf_counter() - began
        left = seconds / state.number * max(likely - state.number, 0)
        observer(Iteration(state.phase, state.number, objective, state.estimate, seconds, left))
        done = method.terminate(state)
    with torch.no_grad():
        q_mean, q_chol = state.encoder(method.features)
    return Trained(
        state.estimate,
        q_mean,
        q_chol,
        state.encoder,
        method.features,
        state.problem,
        state.support,
        state.settled and state.failures <= 20,
    )
