"""From a model to its compiled kernel functions."""

from __future__ import annotations

import hashlib
import linecache
import math
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from types import ModuleType
from typing import Any

import numpy as np
from numba import types

from ..failure import ModelFailure
from ..ir.compartment import OdeDynamics
from ..ir.model import Model
from .held_variables import FACTORY as HELD_FACTORY
from .held_variables import held_function, held_source
from .layout import Layout, layout
from .machine.bare import BARE_SIGNATURES, BARE_TEXTS, matrix_on, vector_on
from .machine.caching import SOURCE_HASH, cache_folder, compiled_folder, jit, write_whole
from .machine.machine_code import lowered
from .source import algebraic, intrinsics
from .source.model import FUNCTIONS, jacobian_source, record_sources, slopes_source
from .specialise import ESTIMATION, specialise

Function = Callable[..., Any]

_vector = types.float64[::1]
_matrix = types.float64[:, ::1]
_record = (*(_vector,) * 4, _matrix, _matrix, _vector, _matrix, _vector, _matrix)
SIGNATURES = {
    "individual": types.int64(*_record),
    "slopes": types.void(types.float64, _vector, _matrix, _vector, _matrix, _vector, _matrix),
    "jacobian": types.void(types.float64, _vector, _vector, _matrix),
    "equilibrium": types.int64(types.float64, _vector, _matrix, _vector, _matrix),
    "observe": types.int64(*_record, _vector, _matrix, _vector, _matrix),
}
SLOPES, JACOBIAN, EQUILIBRIUM = (
    types.FunctionType(SIGNATURES[name]) for name in ("slopes", "jacobian", "equilibrium")
)
"""The types under which compiled functions take these as arguments."""

NOTHING = {
    "slopes": "def slopes(t, y, dy, p, dp, f, df):\n    f[:] = 0.0\n    df[:, :] = 0.0\n",
    "jacobian": "def jacobian(t, y, p, J):\n    J[:, :] = 0.0\n",
    "equilibrium": "def equilibrium(t, y, dy, p, dp):\n    return 0\n",
}
"""The functions of a model without differential equations, equilibrium compartments and held variables."""

PREFACE = (
    "import math\n\nimport numpy as np\n\n"
    f"from {intrinsics.__name__} import (\n    {(',' + chr(10) + '    ').join(FUNCTIONS)},\n)\n"
)


@dataclass(frozen=True, eq=False)
class CompiledModel:
    """The kernel functions of ``model`` and the order of their arrays.

    ``model`` is the model as specialised: linear differential equations are linear dynamics here. The
    functions are those of :data:`SIGNATURES`:

    individual(col, known, theta, eta, dtheta, deta, kept, dkept, psi, dpsi) -> status
    slopes(t, y, dy, p, dp, f, df), jacobian(t, y, p, J)
    equilibrium(t, y, dy, p, dp) -> 0, or 1 without a solution: sets the amounts of equilibrium compartments,
        or the variables that keep their values
    observe(col, known, theta, eta, dtheta, deta, kept, dkept, psi, dpsi, a, da, out, dout) -> status
    bare: three of them as functions of pointers (:mod:`.machine.bare`)

    A status is 0, 1 (rejected), 2 (rejected, the run ends), 3 (a loop without end), 4 (a random number drawn
    outside simulation). Derivative arrays have the direction last and as many as they like, none included.
    """

    model: Model
    layout: Layout
    individual: Function
    slopes: Function
    jacobian: Function
    equilibrium: Function
    observe: Function
    bare: dict[str, Function]
    source: str


def kernel_sources(
    model: Model, reason: int = ESTIMATION, wanted: Iterable[str] | None = (), recognise: bool = True
) -> tuple[Model, Layout, dict[str, str]]:
    """Return the specialised model, its layout and the text of each function."""
    wanted = None if wanted is None else tuple(wanted)
    model = specialise(model, reason, wanted, recognise)
    order = layout(model, wanted)
    individual, observe = record_sources(model, order)
    sources = {"individual": individual, **NOTHING, "observe": observe}
    if isinstance(model.dynamics, OdeDynamics):
        if any(c.equilibrium for c in model.dynamics.compartments):
            if order.held:
                raise ModelFailure(
                    f"{order.held[0]} keeps its value from one evaluation of the equations to the next, and "
                    "some compartments are in equilibrium.",
                    model.dynamics.span,
                    f"compute {order.held[0]} in the individual model, or as a compartment of its own",
                )
            sources |= algebraic.equilibrium_sources(model, order)
        else:
            sources |= {"slopes": slopes_source(model, order), "jacobian": jacobian_source(model, order)}
            if order.held:
                sources["equilibrium"] = held_source(model, order)
    return model, order, sources


def show_kernel(model: Model, reason: int = ESTIMATION) -> str:
    """Return the generated source text of ``model`` with the order of its arrays, for a person to read."""
    from ..ir.show import infix

    model, order, sources = kernel_sources(model, reason)
    psi = [infix(e) for e in order.psi]
    known = [f"{k.quantity}({k.index})" if k.index else k.quantity for k in order.known]
    rows = {
        "col": order.columns,
        "known": known,
        "kept": order.kept,
        "psi for the dynamics": psi[: order.n_dynamic],
        "psi for the observation model": psi[order.n_dynamic :],
        "out": order.outputs,
    }
    head = [f"# {name}: {', '.join(names)}" for name, names in rows.items() if names]
    text = [source for name, source in sources.items() if source != NOTHING.get(name)]
    return "\n".join(["\n".join(head) + "\n\n" + PREFACE, *(f"\n{source}" for source in text)])


def compile_kernel(
    model: Model, reason: int = ESTIMATION, wanted: Iterable[str] | None = (), recognise: bool = True
) -> CompiledModel:
    """Compile ``model``, or read its machine code from the cache folder.

    ``reason`` is why the model runs (Known ``icall``); what holds for other reasons only is left out.
    ``wanted`` names variables of the individual model, beside those of tables, to have in ``out``;
    None leaves only what a likelihood reads there. ``recognise``: see :func:`.specialise.specialise`.

    Raises
    ------
    ModelFailure
        Where the model asks for something the kernel does not have; with the place in the control file.
    """
    model, order, sources = kernel_sources(model, reason, wanted, recognise)
    made = {name: _compiled(name, text) for name, text in sources.items()}
    bare = {name: _bare(name, sources[name]) for name in BARE_TEXTS}
    return CompiledModel(model, order, **made, bare=bare, source="\n\n".join(sources.values()))


@cache
def _compiled(name: str, text: str) -> Function:
    """Compile one function from its text, which comes from the checked IR alone."""
    function = _defined(name, text)[name]
    if name in BARE_TEXTS:  # the passes take the bare one: this is for callers from Python, once they come
        return jit(function)  # type: ignore[no-any-return]
    return jit(SIGNATURES[name])(function)  # type: ignore[no-any-return]


@cache
def _bare(name: str, text: str) -> Function:
    """Compile a function as one of pointers."""
    space = _defined(name, text)
    space |= {"vector_on": vector_on, "matrix_on": matrix_on}
    space.setdefault("body", algebraic.inner(space[name]))
    exec(compile(BARE_TEXTS[name], space[name].__code__.co_filename, "exec"), space)
    return jit(BARE_SIGNATURES[name])(space[f"bare_{name}"])  # type: ignore[no-any-return]


@cache
def _defined(name: str, text: str) -> dict[str, Any]:
    """Return the names of a module in which ``text`` is defined."""
    digest = hashlib.sha256(text.encode()).hexdigest()[:24]
    path = compiled_folder(cache_folder()) / f"{name}-{digest}.py"
    try:
        if not path.exists():
            write_whole(path, f"{PREFACE}\n\n{text}".encode())  # for people: what runs is the text at hand
    except OSError:
        pass
    linecache.cache[str(path)] = (len(text), None, text.splitlines(keepends=True), str(path))
    # a module that can be found by name: cached machine code refers to it
    module = ModuleType(f"elbomix_generated_{name}_{digest}")
    sys.modules[module.__name__] = module
    space = module.__dict__
    space |= {f: getattr(intrinsics, f) for f in FUNCTIONS}
    space |= {"math": math, "np": np, SOURCE_HASH: digest}
    if algebraic.FACTORY in text or HELD_FACTORY in text:
        system, _, last = text.rpartition("def ")
        space |= _system(system)
        code = f"def {last}"
    elif text == NOTHING.get(name):
        code = text
    else:
        code, body = lowered(text, name, SIGNATURES[name])
        space |= body
    exec(compile(code, str(path), "exec"), space)
    return space


@cache
def _system(text: str) -> dict[str, Any]:
    """Return the names that the functions of a system made by a factory share."""
    space = {f: getattr(intrinsics, f) for f in FUNCTIONS} | {"math": math, "np": np}
    space |= {
        algebraic.FACTORY: algebraic.equilibrium_functions,
        HELD_FACTORY: held_function,
    }
    space["inner"] = algebraic.inner
    exec(compile(text, "<system>", "exec"), space)
    return {name: space[name] for name in space if name.endswith("_of")}
