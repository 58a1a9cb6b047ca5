"""Searches that run off: the objective falls along a ridge and its minimum lies at infinity.

On a logarithmic scale such a fall becomes ever slower (as exp(-t), where two parameters grow in proportion),
so that it ends like a search that converged: next to nothing is left to gain. What tells them apart is
that the objective does not rise again: it stays level over a whole e-fold of parameters that came from afar.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ..parameterisation.unconstrained import Parameterisation
from .quasi_newton import Function, Minimum

LEVEL = 0.1  # rise over an e-fold below which a parameter is not even known to a factor of 20
FLAT = 0.1  # second derivative to logarithms below which the objective may be as level as that
NEARLY = 1.0  # likewise, of what the search believes: it knows the way that it came, not its end
AFAR = 2.0  # length of the way since the start, in logarithms: a factor of 7 of one parameter
NAMED = 0.3  # share of the longest way from which parameters are named


class Scaled(Function, Protocol):
    """A function of scaled parameters, all zero at the start."""

    parameterisation: Parameterisation


def runs_off(function: Scaled, found: Minimum) -> NDArray[np.bool_]:
    """Return the parameters that have run off at the end of a search; none where there is a minimum.

    Looked at are the directions in which the search knows of little or no curvature. Where the way that it
    came along them is long, the objective is evaluated one e-fold farther on the same way. Parameters on
    their way to a finite bound do not count: they end there.
    """
    point = found.best.point
    off = np.zeros(len(point), dtype=bool)
    logarithmic, open_below, open_above = _scales(function.parameterisation)
    size = np.where(logarithmic, 1.0, 1.0 + np.abs(point))
    way = np.where(logarithmic, point, np.sign(point) * np.log1p(np.abs(point)))
    values, vectors = np.linalg.eigh(found.hessian * np.outer(size, size))
    near = np.flatnonzero((values >= FLAT) & (values < NEARLY))
    for chosen in (values < FLAT, *(np.arange(len(values)) == k for k in near)):
        along = vectors[:, chosen] @ (vectors[:, chosen].T @ way)
        endless = np.where(along > 0, open_above, open_below)
        if np.linalg.norm(along[endless]) < AFAR:
            continue
        farther = point + size * along / np.linalg.norm(along)
        value, _ = function.value(farther, found.best.memory)
        if value - found.best.value < LEVEL:
            off |= endless & (np.abs(along) > NAMED * np.abs(along[endless]).max())
    return off


def _scales(made: Parameterisation) -> tuple[NDArray[np.bool_], NDArray[np.bool_], NDArray[np.bool_]]:
    """Return which free parameters are logarithms, and which have no bound below and above."""
    logarithmic = np.zeros(made.size, dtype=bool)
    below, above = np.ones(made.size, dtype=bool), np.ones(made.size, dtype=bool)
    for k, j in enumerate(made.free_thetas):
        transform = made.transforms[j]
        logarithmic[k] = not transform.is_identity
        below[k], above[k] = np.isinf(transform.lower), np.isinf(transform.upper)
    for slot in (*made.omega_slots, *made.sigma_slots):
        rows, columns = slot.lower
        diagonal = np.array(slot.positions)[rows == columns]
        logarithmic[diagonal], below[diagonal] = True, False
    return logarithmic, below, above
