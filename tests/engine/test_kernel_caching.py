"""The cache of machine code: found again, never stale, safe for processes side by side."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from elbomix.engine.kernel.machine import caching

FUNCTION = """
from elbomix.engine.kernel.machine.caching import jit

@jit("float64(float64)")
def answer(x):
    return x + {number}

print(answer(1.0), sum(answer.stats.cache_hits.values()))
"""
MODEL = """
import sys, time
sys.path.insert(0, {tests!r})
import numpy as np
from support.kernels import ode_model
from support.models import op, var
from elbomix.engine.ir.expression import Amount, Number
from elbomix.engine.ir.statement import Assign
from elbomix.engine.kernel.compile import compile_kernel
rate = op(op(var("K"), "*", Amount(1)), "/", op(var("V"), "+", Amount(1)))
kernel = compile_kernel(ode_model((Assign("DADT(1)", op(Number(0.0), "-", rate)),), 1))
f, none = np.zeros(1), np.zeros((1, 0))
kernel.slopes(0.0, np.array([2.0]), none, np.array([3.0, 4.0]), np.zeros((2, 0)), f, none)
print(f[0], sum(kernel.slopes.stats.cache_hits.values()))
"""


def environment(folder: Path | str) -> dict[str, str]:
    return {**os.environ, "ELBOMIX_CACHE": str(folder)}


def python(code: str, folder: Path | str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=300, env=environment(folder)
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def script(path: Path, number: float, folder: Path) -> str:
    path.write_text(FUNCTION.format(number=number))
    stamp = 1_700_000_000  # the time stamp that numba's own cache would trust does not change
    os.utime(path, (stamp, stamp))
    done = subprocess.run(
        [sys.executable, str(path)], capture_output=True, text=True, timeout=300, env=environment(folder)
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_found_again_and_never_stale(tmp_path: Path) -> None:
    file = tmp_path / "answers.py"
    assert script(file, 1.5, tmp_path / "c") == "2.5 0"
    assert script(file, 1.5, tmp_path / "c") == "2.5 1"
    assert script(file, 2.5, tmp_path / "c") == "3.5 0"  # same bytecode, same size and time: other constant
    assert script(file, 1.5, tmp_path / "c") == "2.5 1"


def test_damaged_files_are_compiled_anew(tmp_path: Path) -> None:
    file, folder = tmp_path / "answers.py", tmp_path / "c"
    script(file, 1.5, folder)
    for entry in folder.rglob("*.nbc"):
        entry.write_bytes(entry.read_bytes()[:-7])
    assert script(file, 1.5, folder) == "2.5 0"
    assert script(file, 1.5, folder) == "2.5 1"


def test_the_hash_follows_every_source_of_the_kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hashes = []
    monkeypatch.setattr(caching, "KERNEL", tmp_path)
    (tmp_path / "events").mkdir()
    for text in ("x = 1\n", "x = 2\n"):
        (tmp_path / "events" / "loop.py").write_text(text)
        caching.kernel_hash.cache_clear()
        hashes.append(caching.kernel_hash())
    (tmp_path / "another.py").write_text("")
    caching.kernel_hash.cache_clear()
    hashes.append(caching.kernel_hash())
    caching.kernel_hash.cache_clear()
    assert len(set(hashes)) == 3


def test_processes_side_by_side(tmp_path: Path) -> None:
    """Four at once into an empty folder, then one that finds everything; no half-written file stays."""
    code = MODEL.format(tests=str(Path(__file__).resolve().parents[1]))
    started = [
        subprocess.Popen(
            [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=environment(tmp_path)
        )
        for _ in range(4)
    ]
    results = [process.communicate(timeout=300)[0].split()[0] for process in started]
    assert {float(r) for r in results} == {-1.0}
    assert python(code, tmp_path) == "-1.0 1"
    assert not list(tmp_path.rglob("*.part"))


def test_a_folder_that_cannot_be_written_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    monkeypatch.setenv("ELBOMIX_CACHE", str(blocked / "below"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    folder = caching.cache_folder()
    assert folder.parent == tmp_path and folder.is_dir()
    if sys.platform != "win32":
        assert folder.stat().st_mode & 0o077 == 0


@pytest.mark.skipif(sys.platform == "win32", reason="modes of folders")
def test_a_temporary_folder_of_others_is_not_trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    planted = tmp_path / f"elbomix-{os.getuid()}"
    planted.mkdir()
    planted.chmod(0o777)
    assert caching._temporary_folder() != planted


def test_old_versions_are_removed(tmp_path: Path) -> None:
    old, young = tmp_path / "kernel-0123", tmp_path / "kernel-4567"
    for folder in (old, young):
        folder.mkdir()
        (folder / "x.nbc").write_text("")
    os.utime(old, (1_000_000_000, 1_000_000_000))
    caching.compiled_folder(tmp_path)
    assert not old.exists() and young.exists()


def test_nothing_compiled_is_loaded_before_it_is_needed() -> None:
    code = "import sys, elbomix, elbomix.compat.cli, elbomix.parsers.read; print('numba' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.stdout.strip() == "False", done.stderr
