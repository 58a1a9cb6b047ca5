"""How kernel functions are compiled and kept on disk.

numba's own cache trusts the time stamp of the one file a function stands in, although its machine code holds
the functions it calls, too. Here every entry is keyed by the text of the whole kernel, so none can be stale,
and one file holds one compiled signature, so processes that write at the same time cannot mix theirs.
"""

from __future__ import annotations

import hashlib
import os
import pickle
import stat
import sys
import tempfile
import time
import uuid
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, overload

import llvmlite  # type: ignore[import-untyped]
import numba
from numba.core.caching import CompileResultCacheImpl, FunctionCache, _CacheLocator
from numba.core.serialize import dumps
from numba.core.types import Type
from numba.core.typing.templates import Signature

F = TypeVar("F", bound=Callable[..., Any])

KERNEL = Path(__file__).parents[1]
VARIABLE = "ELBOMIX_CACHE"
SOURCE_HASH = "__source_hash__"  # where a generated module has the hash of its text
KEPT_DAYS = 60  # versions of the kernel that nobody compiled for in that time are removed


def cache_folder() -> Path:
    """Return the folder for compiled code, made if need be.

    It is ``$ELBOMIX_CACHE``, else ``elbomix`` in the user's cache folder of the platform, or one that belongs
    to this user below the folder for temporary files where that cannot be written.
    """
    return _writable(os.environ.get(VARIABLE, ""))


@cache
def _writable(chosen: str) -> Path:
    wanted = Path(chosen).expanduser() if chosen else _platform_folder() / "elbomix"
    try:
        wanted.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=wanted):
            return wanted
    except OSError:
        return _temporary_folder()


def _platform_folder() -> Path:
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")


def _temporary_folder() -> Path:
    """Return a folder that nobody else can write: what lies there is run."""
    user = os.getuid() if hasattr(os, "getuid") else os.environ.get("USERNAME", "user")
    folder = Path(tempfile.gettempdir()) / f"elbomix-{user}"
    folder.mkdir(mode=0o700, exist_ok=True)
    status = folder.lstat()
    shared = hasattr(os, "getuid") and (status.st_uid != user or status.st_mode & 0o077)
    if shared or not stat.S_ISDIR(status.st_mode):
        return Path(tempfile.mkdtemp(prefix="elbomix-"))
    return folder


@cache
def kernel_hash() -> str:
    """Return the hash of all source files of the kernel and of what compiles them."""
    digest = hashlib.sha256(f"{sys.version} {numba.__version__} {llvmlite.__version__}".encode())
    for path in sorted(KERNEL.rglob("*.py")):
        name = path.relative_to(KERNEL).as_posix()
        digest.update(name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


@cache
def compiled_folder(root: Path) -> Path:
    """Return the folder below ``root`` for machine code of this version of the kernel."""
    folder = root / f"kernel-{kernel_hash()[:16]}"
    try:
        folder.mkdir(exist_ok=True)
        os.utime(folder)
    except OSError:
        pass  # nothing is kept, then
    for other in root.glob("kernel-*"):
        _remove_old(other)
    return folder


def _remove_old(folder: Path) -> None:
    try:
        if time.time() - folder.stat().st_mtime > KEPT_DAYS * 86400:
            for file in folder.iterdir():
                file.unlink()
            folder.rmdir()
    except OSError:
        pass  # another process is faster, or still writes there


def write_whole(path: Path, data: bytes) -> None:
    """Write a file so that other processes see all of it or nothing."""
    part = path.with_name(f"{path.name}.{uuid.uuid4().hex[:12]}.part")
    try:
        part.write_bytes(data)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _own_text(function: Callable[..., Any], file: Path) -> str:
    """Return the hash of the text of ``function``'s module where it is no part of the kernel."""
    generated = function.__globals__.get(SOURCE_HASH)
    if generated is not None:
        return f"-{generated}"
    if KERNEL in file.parents:
        return ""
    return f"-{hashlib.sha256(file.read_bytes()).hexdigest()[:24]}"


class _Locator(_CacheLocator):
    """Places everything by the text of the kernel."""

    def __init__(self, function: Callable[..., Any], file: str) -> None:
        self._py_file = file
        self._place = f"{function.__code__.co_firstlineno}{_own_text(function, Path(file))}"

    def get_cache_path(self) -> str:
        return str(compiled_folder(cache_folder()))

    def get_source_stamp(self) -> str:
        return kernel_hash()

    def get_disambiguator(self) -> str:
        return self._place

    @classmethod
    def from_function(cls, function: Callable[..., Any], file: str) -> _Locator:
        return cls(function, file)


class _Entries(CompileResultCacheImpl):
    _locator_classes = [_Locator]  # noqa: RUF012 (numba's own attribute)


class KernelCache(FunctionCache):
    """One file for each function, signature and processor; its first bytes are the hash of the rest.

    A file that cannot be read is compiled anew, one that cannot be written is left out: neither changes a
    result.
    """

    _impl_class = _Entries

    def _file(self, key: object) -> Path:
        name = hashlib.sha256(repr(key).encode()).hexdigest()[:24]
        return compiled_folder(cache_folder()) / f"{self._impl.filename_base}.{name}.nbc"

    def _key(self, sig: Any, codegen: Any) -> object:
        return self._index_key(sig, codegen)  # type: ignore[no-untyped-call]

    def _load_overload(self, sig: Any, target_context: Any) -> Any:
        if not self._enabled:
            return None
        path = self._file(self._key(sig, target_context.codegen()))
        try:
            data = path.read_bytes()
        except OSError:
            return None
        if hashlib.sha256(data[32:]).digest() != data[:32]:
            return None
        return self._impl.rebuild(target_context, pickle.loads(data[32:]))

    def _save_overload(self, sig: Any, data: Any) -> None:
        if not self._enabled or not self._impl.check_cachable(data):
            return
        path = self._file(self._key(sig, data.codegen))
        payload = dumps(self._impl.reduce(data))  # type: ignore[no-untyped-call]
        try:
            write_whole(path, hashlib.sha256(payload).digest() + payload)
        except OSError:
            pass


@overload
def jit(function: F, /) -> F: ...


@overload
def jit(signature: Signature | str, /) -> Callable[[F], F]: ...


def jit(first: Any, /) -> Any:
    """Compile a function with numba: ``@jit``, or ``@jit(signature)`` for an explicit signature.

    The interpreter's lock is released, division by zero gives infinities as in numpy, and machine code is
    kept on disk. With a signature it is made (or read) at once and can be passed as a first-class function.
    """
    if callable(first) and not isinstance(first, Type) and hasattr(first, "__code__"):
        return _dispatcher(first)

    def with_signature(function: F) -> F:
        made = _dispatcher(function)
        made.compile(first)
        made.disable_compile()
        return made  # type: ignore[no-any-return]

    return with_signature


def _dispatcher(function: Callable[..., Any]) -> Any:
    made: Any = numba.njit(nogil=True, error_model="numpy")(function)
    made._cache = KernelCache(function)  # type: ignore[no-untyped-call]
    return made
