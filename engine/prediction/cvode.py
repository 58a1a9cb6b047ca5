"""Amounts by SUNDIALS' CVODE: another program's predictions with the error of that program's solver.

Monolix solves by CVODE at tolerances that leave errors of up to per cents in the predictions it prints;
NONMEM's ADVAN14 is CVODE, too. To repeat their digits takes the same steps: begun anew wherever an event
changes amounts, inputs or parameters, free to step beyond a record and to interpolate back, by Newton's
iteration with a Jacobian by differences for either method. Values only: there are no derivatives, so nothing
is estimated with it.

Hindmarsh et al., ACM TOMS 31 (2005) 363. The library comes as the package scikit-sundae.
"""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Literal

import numba
import numpy as np
from numpy.typing import NDArray

from ..failure import ModelFailure
from ..ir.compartment import OdeDynamics
from ..kernel.events.motion import SAME, Design, arrive, begin_output
from ..kernel.integrators.integrate import CVODE_FAILED
from ..kernel.kernel import Directions, Kernel, Predictions
from ..kernel.machine.by_reference import address_of
from ..kernel.passes import ADVANCE
from ..kernel.status import FINE, INTEGRATION

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

MAX_STEPS = 1_000_000  # between two records
_KERNELS: dict[int, CvodeKernel] = {}  # those whose event loop is running


@dataclass(frozen=True)
class CvodeSettings:
    """A multistep method of CVODE, the error a step may make, and whether every record starts it anew."""

    method: Literal["Adams", "BDF"]
    relative_tolerance: float
    absolute_tolerance: float
    starts_anew: bool = False


def is_installed() -> bool:
    """Return whether the library is there."""
    return find_spec("sksundae") is not None


@dataclass(frozen=True, eq=False)
class CvodeKernel(Kernel):
    """A kernel whose differential equations CVODE solves, without derivatives.

    The model must have been compiled with its equations kept (``recognise=False``). Raises
    :class:`ModelFailure` for equations that CVODE cannot solve.
    """

    settings: CvodeSettings = field(kw_only=True)
    _last: dict[str, Any] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        """Check the model."""
        super().__post_init__()
        dynamics = self.compiled.model.dynamics
        if not isinstance(dynamics, OdeDynamics):
            raise ModelFailure("the model has no differential equations for CVODE to solve")
        if self.compiled.layout.held or any(part.equilibrium for part in dynamics.compartments):
            raise ModelFailure(
                "CVODE does not know equations with algebraic ones or with variables that keep values",
                dynamics.span,
                "leave --solver at its default",
            )

    @cached_property
    def design(self) -> Design:
        """What the event loop knows of the model, and by which number it finds this kernel."""
        found = super().design
        found.settings[3] = id(self)
        return found

    @cached_property
    def addresses(self) -> Integers:
        """Where the machine code of the passes' functions lies: CVODE's in the first place."""
        found = super().addresses.copy()
        found[0] = address_of(_compiled_advance(), ADVANCE.signature)
        return found

    def evaluate(
        self,
        theta: Floats,
        eta: Floats,
        directions: Literal["none", "eta", "eta+theta"] | Directions = "none",
        known: Mapping[str, float | Floats] | None = None,
        threads: int = 1,
    ) -> Predictions:
        """Evaluate the model without derivatives, in one thread."""
        if directions != "none" or threads != 1:
            raise ValueError("CVODE gives values only, in one thread")
        _KERNELS[id(self)] = self
        try:
            found = super().evaluate(theta, eta, "none", known)
        finally:
            del _KERNELS[id(self)]
            raised = self._last.pop("raised", None)
            self._last.clear()
        if raised is not None:
            raise raised
        return found

    def advance(self, begins: float, ends: float, goes_on: bool, y: Floats, r: Floats, p: Floats) -> int:
        """Move ``y`` [n] in place under inputs ``r`` [n] and parameters ``p`` and return a status."""
        last = self._last
        if self.settings.starts_anew or not (goes_on and last.get("time") == begins):
            last["solver"] = self._started(begins, y, r.copy(), p.copy())
        step = last["solver"].step(ends, method="normal")
        if not step.success:
            return INTEGRATION + CVODE_FAILED
        y[:] = step.y
        last["time"] = ends
        return FINE

    def _started(self, time: float, y: Floats, r: Floats, p: Floats) -> Any:
        n = y.size
        at, f = np.empty(n), np.empty(n)
        none, none_p, none_f = np.empty((n, 0)), np.empty((p.size, 0)), np.empty((n, 0))
        slopes = self.compiled.slopes

        def right_hand_side(t: float, y: Floats, out: Floats) -> None:
            at[:] = y
            slopes(t, at, none, p, none_p, f, none_f)
            out[:] = f + r

        solver = import_module("sksundae.cvode").CVODE(
            right_hand_side,
            method=self.settings.method,
            rtol=self.settings.relative_tolerance,
            atol=self.settings.absolute_tolerance,
            max_num_steps=MAX_STEPS,
        )
        solver.init_step(time, y.copy())
        return solver


def _vector(address: int, n: int) -> Floats:
    return np.ctypeslib.as_array((ctypes.c_double * n).from_address(address)) if n else np.empty(0)


def _enter(
    key: int, begins: float, ends: float, goes_on: int, y: int, r: int, n: int, p: int, n_p: int
) -> int:
    """Let the kernel ``key`` move its amounts: what the event loop calls."""
    kernel = _KERNELS[key]
    try:
        return kernel.advance(begins, ends, goes_on == 1, _vector(y, n), _vector(r, n), _vector(p, n_p))
    except BaseException as error:  # nothing may be raised through compiled code: evaluate raises it
        kernel._last["raised"] = error
        return INTEGRATION + CVODE_FAILED


_I, _F = ctypes.c_int64, ctypes.c_double
_callback = ctypes.CFUNCTYPE(_I, _I, _F, _F, _I, _I, _I, _I, _I, _I)(_enter)


@cache
def _compiled_advance() -> Any:
    """Return the function of the event loop that moves amounts, by way of :func:`_enter`."""
    enter = _callback

    def advance(t0, t1, design, motion, slopes, jacobian, equilibrium):  # type: ignore[no-untyped-def]
        if t1 == t0:
            return FINE
        total = begin_output(t0, t1, design, motion)
        y, r, p = motion.y, motion.r, motion.p
        status = enter(
            int(design.settings[3]), t0, t1, motion.flags[SAME],
            y.ctypes.data, r.ctypes.data, y.size, p.ctypes.data, p.size,
        )  # fmt: skip
        if status != FINE:
            return status
        return arrive(total, design, motion)

    return numba.njit(ADVANCE.signature, nogil=True, error_model="numpy")(advance)
