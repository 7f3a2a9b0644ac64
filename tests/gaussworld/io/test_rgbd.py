"""RGB-D folders: both cameras, lost poses, depth in another unit, and what is refused."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from gaussworld.camera import Camera
from gaussworld.errors import CaptureError, FileFormatError
from gaussworld.io import load_capture, rgbd
from gaussworld.io.images import read_depth, write_image
from gaussworld.pose import look_at

K = "100 0 39.5\n0 100 29.5\n0 0 1\n"


def sloping_depth(camera: Camera) -> torch.Tensor:
    """[m] z-depth of the plane z = 2 + 0.4 x + 0.2 y, which sees a moving camera differently everywhere."""
    origin, rays = camera.rays()
    normal = torch.tensor([-0.4, -0.2, 1.0])
    distance = (2 - normal @ origin) / (rays @ normal)
    return distance * (rays @ camera.world_from_camera[:3, 2])


def poses(count: int) -> list[torch.Tensor]:
    eyes = [torch.tensor([0.15 * i - 0.2, 0.05 * i, -0.1 * i]) for i in range(count)]
    return [look_at(eye, torch.tensor([0.1, 0.0, 2.0]), torch.tensor([0.0, -1.0, 0.0])) for eye in eyes]


def sequence(folder: Path, count: int = 4, unit: float = 0.001, intrinsics: str = K) -> Path:
    """Frames 0, 10, 20, ... of 80x60 pixels, depth in steps of `unit` [m]; what `K` says has centres at 0."""
    frames = folder / "frames"
    for i, pose in enumerate(poses(count)):
        camera = Camera(pose, torch.tensor([[100.0, 0, 40], [0, 100, 30], [0, 0, 1]]), 80, 60)
        stem = frames / f"frame-{10 * i:06d}"
        write_image(Path(f"{stem}.color.png"), torch.full((60, 80, 3), i / 10))
        steps = (sloping_depth(camera) / unit).round().clamp(0, 65534).numpy().astype(np.uint16)
        Image.fromarray(steps).save(f"{stem}.depth.png")
        np.savetxt(f"{stem}.pose.txt", pose.numpy())
    (folder / "camera-intrinsics.txt").write_text(intrinsics)
    return frames


def test_frames_come_in_order_with_camera_and_depth(tmp_path: Path) -> None:
    """Poses and pictures belong together, the unit is the metre, and OpenCV's first pixel centre is moved."""
    frames = sequence(tmp_path)
    for place in (tmp_path, frames, tmp_path / "camera-intrinsics.txt"):
        capture = load_capture(place)
        assert capture.metres_per_unit == 1.0
        assert [frame.name for frame in capture.frames] == [f"frame-{10 * i:06d}.color.png" for i in range(4)]
    for frame, pose in zip(capture.frames, poses(4), strict=True):
        assert torch.allclose(frame.camera.world_from_camera, pose, atol=1e-5)
        assert frame.camera.K.tolist() == [[100, 0, 40], [0, 100, 30], [0, 0, 1]]
        assert (frame.camera.width, frame.camera.height) == (80, 60)
        assert frame.depth_camera is None and isinstance(frame.depth, Path)
        assert torch.allclose(read_depth(frame.depth), sloping_depth(frame.camera), atol=0.001)


def test_a_depth_camera_of_its_own(tmp_path: Path) -> None:
    """Its intrinsics, its size and its place beside the colour camera are read."""
    frames = sequence(tmp_path)
    (tmp_path / "camera-intrinsics.txt").rename(tmp_path / "color-intrinsics.txt")
    (tmp_path / "depth-intrinsics.txt").write_text("50 0 19.5\n0 50 14.5\n0 0 1\n")
    # A point at x in the colour camera is at x - 0.02 in the depth camera, which stands 2 cm to the right.
    (tmp_path / "depth-from-color.txt").write_text("1 0 0 -0.02\n0 1 0 0\n0 0 1 0\n0 0 0 1\n")
    for i, pose in enumerate(poses(4)):
        side = torch.eye(4)
        side[0, 3] = 0.02
        camera = Camera(pose @ side, torch.tensor([[50.0, 0, 20], [0, 50, 15], [0, 0, 1]]), 40, 30)
        steps = (sloping_depth(camera) * 1000).round().numpy().astype(np.uint16)
        Image.fromarray(steps).save(frames / f"frame-{10 * i:06d}.depth.png")
    for frame in load_capture(tmp_path).frames:
        depth_camera = frame.depth_camera
        assert depth_camera is not None and (depth_camera.width, depth_camera.height) == (40, 30)
        assert float(depth_camera.K[0, 0]) == 50 and float(frame.camera.K[0, 0]) == 100
        offset = frame.camera.camera_from_world @ depth_camera.world_from_camera
        assert torch.allclose(offset[:3, 3], torch.tensor([0.02, 0, 0]), atol=1e-5)
        assert isinstance(frame.depth, Path)
        assert torch.allclose(read_depth(frame.depth), sloping_depth(depth_camera), atol=0.001)


def test_smaller_depth_of_the_same_view_has_its_camera(tmp_path: Path) -> None:
    """Registered depth at half the size needs no intrinsics of its own; other proportions do."""
    frames = sequence(tmp_path)
    for path in frames.glob("*.depth.png"):
        Image.open(path).resize((40, 30), Image.Resampling.NEAREST).save(path)
    depth_camera = load_capture(tmp_path).frames[0].depth_camera
    assert depth_camera is not None and depth_camera.K.tolist() == [[50, 0, 20], [0, 50, 15], [0, 0, 1]]
    for path in frames.glob("*.depth.png"):
        Image.open(path).resize((40, 40), Image.Resampling.NEAREST).save(path)
    with pytest.raises(CaptureError, match=r"got 40x40; state the depth camera in depth-intrinsics\.txt"):
        load_capture(tmp_path)


@pytest.mark.parametrize("text", ["nan " * 16, "-inf " * 16, "lost", "1.#QNAN " * 16, "0 " * 16, None])
def test_frames_that_lost_track_are_left_out(tmp_path: Path, text: str | None, caplog) -> None:
    """However a lost pose is written; one line names those, frames without a picture and without depth."""
    frames = sequence(tmp_path, 6)
    lost = frames / "frame-000020.pose.txt"
    lost.unlink() if text is None else lost.write_text(text)
    (frames / "frame-000030.color.png").unlink()
    (frames / "frame-000040.depth.png").unlink()
    capture = load_capture(tmp_path)
    assert [frame.name[6:12] for frame in capture.frames] == ["000000", "000010", "000040", "000050"]
    assert [frame.depth is None for frame in capture.frames] == [False, False, True, False]
    assert len(caplog.records) == 1
    for words in (
        "of 6 frames, 1 have no valid pose and are left out (frame-000020)",
        "1 have no picture and are left out (frame-000030)",
        "1 have no depth (frame-000040)",
    ):
        assert words in caplog.text


def test_a_sloppy_rotation_is_made_one(tmp_path: Path) -> None:
    """Fused poses drift from orthonormal, more than a `Camera` takes."""
    frames = sequence(tmp_path)
    pose = np.loadtxt(frames / "frame-000010.pose.txt")
    np.savetxt(frames / "frame-000010.pose.txt", np.vstack([pose[:3, :3] * 1.004, pose[:3, 3]]).T)
    with pytest.raises(FileFormatError, match=r"000010\.pose\.txt: expected a 4x4 matrix, got 12 numbers"):
        load_capture(tmp_path)
    scaled = pose.copy()
    scaled[:3, :3] *= 1.004
    np.savetxt(frames / "frame-000010.pose.txt", scaled)
    got = load_capture(tmp_path).frames[1].camera.world_from_camera
    assert torch.allclose(got, torch.from_numpy(pose).float(), atol=1e-5)


@pytest.mark.parametrize("unit", [0.0001, 0.0002, 0.01, 1.0])
def test_depth_in_another_unit_is_refused(tmp_path: Path, unit: float) -> None:
    """Tenths and fifths of millimetres, centimetres and metres; the message says how to mend it."""
    sequence(tmp_path, unit=unit)
    with pytest.raises(
        CaptureError, match=r"expected depth in millimetres, got .*images\.write_depth"
    ) as caught:
        load_capture(tmp_path)
    if unit < 0.1:
        assert f"when one step is {1000 * unit:g} mm" in str(caught.value)
    else:
        assert "a median of 2 mm, which is no scene" in str(caught.value)


def test_depth_of_another_kind_is_refused(tmp_path: Path) -> None:
    """An 8-bit picture cannot hold millimetres."""
    frames = sequence(tmp_path)
    for path in frames.glob("*.depth.png"):
        Image.fromarray(np.full((60, 80), 100, np.uint8)).save(path)
    with pytest.raises(
        FileFormatError, match="expected 16-bit grey depth in millimetres, got a picture of mode L"
    ):
        load_capture(tmp_path)


def test_a_standing_camera_gives_no_alarm(tmp_path: Path) -> None:
    """Without motion the unit cannot be told, and empty depth is not depth in another unit."""
    frames = sequence(tmp_path)
    for path in frames.glob("*.pose.txt"):
        np.savetxt(path, np.eye(4))
    assert len(load_capture(tmp_path)) == 4
    for path in frames.glob("*.depth.png"):
        Image.fromarray(np.full((60, 80), 65535, np.uint16)).save(path)
    assert len(load_capture(tmp_path)) == 4


BAD = [
    (
        "camera-intrinsics.txt",
        None,
        CaptureError,
        r"expected the intrinsics in camera-intrinsics\.txt.*'585 0 320'",
    ),
    ("camera-intrinsics.txt", "1 2 3", FileFormatError, "expected a 3x3 or 4x4 matrix, got 3 numbers"),
    ("camera-intrinsics.txt", "f = 585", FileFormatError, "expected numbers, got"),
    ("camera-intrinsics.txt", "0 0 40 0 0 30 0 0 1", FileFormatError, "positive focal lengths"),
    ("camera-intrinsics.txt", "9 1 40 0 9 30 0 0 1", FileFormatError, "no skew"),
    ("camera-intrinsics.txt", "900 0 640 0 900 360 0 0 1", CaptureError, r"80x60 pixels, got \(640, 360\)"),
    ("camera-intrinsics.txt", "\xff", FileFormatError, "numbers as text, got other bytes"),
    ("camera-intrinsics.txt", "1 " * 40_000, FileFormatError, "a small matrix as text, got 80000 bytes"),
    ("frames/frame-000000.pose.txt", "1 0 0 0 0 1", FileFormatError, "expected a 4x4 matrix, got 6 numbers"),
    ("frames/frame-000000.pose.txt", "2 0 0 0 0 2 0 0 0 0 2 0 0 0 0 1", FileFormatError, "scales, shears or"),
    ("frames/frame-000000.pose.txt", "-1 0 0 0 0 1 0 0 0 0 1 0 0 0 0 1", FileFormatError, "or mirrors"),
    ("frames/frame-000000.pose.txt", "", FileFormatError, "got 0 numbers"),
    ("frames/frame-000000.color.png", "no picture", FileFormatError, r"color\.png: expected a whole picture"),
    ("frames/frame-000000.depth.png", "no picture", FileFormatError, r"depth\.png: expected a whole picture"),
]


@pytest.mark.parametrize(("name", "content", "kind", "message"), BAD)
def test_bad_files_are_named(tmp_path: Path, name: str, content: str | None, kind, message: str) -> None:
    """Every malformed file gives one sentence that says which it is."""
    sequence(tmp_path)
    (tmp_path / name).unlink()
    if content is not None:
        (tmp_path / name).write_text(content, encoding="latin-1")
    with pytest.raises(kind, match=message):
        load_capture(tmp_path)


def test_no_poses_at_all_is_explained(tmp_path: Path) -> None:
    """Then the pictures alone are what can be used."""
    frames = sequence(tmp_path)
    for path in frames.glob("*.pose.txt"):
        path.unlink()
    with pytest.raises(
        CaptureError, match=r"frame-000000\.pose\.txt .* without poses give the pictures alone"
    ):
        load_capture(tmp_path)
    with pytest.raises(CaptureError, match=r"expected pictures named frame-000000\.color\.png"):
        rgbd.read(tmp_path / "camera-intrinsics.txt" / "nowhere")


def test_of_several_sequences_one_is_read(tmp_path: Path, caplog) -> None:
    """The first by name, and the warning says so."""
    sequence(tmp_path).rename(tmp_path / "seq-02")
    sequence(tmp_path, 2).rename(tmp_path / "seq-01")
    assert len(load_capture(tmp_path)) == 2
    assert caplog.text.count("holds 2 RGB-D sequences; seq-01 is read") == 1


def test_the_real_sequence(captures: Path, caplog) -> None:
    """50 frames without a warning; depth moved from one into another agrees to a centimetre."""
    capture = load_capture(captures / "rgbd_50")
    assert len(capture) == 50 and not caplog.records
    first, later = capture.frames[0], capture.frames[25]
    assert isinstance(first.depth, Path) and isinstance(later.depth, Path)
    depth = read_depth(first.depth)[::8, ::8]
    pixels = first.camera.pixel_centers()[::8, ::8][depth > 0]
    there, expected = later.camera.project(first.camera.unproject(pixels, depth[depth > 0]))
    inside = ((there >= 0) & (there < torch.tensor([640, 480]))).all(-1)
    x, y = there[inside].long().unbind(-1)
    found = read_depth(later.depth)[y, x]
    assert float((found - expected[inside])[found > 0].abs().median()) < 0.015
