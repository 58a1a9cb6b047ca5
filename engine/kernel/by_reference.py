"""Groups of arrays that compiled functions hand on by one pointer.

A tuple of arrays is handed on piece by piece: with tens of arrays that costs more time than the work, and minutes
of compiling. Types come from the annotations, so that functions can be compiled before any value exists.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any, TypeVar, dataclass_transform

from numba import types
from numba.core.types import Type
from numba.experimental import structref

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


class _ShortlyNamed(types.StructRef):  # type: ignore[misc]
    """One type for a class: its name need not list the fields, and names become parts of symbols."""

    def __init__(self, fields: Any) -> None:
        super().__init__(fields)
        self.name = type(self).__name__


@dataclass_transform()
def by_reference(cls: type[C]) -> type[C]:
    """Make an annotated class one that compiled functions build by position, read by name and pass by pointer.

    In Python it is an ordinary dataclass; :func:`pieces` gives what a compiled function builds its own from.
    """
    name = f"{cls.__name__}Type"
    kind = type(name, (_ShortlyNamed,), {"__module__": cls.__module__, "__qualname__": name})
    setattr(sys.modules[cls.__module__], name, kind)  # where cached machine code looks for it
    structref.register(kind)
    structref.define_constructor(cls, kind, list(cls.__annotations__))
    structref.define_attributes(kind)
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
    return types.Tuple(tuple(KINDS[text] for text in cls.__annotations__.values()))
