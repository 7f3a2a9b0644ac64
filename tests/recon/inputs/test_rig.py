"""Calibrated rigs: both forms of their files, true timestamps, axes stated and found, and what is refused."""

import json
import logging
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from gaussworld.camera import Camera, CameraModel
from gaussworld.capture import Capture
from gaussworld.errors import CaptureError, FileFormatError
from gaussworld.io.images import read_image, write_image
from gaussworld.io.video import write_video
from gaussworld.pose import OPENGL_FROM_OPENCV, invert_pose, look_at, pose_from, rotation_from_rotvec
from recon.inputs import rig_files
from recon.inputs.rig import read_rig

K = [[40.0, 0.0, 15.5], [0.0, 40.0, 11.5], [0.0, 0.0, 1.0]]
FRAMES = 12


def ring(count: int = 3, height: float = 0.8, outward: bool = False) -> list[torch.Tensor]:
    """world_from_camera, OpenCV axes, upright in a world whose z is up, at or away from its middle."""
    poses = []
    for i in range(count):
        angle = 2.1 * i + 0.3
        eye = torch.tensor([math.cos(angle), math.sin(angle), height])
        target = eye * 2 if outward else torch.zeros(3)
        poses.append(look_at(eye, target))
    return poses


def flipped(poses: list[torch.Tensor]) -> list[torch.Tensor]:
    return [pose @ OPENGL_FROM_OPENCV for pose in poses]


def film(path: Path, fps: float = 90.0) -> Path:
    """Frame i of 12 is grey of 0.05 + 0.07 i."""
    write_video(path, [torch.full((24, 32, 3), 0.05 + 0.07 * i) for i in range(FRAMES)], fps)
    return path


def shown(path: Any) -> int:
    """Which frame of `film` a picture shows."""
    return round((float(read_image(path).mean()) - 0.05) / 0.07)


def rig(folder: Path, poses: list[torch.Tensor] | None = None, **keys: Any) -> Path:
    """Our own form, with 10 true frames a second; `keys` go to the file, `camera` to each camera."""
    every = keys.pop("camera", {})
    cameras = []
    for i, pose in enumerate(ring() if poses is None else poses):
        film(folder / f"cam{i}.mp4")
        times = [0.1 * frame + 0.01 * i for frame in range(FRAMES)]
        camera = {"video": f"cam{i}.mp4", "timestamps": times, "K": K, "world_from_camera": pose.tolist()}
        cameras.append({key: value for key, value in (camera | every).items() if value is not None})
    (folder / "rig.json").write_text(json.dumps({"cameras": cameras, **keys}))
    return folder


def by_serial(
    folder: Path, poses: list[torch.Tensor], poses_file: str = "cameras.json", key: str = "X_WC"
) -> Path:
    """The form of several robot laboratories: poses by serial number, the rest beside the videos."""
    for i in range(len(poses)):
        film(folder / "videos" / f"10{i}.mp4")
        meta = {"K": K, "resolution": [32, 24], "timestamps": [0.1 * frame for frame in range(FRAMES)]}
        (folder / "videos" / f"10{i}.json").write_text(json.dumps(meta))
    (folder / poses_file).parent.mkdir(exist_ok=True)
    entries = {f"10{i}": {key: pose.tolist()} for i, pose in enumerate(poses)}
    (folder / poses_file).write_text(json.dumps(entries))
    return folder


def same_poses(capture: Capture, poses: list[torch.Tensor]) -> bool:
    pairs = zip(capture.frames, poses, strict=True)
    return all(torch.allclose(frame.camera.world_from_camera, pose, atol=1e-5) for frame, pose in pairs)


def test_true_timestamps_beat_the_container(tmp_path: Path) -> None:
    """The container says 90 frames a second, the timestamps 10: at 0.52 s it is frame 5, not frame 11."""
    capture = read_rig(rig(tmp_path, axes="opencv"), tmp_path / "out", at=0.52)
    assert [frame.name for frame in capture.frames] == ["cam0.png", "cam1.png", "cam2.png"]
    assert [frame.image for frame in capture.frames] == [tmp_path / "out" / f"cam{i}.png" for i in range(3)]
    assert [shown(frame.image) for frame in capture.frames] == [5, 5, 5]
    assert [frame.time for frame in capture.frames] == pytest.approx([0.5, 0.51, 0.52])
    assert capture.metres_per_unit == 1.0 and same_poses(capture, ring())


def test_without_timestamps_the_container_is_asked(tmp_path: Path) -> None:
    """Then 0.052 s is between its frames 4 and 5."""
    capture = read_rig(rig(tmp_path, axes="opencv", camera={"timestamps": None}), tmp_path / "out", at=0.052)
    assert [shown(frame.image) for frame in capture.frames] == [5, 5, 5]
    assert [frame.time for frame in capture.frames] == pytest.approx([5 / 90] * 3, abs=1e-4)


def test_a_clock_with_an_epoch_counts_from_the_begin(tmp_path: Path) -> None:
    """Unix times are as good, and pictures taken apart are said to be so."""
    times = [1.7e9 + 0.1 * frame for frame in range(FRAMES)]
    capture = read_rig(rig(tmp_path, axes="opencv", camera={"timestamps": times}), tmp_path, at=0.31)
    assert [shown(frame.image) for frame in capture.frames] == [3, 3, 3]
    assert [frame.time for frame in capture.frames] == pytest.approx([0.3] * 3, abs=1e-6)


def test_pictures_taken_apart_are_told(tmp_path: Path, caplog) -> None:
    """A gap in one camera's recording makes what moves blur."""
    folder = rig(tmp_path, axes="opencv")
    meta = json.loads((folder / "rig.json").read_text())
    meta["cameras"][1]["timestamps"] = [0.2 + 0.1 * frame for frame in range(FRAMES)]
    (folder / "rig.json").write_text(json.dumps(meta))
    read_rig(folder, tmp_path / "out")
    assert "were taken up to 200 ms apart" in caplog.text


@pytest.mark.parametrize("axes", ["opencv", "opengl"])
def test_stated_axes_are_believed(tmp_path: Path, axes: str) -> None:
    """Even by a rig that looks outward, which without the statement looks like one of the other axes."""
    poses = ring(outward=True)
    stated = poses if axes == "opencv" else flipped(poses)
    assert same_poses(read_rig(rig(tmp_path, stated, axes=axes), tmp_path / "out"), poses)


@pytest.mark.parametrize("axes", ["opencv", "opengl"])
def test_axes_are_found_out(tmp_path: Path, axes: str, caplog) -> None:
    """The scene must lie in front of the cameras, and these then stand upright."""
    caplog.set_level(logging.INFO)
    poses = ring() if axes == "opencv" else flipped(ring())
    assert same_poses(read_rig(by_serial(tmp_path, poses), tmp_path / "out"), ring())
    assert f"{axes} axes, because the scene then lies in front of the cameras" in caplog.text
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


def test_a_world_that_hangs_on_a_camera_is_a_guess(tmp_path: Path, caplog) -> None:
    """Its z is not up, so nothing backs the axes, and the warning says how to settle it."""
    poses = [invert_pose(ring()[0]) @ pose for pose in ring(3)]
    assert same_poses(read_rig(rig(tmp_path, flipped(poses)), tmp_path / "out"), poses)
    assert "opengl axes, because the scene then lies in front of the cameras; if wrong, write" in caplog.text


@pytest.mark.parametrize(
    ("poses", "why"),
    [
        (ring(outward=True, height=0.1), "and the upright disagree"),
        ([ring()[0], flipped(ring())[1]], "meet neither ahead of all cameras nor behind"),
        ([pose_from(torch.eye(3), torch.tensor([x, 0.0, 0.0])) for x in (0.0, 1.0)], "meet neither"),
    ],
)
def test_axes_that_cannot_be_told_are_asked_for(tmp_path: Path, poses: list[torch.Tensor], why: str) -> None:
    """Outward, contradicting and parallel cameras; the message says what to write where."""
    with pytest.raises(CaptureError, match=rf'rig\.json: .*{why}.*; write "axes": "opencv" or'):
        read_rig(rig(tmp_path, poses), tmp_path / "out")


def speckled(camera: Camera) -> torch.Tensor:
    """The picture of a wall z = 2 with random spots."""
    origin, rays = camera.rays()
    hit = origin + rays * ((2 - origin[2]) / rays[..., 2])[..., None]
    spots = torch.rand(1, 1, 40, 40, generator=torch.Generator().manual_seed(5))
    seen = torch.nn.functional.grid_sample(spots, hit[None, ..., :2] / 3, align_corners=False, mode="bicubic")
    return seen[0, 0, ..., None].expand(-1, -1, 3).clamp(0, 1)


@pytest.mark.parametrize("axes", ["opencv", "opengl"])
def test_pictures_tell_the_axes_of_parallel_cameras(tmp_path: Path, axes: str) -> None:
    """A stereo rig whose optical axes meet nowhere, in a world whose z is not up."""
    turns = [rotation_from_rotvec(torch.tensor([0.03 * i, 0.05 * i, 0.2 * i])) for i in range(2)]
    poses = [pose_from(turn, torch.tensor([0.3 * i, 0.0, 0.0])) for i, turn in enumerate(turns)]
    lens = torch.tensor([[200.0, 0, 120], [0, 200, 90], [0, 0, 1]])
    entries = []
    for i, (pose, stated) in enumerate(zip(poses, poses if axes == "opencv" else flipped(poses))):
        write_image(tmp_path / f"{i}.png", speckled(Camera(pose, lens, 240, 180)))
        keys = {"fl_x": 200, "cx": 120, "cy": 90}
        entries.append({"image": f"{i}.png", "world_from_camera": stated.tolist(), **keys})
    (tmp_path / "rig.json").write_text(json.dumps({"cameras": entries}))
    capture = read_rig(tmp_path, tmp_path / "out")
    assert same_poses(capture, poses)
    assert [frame.image for frame in capture.frames] == [tmp_path / "0.png", tmp_path / "1.png"]


def test_a_matrix_has_opencvs_pixels_and_keys_have_ours(tmp_path: Path) -> None:
    """K's first pixel centre is (0, 0), that of cx and cy is (0.5, 0.5); distortion is a list or keys."""
    lens = {"K": K, "distortion": [0.1, -0.02, 0.001, 0.002, 0.003]}
    first = read_rig(rig(tmp_path / "a", axes="opencv", camera=lens), tmp_path / "out").frames[0].camera
    assert first.K.tolist() == [[40, 0, 16], [0, 40, 12], [0, 0, 1]]
    assert (first.width, first.height, first.model) == (32, 24, CameraModel.OPENCV)
    assert first.distortion == pytest.approx((0.1, -0.02, 0.001, 0.002, 0.003))
    fisheye = {"K": K, "distortion": [0.1, 0.0, 0.0, 0.01], "camera_model": "OPENCV_FISHEYE"}
    second = read_rig(rig(tmp_path / "b", axes="opencv", camera=fisheye), tmp_path / "out").frames[0].camera
    assert second.model is CameraModel.FISHEYE and second.distortion == pytest.approx((0.1, 0, 0, 0.01))
    keys = {"K": None, "fl_x": 40.0, "cx": 16.0, "k1": 0.1, "w": 64, "h": 48}
    third = read_rig(rig(tmp_path / "c", axes="opencv", camera=keys), tmp_path / "out").frames[0].camera
    assert third.K.tolist() == [[40, 0, 16], [0, 40, 24], [0, 0, 1]]
    assert (third.width, third.height, third.distortion[0]) == (64, 48, 0.1)


def test_poses_may_lie_apart_and_the_rig_below(tmp_path: Path) -> None:
    """`environment/extrinsics.json` serves in place of a `cameras.json`; two rigs below are one too many."""
    demo = by_serial(tmp_path / "demos" / "0", ring(), "environment/extrinsics.json", "X_WT")
    assert rig_files.find(tmp_path) == demo / "environment" / "extrinsics.json"
    assert same_poses(read_rig(tmp_path, tmp_path / "out"), ring())
    by_serial(tmp_path / "demos" / "1", ring())
    with pytest.raises(CaptureError, match=r"expected one rig, got 2 below it; name one, such as .*demos/0"):
        read_rig(tmp_path, tmp_path / "out")
    assert rig_files.find(tmp_path / "out") is None


BAD_CAMERAS = {
    "no media": ({"video": None}, "either a 'video' or an 'image'"),
    "two media": ({"image": "a.png"}, "either a 'video' or an 'image'"),
    "absent": ({"video": "gone.mp4"}, r"video or picture at .*gone\.mp4, got no such file"),
    "escape": ({"name": "../../evil"}, "a camera's name that can be a file's name"),
    "hidden": ({"name": ".evil"}, "a camera's name that can be a file's name"),
    "twice": ({"name": "left"}, "another name for each camera, got 'left' twice"),
    "no pose": ({"world_from_camera": None}, "a camera-to-world pose under one of world_from_camera"),
    "small pose": ({"world_from_camera": [[1, 0], [0, 1]]}, r"4x4 or 3x4 matrix .* got shape \(2, 2\)"),
    "ragged pose": ({"world_from_camera": [[1, 0], [0]]}, "numbers in even rows for 'world_from_camera'"),
    "nan pose": ({"world_from_camera": [[math.nan] * 4] * 4}, "finite numbers for 'world_from_camera'"),
    "sheared": ({"world_from_camera": [[1, 1, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0]]}, "orthonormal"),
    "no lens": ({"K": None}, "a focal length 'fl_x'"),
    "small K": ({"K": [[1, 0], [0, 1]]}, r"3x3 matrix for 'K', got shape \(2, 2\)"),
    "zero focal": ({"K": [[0, 0, 16], [0, 0, 12], [0, 0, 1]]}, "positive focal lengths"),
    "skew": ({"K": [[40, 1, 16], [0, 40, 12], [0, 0, 1]]}, "no skew"),
    "odd lens": ({"distortion": [0.1, 0.2]}, "OPENCV expects 4 or 5 or 8 values, got 2"),
    "words": ({"distortion": "none"}, "numbers in even rows for 'distortion'"),
    "times": ({"timestamps": [0.0, 0.2, 0.1]}, "'timestamps' as a list of ascending seconds"),
    "no times": ({"timestamps": []}, "'timestamps' as a list of ascending seconds"),
    "word times": ({"timestamps": ["now"]}, "'timestamps' as a list of ascending seconds"),
    "times elsewhere": ({"timestamps": "gone.json"}, r"gone\.json: expected a readable file"),
}


@pytest.mark.parametrize("name", BAD_CAMERAS)
def test_bad_cameras_are_named(tmp_path: Path, name: str) -> None:
    """One sentence with the file and the camera."""
    keys, message = BAD_CAMERAS[name]
    with pytest.raises(FileFormatError, match=message) as caught:
        read_rig(rig(tmp_path, axes="opencv", camera=keys), tmp_path / "out")
    assert str(tmp_path) in str(caught.value)


BAD_FILES = {
    "cut": ('{"cameras": [', "expected JSON"),
    "a list": ("[]", "expected a JSON object, got list"),
    "axes": ('{"axes": "blender", "cameras": []}', "expected axes 'opencv' or 'opengl', got 'blender'"),
    "a number": ('{"cameras": [3]}', "camera 0: expected an object, got 3"),
    "deep": ("[" * 100_000, "expected JSON"),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_bad_files_are_refused(tmp_path: Path, name: str) -> None:
    """Malformed JSON and JSON of another kind."""
    text, message = BAD_FILES[name]
    (tmp_path / "rig.json").write_text(text)
    with pytest.raises(FileFormatError, match=message):
        read_rig(tmp_path, tmp_path / "out")


def test_a_moment_outside_and_too_few_frames_are_explained(tmp_path: Path) -> None:
    """So are one camera alone and a folder without a rig."""
    folder = rig(tmp_path / "rig", axes="opencv")
    with pytest.raises(CaptureError, match=r"got 9 s, while its nearest frame is at 1\.100 s"):
        read_rig(folder, tmp_path / "out", at=9.0)
    times = [0.1 * frame for frame in range(50)]
    longer = rig(tmp_path / "longer", axes="opencv", camera={"timestamps": times})
    with pytest.raises(CaptureError, match="expected 50 frames, as many as it has timestamps, got at most"):
        read_rig(longer, tmp_path / "out", at=4.0)
    with pytest.raises(CaptureError, match="expected at least 2 cameras, got 1"):
        read_rig(rig(tmp_path / "alone", ring(1)), tmp_path / "out")
    with pytest.raises(CaptureError, match=r"expected a rig\.json, or a cameras\.json beside"):
        read_rig(tmp_path / "out", tmp_path / "out")


def test_the_robots_rig_has_opengl_axes(captures: Path, tmp_path: Path, caplog) -> None:
    """Found from its poses alone: so turned, the three cameras look down at one spot of the table."""
    caplog.set_level(logging.INFO)
    folder = captures / "pusht_robot" / "sample_demos" / "0"
    capture = read_rig(folder, tmp_path, at=7.0)
    assert "opengl axes, because the scene then lies in front of the cameras" in caplog.text
    assert len(capture) == 3 and capture.metres_per_unit == 1.0
    on_table = []
    for frame in capture.frames:
        assert frame.time == pytest.approx(7.0, abs=0.01)
        pose = frame.camera.world_from_camera
        way = -pose[2, 3] / pose[2, 2]
        assert way > 0.3
        on_table.append(pose[:2, 3] + way * pose[:2, 2])
        assert float(pose[2, 1]) < 0
        assert tuple(read_image(str(frame.image)).shape) == (270, 480, 3)
    assert float(torch.stack(on_table).std(0).max()) < 0.15
    stated = json.loads((folder / "videos" / f"{Path(capture.frames[0].name).stem}.json").read_text())
    assert capture.frames[0].time in stated["timestamps"]
    assert capture.frames[0].camera.K[0, 2] == pytest.approx(stated["K"][0][2] + 0.5)
