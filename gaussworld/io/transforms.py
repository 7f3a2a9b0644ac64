"""transforms.json (nerfstudio, instant-ngp, Blender) to `Capture` and back."""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ..camera import Camera
from ..capture import Capture, Frame, Split
from ..errors import CaptureError, FileFormatError
from ..pose import OPENGL_FROM_OPENCV
from . import ply
from .atomic import replacing
from .images import image_size
from .json_object import blaming, read_object
from .lookup import USUAL_FOLDERS, find_listed, logger, warn_missing
from .transforms_lens import camera_from, keys_from, number

_MAX_BYTES = 1 << 29
_TRIO: dict[str, Split] = {
    "transforms_train.json": "train",
    "transforms_val.json": "validation",
    "transforms_test.json": "test",
}
_LISTS: dict[str, Split] = {
    "train_filenames": "train",
    "val_filenames": "validation",
    "test_filenames": "test",
}


def find(path: Path) -> list[tuple[Path, Split]]:
    """The files to read for `path`: itself, a folder's transforms.json, or a folder's train/val/test trio."""
    if path.is_file():
        return [(path, "train")] if path.suffix.lower() == ".json" else []
    if (path / "transforms.json").is_file():
        return [(path / "transforms.json", "train")]
    return [(path / name, split) for name, split in _TRIO.items() if (path / name).is_file()]


def read(path: Path, images: Path | None = None, need_pictures: bool = True) -> Capture:
    """Read the frames whose pictures exist, in the file's frame; the others are named in one warning.

    `world_from_source` is the file's `applied_transform` times its `applied_scale`.

    Args:
        path: the file, or its folder.
        images: where the pictures are, by default in the usual places near the file.
        need_pictures: else all frames are read, and absent pictures get the paths they should have.

    Raises:
        FileFormatError: bad JSON, a missing or malformed key, or a lens that is not supported.
        CaptureError: no such file, or no listed picture exists.
    """
    files = find(path)
    if not files:
        raise CaptureError(
            f"{path}: expected a transforms.json or transforms_train.json, got none; check the path"
        )
    scenes = [_Scene(file, _parse(file), split, images, need_pictures) for file, split in files]
    frames = [frame for scene in scenes for frame in scene.frames()]
    if not frames:
        raise CaptureError(f"{path}: {_why_empty(scenes)}")
    points, colors = scenes[0].points()
    return Capture(tuple(frames), points, colors, scenes[0].metres_per_unit(), scenes[0].world_from_source())


@dataclass(frozen=True)
class _Scene:
    """One parsed file."""

    path: Path
    meta: dict[str, Any]
    split: Split
    images: Path | None
    need_pictures: bool

    def frames(self) -> list[Frame]:
        splits = self._splits()
        frames: list[Frame] = []
        missing: dict[str, list[str]] = {"pictures": [], "masks": [], "depth maps": []}
        for index, entry in enumerate(self.meta["frames"]):
            with blaming(f"{self.path}: frame {index}{_named(entry)}"):
                frame = self._frame(entry, splits, missing)
            if frame is not None:
                frames.append(frame)
        if not self.need_pictures:
            missing["pictures"].clear()
        for what, names in missing.items():
            warn_missing(self.path, what, names, len(self.meta["frames"]))
        return frames

    def _frame(self, entry: Any, splits: Mapping[str, Split], missing: dict[str, list[str]]) -> Frame | None:
        if not isinstance(entry, dict) or not isinstance(entry.get("file_path"), str):
            raise ValueError("expected an object with a string 'file_path', got something else")
        pose = _world_from_camera(entry)
        image = self._found(entry["file_path"], "pictures", missing)
        if image is None and self.need_pictures:
            return None
        image = image or (self.images or self.path.parent) / entry["file_path"].replace("\\", "/")
        camera = camera_from(self._values(entry), pose, lambda: image_size(image))
        return Frame(
            camera,
            image,
            mask=self._found(entry.get("mask_path"), "masks", missing),
            depth=self._found(self._depth_path(entry), "depth maps", missing),
            depth_camera=_depth_camera(entry),
            time=number(entry, "time") if "time" in entry else None,
            split=splits.get(entry["file_path"], self.split),
        )

    def _values(self, entry: dict[str, Any]) -> dict[str, Any]:
        """The frame's keys over the file's; a frame's own field of view beats the file's focal lengths."""
        shared = self.meta
        if "camera_angle_x" in entry and "fl_x" not in entry:
            shared = {key: value for key, value in shared.items() if key not in ("fl_x", "fl_y")}
        return {**shared, **entry}

    def _depth_path(self, entry: dict[str, Any]) -> Any:
        """The frame's depth map, if its unit is the millimetre, the only one a `Frame` knows."""
        listed = entry.get("depth_file_path", entry.get("depth_path"))
        if listed is not None and (unit := number(self.meta, "integer_depth_scale", 0.001)) != 0.001:
            raise ValueError(
                f"expected depth in millimetres (integer_depth_scale 0.001), got {unit};"
                " convert it or drop its key"
            )
        return listed

    def _found(self, listed: Any, what: str, missing: dict[str, list[str]]) -> Path | None:
        if listed is None:
            return None
        if not isinstance(listed, str):
            raise ValueError(f"expected paths of {what} as strings, got {listed!r:.60}")
        root = self.path.parent
        given = [self.images] if self.images is not None and what == "pictures" else []
        path = find_listed(listed, [*given, root, *(root / folder for folder in USUAL_FOLDERS)])
        if path is None:
            missing[what].append(listed)
        return path

    def _splits(self) -> dict[str, Split]:
        """Splits by listed path, from nerfstudio's `train_filenames` and its like."""
        splits = {}
        for key, split in _LISTS.items():
            names = self.meta.get(key, [])
            if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
                raise FileFormatError(f"{self.path}: expected a list of paths for {key!r}, got {names!r:.60}")
            splits |= dict.fromkeys(names, split)
        return splits

    def points(self) -> tuple[Tensor, Tensor]:
        listed = self.meta.get("ply_file_path")
        path = find_listed(listed, [self.path.parent]) if isinstance(listed, str) else None
        if path is None:
            if listed is not None:
                logger.warning("%s: its points %s are not on disk; the capture has none", self.path, listed)
            return torch.zeros(0, 3), torch.zeros(0, 3)
        return ply.read_points(path)

    def metres_per_unit(self) -> float | None:
        if self.meta.get("metres_per_unit") is None:
            return None
        with blaming(str(self.path)):
            scale = number(self.meta, "metres_per_unit")
            if scale <= 0:
                raise ValueError(f"expected a positive 'metres_per_unit' or none, got {scale}")
        return scale

    def world_from_source(self) -> Float[Tensor, "4 4"]:
        with blaming(str(self.path)):
            applied = _matrix(self.meta.get("applied_transform", np.eye(4)), "applied_transform")
            applied[:3] *= number(self.meta, "applied_scale", 1.0)
        return torch.from_numpy(applied).float()


def _named(entry: Any) -> str:
    """The picture's path in parentheses, for messages, if there is one to print."""
    listed = entry.get("file_path") if isinstance(entry, dict) else None
    return f" ({listed:.80})" if isinstance(listed, str) and listed.isprintable() else ""


def _why_empty(scenes: Sequence[_Scene]) -> str:
    entries = [entry for scene in scenes for entry in scene.meta["frames"]]
    if not entries:
        return "expected at least one frame, got an empty list 'frames'; export the cameras again"
    folder = scenes[0].path.parent / USUAL_FOLDERS[0]
    return (
        f"expected pictures for {len(entries)} listed frames, got none on disk (the first is"
        f" {entries[0]['file_path']!r:.80}); put them into {folder} or mend their file_path"
    )


def _parse(path: Path) -> dict[str, Any]:
    wanted = "an object with a list 'frames'"
    meta = read_object(path, _MAX_BYTES, wanted)
    if not isinstance(meta.get("frames"), list):
        raise FileFormatError(f"{path}: expected {wanted}, got something else")
    return meta


def _matrix(value: Any, key: str) -> np.ndarray:
    try:
        matrix = np.array(value, dtype=np.float64)
    except (ValueError, TypeError, OverflowError):
        raise ValueError(f"expected a 4x4 or 3x4 matrix of numbers for {key!r}, got {value!r:.60}") from None
    if matrix.shape not in ((4, 4), (3, 4)) or not np.isfinite(matrix).all():
        got = f"shape {matrix.shape}" if np.isfinite(matrix).all() else "NaN or infinity in it"
        raise ValueError(f"expected a finite 4x4 or 3x4 matrix for {key!r}, got {got}")
    return matrix if matrix.shape == (4, 4) else np.vstack([matrix, [0.0, 0.0, 0.0, 1.0]])


def _world_from_camera(entry: dict[str, Any]) -> Float[Tensor, "4 4"]:
    if "transform_matrix" not in entry:
        raise ValueError(f"expected a 'transform_matrix' beside file_path {entry['file_path']!r}, got none")
    world_from_opengl = _matrix(entry["transform_matrix"], "transform_matrix")
    # Blender exports the scale of a camera's parents in its matrix; sizes in the picture do not depend on it.
    with np.errstate(over="ignore"):
        scale = np.cbrt(np.linalg.det(world_from_opengl[:3, :3]))
    if scale > 0 and abs(scale - 1) > 1e-5:
        world_from_opengl[:3, :3] /= scale
    return (torch.from_numpy(world_from_opengl) @ OPENGL_FROM_OPENCV.double()).float()


def _depth_camera(entry: dict[str, Any]) -> Camera | None:
    """The camera of the depth map, written where it is not the picture's: a key of our own."""
    values = entry.get("depth_camera")
    if values is None:
        return None
    if not isinstance(values, dict) or "w" not in values or "h" not in values:
        raise ValueError(f"expected an object with w, h and a lens for 'depth_camera', got {values!r:.60}")
    pose = _world_from_camera({"file_path": entry["file_path"], **values})
    return camera_from(values, pose, lambda: (0, 0))


def write(capture: Capture, path: Path) -> None:
    """Write a capture as transforms.json (nerfstudio's keys), its points as a PLY beside it.

    Paths are relative to the file. Splits, times and the unit are kept.

    Raises:
        ValueError: pictures, masks or depth in memory only, or a lens without keys here.
        GaussWorldError: the file system refuses.
    """
    lenses = [keys_from(frame.camera) for frame in capture.frames]
    shared = lenses[0] if lenses and all(lens == lenses[0] for lens in lenses) else {}
    entries = [
        _entry(frame, path.parent, {} if shared else lens) for frame, lens in zip(capture.frames, lenses)
    ]
    meta: dict[str, Any] = {**shared}
    if capture.metres_per_unit is not None:
        meta["metres_per_unit"] = capture.metres_per_unit
    meta |= _applied(capture.world_from_source)
    if any(frame.split != "train" for frame in capture.frames):
        for key, split in _LISTS.items():
            meta[key] = [e["file_path"] for e, f in zip(entries, capture.frames) if f.split == split]
    if len(capture.points):
        meta["ply_file_path"] = f"{path.stem}_points.ply"
        ply.write_points(capture.points, capture.colors, path.parent / meta["ply_file_path"])
    with replacing(path) as file:
        file.write((json.dumps({**meta, "frames": entries}, indent=1) + "\n").encode())


def _entry(frame: Frame, folder: Path, lens: dict[str, Any]) -> dict[str, Any]:
    world_from_opengl = frame.camera.world_from_camera.detach().cpu() @ OPENGL_FROM_OPENCV
    entry: dict[str, Any] = {"file_path": _relative(frame.image, folder), **lens}
    if frame.mask is not None:
        entry["mask_path"] = _relative(frame.mask, folder)
    if frame.depth is not None:
        entry["depth_file_path"] = _relative(frame.depth, folder)
    if frame.depth_camera is not None:
        pose = frame.depth_camera.world_from_camera.detach().cpu() @ OPENGL_FROM_OPENCV
        entry["depth_camera"] = {**keys_from(frame.depth_camera), "transform_matrix": pose.tolist()}
    if frame.time is not None:
        entry["time"] = frame.time
    return entry | {"transform_matrix": world_from_opengl.tolist()}


def _relative(path: Path | Tensor, folder: Path) -> str:
    if isinstance(path, Tensor):
        raise ValueError(
            "expected pictures on disk, got one in memory; write it with write_image or write_depth first"
        )
    return Path(os.path.relpath(path, folder)).as_posix()


def _applied(world_from_source: Float[Tensor, "4 4"]) -> dict[str, Any]:
    matrix = world_from_source.detach().cpu().double()
    if torch.equal(matrix, torch.eye(4, dtype=torch.float64)):
        return {}
    scale = float(torch.linalg.det(matrix[:3, :3]).abs()) ** (1 / 3)
    applied = {"applied_transform": (matrix[:3] / scale).tolist()}
    return applied | ({"applied_scale": scale} if abs(scale - 1) > 1e-6 else {})
