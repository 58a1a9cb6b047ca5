"""The right-hand side of a model behind bare pointers: what a stage of an integrator calls.

An array is handed on as its data, shape, strides and owner. Six of them are fifty words on the stack, twice
over, which takes longer than the arithmetic of a small model.
"""

from __future__ import annotations

from typing import Any

from numba.core import cgutils, types
from numba.extending import intrinsic
from numba.np.arrayobj import make_array, populate_array

_place = types.CPointer(types.float64)  # type: ignore[no-untyped-call]
_count = types.int64
SIGNATURE = types.void(types.float64, *(_place,) * 6, _count, _count, _count)
BARE_SLOPES = types.FunctionType(SIGNATURE)
"""slopes(t, y, dy, p, dp, f, df, n, n_p, nq): rows of dy, dp and df have nq entries."""

BARE_TEXT = """
def bare_slopes(t, y, dy, p, dp, f, df, n, n_p, nq):
    body(
        t,
        vector_on(y, n), matrix_on(dy, n, nq),
        vector_on(p, n_p), matrix_on(dp, n_p, nq),
        vector_on(f, n), matrix_on(df, n, nq),
    )
"""
"""Makes a function of pointers of ``body(t, y, dy, p, dp, f, df)``, a function of arrays."""


def _vector_on(typing_context: Any, place: Any, n: Any) -> Any:
    """Return the array [n] that begins at a pointer."""
    returned = types.Array(types.float64, 1, "C")

    def view(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return _on(context, builder, returned, arguments)

    return returned(place, types.int64), view


def _matrix_on(typing_context: Any, place: Any, rows: Any, columns: Any) -> Any:
    """Return the array [rows, columns] that begins at a pointer."""
    returned = types.Array(types.float64, 2, "C")

    def view(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return _on(context, builder, returned, arguments)

    return returned(place, types.int64, types.int64), view


def _on(context: Any, builder: Any, returned: Any, arguments: Any) -> Any:
    data, *shape = arguments
    size = context.get_constant(types.intp, 8)
    strides = [size] if len(shape) == 1 else [builder.mul(size, shape[1]), size]
    made = make_array(returned)(context, builder)  # type: ignore[no-untyped-call]
    populate_array(made, data, shape, strides, size, None)  # type: ignore[no-untyped-call]
    return made._getvalue()


def _run_slopes(
    typing_context: Any, slopes: Any, t: Any, y: Any, dy: Any, p: Any, dp: Any, f: Any, df: Any
) -> Any:
    """Call ``slopes(t, y, dy, p, dp, f, df)``, a function of pointers or of arrays, with arrays."""

    def call(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        function: Any = cgutils.create_struct_proxy(slopes)(  # type: ignore[no-untyped-call]
            context, builder, value=arguments[0]
        )
        handed = list(arguments[1:])
        if isinstance(slopes.signature.args[1], types.CPointer):
            arrays = [
                make_array(kind)(context, builder, value)  # type: ignore[no-untyped-call]
                for kind, value in zip(signature.args[2:], arguments[2:], strict=True)
            ]
            n, nq = cgutils.unpack_tuple(builder, arrays[1].shape, 2)  # type: ignore[no-untyped-call]
            n_p = cgutils.unpack_tuple(builder, arrays[3].shape, 2)[0]  # type: ignore[no-untyped-call]
            handed = [arguments[1], *(array.data for array in arrays), n, n_p, nq]
        builder.call(builder.bitcast(function.c_addr, context.get_value_type(slopes.ftype)), handed)
        return context.get_dummy_value()

    return types.void(slopes, types.float64, y, dy, p, dp, f, df), call


vector_on: Any = intrinsic(_vector_on)
matrix_on: Any = intrinsic(_matrix_on)
run_slopes: Any = intrinsic(_run_slopes)
