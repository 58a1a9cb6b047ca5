"""Weighted sums of vectors, four entries at a time.

Written for the processor's vectors, because a compiler must first ask at run time whether arrays overlap, and
for a small model the questions cost more than the sums.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir  # type: ignore[import-untyped]
from numba.core import cgutils, types
from numba.extending import intrinsic
from numba.np.arrayobj import make_array

from .caching import jit

LANES = 4
_LANES_TYPE = ir.VectorType(ir.DoubleType(), LANES)


@jit
def padded(size: int) -> int:
    """Return ``size`` rounded up to whole vectors."""
    return (size + LANES - 1) // LANES * LANES


def _added_rows(count: int) -> Any:
    """Return ``add(base, h, weights, rows, first, k, out)`` for sums of ``count`` rows of k.

    out = base + h sum_j weights[j] k[rows[j]] over j from ``first`` on. The length of ``base``, ``out`` and
    the rows is a multiple of LANES; ``base`` may be ``out``.
    """

    def add(
        typing_context: Any, base: Any, h: Any, weights: Any, rows: Any, first: Any, k: Any, out: Any
    ) -> Any:
        def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            def array(i: int) -> Any:
                return make_array(signature.args[i])(  # type: ignore[no-untyped-call]
                    context, builder, arguments[i]
                )

            def lanes(data: Any, at: Any) -> Any:
                return builder.bitcast(builder.gep(data, [at]), _LANES_TYPE.as_pointer())

            length = cgutils.unpack_tuple(builder, array(6).shape, 1)[0]  # type: ignore[no-untyped-call]
            factors, terms = [], []
            for j in range(count):
                place = builder.add(arguments[4], ir.Constant(ir.IntType(64), j))
                weight = builder.load(builder.gep(array(2).data, [place]))
                row = builder.load(builder.gep(array(3).data, [place]))
                one = builder.fmul(arguments[1], weight)
                vector = ir.Constant(_LANES_TYPE, ir.Undefined)
                for lane in range(LANES):
                    vector = builder.insert_element(vector, one, ir.Constant(ir.IntType(32), lane))
                factors.append(vector)
                terms.append(builder.gep(array(5).data, [builder.mul(row, length)]))
            step = ir.Constant(ir.IntType(64), LANES)
            with cgutils.for_range_slice(builder, ir.Constant(ir.IntType(64), 0), length, step, inc=True) as (
                at,
                _,
            ):
                sums = [
                    builder.fmul(factor, builder.load(lanes(term, at), align=8))
                    for factor, term in zip(factors, terms, strict=True)
                ]
                while len(sums) > 1:
                    pairs = [builder.fadd(a, b) for a, b in zip(sums[::2], sums[1::2], strict=False)]
                    sums = pairs + sums[2 * len(pairs) :]
                start = builder.load(lanes(array(0).data, at), align=8)
                builder.store(builder.fadd(start, sums[0]), lanes(array(6).data, at), align=8)
            return context.get_dummy_value()

        return types.void(base, types.float64, weights, rows, types.int64, k, out), emit

    return intrinsic(add)


add_two: Any = _added_rows(2)
add_four: Any = _added_rows(4)
add_six: Any = _added_rows(6)
