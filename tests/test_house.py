"""The rules of the house: who may import whom, how long a file is, what a module may be called."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("engine", "parsers", "compat")
MODULES = sorted(p.relative_to(ROOT) for top in FOLDERS for p in (ROOT / top).rglob("*.py"))
WRITTEN = sorted(
    p.relative_to(ROOT)
    for top in (*FOLDERS, "tests", "benchmarks", "examples")
    for p in (ROOT / top).rglob("*.py")
)
LONGEST = 400
VAGUE = {"utils", "util", "helpers", "helper", "manager", "managers", "common", "misc"}


def dotted(path: Path) -> tuple[str, ...]:
    """Return the module name of ``path`` under the package, as parts: ("engine", "ir", "model")."""
    parts = path.with_suffix("").parts
    return parts[:-1] if parts[-1] == "__init__" else parts


def imports(path: Path, source: str) -> Iterator[tuple[tuple[str, ...], int]]:
    """Yield what the module imports as (parts, line); our own modules start with "elbomix"."""
    package = ("elbomix", *path.parent.parts)
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield tuple(alias.name.split(".")), node.lineno
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            inside = (*base, *(node.module.split(".") if node.module else ()))
            for alias in node.names:
                yield (*inside, alias.name), node.lineno


def offences(path: Path, source: str) -> list[str]:
    """Return every import of ``path`` that the layering forbids."""
    found = []
    name = dotted(path)
    for target, line in imports(path, source):
        ours = target[1:] if target[0] == "elbomix" else None
        place = f"{path}:{line} imports {'.'.join(target)}"
        if ours is None:
            if target[0] in FOLDERS:
                found.append(f"{place}: inside the package imports are relative")
            if target[0] in ("torch", "torchode") and (name[0] == "parsers" or name[:2] == ("engine", "ir")):
                found.append(f"{place}: no torch here")
            continue
        if name[0] == "engine" and ours[0] != "engine":
            found.append(f"{place}: the engine knows neither languages nor files")
        if name[0] == "parsers" and ours[0] != "parsers" and ours[:2] != ("engine", "ir"):
            found.append(f"{place}: parsers know the IR of the engine and nothing else")
        if name[:2] == ("engine", "ir") and ours[:2] != ("engine", "ir"):
            found.append(f"{place}: the IR imports nothing of ours")
        if name[0] != "compat" and ours[0] == "compat":
            found.append(f"{place}: nobody imports compat")
    return found


@pytest.mark.parametrize("path", MODULES, ids=str)
def test_imports_keep_the_layers(path: Path) -> None:
    assert offences(path, (ROOT / path).read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("engine/fit.py", "from ..parsers.read import read_model"),
        ("engine/fit.py", "from ..compat import cli"),
        ("engine/fit.py", "from elbomix.parsers import read"),
        ("engine/fit.py", "import parsers.read"),
        ("engine/ir/model.py", "from ..estimate import names"),
        ("engine/ir/model.py", "def f():\n    import torch"),
        ("parsers/read.py", "from ..engine.estimate import initial"),
        ("parsers/nmtran/lower.py", "from ...engine.decoder.compile import x"),
        ("parsers/nmtran/lower.py", "from ...compat.nonmem import ext"),
        ("parsers/nmtran/lower.py", "from torch import Tensor"),
    ],
)
def test_the_rule_catches_what_it_forbids(path: str, source: str) -> None:
    assert offences(Path(path), source)


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("engine/fit.py", "from .ir.model import Model\nimport torch"),
        ("parsers/nmtran/lower.py", "from ...engine.ir.model import Model\nfrom ..problem import Problem"),
        ("compat/run.py", "from ..parsers.read import read_model\nfrom ..engine.fit import Fit"),
        ("compat/nonmem/ext.py", "from ...engine.estimate import names\nfrom .numbers import x"),
    ],
)
def test_the_rule_lets_pass_what_it_allows(path: str, source: str) -> None:
    assert offences(Path(path), source) == []


@pytest.mark.parametrize("path", WRITTEN, ids=str)
def test_no_file_is_too_long(path: Path) -> None:
    assert len((ROOT / path).read_text(encoding="utf-8").splitlines()) <= LONGEST


@pytest.mark.parametrize("path", MODULES, ids=str)
def test_modules_are_named_after_things_of_the_field(path: Path) -> None:
    assert not VAGUE & set(path.with_suffix("").parts)


@pytest.mark.parametrize(
    ("imported", "absent"),
    [
        ("elbomix", ["torch", "numpy", "pandas", "lark", "matplotlib"]),
        ("elbomix.compat.cli", ["torch", "numpy", "pandas", "lark", "matplotlib", "scipy", "rich"]),
        ("elbomix.parsers.read", ["torch", "matplotlib", "numba", "pyomo"]),
        ("elbomix.engine.ir.show", ["torch", "pandas", "matplotlib"]),
    ],
)
def test_light_modules_stay_light(imported: str, absent: list[str]) -> None:
    """What answers at once (help, check) must not pay for what estimates."""
    code = f"import sys, {imported}; print(*sorted(set(sys.modules) & {set(absent)!r}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == []
