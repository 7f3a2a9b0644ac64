"""Pictures: orientation, depth of 16 bits, modes, masks, and files that are no pictures."""

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from gaussworld.camera import Camera
from gaussworld.capture import Frame
from gaussworld.errors import CaptureError, FileFormatError
from gaussworld.io.images import (
    image_size,
    read_depth,
    read_frame,
    read_image,
    read_mask,
    write_depth,
    write_image,
)


def stripe(path: Path, orientation: int | None = None) -> Path:
    """6 wide, 4 high, left column red."""
    pixels = np.zeros((4, 6, 3), np.uint8)
    pixels[:, 0, 0] = 255
    exif = Image.Exif()
    if orientation:
        exif[0x0112] = orientation
    Image.fromarray(pixels).save(path, exif=exif)
    return path


def camera(width: int, height: int) -> Camera:
    return Camera.pinhole(torch.eye(4), width, height, 50.0)


def test_orientation_6_turns_the_picture(tmp_path: Path) -> None:
    """Orientation 6: the stored left column is the top row of the upright picture."""
    path = stripe(tmp_path / "a.png", 6)
    upright, stored = read_image(path), read_image(path, upright=False)
    assert tuple(upright.shape) == (6, 4, 3)
    assert image_size(path) == (4, 6)
    assert upright[0, :, 0].tolist() == [1, 1, 1, 1] and float(upright[1:].sum()) == 0
    assert tuple(stored.shape) == (4, 6, 3)
    assert image_size(path, upright=False) == (6, 4)


def test_a_frame_is_read_as_its_camera_saw_it(tmp_path: Path) -> None:
    path = stripe(tmp_path / "a.png", 6)
    assert tuple(read_frame(Frame(camera(6, 4), path))[0].shape) == (4, 6, 3)
    assert tuple(read_frame(Frame(camera(4, 6), path))[0].shape) == (6, 4, 3)
    _, rescaled = read_frame(Frame(camera(60, 40), path))
    assert (rescaled.width, rescaled.height) == (6, 4)
    assert torch.allclose(rescaled.K[:2], camera(60, 40).K[:2] / 10)
    with pytest.raises(CaptureError, match="proportions of its camera, 50x50, got 4x6"):
        read_frame(Frame(camera(50, 50), path))
    memory = torch.rand(4, 6, 3)
    assert read_frame(Frame(camera(6, 4), memory))[0] is memory


@pytest.mark.parametrize(
    ("mode", "pixel", "wanted"),
    [
        ("L", 51, [0.2, 0.2, 0.2]),
        ("I;16", 13107, [0.2, 0.2, 0.2]),
        ("1", 1, [1, 1, 1]),
        ("LA", (51, 0), [0.2, 0.2, 0.2, 0]),
        ("RGB", (255, 0, 51), [1, 0, 0.2]),
        ("RGBA", (255, 0, 51, 102), [1, 0, 0.2, 0.4]),
        ("P", 0, [0, 0, 0]),
    ],
)
def test_modes_become_rgb_or_rgba(tmp_path: Path, mode: str, pixel, wanted: list[float]) -> None:
    Image.new(mode, (3, 2), pixel).save(tmp_path / "a.png")
    got = read_image(tmp_path / "a.png")
    assert tuple(got.shape) == (2, 3, len(wanted))
    assert torch.allclose(got[0, 0], torch.tensor(wanted, dtype=torch.float32), atol=1e-6)


@pytest.mark.parametrize("shape", [(5, 7), (5, 7, 1), (5, 7, 3), (5, 7, 4)])
def test_png_round_trips(tmp_path: Path, shape: tuple[int, ...]) -> None:
    image = torch.randint(0, 256, shape) / 255
    write_image(tmp_path / "a.png", image)
    got = read_image(tmp_path / "a.png")
    wanted = image[..., None].expand(5, 7, 3) if len(shape) == 2 else image.expand(5, 7, max(3, shape[2]))
    assert torch.allclose(got, wanted)


def test_jpeg_is_close_and_values_are_clamped(tmp_path: Path) -> None:
    write_image(tmp_path / "a.jpg", torch.full((16, 16, 3), 1.5))
    assert float(read_image(tmp_path / "a.jpg").min()) > 0.98


@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [
        ("a.png", (3, 4, 2), "h×w×4, got shape"),
        ("a.xyz", (3, 4, 3), "got suffix '.xyz'"),
        ("a.jpg", (3, 4, 4), ".png for transparency"),
    ],
)
def test_bad_calls_are_refused(tmp_path: Path, name: str, shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        write_image(tmp_path / name, torch.zeros(shape))


def test_depth_is_metres_and_invalid_is_zero(tmp_path: Path) -> None:
    millimetres = np.array([[0, 1, 1500], [65535, 65534, 40000]], np.uint16)
    Image.fromarray(millimetres).save(tmp_path / "d.png")
    depth = read_depth(tmp_path / "d.png")
    assert torch.allclose(depth, torch.tensor([[0, 0.001, 1.5], [0, 65.534, 40]]))
    write_depth(tmp_path / "e.png", depth)
    assert torch.equal(read_depth(tmp_path / "e.png"), depth)
    write_depth(tmp_path / "f.png", torch.tensor([[float("nan"), -1.0, float("inf"), 70.0]]))
    assert not read_depth(tmp_path / "f.png").any()


def test_depth_of_8_bits_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileFormatError, match="16-bit grey depth in millimetres, got a picture of mode RGB"):
        read_depth(stripe(tmp_path / "a.png"))


def test_masks_are_true_where_light(tmp_path: Path) -> None:
    write_image(tmp_path / "m.png", torch.tensor([[0.0, 0.4, 0.6, 1.0]]))
    assert read_mask(tmp_path / "m.png").tolist() == [[False, False, True, True]]


def bomb() -> bytes:
    """A PNG that claims 60000×60000 pixels in a few bytes."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    size = struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", size)
        + chunk(b"IDAT", zlib.compress(bytes(100)))
        + chunk(b"IEND", b"")
    )


def test_no_pictures_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    with pytest.raises(FileFormatError, match="no such file"):
        read_image(path)
    write_image(path, torch.rand(64, 64, 3))
    whole = path.read_bytes()
    for data, message in (
        (b"", "cannot identify"), (b"no picture", "cannot identify"),
        (whole[: len(whole) // 2], "expected a whole picture"), (bomb(), "safe to decode"),
    ):  # fmt: skip
        path.write_bytes(data)
        with pytest.raises(FileFormatError, match=message) as caught:
            read_image(path)
        assert str(path) in str(caught.value)
    with pytest.raises(FileFormatError):
        read_image(tmp_path)
