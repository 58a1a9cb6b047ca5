"""Views of arrays that no references are counted for.

numba counts a reference, with an atomic instruction, whenever an array is handed to a function that is not
inlined or to another variable. In the step of a small model these cost more than the arithmetic.
"""

from __future__ import annotations

from typing import Any

import numba
from numba.core import cgutils, types
from numba.extending import intrinsic
from numba.np.arrayobj import make_array, populate_array

# inlined by LLVM; numba's own inline="always" takes stores to an array for dead that is read by another view
inlined = numba.njit(forceinline=True, nogil=True, error_model="numpy")


def _borrowed(typing_context: Any, array: Any) -> Any:
    """Return a view of an array of the caller, who must keep that array alive as long as the view is used."""

    def view(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        made = make_array(array)(context, builder, arguments[0])  # type: ignore[no-untyped-call]
        made.meminfo = cgutils.get_null_value(made.meminfo.type)  # type: ignore[no-untyped-call]
        made.parent = cgutils.get_null_value(made.parent.type)  # type: ignore[no-untyped-call]
        return made._getvalue()

    return array(array), view


def _vector_at(typing_context: Any, array: Any, offset: Any, n: Any) -> Any:
    """Return a view [n] of a C-contiguous array from its entry number ``offset`` on."""
    returned = types.Array(array.dtype, 1, "C")

    def view(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return _made(context, builder, array, returned, arguments[0], arguments[1], [arguments[2]])

    return returned(array, types.int64, types.int64), view


def _matrix_at(typing_context: Any, array: Any, offset: Any, rows: Any, columns: Any) -> Any:
    """Return a view [rows, columns] of a C-contiguous array from its entry number ``offset`` on."""
    returned = types.Array(array.dtype, 2, "C")

    def view(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return _made(context, builder, array, returned, arguments[0], arguments[1], list(arguments[2:]))

    return returned(array, types.int64, types.int64, types.int64), view


def _made(
    context: Any, builder: Any, array: Any, returned: Any, value: Any, offset: Any, shape: list[Any]
) -> Any:
    """Return an array of C order and 8-byte entries on the memory of another."""
    source = make_array(array)(context, builder, value)  # type: ignore[no-untyped-call]
    data = builder.gep(source.data, [offset])
    size = context.get_constant(types.intp, 8)
    strides = [size] if len(shape) == 1 else [builder.mul(size, shape[1]), size]
    made = make_array(returned)(context, builder)  # type: ignore[no-untyped-call]
    populate_array(made, data, shape, strides, size, None)  # type: ignore[no-untyped-call]
    return made._getvalue()


borrowed: Any = intrinsic(_borrowed)
vector_at: Any = intrinsic(_vector_at)
matrix_at: Any = intrinsic(_matrix_at)
