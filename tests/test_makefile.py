"""The Makefile installs again when modules come, go or move, and only then."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """The Makefile with packages of one module each, and a stamp as `make install` leaves it."""
    shutil.copy(ROOT / "Makefile", tmp_path)
    for name in ("pyproject.toml", "constraints.txt", "CMakeLists.txt"):
        (tmp_path / name).touch()
    for package in ("dynamics", "gaussworld", "recon", "viewer"):
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").touch()
    modules = subprocess.run(
        ["sh", "-c", "find gaussworld recon dynamics viewer -name '*.py' | LC_ALL=C sort"],
        cwd=tmp_path,
        capture_output=True,
        check=True,
    )
    (tmp_path / ".venv").mkdir()
    (tmp_path / ".venv" / ".gaussworld-installed").write_bytes(modules.stdout)
    return tmp_path


def installs(clone: Path) -> bool:
    """Whether `make install` would do anything."""
    said = subprocess.run(
        ["make", "-n", "install", "VENV=.venv"], cwd=clone, capture_output=True, text=True, check=True
    )
    return "pip" in said.stdout


def test_nothing_changed_installs_nothing(clone: Path) -> None:
    """Neither do new contents of a module, which an editable install sees."""
    assert not installs(clone)
    (clone / "recon" / "__init__.py").write_text("x = 1\n")
    (clone / "recon" / ".#lock.py").touch()
    assert not installs(clone)


def test_modules_that_come_go_or_move_install_again(clone: Path) -> None:
    """A new file, a file that became a package, a file that is gone."""
    (clone / "recon" / "tour.py").touch()
    assert installs(clone)
    (clone / "recon" / "tour.py").unlink()
    assert not installs(clone)
    (clone / "recon" / "tour").mkdir()
    (clone / "recon" / "tour" / "__init__.py").touch()
    assert installs(clone)
    shutil.rmtree(clone / "recon" / "tour")
    (clone / "viewer" / "__init__.py").unlink()
    assert installs(clone)


def test_a_folder_without_an_install_gets_one(clone: Path) -> None:
    """No stamp, an empty one of an earlier version, or one that is older than the dependencies."""
    stamp = clone / ".venv" / ".gaussworld-installed"
    listed = stamp.read_bytes()
    stamp.write_bytes(b"")
    assert installs(clone)
    stamp.unlink()
    assert installs(clone)
    stamp.write_bytes(listed)
    assert not installs(clone)
    later = stamp.stat().st_mtime + 10
    os.utime(clone / "pyproject.toml", (later, later))
    assert installs(clone)
