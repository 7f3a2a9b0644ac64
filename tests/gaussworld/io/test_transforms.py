"""transforms.json: the three dialects, stale paths, round trips and refusals; the fox capture."""

import json
import logging
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gaussworld.camera import Camera, CameraModel
from gaussworld.capture import Capture, Frame
from gaussworld.errors import CaptureError, FileFormatError
from gaussworld.io import load_capture, save_cameras, transforms
from gaussworld.io.images import read_frame, write_depth, write_image
from gaussworld.pose import look_at

IDENTITY = torch.eye(4).tolist()


def scene(folder: Path, name: str = "transforms.json", pictures: int = 2, **keys: Any) -> Path:
    """Small pictures and a file that lists them; `keys` go to the file, `frame` to every frame."""
    every = keys.pop("frame", {})
    frames = []
    for i in range(pictures):
        write_image(folder / "images" / f"{i}.png", torch.zeros(20, 30, 3))
        frames.append({"file_path": f"images/{i}.png", "transform_matrix": IDENTITY, **every})
    (folder / name).write_text(json.dumps({"fl_x": 30.0, "frames": frames, **keys}))
    return folder / name


def only_camera(folder: Path, **keys: Any) -> Camera:
    return load_capture(scene(folder, pictures=1, **keys)).frames[0].camera


def test_fox_has_50_frames_and_one_warning(captures: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        capture = load_capture(captures / "fox")
    assert len(capture) == 50
    assert len(caplog.records) == 1
    assert "lists 67 pictures; 17 of them are not on disk" in caplog.text
    first = capture.frames[0]
    assert (first.camera.width, first.camera.height) == (1080, 1920)
    assert first.camera.model is CameraModel.OPENCV
    assert first.camera.distortion == (0.0578421, -0.0805099, -0.000980296, 0.00015575)
    assert float(first.camera.K[0, 0]) == pytest.approx(1375.52)
    # All of them photograph one fox: it must lie in front of every camera, which wrong axes would not give.
    axes = torch.stack([frame.camera.world_from_camera[:3, 2] for frame in capture.frames]).double()
    centers = torch.stack([frame.camera.center for frame in capture.frames]).double()
    across = torch.eye(3).double() - axes[:, :, None] * axes[:, None, :]
    target = torch.linalg.solve(across.sum(0), (across @ centers[..., None]).sum(0))[:, 0]
    assert bool((((target - centers) * axes).sum(-1) > 1).all())
    image, camera = read_frame(first)
    assert tuple(image.shape) == (camera.height, camera.width, 3)


def test_opengl_axes_become_opencv(tmp_path: Path) -> None:
    """The identity looks along -z with +y up there; here z is forward and y down."""
    camera = only_camera(tmp_path)
    assert camera.world_from_camera.tolist() == torch.diag(torch.tensor([1.0, -1, -1, 1])).tolist()
    assert (camera.width, camera.height) == (30, 20)
    assert (float(camera.K[0, 2]), float(camera.K[1, 2])) == (15, 10)


def test_angles_give_focal_lengths(tmp_path: Path) -> None:
    camera = only_camera(tmp_path, fl_x=99.0, frame={"camera_angle_x": math.pi / 2})
    assert float(camera.K[0, 0]) == pytest.approx(15)
    assert float(camera.K[1, 1]) == pytest.approx(15)


def test_frames_may_have_their_own_intrinsics(tmp_path: Path) -> None:
    camera = only_camera(
        tmp_path, w=30, h=20, frame={"fl_x": 11.0, "fl_y": 12.0, "cx": 13.0, "w": 60, "h": 40.0}
    )
    assert torch.equal(camera.K, torch.tensor([[11.0, 0, 13], [0, 12, 20], [0, 0, 1]]))
    assert (camera.width, camera.height) == (60, 40)


@pytest.mark.parametrize(
    ("keys", "model", "distortion"),
    [
        ({"k1": 0.1, "p2": 0.01}, CameraModel.OPENCV, (0.1, 0, 0, 0.01)),
        ({"k1": 0.1, "k3": 0.2, "camera_model": "OPENCV"}, CameraModel.OPENCV, (0.1, 0, 0, 0, 0.2)),
        ({"k1": 0, "camera_model": "OPENCV"}, CameraModel.PINHOLE, ()),
        ({"k1": 0.1, "k4": 0.2, "camera_model": "OPENCV_FISHEYE"}, CameraModel.FISHEYE, (0.1, 0, 0, 0.2)),
        ({"k1": 0.1, "is_fisheye": True}, CameraModel.FISHEYE, (0.1, 0, 0, 0)),
    ],
)
def test_lenses(tmp_path: Path, keys: dict, model: CameraModel, distortion: tuple[float, ...]) -> None:
    camera = only_camera(tmp_path, **keys)
    assert (camera.model, camera.distortion) == (model, distortion)


def test_stale_prefixes_and_missing_suffixes_are_mended(tmp_path: Path) -> None:
    file = scene(tmp_path)
    meta = json.loads(file.read_text())
    meta["frames"][0]["file_path"] = "C:\\captures\\desk\\images\\0.png"
    meta["frames"][1]["file_path"] = "./elsewhere/1"
    file.write_text(json.dumps(meta))
    assert [frame.name for frame in load_capture(file).frames] == ["0.png", "1.png"]


def test_pictures_may_be_named_by_the_caller(tmp_path: Path) -> None:
    file = scene(tmp_path)
    (tmp_path / "images").rename(tmp_path / "other place")
    with pytest.raises(CaptureError, match=r"2 listed frames, got none on disk .*'images/0\.png'") as caught:
        load_capture(file)
    assert "images=" not in str(caught.value) and str(tmp_path / "images") in str(caught.value)
    assert len(load_capture(file, images=tmp_path / "other place")) == 2


def test_a_list_without_frames_says_so(tmp_path: Path) -> None:
    (tmp_path / "transforms.json").write_text('{"frames": []}')
    with pytest.raises(CaptureError, match="expected at least one frame, got an empty list 'frames'"):
        load_capture(tmp_path)


def test_blender_trio_becomes_splits(tmp_path: Path) -> None:
    for split in ("train", "val", "test"):
        write_image(tmp_path / split / "r_0.png", torch.zeros(8, 8, 4))
        frame = {"file_path": f"./{split}/r_0", "transform_matrix": IDENTITY, "rotation": 0.1}
        meta = {"camera_angle_x": 0.7, "frames": [frame]}
        (tmp_path / f"transforms_{split}.json").write_text(json.dumps(meta))
    capture = load_capture(tmp_path)
    assert [frame.split for frame in capture.frames] == ["train", "validation", "test"]
    assert [Path(frame.image).parent.name for frame in capture.frames] == ["train", "val", "test"]


def test_masks_depth_and_times(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_image(tmp_path / "masks" / "m.png", torch.ones(20, 30))
    file = scene(
        tmp_path,
        frame={"mask_path": "masks/m.png", "depth_file_path": "depth/none.png", "time": 0.5},
        pictures=3,
    )
    frame = load_capture(file).frames[0]
    assert (frame.mask, frame.depth, frame.time) == (tmp_path / "masks" / "m.png", None, 0.5)
    assert "3 depth maps; 3 of them are not on disk" in caplog.text


def test_the_way_back_is_kept(tmp_path: Path) -> None:
    """`applied_transform` and `applied_scale` say how the file's frame came from the source's."""
    applied = [[1, 0, 0, 1], [0, 0, 1, 2], [0, -1, 0, 3]]
    capture = load_capture(scene(tmp_path, applied_transform=applied, applied_scale=2.0))
    wanted = torch.tensor([[2.0, 0, 0, 2], [0, 0, 2, 4], [0, -2, 0, 6], [0, 0, 0, 1]])
    assert torch.equal(capture.world_from_source, wanted)
    assert capture.frames[0].camera.center.tolist() == [0, 0, 0]


def test_a_scaled_camera_matrix_loses_its_scale(tmp_path: Path) -> None:
    matrix = [[0, -2, 0, 1], [2, 0, 0, 2], [0, 0, 2, 3], [0, 0, 0, 1]]
    pose = only_camera(tmp_path, frame={"transform_matrix": matrix}).world_from_camera
    assert torch.allclose(pose, torch.tensor([[0.0, 1, 0, 1], [1, 0, 0, 2], [0, 0, -1, 3], [0, 0, 0, 1]]))


def round_trip_capture(folder: Path) -> Capture:
    lenses = [
        (CameraModel.PINHOLE, ()),
        (CameraModel.OPENCV, (0.1, -0.2, 0.003, 0.004)),
        (CameraModel.OPENCV, (0.1, -0.2, 0.003, 0.004, 0.05)),
        (CameraModel.FISHEYE, (0.1, -0.2, 0.003, 0.004)),
    ]
    frames = []
    for i, (model, distortion) in enumerate(lenses):
        for name in ("images", "depth", "masks"):
            write_image(folder / name / f"{i}.png", torch.rand(24, 32, 3))
        pose = look_at(torch.tensor([2.0 + i, 1.0, 0.5]), torch.zeros(3))
        K = torch.tensor([[31.3, 0, 15.7], [0, 30.9, 12.1], [0, 0, 1]])
        paths = [folder / name / f"{i}.png" for name in ("images", "masks", "depth")]
        split = "test" if i == 0 else "validation" if i == 1 else "train"
        frames.append(Frame(Camera(pose, K, 32, 24, model, distortion), *paths, time=i / 3, split=split))
    back = torch.tensor([[0.0, -3, 0, 1], [3, 0, 0, 2], [0, 0, 3, 3], [0, 0, 0, 1]])
    points, colors = torch.randn(6, 3), torch.randint(0, 256, (6, 3)) / 255
    return Capture(tuple(frames), points, colors, 0.25, back)


def test_a_round_trip_keeps_everything(tmp_path: Path) -> None:
    capture = round_trip_capture(tmp_path)
    save_cameras(capture, tmp_path / "out" / "transforms.json")
    got = load_capture(tmp_path / "out")
    for a, b in zip(got.frames, capture.frames, strict=True):
        assert torch.equal(a.camera.world_from_camera, b.camera.world_from_camera)
        assert torch.equal(a.camera.K, b.camera.K)
        assert (a.camera.width, a.camera.height) == (32, 24)
        assert (a.camera.model, a.camera.distortion) == (b.camera.model, b.camera.distortion)
        assert (a.time, a.split) == (b.time, b.split)
        for mine, theirs in ((a.image, b.image), (a.mask, b.mask), (a.depth, b.depth)):
            assert Path(mine).resolve() == Path(theirs).resolve()
    assert torch.equal(got.points, capture.points)
    assert torch.allclose(got.colors, capture.colors)
    assert torch.allclose(got.world_from_source, capture.world_from_source)
    assert got.metres_per_unit == 0.25


def test_shared_intrinsics_are_written_once(tmp_path: Path) -> None:
    capture = load_capture(scene(tmp_path))
    save_cameras(capture, tmp_path / "again.json")
    meta = json.loads((tmp_path / "again.json").read_text())
    assert meta["fl_x"] == 30
    assert "fl_x" not in meta["frames"][0]


def test_what_the_file_cannot_hold_is_refused(tmp_path: Path) -> None:
    camera = only_camera(tmp_path)
    with pytest.raises(ValueError, match="got one in memory"):
        save_cameras(Capture((Frame(camera, torch.zeros(20, 30, 3)),)), tmp_path / "a.json")
    rational = replace(camera, model=CameraModel.OPENCV, distortion=(0.0,) * 5 + (0.1, 0.0, 0.0))
    with pytest.raises(ValueError, match="save as COLMAP instead"):
        save_cameras(Capture((Frame(rational, tmp_path / "images" / "0.png"),)), tmp_path / "a.json")
    assert not (tmp_path / "a.json").exists()


BAD_FRAMES = {
    "2x2": ({"transform_matrix": [[1, 0], [0, 1]]}, r"'transform_matrix', got shape \(2, 2\)"),
    "ragged": ({"transform_matrix": [[1, 0], [0]]}, "expected a 4x4 or 3x4 matrix"),
    "words": ({"transform_matrix": "identity"}, "expected a 4x4 or 3x4 matrix"),
    "nan": ({"transform_matrix": [[float("nan")] * 4] * 4}, "finite 4x4 .* got NaN or infinity"),
    "sheared": ({"transform_matrix": [[1, 1, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0]]}, "orthonormal"),
    "zero": ({"transform_matrix": [[0] * 4] * 3}, "orthonormal"),
    "enormous": (
        {"transform_matrix": [[1e300, 0, 0, 0], [0, 1e300, 0, 0], [0, 0, 1e300, 0]]},
        "expected|too large|overflow|converted",
    ),
    "mirrored": ({"transform_matrix": [[-1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0]]}, "mirror"),
    "no path": ({"file_path": None}, "'file_path'"),
    "odd focal": ({"fl_x": "wide"}, "expected a finite number for 'fl_x', got 'wide'"),
    "negative focal": ({"fl_x": -3}, "positive focal lengths"),
    "zero focal": ({"fl_x": 0}, "positive focal lengths, got fx=0"),
    "nan focal": ({"fl_x": float("nan")}, "finite number for 'fl_x', got nan"),
    "true focal": ({"fl_x": True}, "expected a finite number for 'fl_x', got True"),
    "wide angle": ({"camera_angle_x": 4.0}, "expected a field of view between 0 and pi"),
    "no size": ({"w": 0, "h": 0}, "at least 1 px"),
    "odd model": ({"camera_model": "EQUIRECTANGULAR"}, "got 'EQUIRECTANGULAR'; undistort"),
    "r^8": ({"k4": 0.1}, "expected k4 = 0"),
    "bent fisheye": ({"p1": 0.1, "is_fisheye": True}, "expected no p1"),
    "enormous focal": ({"fl_x": 10**400}, "too large"),
    "focal beyond float32": ({"fl_x": 1e300}, "expected|too large|overflow|converted"),
    "size beyond float32": ({"w": 1e300, "h": 1e300}, "expected|too large|overflow|converted"),
    "odd time": ({"time": "noon"}, "'time', got 'noon'"),
}


@pytest.mark.parametrize("name", BAD_FRAMES)
def test_a_bad_frame_is_named(tmp_path: Path, name: str) -> None:
    keys, message = BAD_FRAMES[name]
    file = scene(tmp_path, frame=keys)
    with pytest.raises(FileFormatError, match=message) as caught:
        load_capture(file)
    named = "" if name == "no path" else " (images/0.png)"
    assert str(caught.value).startswith(f"{file}: frame 0{named}: ")


BAD_FILES = {
    "empty": ("", "expected JSON"),
    "cut": ('{"frames": [', "expected JSON"),
    "deep": ("[" * 100_000, "expected JSON"),
    "binary": ("\x00\ufffd", "expected JSON"),
    "a list": ("[]", "a list 'frames'"),
    "no frames": ('{"fl_x": 3}', "a list 'frames'"),
    "frames by name": ('{"frames": {"a": 1}}', "a list 'frames'"),
    "a frame that is a number": ('{"frames": [3]}', "frame 0: expected an object"),
    "splits": ('{"frames": [], "train_filenames": 3}', "list of paths for 'train_filenames'"),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_a_bad_file_is_refused(tmp_path: Path, name: str) -> None:
    text, message = BAD_FILES[name]
    (tmp_path / "transforms.json").write_text(text)
    with pytest.raises(FileFormatError, match=message):
        load_capture(tmp_path)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"applied_transform": [[1]]}, "'applied_transform', got shape"),
        ({"applied_scale": "big"}, "'applied_scale', got 'big'"),
        ({"metres_per_unit": -1}, "a positive 'metres_per_unit'"),
        ({"metres_per_unit": "x"}, "finite number for 'metres_per_unit'"),
        ({"integer_depth_scale": 0.25, "frame": {"depth_path": "d.png"}}, "depth in millimetres"),
    ],
)
def test_bad_keys_of_the_file_are_named(tmp_path: Path, keys: dict, message: str) -> None:
    with pytest.raises(FileFormatError, match=message):
        load_capture(scene(tmp_path, **keys))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)
KEYS = (
    "file_path transform_matrix fl_x fl_y cx w h k1 p1 k4 camera_model is_fisheye mask_path depth_path time"
)
KEYS += " frames applied_transform applied_scale metres_per_unit ply_file_path train_filenames"
KEYS += " integer_depth_scale camera_angle_x"


@settings(max_examples=150, deadline=None)
@given(key=st.sampled_from(KEYS.split()), value=JSON, inside=st.booleans())
def test_any_value_gives_a_capture_or_our_error(
    tmp_path_factory: pytest.TempPathFactory, key: str, value: Any, inside: bool
) -> None:
    """Whatever JSON stands under whichever key, no other exception escapes."""
    folder = tmp_path_factory.mktemp("json")
    file = scene(folder, pictures=1)
    meta = json.loads(file.read_text())
    (meta["frames"][0] if inside else meta)[key] = value
    file.write_text(json.dumps(meta))
    try:
        load_capture(folder)
    except (CaptureError, FileFormatError):
        pass


def test_pictures_may_be_absent_when_only_cameras_are_wanted(tmp_path: Path) -> None:
    """All listed cameras come, each with the path where its picture should be, and nobody is warned."""
    file = scene(tmp_path, pictures=3, w=30, h=20)
    for name in ("0.png", "1.png", "2.png"):
        (tmp_path / "images" / name).unlink()
    with pytest.raises(CaptureError, match="got none on disk"):
        load_capture(file)
    capture = load_capture(file, need_pictures=False)
    assert [frame.image for frame in capture.frames] == [tmp_path / "images" / f"{i}.png" for i in range(3)]
    meta = json.loads(file.read_text())
    del meta["w"]
    file.write_text(json.dumps(meta))
    with pytest.raises(FileFormatError, match=r"0\.png: expected a picture, got no such file"):
        load_capture(file, need_pictures=False)


def test_a_prefix_of_another_machine_and_no_suffix_at_once(tmp_path: Path) -> None:
    """The name alone is enough, whatever folder it is said to be in."""
    file = scene(tmp_path, pictures=1)
    meta = json.loads(file.read_text())
    for listed in ("/home/someone/data/desk/rgb/0", "../../desk/images/0", "0", "images/0.jpg.png/../0.png"):
        meta["frames"][0]["file_path"] = listed
        file.write_text(json.dumps(meta))
        assert load_capture(file).frames[0].name == "0.png"


def test_transparent_pictures_keep_their_alpha(tmp_path: Path) -> None:
    """Blender's RGBA pictures come with four channels, for the trainer to put a background behind."""
    file = scene(tmp_path, pictures=1)
    picture = torch.rand(20, 30, 4)
    write_image(tmp_path / "images" / "0.png", picture)
    image, _ = read_frame(load_capture(file).frames[0])
    assert torch.allclose(image, picture, atol=0.5 / 255)


def test_a_depth_camera_of_its_own_comes_back(tmp_path: Path) -> None:
    """Depth seen by another camera than the picture's: its lens and place survive the file."""
    pose = torch.eye(4)
    write_image(tmp_path / "a.png", torch.rand(12, 16, 3))
    write_depth(tmp_path / "d.png", torch.ones(24, 32))
    beside = pose.clone()
    beside[0, 3] = 0.025
    depth_camera = Camera.pinhole(beside, 32, 24, 60.0)
    frame = Frame(
        Camera.pinhole(pose, 16, 12, 50.0),
        tmp_path / "a.png",
        depth=tmp_path / "d.png",
        depth_camera=depth_camera,
    )
    transforms.write(Capture((frame,)), tmp_path / "transforms.json")
    read = transforms.read(tmp_path / "transforms.json").frames[0].depth_camera
    assert read is not None
    assert (read.width, read.height) == (32, 24)
    assert torch.allclose(read.K, depth_camera.K)
    assert torch.allclose(read.world_from_camera, beside)
    text = (tmp_path / "transforms.json").read_text().replace('"w": 32,', "", 1)
    (tmp_path / "transforms.json").write_text(text)
    with pytest.raises(FileFormatError, match="'depth_camera'"):
        transforms.read(tmp_path / "transforms.json")
