"""The scaled parameters in which a legacy engine reports its search: each starts at 0.1.

A bounded theta and the logarithm of a Cholesky diagonal move by their change on the unconstrained scale, an
unbounded theta and a Cholesky element off the diagonal in proportion to their initial value. Order: thetas,
then each block of omega column by column, then sigma.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..estimate import Array, Estimate
from .unconstrained import Parameterisation

START = 0.1


class ScaledParameters:
    """The linear map between the free vector and the scaled parameters of a search from ``start``."""

    def __init__(self, parameterisation: Parameterisation, start: Array) -> None:
        self.parameterisation, self.start = parameterisation, start
        proportional = np.zeros(parameterisation.size, dtype=bool)
        for k, j in enumerate(parameterisation.free_thetas):
            proportional[k] = parameterisation.transforms[j].is_identity
        order = list(range(len(parameterisation.free_thetas)))
        self._natural: list[tuple[str, int, int]] = [("theta", j, j) for j in parameterisation.free_thetas]
        for letter, slots in (
            ("omega", parameterisation.omega_slots),
            ("sigma", parameterisation.sigma_slots),
        ):
            for slot in slots:
                rows, columns = slot.lower
                places = np.array(slot.positions)
                proportional[places[rows != columns]] = True
                by_column = np.lexsort((rows, columns))
                order += places[by_column].tolist()
                first = slot.block.first - 1
                self._natural += [(letter, first + int(rows[i]), first + int(columns[i])) for i in by_column]
        # a parameter that starts at zero has no scale of its own
        self._slope = np.where(proportional & (start != 0), START / np.where(start != 0, start, 1.0), 1.0)
        self._order: NDArray[np.intp] = np.array(order, dtype=np.intp)

    def values(self, free: Array) -> Array:
        """Return the scaled parameters of a free vector."""
        return (START + self._slope * (free - self.start))[self._order]

    def gradient(self, free_gradient: Array) -> Array:
        """Return derivatives to the scaled parameters, of derivatives to the free ones."""
        return (free_gradient / self._slope)[self._order]

    def natural(self, estimate: Estimate) -> Array:
        """Return the natural parameters in the same order."""
        return np.array(
            [
                estimate.theta[i] if name == "theta" else getattr(estimate, name)[i, j]
                for name, i, j in self._natural
            ]
        )
