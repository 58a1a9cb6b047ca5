"""Groups of arrays that compiled functions hand on by one pointer.

A tuple of arrays is handed on piece by piece, and a reference is counted for every piece: with tens of arrays
that costs more time than the work, and minutes of compiling. Here the function that makes a group owns it
and hands on pointers to it, which are not counted: see :data:`pointer` and :data:`keep`. Types come from
the annotations, so functions can be compiled before any value exists.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any, TypeVar, dataclass_transform

from numba.core import cgutils, types
from numba.core.types import Type
from numba.core.typing.templates import AttributeTemplate
from numba.experimental import structref
from numba.experimental.function_type import _get_wrapper_address
from numba.extending import infer_getattr, intrinsic, lower_getattr_generic, models, register_model
from numba.np.arrayobj import make_array

C = TypeVar("C")

KINDS: dict[str, Type] = {
    "int": types.int64,
    "float": types.float64,
    "Vector": types.float64[::1],
    "Matrix": types.float64[:, ::1],
    "Cube": types.float64[:, :, ::1],
    "Integers": types.int64[::1],
    "NDArray[np.int64]": types.int64[::1],
    "Table": types.int64[:, ::1],
}
"""What an annotation means to a compiled function; every class of :func:`by_reference` adds itself."""


class _ShortlyNamed(types.StructRef):
    """One type for a class: its name need not list the fields, and names become parts of symbols."""

    def __init__(self, fields: Any) -> None:
        super().__init__(fields)  # type: ignore[no-untyped-call]
        self.name = type(self).__name__


class Pointer(Type):
    """The type of a pointer to a group that some caller owns."""

    def __init__(self, group: Any) -> None:
        self.group = group
        super().__init__(name=f"Pointer({group.name})")


@register_model(Pointer)
class _PointerModel(models.OpaqueModel):
    """Lowered to an address."""


@infer_getattr
class _PointerFields(AttributeTemplate):
    key = Pointer

    def generic_resolve(self, value: Any, attr: Any) -> Any:  # type: ignore[override]
        found = value.group.field_dict.get(attr)
        return Pointer(found) if isinstance(found, types.StructRef) else found


@lower_getattr_generic(Pointer)  # type: ignore[no-untyped-call, untyped-decorator]
def _field(context: Any, builder: Any, kind: Any, value: Any, name: str) -> Any:
    payload = kind.group.get_data_type()
    place = builder.bitcast(value, context.data_model_manager[payload].get_value_type().as_pointer())
    proxy: Any = cgutils.create_struct_proxy(payload)  # type: ignore[no-untyped-call]
    found: Any = getattr(proxy(context, builder, ref=place), name)
    return _uncounted(context, builder, kind.group.field_dict[name], found)


def _uncounted(context: Any, builder: Any, kind: Any, value: Any) -> Any:
    """Return ``value`` such that no references are counted."""
    if isinstance(kind, types.StructRef):
        return _address(context, builder, kind, value)
    if isinstance(kind, types.Array):
        made = make_array(kind)(context, builder, value)  # type: ignore[no-untyped-call]
        made.meminfo = cgutils.get_null_value(made.meminfo.type)  # type: ignore[no-untyped-call]
        made.parent = cgutils.get_null_value(made.parent.type)  # type: ignore[no-untyped-call]
        return made._getvalue()
    if isinstance(kind, types.BaseTuple):
        kinds: tuple[Any, ...] = tuple(kind)  # type: ignore[arg-type]
        parts = cgutils.unpack_tuple(builder, value, len(kinds))  # type: ignore[no-untyped-call]
        bare = [_uncounted(context, builder, k, v) for k, v in zip(kinds, parts, strict=True)]
        return context.make_tuple(builder, kind, bare)
    return value


def _address(context: Any, builder: Any, kind: Any, value: Any) -> Any:
    group = cgutils.create_struct_proxy(kind)(context, builder, value=value)  # type: ignore[no-untyped-call]
    return builder.bitcast(context.nrt.meminfo_data(builder, group.meminfo), cgutils.voidptr_t)


def _pointer(typing_context: Any, group: Any) -> Any:
    """Return a pointer to a group; its owner must :data:`keep` it as long as the pointer is used."""

    def made(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return _address(context, builder, group, arguments[0])

    return Pointer(group)(group), made


def _keep(typing_context: Any, group: Any) -> Any:
    """Do nothing with a group, which keeps it from being freed before."""

    def nothing(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return context.get_dummy_value()

    return types.void(group), nothing


pointer: Any = intrinsic(_pointer)
keep: Any = intrinsic(_keep)


def at_address(kind: Any) -> Any:
    """Return what makes of an address, an int64, a function of the type ``kind``.

    Functions as arguments cost ten microseconds each at every call from Python, and numbers nothing.
    """

    def made(typing_context: Any, address: Any) -> Any:
        def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            function: Any = cgutils.create_struct_proxy(kind)(context, builder)  # type: ignore[no-untyped-call]
            none = cgutils.get_null_value(cgutils.voidptr_t)  # type: ignore[no-untyped-call]
            function.c_addr = builder.inttoptr(arguments[0], cgutils.voidptr_t)
            function.py_addr, function.jit_addr = none, none
            return function._getvalue()

        return kind(types.int64), build

    return intrinsic(made)


def address_of(function: Any, signature: Any) -> int:
    """Return the address of a compiled function, which must be kept as long as the address is used."""
    return int(_get_wrapper_address(function, signature))  # type: ignore[no-untyped-call]


@dataclass_transform()
def by_reference(cls: type[C]) -> type[C]:
    """Make a class one that compiled functions build by position, read by name and pass by pointer.

    In Python it is an ordinary dataclass; :func:`pieces` gives what a compiled function builds its own from.
    """
    name = f"{cls.__name__}Type"
    kind = type(name, (_ShortlyNamed,), {"__module__": cls.__module__, "__qualname__": name})
    setattr(sys.modules[cls.__module__], name, kind)  # where cached machine code looks for it
    structref.register(kind)  # type: ignore[no-untyped-call]
    structref.define_constructor(cls, kind, list(cls.__annotations__))  # type: ignore[no-untyped-call]
    KINDS[cls.__name__] = kind([(field, KINDS[text]) for field, text in cls.__annotations__.items()])
    return dataclass(cls)


def returned(name: str, function: Any, *arguments: Type) -> None:
    """Let annotation ``name`` mean what a compiled function returns for arguments of these types."""
    function.compile(arguments)
    KINDS[name] = function.overloads[arguments].signature.return_type


def pieces(value: object) -> tuple[Any, ...]:
    """Return the fields of an instance, in order."""
    return tuple(getattr(value, name) for name in type(value).__annotations__)


def pieces_type(cls: type) -> Type:
    """Return the numba type of :func:`pieces`."""
    parts = tuple(KINDS[text] for text in cls.__annotations__.values())
    return types.Tuple(parts)  # type: ignore[no-untyped-call]
