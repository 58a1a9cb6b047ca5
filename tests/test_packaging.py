"""The three top-level folders are the package `elbomix`, in the checkout and in a built wheel."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("compat", "engine", "parsers")


def test_package_links_reach_the_top_level_folders() -> None:
    package = ROOT / "src" / "elbomix"
    links = sorted(p.name for p in package.iterdir() if p.is_symlink())
    assert links == sorted(FOLDERS)
    for name in FOLDERS:
        assert (package / name).resolve() == ROOT / name


def test_every_folder_with_code_is_a_package() -> None:
    for top in FOLDERS:
        for module in (ROOT / top).rglob("*.py"):
            assert (module.parent / "__init__.py").exists(), module


def test_package_init_files_hold_only_a_docstring() -> None:
    inits = [ROOT / "__init__.py", *(p for top in FOLDERS for p in (ROOT / top).rglob("__init__.py"))]
    for path in inits:
        lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
        text = "\n".join(lines)
        assert text.startswith('"""') and text.endswith('"""') and text.count('"""') == 2, path


def test_the_version_is_said_once_the_same_way() -> None:
    import tomllib

    import elbomix

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert elbomix.__version__ == project["version"]
    assert f"## [{elbomix.__version__}]" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_the_licence_is_the_whole_apache_licence() -> None:
    text = (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert "Apache License" in text and "END OF TERMS AND CONDITIONS" in text and "APPENDIX" in text


@pytest.mark.slow
def test_a_wheel_holds_the_package_elbomix_alone(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", str(tmp_path), str(ROOT)],
        check=True,
        timeout=600,
    )
    (wheel,) = tmp_path.glob("elbomix-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"elbomix"}
    for top in FOLDERS:
        for pattern in ("*.py", "*.lark"):
            for source in (ROOT / top).rglob(pattern):
                assert f"elbomix/{source.relative_to(ROOT).as_posix()}" in names
    assert "elbomix/py.typed" in names
