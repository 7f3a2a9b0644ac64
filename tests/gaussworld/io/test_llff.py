"""poses_bounds.npy: axes, smaller copies of the pictures, and hostile or contradictory files."""

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from gaussworld.errors import CaptureError, FileFormatError
from gaussworld.io import llff, load_capture
from gaussworld.io.images import write_image
from gaussworld.pose import look_at


def cameras(count: int) -> torch.Tensor:
    """world_from_camera in OpenCV's axes."""
    eyes = torch.stack([torch.tensor([0.3 * i - 0.5, 0.1 * i, 2.0]) for i in range(count)])
    return look_at(eyes, torch.zeros(count, 3))


def rows(poses: torch.Tensor, height: float = 60.0, width: float = 80.0, focal: float = 100.0) -> np.ndarray:
    """LLFF's columns: down, right, backward, centre, (height, width, focal length); then the bounds."""
    out = []
    for pose in poses.double():
        right, down, forward, center = pose[:3].unbind(-1)
        intrinsics = torch.tensor([height, width, focal]).double()
        matrix = torch.stack([down, right, -forward, center, intrinsics], dim=-1)
        out.append(torch.cat([matrix.flatten(), torch.tensor([1.2, 9.8]).double()]).numpy())
    return np.stack(out)


def scene(folder: Path, count: int = 4, images: str = "images", size: tuple[int, int] = (80, 60)) -> Path:
    for i in range(count):
        write_image(folder / images / f"IMG_{i:02d}.png", torch.full((size[1], size[0], 3), i / 10))
    np.save(folder / "poses_bounds.npy", rows(cameras(count)))
    return folder / "poses_bounds.npy"


def test_poses_become_opencv(tmp_path: Path) -> None:
    """The n-th row is the n-th picture's by name, the principal point its middle, the unit unknown."""
    file = scene(tmp_path)
    (tmp_path / "images" / "._IMG_00.png").write_text("what a Mac leaves behind")
    for place in (tmp_path, file):
        capture = load_capture(place)
    assert capture.metres_per_unit is None
    assert [frame.name for frame in capture.frames] == [f"IMG_{i:02d}.png" for i in range(4)]
    for frame, pose in zip(capture.frames, cameras(4), strict=True):
        assert torch.allclose(frame.camera.world_from_camera, pose, atol=1e-6)
        assert frame.camera.K.tolist() == [[100, 0, 40], [0, 100, 30], [0, 0, 1]]


def test_smaller_copies_scale_the_intrinsics(tmp_path: Path) -> None:
    """images_4 is used when there is no images/, with a quarter of the focal length."""
    scene(tmp_path, images="images_4", size=(20, 15))
    camera = load_capture(tmp_path).frames[0].camera
    assert (camera.width, camera.height) == (20, 15)
    assert camera.K.tolist() == [[25, 0, 10], [0, 25, 7.5], [0, 0, 1]]
    scene(tmp_path, size=(80, 60))
    assert load_capture(tmp_path).frames[0].camera.width == 80
    assert len(load_capture(tmp_path, images=tmp_path / "images_4")) == 4


def test_a_count_that_differs_is_explained(tmp_path: Path) -> None:
    """Poses know no names, so one picture more or less shifts all: both counts and the folder are named."""
    scene(tmp_path)
    (tmp_path / "images" / "IMG_01.png").unlink()
    with pytest.raises(
        CaptureError, match=r"each of its 4 poses, got 3 in .*images; poses belong to pictures"
    ):
        load_capture(tmp_path)
    for path in (tmp_path / "images").iterdir():
        path.unlink()
    with pytest.raises(CaptureError, match=r"each of its 4 poses, got 0 in .*images"):
        load_capture(tmp_path)


def test_pictures_of_other_proportions_are_refused(tmp_path: Path) -> None:
    """They cannot be what the poses were made from."""
    scene(tmp_path, size=(80, 80))
    with pytest.raises(CaptureError, match=r"IMG_00\.png: .*pose 0 of poses_bounds\.npy, 80x60, got 80x80"):
        load_capture(tmp_path)


class Bomb:
    """Unpickling it would run code."""

    def __reduce__(self):
        return (pytest.fail, ("a pickle was run",))


def huge_header(path: Path) -> None:
    """Promises a terabyte and has nothing."""
    header = {"descr": "<f8", "fortran_order": False, "shape": (10_000_000_000, 17)}
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)


def with_nan() -> np.ndarray:
    table = rows(cameras(4))
    table[2, 3] = np.nan
    return table


def sheared() -> np.ndarray:
    table = rows(cameras(4))
    table[1, 0] += 0.5
    return table


BAD = {
    "nothing": (lambda p: p.write_bytes(b""), "an array written by numpy"),
    "words": (lambda p: p.write_text("no array at all"), "an array written by numpy"),
    "pickle": (lambda p: p.write_bytes(pickle.dumps(Bomb())), "an array written by numpy"),
    "objects": (
        lambda p: np.save(p, np.array([[Bomb()] * 17], object), allow_pickle=True),
        "got shape .* of object",
    ),
    "huge": (huge_header, r"got shape \(10000000000, 17\)"),
    "cut": (lambda p: p.write_bytes(p.read_bytes()[:-8]), "expected 4 rows, got 536 bytes"),
    "longer": (lambda p: p.write_bytes(p.read_bytes() + b"x"), "expected 4 rows, got 545 bytes"),
    "columns": (lambda p: np.save(p, np.zeros((4, 15))), r"rows of 17 .* got shape \(4, 15\)"),
    "whole numbers": (lambda p: np.save(p, np.zeros((4, 17), int)), r"got shape \(4, 17\) of int64"),
    "empty": (lambda p: np.save(p, np.zeros((0, 17))), r"got shape \(0, 17\)"),
    "nan": (lambda p: np.save(p, with_nan()), "finite numbers, got others in row 2"),
    "sheared": (lambda p: np.save(p, sheared()), "row 1: .*orthonormal"),
    "no focal": (lambda p: np.save(p, rows(cameras(4), focal=0.0)), "row 0: .*positive focal lengths"),
    "no size": (lambda p: np.save(p, rows(cameras(4), width=0.0)), "row 0: .*at least 1 px"),
    "too large": (lambda p: np.save(p, rows(cameras(4), width=1e300)), "row 0"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_arrays_are_refused(tmp_path: Path, name: str) -> None:
    """One sentence that names the file, no object made, no memory taken."""
    spoil, message = BAD[name]
    file = scene(tmp_path)
    spoil(file)
    with pytest.raises(FileFormatError, match=message) as caught:
        load_capture(tmp_path)
    assert str(file) in str(caught.value)


def test_no_file_is_explained(tmp_path: Path) -> None:
    """Asked for by name."""
    with pytest.raises(CaptureError, match=r"expected a poses_bounds\.npy, got none"):
        llff.read(tmp_path)
