"""Conditional modes: for each subject the eta that minimises -2 log p(y, eta), all subjects at once.

Damped Newton steps (Levenberg 1944; Marquardt 1963) on the expected information, to which secant updates add
what it lacks of the exact second derivative (structured as in Dennis, Gay and Welsch 1981, symmetric rank
one); where that does not lead to a minimum, on the exact second derivative by differences of exact gradients.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..estimate import Array, Estimate
from ..ir.compartment import OdeDynamics
from ..objective.observations import ObservationLikelihood
from ..objective.points import Points

TOLERANCE = 1e-9  # length of the last Newton step, in posterior standard deviations
FAR = 1.0  # from modes given that turn out to be farther away than this, eta = 0 is tried, too
NEAR = 1e-2  # within this length of the mode the gradient is a better guide than the value
ROUNDING = 1e-6  # relative, of a value: an integrator's at the loosest
SETTLED = 1e-4  # a step this short that cannot be improved on is rounding error
HIGHER = 1e-8  # relative: modes this much lower are others, not the same with more digits
PATIENCE = 4  # trials without progress until that is believed
PATIENT = 30  # iterations on the expected information before the exact second derivative is used
ITERATIONS = 90
GLANCE = 1e-3  # displacement that looks for saddles, in posterior standard deviations
ESCAPES = (1.0, -1.0, 0.3, -0.3, 0.1, -0.1, 0.02, -0.02)  # displacements tried from a saddle
DISPLACEMENT = 1e-3  # of the exact second derivative, in posterior standard deviations


@dataclass(frozen=True, eq=False)
class Modes:
    """Conditional modes of all subjects.

    Attributes
    ----------
    eta
        [id, eta], zero for etas without variance.
    value
        [id], -2 log p(y | eta) + eta' Omega^-1 eta at the mode; infinite where the model fails everywhere.
    information
        [id, eta, eta], posterior precision: expected information plus Omega^-1; zero for etas without
        variance.
    converged
        bool[id].
    """

    eta: Array
    value: Array
    information: Array
    converged: NDArray[np.bool_]


def active_etas(omega: Array) -> NDArray[np.int64]:
    """Return the etas (from 0) with non-zero variance."""
    return np.flatnonzero(np.diag(omega) > 0)


def prior_precision(omega: Array) -> tuple[Array, float] | None:
    """Return the inverse of ``omega`` and its log determinant; None where it is not positive definite."""
    try:
        root = np.linalg.cholesky(omega)
    except np.linalg.LinAlgError:
        return None
    inverse = np.linalg.inv(root)
    return inverse.T @ inverse, float(2.0 * np.log(np.diag(root)).sum())


def find_modes(
    likelihood: ObservationLikelihood,
    estimate: Estimate,
    start: Array | None = None,
    *,
    interaction: bool = True,
    draws: int = 0,
    seed: int = 0,
    tolerance: float = TOLERANCE,
    iterations: int = ITERATIONS,
    points: Points | None = None,
    thorough: bool = False,
) -> Modes:
    """Return the conditional modes of all subjects.

    Parameters
    ----------
    start
        [id, eta]: modes nearby; where they are not near, eta = 0 is tried, too. Default: eta = 0.
    interaction
        Whether the residual variance depends on eta.
    draws, seed
        Number of random starts from the prior: from the best of them the search goes down, too.
    tolerance
        Largest last step in posterior standard deviations.
    points
        The likelihood at ``estimate``, where the caller has it already.
    thorough
        Whether eta = 0 is one of those other starts wherever ``start`` is. Of two modes the better is kept.

    Raises
    ------
    ValueError
        Where omega is not positive definite over the etas with variance.
    """
    points = Points(likelihood, estimate, interaction) if points is None else points
    active = active_etas(estimate.omega)
    omega = estimate.omega[np.ix_(active, active)]
    prior = prior_precision(omega)
    if prior is None:
        raise ValueError("omega is not positive definite")
    search = _Search(points, active, prior[0])
    zero = np.zeros((likelihood.n_subjects, likelihood.n_etas))
    if start is None:
        state = search.evaluate(zero)
    else:
        state = search.evaluate(np.asarray(start, dtype=float))
        far = ~(_squares(state) <= FAR**2) | ~np.isfinite(state.value)
        state = search.better(state, zero, far)
    others = list(_prior_draws(omega, active, zero.shape, draws, seed))
    if thorough and start is not None:
        others.append(zero)
    if not len(active):
        state.converged = np.isfinite(state.value)
    else:
        state = search.descend(state, tolerance, iterations)
        if others:
            state = search.other_modes(state, others, tolerance, iterations)
        lost = ~state.converged & state.begun.any(1)
        if lost.any():
            again = search.descend(search.evaluate(zero, lost), tolerance, iterations)
            state = state.where(lost & again.converged, again)
        state = search.leave_saddles(state, tolerance, iterations)
    information = np.zeros((likelihood.n_subjects, likelihood.n_etas, likelihood.n_etas))
    information[:, active[:, None], active] = state.precision
    return Modes(state.eta, 2.0 * state.value, information, state.converged)


@dataclass(eq=False)
class _State:
    """Where each subject stands; ``value`` and ``gradient`` are of half the objective, active etas only."""

    begun: Array  # [id, eta]
    eta: Array  # [id, eta]
    value: Array  # [id]
    gradient: Array  # [id, active]
    precision: Array  # [id, active, active]
    converged: NDArray[np.bool_]

    def where(self, chosen: NDArray[np.bool_], other: _State) -> _State:
        """Return this state with ``other`` in place of it for the chosen subjects."""
        parts = {}
        for name, own in vars(self).items():
            mask = chosen.reshape(-1, *[1] * (own.ndim - 1))
            parts[name] = np.where(mask, getattr(other, name), own)
        return _State(**parts)


class _Search:
    def __init__(self, points: Points, active: NDArray[np.int64], prior: Array) -> None:
        self.points, self.active, self.prior = points, active, prior
        dynamics = points.likelihood.model.dynamics
        self.settled = SETTLED
        if isinstance(dynamics, OdeDynamics):
            # a step of length d changes the value by d^2 / 2, which an integrator does not see below this
            self.settled = max(SETTLED, dynamics.relative_tolerance**0.5)

    def evaluate(self, eta: Array, wanted: NDArray[np.bool_] | None = None) -> _State:
        """Return the states at ``eta`` [id, eta]; without a finite value where not ``wanted``."""
        active = self.active
        terms = self.points(eta[None], "eta", wanted=wanted)
        own = eta[:, active]
        pull = own @ self.prior
        value = 0.5 * (terms.value[0] + (own * pull).sum(-1))
        gradient = 0.5 * terms.gradient[0][:, active] + pull
        precision = terms.information[0][:, active[:, None], active] + self.prior
        sound = np.isfinite(value) & np.isfinite(gradient).all(-1) & _definite(precision)
        value = np.where(sound, value, np.inf)
        gradient = np.where(sound[:, None], gradient, 0.0)
        precision = np.where(sound[:, None, None], precision, self.prior)
        return _State(eta, eta, value, gradient, precision, np.zeros(value.shape, dtype=bool))

    def better(self, state: _State, eta: Array, wanted: NDArray[np.bool_] | None = None) -> _State:
        """Return ``state`` with ``eta`` [id, eta] in its place where that has a lower value."""
        if wanted is not None and not wanted.any():
            return state
        tried = self.evaluate(eta, wanted)
        return state.where(tried.value < state.value, tried)

    def other_modes(self, state: _State, starts: list[Array], tolerance: float, iterations: int) -> _State:
        """Return ``state`` with the mode below the best of ``starts`` where that is the better one."""
        other = self.evaluate(starts[0])
        for start in starts[1:]:
            other = self.better(other, start)
        other = self.descend(other, tolerance, iterations)
        lower = other.value < state.value - HIGHER * (1.0 + np.abs(state.value))
        return state.where(other.converged & (lower | ~state.converged), other)

    def exact(self, state: _State, wanted: NDArray[np.bool_]) -> Array:
        """Return half the exact second derivative [id, active, active], expected where that is not finite."""
        found = half_second_derivative(
            self.points, state.eta, state.precision, self.active, DISPLACEMENT, 2, wanted
        )
        found = found + self.prior
        sound = np.isfinite(found).all((-1, -2), keepdims=True)
        return np.asarray(np.where(sound, found, state.precision))

    def leave_saddles(self, state: _State, tolerance: float, iterations: int) -> _State:
        """Return ``state`` with those subjects moved on that came to rest on a saddle.

        The expected information cannot see one: where parameters change places (a transit and an absorption
        rate, say) its own part vanishes along the exchange. The exact curvature is looked at along the
        direction in which the data say least.
        """
        inverse = np.linalg.inv(np.linalg.cholesky(state.precision))
        _, vectors = np.linalg.eigh(inverse @ self.prior @ inverse.transpose(0, 2, 1))
        direction = np.zeros_like(state.eta)
        direction[:, self.active] = np.einsum("iqp,iq->ip", inverse, vectors[..., -1])
        ahead = self.evaluate(state.eta + GLANCE * direction, state.converged)
        change = (ahead.gradient - state.gradient) * direction[:, self.active]
        saddle = state.converged & np.isfinite(ahead.value) & (change.sum(-1) < 0.0)
        if not saddle.any():
            return state
        start = state
        for length in ESCAPES:
            start = self.better(start, state.eta + length * direction, saddle)
        moved = saddle & (start.value < state.value)
        if not moved.any():
            return state
        start.converged = ~moved
        found = self.descend(start, tolerance, iterations)
        return state.where(moved & found.converged & (found.value < state.value), found)

    def descend(self, state: _State, tolerance: float, iterations: int) -> _State:
        """Go down from ``state`` until every subject is at its mode or has used up its iterations."""
        n, size = state.gradient.shape
        state = state.where(np.zeros(n, dtype=bool), state)
        damping, stalled = np.zeros(n), np.zeros(n, dtype=np.int64)
        missing = np.zeros((n, size, size))  # what the expected information lacks
        hopeless = ~np.isfinite(state.value)
        for iteration in range(iterations):
            root = np.linalg.cholesky(state.precision)
            inverse = np.linalg.inv(root)
            white = np.einsum("ipq,iq->ip", inverse, state.gradient)
            shape = inverse @ missing @ inverse.transpose(0, 2, 1)
            values, vectors = np.linalg.eigh(shape)
            curvature = np.maximum(np.abs(1.0 + values), 1e-3)
            turned = np.einsum("ipq,ip->iq", vectors, white)
            newton = turned / curvature
            length = np.sqrt((newton * newton * curvature).sum(-1))
            state.converged |= (length <= tolerance) | ((stalled >= PATIENCE) & (length < self.settled))
            open_ = ~state.converged & ~hopeless
            if not open_.any():
                break
            moved = -turned / (curvature + damping[:, None])
            step = np.einsum("iqp,iqr,ir->ip", inverse, vectors, moved)
            promised = -(turned * moved + 0.5 * curvature * moved * moved).sum(-1)
            tried = state.eta.copy()
            tried[:, self.active] += np.where(open_[:, None], step, 0.0)
            new = self.evaluate(tried, open_)
            with np.errstate(all="ignore"):
                ratio = (state.value - new.value) / promised
            after = np.sqrt(_squares(new))
            before = np.sqrt((white * white).sum(-1))
            better = (ratio > 1e-4) & (promised > 0.0)
            slack = ROUNDING * (1.0 + np.abs(state.value))
            closer = (new.value <= state.value + slack) & (length < NEAR) & (after < before)
            accepted = open_ & (better | closer)
            progress = accepted & (after < 0.5 * before) | (accepted & better & (length >= NEAR))
            stalled = np.where(progress, 0, stalled + 1)
            good = closer | (ratio > 0.75)
            damping = np.where(
                accepted & good,
                np.where(damping > 1e-2, 0.2 * damping, 0.0),
                np.where(accepted & (ratio > 0.25), damping, np.maximum(4.0 * damping, 0.25)),
            )
            if iteration < PATIENT:
                missing = np.where(accepted[:, None, None], _secant(missing, step, state, new), missing)
            begun = state.begun
            state = state.where(accepted, new)
            state.begun = begun
            if iteration >= PATIENT:
                missing = self.exact(state, open_) - state.precision
        return state


def half_second_derivative(
    points: Points,
    eta: Array,
    precision: Array,
    active: NDArray[np.int64],
    step: float,
    order: int,
    wanted: NDArray[np.bool_] | None = None,
) -> Array:
    """Return half the second derivative of -2 log p(y | eta) to the active etas, [id, active, active].

    Central differences of exact gradients, ``order`` 2 or 4, over ``step`` standard deviations of each eta
    given the others (``precision`` [id, active, active]).
    """
    size = step / np.sqrt(np.einsum("ipp->ip", precision))
    units = np.zeros((len(active), *eta.shape))
    for k, eta_k in enumerate(active):
        units[k, :, eta_k] = size[:, k]
    weights = np.array([0.5]) if order == 2 else np.array([2.0 / 3.0, -1.0 / 12.0])
    multiples = np.arange(1, len(weights) + 1)
    moves = np.concatenate([sign * m * units for m in multiples for sign in (1.0, -1.0)])
    gradient = points(eta + moves, "eta", wanted=wanted).gradient[..., active]
    gradient = gradient.reshape(len(weights), 2, len(active), *gradient.shape[1:])
    with np.errstate(invalid="ignore"):
        change = np.einsum("w,wkip->kip", weights, gradient[:, 0] - gradient[:, 1])
    second = 0.5 * (change / size.T[:, :, None]).transpose(1, 0, 2)
    return np.asarray(0.5 * (second + second.transpose(0, 2, 1)))


def log_determinant(matrices: Array) -> Array:
    """Return log|H| of each matrix, infinite where it is not positive definite."""
    finite = np.asarray(np.isfinite(matrices).all((-1, -2)))
    values = np.linalg.eigvalsh(np.where(finite[..., None, None], matrices, np.eye(matrices.shape[-1])))
    sound = finite & (values > 0.0).all(-1)
    logs = np.log(np.where(values > 0.0, values, 1.0)).sum(-1)
    return np.asarray(np.where(sound, logs, np.inf))


def _definite(matrices: Array) -> NDArray[np.bool_]:
    """Return which matrices are positive definite, by more than rounding whatever the scales of their rows.

    Far out an information may hold 1e200 beside the prior's 1: its eigenvalues are positive then, and an
    elimination still meets a zero.
    """
    diagonal = np.einsum("ipp->ip", matrices)
    sound = np.isfinite(matrices).all((-1, -2)) & (diagonal > 0.0).all(-1)
    size = matrices.shape[-1]
    root = np.sqrt(np.where(sound[:, None], diagonal, 1.0))
    scaled = np.where(sound[:, None, None], matrices, np.eye(size)) / root[:, :, None] / root[:, None, :]
    smallest = np.linalg.eigvalsh(scaled)[:, 0] if size else np.ones(len(scaled))
    return np.asarray(sound & (smallest > size * np.finfo(float).eps))


def _squares(state: _State) -> Array:
    """Return the squared lengths of the Newton steps on the expected information, infinite beyond numbers."""
    with np.errstate(over="ignore", invalid="ignore"):  # a trial far out, where predictions nearly overflow
        solved = np.linalg.solve(state.precision, state.gradient[..., None])[..., 0]
        squares = (solved * state.gradient).sum(-1)
    return np.asarray(np.where(np.isnan(squares), np.inf, np.maximum(squares, 0.0)))


def _prior_draws(
    omega: Array, active: NDArray[np.int64], shape: tuple[int, ...], draws: int, seed: int
) -> Array:
    """Return [draw, id, eta] from the prior."""
    found = np.zeros((draws, *shape))
    noise = np.random.default_rng(seed).standard_normal((draws, shape[0], len(active)))
    found[..., active] = noise @ np.linalg.cholesky(omega).T
    return found


def _secant(missing: Array, step: Array, old: _State, new: _State) -> Array:
    """Return the symmetric rank-one update of what the information lacks, such that the step is explained."""
    change = new.gradient - old.gradient
    rest = change - np.einsum("ipq,iq->ip", new.precision + missing, step)
    along = (rest * step).sum(-1)
    with np.errstate(over="ignore"):
        enough = np.abs(along) > 1e-6 * np.sqrt((rest * rest).sum(-1) * (step * step).sum(-1))
    scale = np.where(enough, 1.0 / np.where(enough, along, 1.0), 0.0)
    return np.asarray(missing + scale[:, None, None] * rest[:, :, None] * rest[:, None, :])
