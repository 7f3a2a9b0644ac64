"""What the files of a calibrated rig state: each camera's video or picture, times, intrinsics and pose."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float

from gaussworld.camera import Camera, CameraModel
from gaussworld.errors import CaptureError, FileFormatError
from gaussworld.io.json_object import blaming, read_object
from gaussworld.io.transforms_lens import camera_from

AXES = ("opencv", "opengl")
VIDEO_SUFFIXES = (".mp4", ".mov", ".m4v", ".mkv", ".avi", ".webm", ".mpg", ".mpeg", ".wmv", ".mts")

_MAX_BYTES = 1 << 26
_POSE_FILES = ("cameras.json", "extrinsics.json", "environment/extrinsics.json")
_POSE_KEYS = ("world_from_camera", "X_WC", "X_WT")
_FORBIDDEN = frozenset('/\\:*?"<>|\0')


@dataclass(frozen=True)
class Member:
    """One camera of a rig."""

    name: str
    where: str
    """The file and the camera's name, for messages."""
    path: Path
    """Its video, or a picture."""
    times: tuple[float, ...] | None
    """True time of every frame of the video [s]; None where only the container knows."""
    values: Mapping[str, Any]
    """Its intrinsics by their keys."""
    pose: Float[torch.Tensor, "4 4"]
    """Camera-to-world [m], in the axes of the file."""

    @property
    def is_video(self) -> bool:
        return self.path.suffix.lower() in VIDEO_SUFFIXES

    def camera(self, picture_size: Callable[[], tuple[int, int]]) -> Camera:
        """Its camera, in the axes of the file; `picture_size` is asked when the file states none.

        Raises:
            FileFormatError: intrinsics that are missing or malformed.
        """
        with blaming(self.where):
            values = dict(self.values)
            if isinstance(size := values.get("resolution"), list) and len(size) == 2:
                values |= {"w": size[0], "h": size[1]}
            return (_camera_of_matrix if "K" in values else camera_from)(values, self.pose, picture_size)


def find(path: Path) -> Path | None:
    """The file that holds the poses of the rig that `path` is or holds, up to two folders below.

    Raises:
        CaptureError: there are several rigs.
    """
    if path.is_file():
        ours = path.name == "rig.json" or (path.name in _POSE_FILES and _has_videos(path.parent))
        return path if ours else None
    for pattern in ("", "*/", "*/*/"):
        folders = sorted(path.glob(pattern)) if pattern else [path]
        found = [(f, file) for f in folders if not f.name.startswith(".") and (file := _poses_of(f))]
        if len(found) > 1:
            raise CaptureError(
                f"{path}: expected one rig, got {len(found)} below it; name one, such as {found[0][0]}"
            )
        if found:
            return found[0][1]
    return None


def read(file: Path) -> tuple[str | None, list[Member]]:
    """The axes of the poses where the file states them, and the cameras in the order of their names.

    Raises:
        FileFormatError: a malformed file, or one that names a file which is not there.
    """
    meta = read_object(file, _MAX_BYTES)
    axes = meta.pop("axes", None)
    if axes is not None and axes not in AXES:
        raise FileFormatError(f"{file}: expected axes 'opencv' or 'opengl', got {axes!r:.40}")
    if isinstance(meta.get("cameras"), list):
        members = [_listed(file, index, entry) for index, entry in enumerate(meta["cameras"])]
    else:
        members = [_by_serial(file, name, entry) for name, entry in meta.items()]
    names = [member.name for member in members]
    if twice := {name for name in names if names.count(name) > 1}:
        raise FileFormatError(f"{file}: expected another name for each camera, got {min(twice)!r} twice")
    return axes, sorted(members, key=lambda member: member.name)


def _poses_of(folder: Path) -> Path | None:
    names = ("rig.json", *(_POSE_FILES if _has_videos(folder) else ()))
    return next((folder / name for name in names if (folder / name).is_file()), None)


def _has_videos(folder: Path) -> bool:
    return any((folder / "videos").glob("*.json"))


def _listed(file: Path, index: int, entry: Any) -> Member:
    """A camera of a `rig.json`."""
    with blaming(f"{file}: camera {index}"):
        if not isinstance(entry, dict):
            raise ValueError(f"expected an object, got {entry!r:.40}")
        media = [entry[key] for key in ("video", "image") if isinstance(entry.get(key), str)]
        if len(media) != 1:
            raise ValueError("expected either a 'video' or an 'image', a path relative to the file")
        path = _on_disk(file.parent / media[0])
        name = _plain(entry.get("name", path.stem))
        times = entry.get("timestamps")
        if isinstance(times, str):
            times = read_object(file.parent / times, _MAX_BYTES).get("timestamps")
        return Member(name, f"{file}: camera {name}", path, _times(times), entry, _pose(entry))


def _by_serial(file: Path, name: str, entry: Any) -> Member:
    """A camera whose pose stands under its serial number, and the rest in `videos/<serial>.json`."""
    with blaming(f"{file}: camera {name}"):
        if not isinstance(entry, dict):
            raise ValueError(f"expected an object with a pose, got {entry!r:.40}")
        root = next((folder for folder in file.parents[:2] if _has_videos(folder)), file.parent)
        metadata = root / str(entry.get("metadata_path", f"videos/{_plain(name)}.json"))
        values = read_object(metadata, _MAX_BYTES)
        path = _on_disk(root / str(entry.get("video_path", f"videos/{name}.mp4")))
        return Member(
            name, f"{file}: camera {name}", path, _times(values.get("timestamps")), values, _pose(entry)
        )


def _plain(name: Any) -> str:
    """A name that is safe as the stem of a file."""
    if not isinstance(name, str) or not name or name.startswith(".") or set(name) & _FORBIDDEN:
        raise ValueError(f"expected a camera's name that can be a file's name, got {name!r:.60}")
    return name


def _on_disk(path: Path) -> Path:
    if not path.is_file():
        raise ValueError(f"expected its video or picture at {path}, got no such file; mend the path")
    return path


def _times(value: Any) -> tuple[float, ...] | None:
    if value is None:
        return None
    sound = isinstance(value, list) and all(isinstance(v, int | float) and math.isfinite(v) for v in value)
    if not value or not sound or any(later < earlier for earlier, later in pairwise(value)):
        raise ValueError(f"expected 'timestamps' as a list of ascending seconds, got {value!r:.60}")
    return tuple(map(float, value))


def _pose(entry: Mapping[str, Any]) -> Float[torch.Tensor, "4 4"]:
    key = next((key for key in _POSE_KEYS if key in entry), None)
    if key is None:
        raise ValueError(f"expected a camera-to-world pose under one of {', '.join(_POSE_KEYS)}, got none")
    pose = _matrix(entry[key], key)
    if tuple(pose.shape) not in ((3, 4), (4, 4)):
        raise ValueError(f"expected a 4x4 or 3x4 matrix for {key!r}, got shape {tuple(pose.shape)}")
    return torch.cat([pose[:3], pose.new_tensor([[0.0, 0.0, 0.0, 1.0]])])


def _camera_of_matrix(
    values: Mapping[str, Any],
    world_from_camera: Float[torch.Tensor, "4 4"],
    picture_size: Callable[[], tuple[int, int]],
) -> Camera:
    """A camera of a `K` and a list `distortion`, as OpenCV, ROS and the makers of depth cameras give them."""
    width, height = (values["w"], values["h"]) if {"w", "h"} <= set(values) else picture_size()
    K = _matrix(values["K"], "K")
    if tuple(K.shape) != (3, 3):
        raise ValueError(f"expected a 3x3 matrix for 'K', got shape {tuple(K.shape)}")
    # There the centre of the first pixel is at 0, here at 0.5.
    K = K + torch.tensor([[0, 0, 0.5], [0, 0, 0.5], [0, 0, 0]])
    distortion = tuple(_matrix(values.get("distortion") or [0.0] * 4, "distortion").flatten().tolist())
    if values.get("camera_model") == "OPENCV_FISHEYE":
        return Camera(world_from_camera, K, int(width), int(height), CameraModel.FISHEYE, distortion)
    if not any(distortion):
        return Camera(world_from_camera, K, int(width), int(height))
    return Camera(world_from_camera, K, int(width), int(height), CameraModel.OPENCV, distortion)


def _matrix(value: Any, key: str) -> torch.Tensor:
    try:
        matrix = torch.tensor(value, dtype=torch.float64).float()
    except (ValueError, TypeError, OverflowError, RuntimeError):
        raise ValueError(f"expected numbers in even rows for {key!r}, got {value!r:.60}") from None
    if not bool(torch.isfinite(matrix).all()):
        raise ValueError(f"expected finite numbers for {key!r}, got {value!r:.60}")
    return matrix
