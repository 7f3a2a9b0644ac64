"""`load`, `save`, `load_capture`, `save_cameras`: choosing a format, and what they say when there is none."""

from importlib import import_module
from pathlib import Path

import pytest
import torch

from gaussworld.capture import Capture
from gaussworld.errors import CaptureError, FileFormatError, GaussWorldError
from gaussworld.gaussians import Gaussians
from gaussworld.io import FORMATS, GaussianFormat, load, load_capture, save, save_cameras


def one() -> Gaussians:
    return Gaussians.from_activated(
        torch.zeros(1, 3),
        torch.tensor([[1.0, 0, 0, 0]]),
        torch.ones(1, 3),
        torch.tensor([0.5]),
        torch.ones(1, 3),
    )


#: Their readers are tried in test_sog.py.
READ_ONLY = (".sog", ".json")


@pytest.mark.parametrize("suffix", [suffix for suffix in FORMATS if suffix not in READ_ONLY])
def test_every_format_in_the_table_works(tmp_path: Path, suffix: str) -> None:
    assert isinstance(import_module(f"gaussworld.io.{FORMATS[suffix]}"), GaussianFormat)
    path = tmp_path / "made on the way" / f"a{suffix.upper()}"
    save(one(), path)
    assert len(load(str(path))) == 1
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_unknown_suffixes_list_the_known_ones(tmp_path: Path) -> None:
    (tmp_path / "a.obj").write_text("v 0 0 0")
    with pytest.raises(FileFormatError, match=r"a suffix among \.ply, \.splat.*got '\.obj'"):
        load(tmp_path / "a.obj")
    with pytest.raises(ValueError, match=r"a suffix among \.ply, \.splat"):
        save(one(), tmp_path / "a.obj2")
    with pytest.raises(ValueError, match="a folder"):
        save_cameras(Capture(()), tmp_path / "cameras.xml")


def test_a_write_that_fails_says_why(tmp_path: Path) -> None:
    (tmp_path / "taken.ply").mkdir()
    with pytest.raises(GaussWorldError, match=r"could not write .*taken\.ply"):
        save(one(), tmp_path / "taken.ply")
    (tmp_path / "file").write_text("")
    with pytest.raises(GaussWorldError, match="could not write"):
        save(one(), tmp_path / "file" / "a.ply")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "taken.ply"]


def test_a_written_file_has_ordinary_permissions(tmp_path: Path) -> None:
    (tmp_path / "plain").write_text("")
    save(one(), tmp_path / "a.ply")
    assert (tmp_path / "a.ply").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_no_capture_says_what_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(
        CaptureError, match="got none of them; for pictures without cameras run `gaussworld sfm`"
    ):
        load_capture(tmp_path)
    with pytest.raises(CaptureError, match="no such path"):
        load_capture(tmp_path / "nowhere")
    (tmp_path / "a.txt").write_text("")
    with pytest.raises(CaptureError, match="got none of them"):
        load_capture(tmp_path / "a.txt")
