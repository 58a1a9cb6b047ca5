"""Generated source text to LLVM, past numba's own front end.

numba infers types and forms single assignments in Python, which takes 10 ms a line and more than linear time
in long intrinsics. The text that is written here needs neither: every name is a float (or a small whole
number), every statement is one of those below. The rest (array arguments, calls, optimisation, first-class
functions, the cache) stays numba's.
"""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from llvmlite import ir  # type: ignore[import-untyped]
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from ..source import intrinsics

DOUBLE, WHOLE = ir.DoubleType(), ir.IntType(64)
# those that LLVM knows by name; the others are numba's or ours
KNOWN_TO_LLVM = {
    "math.exp": "llvm.exp",
    "math.log": "llvm.log",
    "math.log10": "llvm.log10",
    "math.sqrt": "llvm.sqrt",
    "math.sin": "llvm.sin",
    "math.cos": "llvm.cos",
    "abs": "llvm.fabs",
    "np.trunc": "llvm.trunc",
    "np.floor": "llvm.floor",
    "np.ceil": "llvm.ceil",
}
COMPARISONS = {ast.Eq: "==", ast.NotEq: "!=", ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">="}


def lowered(text: str, name: str, signature: Any) -> tuple[str, dict[str, Any]]:
    """Return the text of a function of one line, and the name it needs, that numba compiles to ``text``."""
    (definition,) = ast.parse(text).body
    assert isinstance(definition, ast.FunctionDef) and definition.name == name
    arguments = [a.arg for a in definition.args.args]

    def generate(context: Any, builder: Any, sig: Any, values: Sequence[Any]) -> Any:
        return _Lowering(
            context, builder, dict(zip(arguments, zip(values, sig.args, strict=True), strict=True))
        ).run(definition.body, sig.return_type)

    space: dict[str, Any] = {"answer": (signature, generate)}
    exec(f"def typed(typing, {', '.join(arguments)}):\n    return answer\n", space)
    wrapper = f"def {name}({', '.join(arguments)}):\n    return body({', '.join(arguments)})\n"
    return wrapper, {"body": intrinsic(space["typed"])}


def _unpacked(builder: Any, values: Any, count: int) -> Any:
    return cgutils.unpack_tuple(builder, values, count)  # type: ignore[no-untyped-call]


def _room(builder: Any, kind: Any, name: str = "") -> Any:
    return cgutils.alloca_once(builder, kind, name=name)  # type: ignore[no-untyped-call]


class _Lowering:
    """One function: where its names are stored, and the arrays it reads and writes."""

    def __init__(self, context: Any, builder: Any, arguments: dict[str, tuple[Any, Any]]) -> None:
        self.context, self.builder = context, builder
        self.names: dict[str, Any] = {}
        self.arrays: dict[str, tuple[Any, list[Any], Any]] = {}  # first element, shape, number of elements
        self.result = _room(builder, WHOLE, name="status")
        self.exit = builder.append_basic_block("exit")
        for name, (value, kind) in arguments.items():
            if isinstance(kind, types.Array):
                array = context.make_array(kind)(context, builder, value)
                self.arrays[name] = (
                    array.data,
                    _unpacked(builder, array.shape, kind.ndim),
                    array.nitems,
                )
            else:
                self._store(name, value)

    def run(self, body: list[ast.stmt], returned: Any) -> Any:
        """Emit everything and return the status."""
        builder = self.builder
        builder.store(ir.Constant(WHOLE, 0), self.result)
        self._block(body)
        if not builder.block.is_terminated:
            builder.branch(self.exit)
        builder.position_at_end(self.exit)
        return self.context.get_dummy_value() if returned == types.void else builder.load(self.result)

    def _store(self, name: str, value: Any) -> None:
        if name not in self.names:
            self.names[name] = _room(self.builder, value.type, name=name)
        self.builder.store(value, self.names[name])

    def _block(self, body: list[ast.stmt]) -> None:
        for statement in body:
            if self.builder.block.is_terminated:
                return  # what follows a return
            self._statement(statement)

    def _statement(self, node: ast.stmt) -> None:
        match node:
            case ast.Assign([ast.Name(name)], value):
                self._store(name, self._value(value))
            case ast.Assign([ast.Subscript(ast.Name(name), ast.Slice())], value):
                self._fill(name, self._value(value))
            case ast.Assign([ast.Subscript() as place], value):
                stored = self._value(value)
                self.builder.store(stored, self._element(place))
            case ast.AugAssign(ast.Name(name), ast.Add(), value):
                self._store(name, self.builder.add(self.builder.load(self.names[name]), self._value(value)))
            case ast.If(condition, body, otherwise):
                self._if(condition, body, otherwise)
            case ast.While(condition, body):
                self._loop(lambda: self._value(condition), body)
            case ast.For(ast.Name(name), ast.Call(args=[count]), body):
                self._for(name, self._value(count), body)
            case ast.Return(value):
                if value is not None:
                    self.builder.store(self._value(value), self.result)
                self.builder.branch(self.exit)
            case ast.Pass():
                pass
            case _:
                raise AssertionError(f"not written by the generator: {ast.unparse(node)}")

    def _fill(self, name: str, value: Any) -> None:
        data, _, count = self.arrays[name]
        with cgutils.for_range(self.builder, count) as loop:
            self.builder.store(value, self.builder.gep(data, [loop.index]))

    def _if(self, condition: ast.expr, body: list[ast.stmt], otherwise: list[ast.stmt]) -> None:
        builder = self.builder
        then, other, after = (builder.append_basic_block(n) for n in ("then", "else", "after"))
        builder.cbranch(self._value(condition), then, other)
        for block, inside in ((then, body), (other, otherwise)):
            builder.position_at_end(block)
            self._block(inside)
            if not builder.block.is_terminated:
                builder.branch(after)
        builder.position_at_end(after)

    def _for(self, name: str, count: Any, body: list[ast.stmt]) -> None:
        builder = self.builder
        self._store(name, ir.Constant(WHOLE, 0))
        place = self.names[name]

        def step() -> None:
            builder.store(builder.add(builder.load(place), ir.Constant(WHOLE, 1)), place)

        self._loop(lambda: builder.icmp_signed("<", builder.load(place), count), body, step)

    def _loop(
        self, condition: Callable[[], Any], body: list[ast.stmt], step: Callable[[], None] | None = None
    ) -> None:
        builder = self.builder
        head, inside, after = (builder.append_basic_block(n) for n in ("head", "body", "after"))
        builder.branch(head)
        builder.position_at_end(head)
        builder.cbranch(condition(), inside, after)
        builder.position_at_end(inside)
        self._block(body)
        if not builder.block.is_terminated:
            if step is not None:
                step()
            builder.branch(head)
        builder.position_at_end(after)

    def _element(self, node: ast.Subscript) -> Any:
        assert isinstance(node.value, ast.Name)
        data, shape, _ = self.arrays[node.value.id]
        if isinstance(node.slice, ast.Tuple):
            row, column = (self._value(part) for part in node.slice.elts)
            place = self.builder.add(self.builder.mul(row, shape[1]), column)
        else:
            place = self._value(node.slice)
        return self.builder.gep(data, [place])

    def _value(self, node: ast.expr) -> Any:
        builder = self.builder
        match node:
            case ast.Constant(float(number)):
                return ir.Constant(DOUBLE, number)
            case ast.Constant(int(number)):
                return ir.Constant(WHOLE, number)
            case ast.Name(name):
                return builder.load(self.names[name])
            case ast.Subscript(ast.Attribute(ast.Name(name), "shape"), ast.Constant(int(axis))):
                return self.arrays[name][1][axis]
            case ast.Subscript():
                return builder.load(self._element(node))
            case ast.Attribute():
                return ir.Constant(DOUBLE, getattr(math, node.attr))
            case ast.UnaryOp(ast.USub(), operand):
                return builder.fneg(self._value(operand))
            case ast.UnaryOp(ast.Not(), operand):
                return builder.not_(self._value(operand))
            case ast.BinOp(left, sign, right):
                return self._binary(sign, self._value(left), self._value(right))
            case ast.Compare(left, [sign], [right]):
                return self._compare(COMPARISONS[type(sign)], self._value(left), self._value(right))
            case ast.BoolOp(sign, parts):
                join = builder.and_ if isinstance(sign, ast.And) else builder.or_
                result = self._value(parts[0])
                for part in parts[1:]:
                    result = join(result, self._value(part))
                return result
            case ast.IfExp():
                return self._choice(node)
            case ast.Call(function, arguments):
                return self._call(ast.unparse(function), [self._value(a) for a in arguments])
        raise AssertionError(f"not written by the generator: {ast.unparse(node)}")

    def _binary(self, sign: ast.operator, left: Any, right: Any) -> Any:
        builder = self.builder
        match sign:
            case ast.Add():
                return builder.fadd(left, right)
            case ast.Sub():
                return builder.fsub(left, right)
            case ast.Mult():
                return builder.fmul(left, right)
            case ast.Div():
                return builder.fdiv(left, right)
        assert isinstance(sign, ast.Pow)
        return builder.call(builder.module.declare_intrinsic("llvm.pow", [DOUBLE]), [left, right])

    def _compare(self, sign: str, left: Any, right: Any) -> Any:
        if left.type == WHOLE:
            return self.builder.icmp_signed(sign, left, right)
        if sign == "!=":
            return self.builder.fcmp_unordered(sign, left, right)
        return self.builder.fcmp_ordered(sign, left, right)

    def _choice(self, node: ast.IfExp) -> Any:
        builder = self.builder
        place = _room(builder, DOUBLE)
        with builder.if_else(self._value(node.test)) as (then, other):
            with then:
                builder.store(self._value(node.body), place)
            with other:
                builder.store(self._value(node.orelse), place)
        return builder.load(place)

    def _call(self, name: str, arguments: list[Any]) -> Any:
        builder, context = self.builder, self.context
        known = KNOWN_TO_LLVM.get(name)
        if known is not None:
            return builder.call(builder.module.declare_intrinsic(known, [DOUBLE]), arguments)
        module, _, attribute = name.rpartition(".")
        home: Any = {"math": math, "np": np, "": intrinsics}[module]
        typing = context.typing_context
        kind = typing.resolve_value_type(operator.attrgetter(attribute)(home))
        signature = kind.get_call_type(typing, (types.float64,) * len(arguments), {})
        made = context.get_function(kind, signature)
        result = made(builder, arguments)
        context.add_linking_libs(getattr(made, "libs", ()))
        return result
