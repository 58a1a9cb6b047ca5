"""The way down to a conditional mode, of all subjects at once.

Damped Newton steps (Levenberg 1944; Marquardt 1963) on the expected information, to which secant updates add
what it lacks of the exact second derivative (structured as in Dennis, Gay and Welsch 1981, symmetric rank
one); where that does not lead to a minimum, on the exact second derivative by differences of exact gradients.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..estimate import Array
from ..ir.compartment import OdeDynamics
from ..objective.points import Points
from .precision import half_second_derivative, is_definite

FAR = 1.0  # from modes given that turn out to be farther away than this, eta = 0 is tried, too
NEAR = 1e-2  # within this length of the mode the gradient is a better guide than the value
ROUNDING = 1e-6  # relative, of a value: an integrator's at the loosest
SETTLED = 1e-4  # a step this short that cannot be improved on is rounding error
HIGHER = 1e-8  # relative: modes this much lower are others, not the same with more digits
PATIENCE = 4  # trials without progress until that is believed
PATIENT = 30  # iterations on the expected information before the exact second derivative is used
# relative tolerance of an integrator on the way to modes that are far, and the length of a Newton step in
# posterior standard deviations at which that way ends
ROUGH = 1e-3
GLANCE = 1e-3  # displacement that looks for saddles, in posterior standard deviations
ESCAPES = (1.0, -1.0, 0.3, -0.3, 0.1, -0.1, 0.02, -0.02)  # displacements tried from a saddle
DISPLACEMENT = 1e-3  # of the exact second derivative, in posterior standard deviations


@dataclass(eq=False)
class ModeState:
    """Where each subject stands; ``value`` and ``gradient`` are of half the objective, active etas only."""

    begun: Array  # [id, eta]
    eta: Array  # [id, eta]
    value: Array  # [id]
    gradient: Array  # [id, active]
    precision: Array  # [id, active, active]
    known: Array  # [id, active, active], the precision without that of the prior
    converged: NDArray[np.bool_]

    def where(self, chosen: NDArray[np.bool_], other: ModeState) -> ModeState:
        """Return this state with ``other`` in place of it for the chosen subjects."""
        parts = {}
        for name, own in vars(self).items():
            mask = chosen.reshape(-1, *[1] * (own.ndim - 1))
            parts[name] = np.where(mask, getattr(other, name), own)
        return ModeState(**parts)


class ModeSearch:
    """The search at one estimate: ``prior`` is the precision of the active etas, ``whitening`` its root.

    ``whitening' whitening`` is ``prior``; where omega is almost singular, it has digits left.
    """

    def __init__(self, points: Points, active: NDArray[np.int64], prior: Array, whitening: Array) -> None:
        self.points, self.active, self.prior = points, active, prior
        self.whitening = whitening
        dynamics = points.likelihood.model.dynamics
        self.settled = SETTLED
        if isinstance(dynamics, OdeDynamics):
            # a step of length d changes the value by d^2 / 2, which an integrator does not see below this
            self.settled = max(SETTLED, dynamics.relative_tolerance**0.5)

    def evaluate(self, eta: Array, wanted: NDArray[np.bool_] | None = None) -> ModeState:
        """Return the states at ``eta`` [id, eta]; without a finite value where not ``wanted``."""
        active = self.active
        terms = self.points(eta[None], "eta", wanted=wanted)
        own = eta[:, active]
        white = own @ self.whitening.T
        value = 0.5 * (terms.value[0] + (white * white).sum(-1))
        gradient = 0.5 * terms.gradient[0][:, active] + white @ self.whitening
        known = terms.information[0][:, active[:, None], active]
        precision = known + self.prior
        sound = np.isfinite(value) & np.isfinite(gradient).all(-1) & is_definite(precision)
        value = np.where(sound, value, np.inf)
        gradient = np.where(sound[:, None], gradient, 0.0)
        precision = np.where(sound[:, None, None], precision, self.prior)
        return ModeState(eta, eta, value, gradient, precision, known, np.zeros(value.shape, dtype=bool))

    def better(self, state: ModeState, eta: Array, wanted: NDArray[np.bool_] | None = None) -> ModeState:
        """Return ``state`` with ``eta`` [id, eta] in its place where that has a lower value."""
        if wanted is not None and not wanted.any():
            return state
        tried = self.evaluate(eta, wanted)
        return state.where(tried.value < state.value, tried)

    @staticmethod
    def is_far(state: ModeState) -> NDArray[np.bool_]:
        """Return which subjects are far from a mode."""
        far: NDArray[np.bool_] = ~(squared_lengths(state) <= FAR**2)
        return far

    def approach(self, state: ModeState, iterations: int) -> tuple[ModeState, Array | None]:
        """Return ``state`` moved near the modes that are far, with differential equations solved roughly.

        Most of a long way is as good at three digits, which take half the time. Returned with it is what the
        expected information was found to lack, [id, active, active].
        """
        far = np.isfinite(state.value) & self.is_far(state)
        points = self.points.roughly(ROUGH) if far.any() else None
        if points is None:
            return state, None
        rough = ModeSearch(points, self.active, self.prior, self.whitening)
        missing = np.zeros_like(state.precision)
        near = rough.descend(rough.evaluate(state.eta, far), ROUGH, min(iterations, PATIENT), missing)
        return self.better(state, near.eta, far & np.isfinite(near.value)), missing

    def other_modes(
        self, state: ModeState, starts: list[Array], tolerance: float, iterations: int
    ) -> ModeState:
        """Return ``state`` with the mode below the best of ``starts`` where that is the better one."""
        other = self.evaluate(starts[0])
        for start in starts[1:]:
            other = self.better(other, start)
        other = self.descend(other, tolerance, iterations)
        lower = other.value < state.value - HIGHER * (1.0 + np.abs(state.value))
        return state.where(other.converged & (lower | ~state.converged), other)

    def exact(self, state: ModeState, wanted: NDArray[np.bool_]) -> Array:
        """Return half the exact second derivative [id, active, active], expected where that is not finite."""
        found = half_second_derivative(
            self.points, state.eta, state.precision, self.active, DISPLACEMENT, 2, wanted
        )
        found = found + self.prior
        sound = np.isfinite(found).all((-1, -2), keepdims=True)
        return np.asarray(np.where(sound, found, state.precision))

    def leave_saddles(self, state: ModeState, tolerance: float, iterations: int) -> ModeState:
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

    def descend(
        self, state: ModeState, tolerance: float, iterations: int, missing: Array | None = None
    ) -> ModeState:
        """Go down from ``state`` until every subject is at its mode or has used up its iterations.

        ``missing`` [id, active, active] is what the expected information lacks; it is changed in place.
        """
        n, size = state.gradient.shape
        state = state.where(np.zeros(n, dtype=bool), state)
        damping, stalled = np.zeros(n), np.zeros(n, dtype=np.int64)
        missing = np.zeros((n, size, size)) if missing is None else missing
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
            after = np.sqrt(squared_lengths(new))
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
                missing[accepted] = _secant(missing, step, state, new)[accepted]
            begun = state.begun
            state = state.where(accepted, new)
            state.begun = begun
            if iteration >= PATIENT:
                missing[:] = self.exact(state, open_) - state.precision
        return state


def squared_lengths(state: ModeState) -> Array:
    """Return the squared lengths of the Newton steps on the expected information, infinite beyond numbers."""
    with np.errstate(over="ignore", invalid="ignore"):  # a trial far out, where predictions nearly overflow
        solved = np.linalg.solve(state.precision, state.gradient[..., None])[..., 0]
        squares = (solved * state.gradient).sum(-1)
    return np.asarray(np.where(np.isnan(squares), np.inf, np.maximum(squares, 0.0)))


def _secant(missing: Array, step: Array, old: ModeState, new: ModeState) -> Array:
    """Return the symmetric rank-one update of what the information lacks, such that the step is explained."""
    change = new.gradient - old.gradient
    rest = change - np.einsum("ipq,iq->ip", new.precision + missing, step)
    along = (rest * step).sum(-1)
    with np.errstate(over="ignore"):
        enough = np.abs(along) > 1e-6 * np.sqrt((rest * rest).sum(-1) * (step * step).sum(-1))
    scale = np.where(enough, 1.0 / np.where(enough, along, 1.0), 0.0)
    return np.asarray(missing + scale[:, None, None] * rest[:, :, None] * rest[:, None, :])
