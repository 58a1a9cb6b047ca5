"""The numpy face of the compiled decoder: predictions of all subjects with exact derivatives."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ..failure import ModelFailure
from .arguments import design_of, events_of, items_of, layout_sizes
from .compile import SIGNATURES, CompiledModel
from .events.course import Events
from .events.individual import Items
from .events.motion import Design
from .layout import Layout
from .machine.bare import BARE_INDIVIDUAL, BARE_OBSERVE, BARE_SLOPES
from .machine.by_reference import address_of, pieces
from .passes import compiled_passes
from .status import Status, describe
from .subjects import Subjects

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

CHUNKS_PER_THREAD = 4


@dataclass(frozen=True)
class Directions:
    """What to differentiate along: how ``theta`` [n_theta, nq] and ``eta`` [n_eta, nq] move."""

    theta: Floats
    eta: Floats

    @classmethod
    def make(cls, which: Literal["none", "eta", "eta+theta"], n_theta: int, n_eta: int) -> Directions:
        """Return no directions, the etas, or the etas and then the thetas."""
        nq = {"none": 0, "eta": n_eta, "eta+theta": n_eta + n_theta}[which]
        theta, eta = np.zeros((n_theta, nq)), np.zeros((n_eta, nq))
        if nq > 0:
            eta[:, :n_eta] = np.eye(n_eta)
        if which == "eta+theta":
            theta[:, n_eta:] = np.eye(n_theta)
        return cls(theta, eta)


@cache
def _along(which: Literal["none", "eta", "eta+theta"], n_theta: int, n_eta: int) -> Directions:
    """Return :meth:`Directions.make`, once: nobody else gets these arrays, so nobody changes them."""
    return Directions.make(which, n_theta, n_eta)


@cache
def _no_psi(nq: int) -> tuple[Floats, Floats]:
    """Return what stands for parameters that are computed, not given."""
    return np.zeros((0, 0, 0, 0)), np.zeros((0, 0, 0, 0, nq))


@dataclass(frozen=True, eq=False)
class Predictions:
    """What the model says at every record.

    Attributes
    ----------
    values
        [draw, record, output], outputs in the order of ``layout.outputs``; NaN for subjects that failed.
    derivatives
        [draw, record, output, direction].
    status
        int64[draw, id]: 0, or a code that :func:`.status.describe` puts in words.
    """

    values: Floats
    derivatives: Floats
    status: Integers
    layout: Layout

    def of(self, name: str) -> Floats:
        """Return variable ``name`` at every record, [draw, record]."""
        slot = self.layout.output_slot(name)
        if slot is None:
            raise KeyError(name)
        return self.values[:, :, slot]

    @property
    def failure(self) -> Status | None:
        """The first failure in words, or None."""
        failed = self.status[self.status != 0]
        return describe(int(failed[0])) if failed.size else None


@dataclass(frozen=True, eq=False)
class Kernel:
    """A compiled model together with its subjects.

    Raises :class:`ModelFailure` at the data line for doses that the model cannot take.
    """

    compiled: CompiledModel
    subjects: Subjects

    def __post_init__(self) -> None:
        """Check the doses against the model."""
        _ = self.events

    @cached_property
    def design(self) -> Design:
        """What the event loop knows of the model."""
        return design_of(self.compiled, self.subjects)

    @cached_property
    def events(self) -> Events:
        """The event arrays."""
        return events_of(self.subjects, self.compiled.model, self.design, self.compiled.layout.known)

    @cached_property
    def addresses(self) -> Integers:
        """Where the machine code of the passes' functions lies."""
        compiled = self.compiled
        model = (
            (compiled.bare["individual"], BARE_INDIVIDUAL.signature),
            (compiled.bare["slopes"], BARE_SLOPES.signature),
            (compiled.jacobian, SIGNATURES["jacobian"]),
            (compiled.equilibrium, SIGNATURES["equilibrium"]),
            (compiled.bare["observe"], BARE_OBSERVE.signature),
        )
        own = np.array([address_of(function, signature) for function, signature in model], dtype=np.int64)
        return np.concatenate([compiled_passes()[0], own])

    @cached_property
    def items(self) -> Items:
        """What the statements read at every record of an ordinary run."""
        return items_of(self.subjects, self.compiled, {})

    @cached_property
    def sizes(self) -> Integers:
        """Sizes that the passes allocate by."""
        return layout_sizes(self.compiled.layout, self.events)

    @cached_property
    def _fixed(self) -> tuple[tuple[Any, ...], ...]:
        """Design and events as the passes take them."""
        return pieces(self.design), pieces(self.events)

    @cached_property
    def _ordinary(self) -> tuple[Any, ...]:
        """The items of an ordinary run as the passes take them; a model may need more to be known."""
        return pieces(self.items)

    def evaluate(
        self,
        theta: Floats,
        eta: Floats,
        directions: Literal["none", "eta", "eta+theta"] | Directions = "none",
        known: Mapping[str, float | Floats] | None = None,
        threads: int = 1,
    ) -> Predictions:
        """Evaluate the model.

        Parameters
        ----------
        theta
            [n_theta], or [draw, n_theta].
        eta
            [draw, id, n_eta], or [id, n_eta] for one draw.
        directions
            What to differentiate along.
        known
            What the run knows, by the names of :data:`..ir.expression.KNOWN`: one value, or one for each
            subject.
        threads
            Number of threads; the results are the same for any number.
        """
        compiled, subjects = self.compiled, self.subjects
        theta = np.ascontiguousarray(theta, dtype=np.float64)
        theta = theta[None] if theta.ndim == 1 else theta
        eta = np.ascontiguousarray(eta, dtype=np.float64)
        eta = eta if eta.ndim == 3 else eta[None]
        draws, n_theta, n_eta = eta.shape[0], theta.shape[1], eta.shape[2]
        if eta.shape[1] != subjects.n_subjects or theta.shape[0] not in (1, draws):
            raise ValueError(
                f"eta {eta.shape} and theta {theta.shape} do not fit {subjects.n_subjects} subjects."
            )
        if isinstance(directions, str):
            along = _along(directions, n_theta, n_eta)
            dtheta, deta = along.theta, along.eta
        else:
            dtheta = np.ascontiguousarray(directions.theta, dtype=np.float64)
            deta = np.ascontiguousarray(directions.eta, dtype=np.float64)
        if dtheta.shape[0] != n_theta or deta.shape[0] != n_eta or dtheta.shape[1] != deta.shape[1]:
            raise ValueError(
                f"directions {dtheta.shape}, {deta.shape} do not fit {n_theta} thetas, {n_eta} etas."
            )
        n_out, nq = len(compiled.layout.outputs), deta.shape[1]
        values = np.empty((draws, subjects.n_records, n_out))  # every entry gets written
        derivatives = np.empty((draws, subjects.n_records, n_out, nq))
        status = np.zeros((draws, subjects.n_subjects), dtype=np.int64)
        items = pieces(items_of(subjects, compiled, known)) if known else self._ordinary
        data = (*self._fixed, items)
        parameters = (theta, eta, dtheta, deta, *_no_psi(nq))
        self._run(data, self.sizes, parameters, values, derivatives, status, threads)
        return Predictions(values, derivatives, status, compiled.layout)

    def amounts(
        self, psi: Floats, dpsi: Floats | None = None, threads: int = 1
    ) -> tuple[Floats, Floats, Integers]:
        """Run the event loop alone, for given individual parameters.

        Parameters
        ----------
        psi
            [draw, record, pattern, n_dynamic]: the first slots of the layout's psi; pattern j holds once the
            j earliest model times have passed.
        dpsi
            [draw, record, pattern, n_dynamic, nq], or None for no derivatives.

        Returns
        -------
        Amounts, output compartment and prediction [draw, record, n + 2], their derivatives [..., nq], and
        status [draw, id].
        """
        if self.compiled.model.individual_call == "dose":
            raise ModelFailure(
                "the individual model is run at additional and lagged doses (CALLFL=-2): "
                "amounts cannot be computed from its values at the records alone"
            )
        psi = np.ascontiguousarray(psi, dtype=np.float64)
        dpsi = np.zeros((*psi.shape, 0)) if dpsi is None else np.ascontiguousarray(dpsi, dtype=np.float64)
        wanted = (self.subjects.n_records, len(self.design.model_times) + 1, self.design.n_dynamic)
        if psi.ndim != 4 or psi.shape[1:] != wanted or dpsi.shape[:4] != psi.shape:
            raise ValueError(f"psi {psi.shape} and dpsi {dpsi.shape} do not fit {wanted}.")
        draws, nq = psi.shape[0], dpsi.shape[4]
        n_a = self.design.n + 2
        values = np.zeros((draws, self.subjects.n_records, n_a + self.design.held))
        derivatives = np.zeros((*values.shape, nq))
        status = np.zeros((draws, self.subjects.n_subjects), dtype=np.int64)
        sizes = self.sizes.copy()
        sizes[:2] = self.design.n_dynamic, 0
        none = np.zeros(0, np.int64)
        items = Items(np.zeros((0, 0)), np.zeros((0, 0)), none, none, none, none, 1)
        n = self.subjects.n_subjects
        nothing = (np.zeros((1, 0)), np.zeros((draws, n, 0)), np.zeros((0, nq)), np.zeros((0, nq)))
        data = (pieces(self.design), pieces(self.events), pieces(items))
        self._run(data, sizes, (*nothing, psi, dpsi), values, derivatives, status, threads)
        return values[:, :, :n_a], derivatives[:, :, :n_a], status

    def _run(
        self,
        data: tuple[tuple[Any, ...], ...],
        sizes: Integers,
        parameters: tuple[Floats, ...],
        values: Floats,
        derivatives: Floats,
        status: Integers,
        threads: int,
    ) -> None:
        """Share the pairs of draw and subject out to threads: numba releases the interpreter's lock."""
        _, run = compiled_passes()
        pairs = status.size

        def work(begins: int) -> None:
            ends = min(begins + size, pairs)
            run(begins, ends, sizes, *data, *parameters, self.addresses, values, derivatives, status)

        size = pairs if threads <= 1 else max(1, -(-pairs // (threads * CHUNKS_PER_THREAD)))
        if size >= pairs:
            work(0)
            return
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(work, range(0, pairs, size)))
