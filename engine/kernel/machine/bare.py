"""The functions of a model behind bare pointers: how the event loop and the integrators call them.

An array is handed on as its data, shape, strides and owner. The six of a right-hand side are fifty words on
the stack, twice over, which takes longer than the arithmetic of a small model.
"""

from __future__ import annotations

import inspect
from typing import Any

from numba.core import cgutils, types
from numba.extending import intrinsic
from numba.np.arrayobj import make_array, populate_array

_place = types.CPointer(types.float64)  # type: ignore[no-untyped-call]
_count = types.int64
BARE_SIGNATURES = {
    "individual": _count(*(_place,) * 10, _count),
    "slopes": types.void(types.float64, *(_place,) * 6, *(_count,) * 3),
    "observe": _count(*(_place,) * 14, *(_count,) * 6),
}
BARE_INDIVIDUAL, BARE_SLOPES, BARE_OBSERVE = (types.FunctionType(s) for s in BARE_SIGNATURES.values())
"""individual(col, known, theta, eta, dtheta, deta, kept, dkept, psi, dpsi, nq)
slopes(t, y, dy, p, dp, f, df, n, n_p, nq)
observe(col, known, ..., psi, dpsi, a, da, out, dout, records, n_col, n_known, n_a, n_out, nq): of as many
records in a row, whose col, known, a, da, out and dout follow each other.
Rows of derivatives have nq entries.
"""

BARE_TEXTS = {
    "individual": """
def bare_individual(col, known, theta, eta, dtheta, deta, kept, dkept, psi, dpsi, nq):
    return body(
        vector_on(col, 0, 0), vector_on(known, 0, 0), vector_on(theta, 0, 0), vector_on(eta, 0, 0),
        matrix_on(dtheta, 0, 0, nq), matrix_on(deta, 0, 0, nq),
        vector_on(kept, 0, 0), matrix_on(dkept, 0, 0, nq), vector_on(psi, 0, 0), matrix_on(dpsi, 0, 0, nq),
    )
""",
    "slopes": """
def bare_slopes(t, y, dy, p, dp, f, df, n, n_p, nq):
    body(
        t, vector_on(y, 0, n), matrix_on(dy, 0, n, nq), vector_on(p, 0, n_p), matrix_on(dp, 0, n_p, nq),
        vector_on(f, 0, n), matrix_on(df, 0, n, nq),
    )
""",
    "observe": """
def bare_observe(
    col, known, theta, eta, dtheta, deta, kept, dkept, psi, dpsi, a, da, out, dout,
    records, n_col, n_known, n_a, n_out, nq,
):
    for i in range(records):
        status = body(
            vector_on(col, i * n_col, n_col), vector_on(known, i * n_known, n_known),
            vector_on(theta, 0, 0), vector_on(eta, 0, 0),
            matrix_on(dtheta, 0, 0, nq), matrix_on(deta, 0, 0, nq),
            vector_on(kept, 0, 0), matrix_on(dkept, 0, 0, nq),
            vector_on(psi, 0, 0), matrix_on(dpsi, 0, 0, nq),
            vector_on(a, i * n_a, n_a), matrix_on(da, i * n_a * nq, n_a, nq),
            vector_on(out, i * n_out, n_out), matrix_on(dout, i * n_out * nq, n_out, nq),
        )
        if status != 0:
            return status
    return 0
""",
}
"""Each makes a function of pointers of ``body``, a function of the arrays of one record; generated bodies ask
no array but those of derivatives for its shape."""


def _vector_on(typing_context: Any, place: Any, offset: Any, n: Any) -> Any:
    """Return the array [n] that begins ``offset`` numbers behind a pointer."""
    returned = types.Array(types.float64, 1, "C")

    def view(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return _on(context, builder, returned, arguments)

    return returned(place, types.int64, types.int64), view


def _matrix_on(typing_context: Any, place: Any, offset: Any, rows: Any, columns: Any) -> Any:
    """Return the array [rows, columns] that begins ``offset`` numbers behind a pointer."""
    returned = types.Array(types.float64, 2, "C")

    def view(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return _on(context, builder, returned, arguments)

    return returned(place, types.int64, types.int64, types.int64), view


def _on(context: Any, builder: Any, returned: Any, arguments: Any) -> Any:
    place, offset, *shape = arguments
    size = context.get_constant(types.intp, 8)
    strides = [size] if len(shape) == 1 else [builder.mul(size, shape[1]), size]
    made = make_array(returned)(context, builder)  # type: ignore[no-untyped-call]
    populate_array(made, builder.gep(place, [offset]), shape, strides, size, None)  # type: ignore[no-untyped-call]
    return made._getvalue()


def _data(context: Any, builder: Any, kind: Any, value: Any) -> Any:
    if isinstance(kind, types.Array):
        return make_array(kind)(context, builder, value).data  # type: ignore[no-untyped-call]
    return value


def _address(context: Any, builder: Any, kind: Any, value: Any) -> Any:
    function: Any = cgutils.create_struct_proxy(kind)(context, builder, value=value)  # type: ignore[no-untyped-call]
    return builder.bitcast(function.c_addr, context.get_value_type(kind.ftype))


def _caller(function: Any) -> Any:
    """Return what calls a function of pointers with arrays in the place of pointers."""
    kinds = function.signature.args

    def run(typing_context: Any, called: Any, *given: Any) -> Any:
        def call(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            handed = [
                _data(context, builder, kind, value)
                for kind, value in zip(signature.args[1:], arguments[1:], strict=True)
            ]
            return builder.call(_address(context, builder, called, arguments[0]), handed)

        wanted = (g if isinstance(k, types.CPointer) else k for g, k in zip(given, kinds, strict=True))
        return function.signature.return_type(called, *wanted), call

    names = ["typing_context", "called", *(f"argument_{i}" for i in range(len(kinds)))]
    parameters = [inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD) for name in names]
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return intrinsic(run)


def _run_slopes(
    typing_context: Any, slopes: Any, t: Any, y: Any, dy: Any, p: Any, dp: Any, f: Any, df: Any
) -> Any:
    """Call ``slopes(t, y, dy, p, dp, f, df)``, a function of pointers or of arrays, with arrays."""

    def call(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        handed = list(arguments[1:])
        if isinstance(slopes.signature.args[1], types.CPointer):
            kinds = signature.args[2:]
            matrices = [
                make_array(kinds[i])(context, builder, arguments[2 + i])  # type: ignore[no-untyped-call]
                for i in (1, 3)
            ]
            shapes = [cgutils.unpack_tuple(builder, m.shape, 2) for m in matrices]  # type: ignore[no-untyped-call]
            data = (_data(context, builder, k, a) for k, a in zip(kinds, arguments[2:], strict=True))
            handed = [arguments[1], *data, shapes[0][0], shapes[1][0], shapes[0][1]]
        builder.call(_address(context, builder, slopes, arguments[0]), handed)
        return context.get_dummy_value()

    return types.void(slopes, types.float64, y, dy, p, dp, f, df), call


vector_on: Any = intrinsic(_vector_on)
matrix_on: Any = intrinsic(_matrix_on)
run_individual: Any = _caller(BARE_INDIVIDUAL)
run_slopes: Any = intrinsic(_run_slopes)
run_observe: Any = _caller(BARE_OBSERVE)
