"""The variables of a model at every record, as tables show them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ..data.kept import without_unused_memory
from ..estimate import Array, Estimate
from ..failure import ModelFailure
from ..ir.expression import Column, Expression, Known, Number, walk
from ..ir.model import Model
from ..ir.statement import Assign, If, assignments, conditions, flatten
from ..kernel.compile import compile_kernel
from ..kernel.kernel import Kernel, Predictions
from ..kernel.layout import assigned
from ..kernel.subjects import Subjects
from ..objective.population import Population

DEFAULTS = {"MDVRES": 0.0, "DV_LOQ": -np.inf, "DV_LAQ": np.inf}
"""Variables that tell the residuals of a record something, and start every record at these values.

MDVRES: 1 leaves the record out; DV_LOQ, DV_LAQ: the observation is only known not to be above, or below.
"""


def known_values(
    estimate: Estimate, component: NDArray[np.int64] | None, comact: int = 0
) -> dict[str, float | Array]:
    """Return what the run knows: elements of omega and sigma, each subject's subpopulation, the pass."""
    known: dict[str, float | Array] = {"comact": float(comact)}
    for name, matrix in (("omega", estimate.omega), ("sigma", estimate.sigma)):
        lower = matrix[np.tril_indices(len(matrix))]
        known |= {f"{name}({k + 1})": float(value) for k, value in enumerate(lower)}
    if component is not None:
        known["mixnum"] = known["mixest"] = component.astype(float)
    return known


def evaluated(
    kernel: Kernel,
    estimate: Estimate,
    eta: Array,
    known: Mapping[str, float | Array],
    threads: int,
    slopes: bool,
) -> Predictions:
    """Return the predictions at ``eta`` [id, eta] or [draw, id, eta], with ``slopes`` to it or not."""
    return kernel.evaluate(estimate.theta, eta, "eta" if slopes else "none", known, threads)


class Tabulation:
    """All variables of the model of ``population``.

    A variable that is assigned where the pass through the data is asked for (Known ``comact``) keeps the
    value of its record from pass to pass: in the pass with eta = 0, then in that with the etas that are shown
    (NONMEM's help, "displayed PRED-defined items").
    """

    def __init__(self, population: Population) -> None:
        model, data = population.model, population.data
        self.threads = population.threads
        self.saved = _copied(model)
        self.columns = {name: f"{name}@saved" for name in self.saved}
        own = {name.upper(): name for name in _assigned(model) if name.upper() in DEFAULTS}
        start: dict[str, Expression] = {name: Number(DEFAULTS[upper]) for upper, name in own.items()}
        start |= {name: Column(column) for name, column in self.columns.items()}
        model = model.replace(kept=tuple(name for name in model.kept if name not in start))
        model = _starting(model, start)
        # the analysis must not take the saved values for data
        model = without_unused_memory(model, data)
        data = replace(
            data, values=data.values | {c: np.zeros(data.n_records) for c in self.columns.values()}
        )
        try:
            compiled = compile_kernel(model, wanted=assigned(model.individual))
        except ModelFailure:
            # some variable that no table asks for cannot be had at a record: leave out all of those
            compiled = compile_kernel(model)
        self.kernel = Kernel(compiled, Subjects.build(compiled.model, data))
        self.data, self.subject = data, data.subject

    def __call__(
        self,
        estimate: Estimate,
        eta: Array,
        component: NDArray[np.int64] | None = None,
        component_eta: Array | None = None,
        *,
        conditional: bool = True,
        slopes: bool = False,
    ) -> Predictions:
        """Return all variables, one draw.

        Parameters
        ----------
        eta
            [id, eta] as shown.
        component, component_eta
            Subpopulation of each subject, from 1; etas [component, id, eta] under each of them.
        conditional
            Whether ``eta`` are conditional estimates; if not there is no pass after that with eta = 0.
        """
        if not self.saved:
            known = known_values(estimate, component, 2 if conditional else 1)
            return evaluated(self.kernel, estimate, eta, known, self.threads, slopes)
        for column in self.columns.values():
            self.data.values[column][:] = 0.0
        zero = np.zeros_like(eta)
        passes: list[tuple[int, Array, NDArray[np.int64] | None]] = []
        for comact in (1, 2) if conditional else (1,):
            if component is not None and component_eta is not None:
                for c, own in enumerate(component_eta):
                    at = zero if comact == 1 else own
                    passes.append((comact, at, np.full(len(eta), c + 1, dtype=np.int64)))
            passes.append((comact, zero if comact == 1 else eta, component))
        for comact, at, own_component in passes:
            known = known_values(estimate, own_component, comact)
            if component is not None:
                known["mixest"] = component.astype(float)
            made = evaluated(self.kernel, estimate, at, known, self.threads, slopes)
            for name, column in self.columns.items():
                self.data.values[column][:] = made.of(name)[0]
        return made


def _copied(model: Model) -> tuple[str, ...]:
    """Return the variables that are assigned where the pass through the data is asked for."""
    found: dict[str, None] = {}
    for statement in flatten((*model.individual, *model.observation.statements)):
        if isinstance(statement, If) and any(_asks_for_pass(c) for c in conditions(statement)):
            found |= {a.target: None for a in assignments((statement,))}
    return tuple(found)


def _asks_for_pass(condition: Expression) -> bool:
    return any(part == Known("comact") for part in walk(condition))


def _starting(model: Model, start: Mapping[str, Expression]) -> Model:
    """Return ``model`` with each of these variables starting a record at a value of its own."""
    individual = set(assigned(model.individual))
    first = tuple(Assign(name, value) for name, value in start.items() if name in individual)
    later = tuple(Assign(name, value) for name, value in start.items() if name not in individual)
    observation = model.observation
    return model.replace(
        individual=(*first, *model.individual),
        observation=replace(observation, statements=(*later, *observation.statements)),
    )


def _assigned(model: Model) -> tuple[str, ...]:
    return (*assigned(model.individual), *assigned(model.observation.statements))
