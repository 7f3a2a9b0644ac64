"""RGB-D folders (`frame-000000.color.png`, `.depth.png`, `.pose.txt`, with intrinsics) to `Capture`."""

import logging
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ..camera import Camera
from ..capture import Capture, Frame
from ..errors import CaptureError, FileFormatError
from ..pose import invert_pose
from .images import image_size
from .rgbd_unit import check_millimetres

logger = logging.getLogger(__name__)

_COLOR = re.compile(r"^(frame-\d+)\.color\.(?:png|jpe?g)$", re.IGNORECASE)
_DEPTH_SUFFIXES = ("png", "pgm", "tif", "tiff")
_COLOR_INTRINSICS = ("color-intrinsics.txt", "camera-intrinsics.txt")
_DEPTH_INTRINSICS = "depth-intrinsics.txt"
_DEPTH_FROM_COLOR = "depth-from-color.txt"
_MAX_BYTES = 1 << 16


@dataclass(frozen=True)
class _Sensor:
    """The cameras of one RGB-D sensor."""

    color: Camera
    """Its pose is the identity."""
    depth: Camera | None
    """Its pose is in the colour camera's frame; None where the colour camera's pixels hold the depth."""

    def frame(self, pose: Float[Tensor, "4 4"], image: Path, depth: Path | None) -> Frame:
        camera = replace(self.color, world_from_camera=pose)
        if depth is None or self.depth is None:
            return Frame(camera, image, depth=depth)
        moved = replace(self.depth, world_from_camera=pose @ self.depth.world_from_camera)
        return Frame(camera, image, depth=depth, depth_camera=moved)


def find(path: Path) -> Path | None:
    """The folder with the frames: `path`, the one that an intrinsics file describes, or the first below."""
    if path.is_file():
        return find(path.parent) if path.name in (*_COLOR_INTRINSICS, _DEPTH_INTRINSICS) else None
    if not path.is_dir():
        return None
    return next(iter(_sequences(path)), None)


def read(path: Path) -> Capture:
    """Read the frames that have a picture and a pose [m], in order; the others are named in one warning.

    A pose is the colour camera's, camera-to-world, OpenCV axes. Frames without depth are kept.

    Raises:
        CaptureError: no frames, no valid pose, no intrinsics or those of another picture size, or depth that
            cannot be in millimetres.
        FileFormatError: a malformed matrix, or a picture that cannot be read.
    """
    folder = find(path)
    if folder is None:
        raise CaptureError(
            f"{path}: expected pictures named frame-000000.color.png, got none; name them so, with"
            " frame-000000.depth.png and frame-000000.pose.txt beside each"
        )
    if path.is_dir() and len(sequences := _sequences(path)) > 1:
        logger.warning("%s holds %d RGB-D sequences; %s is read", path, len(sequences), folder.name)
    pictures = _pictures(folder)
    poses = {stem: _pose(folder / f"{stem}.pose.txt") for stem in pictures}
    depths = {stem: _depth_file(folder, stem) for stem in pictures}
    if not any(pose is not None for pose in poses.values()):
        raise CaptureError(
            f"{folder}: expected camera-to-world poses (4 rows of 4 numbers), {next(iter(pictures))}.pose.txt"
            f" and so on, got no valid one of {len(pictures)}; without poses give the pictures alone"
        )
    _warn(folder, poses, depths)
    first_depth = next((depth for stem, depth in depths.items() if depth and poses[stem] is not None), None)
    sensor = _sensor(folder, next(iter(pictures.values())), first_depth)
    frames = tuple(
        sensor.frame(pose, image, depths[stem])
        for stem, image in pictures.items()
        if (pose := poses[stem]) is not None
    )
    check_millimetres(folder, frames)
    return Capture(frames, metres_per_unit=1.0)


def _sequences(path: Path) -> list[Path]:
    """The folder itself and those in it, as far as they hold frames."""
    below = sorted(p for p in path.iterdir() if p.is_dir() and not p.name.startswith("."))
    return [folder for folder in (path, *below) if _pictures(folder)]


def _pictures(folder: Path) -> dict[str, Path]:
    """The colour pictures by the stem of their frame, in order."""
    matches = ((_COLOR.match(path.name), path) for path in folder.iterdir())
    found = {match[1]: path for match, path in matches if match}
    return dict(sorted(found.items(), key=lambda item: int(item[0].partition("-")[2])))


def _depth_file(folder: Path, stem: str) -> Path | None:
    candidates = (folder / f"{stem}.depth.{suffix}" for suffix in _DEPTH_SUFFIXES)
    return next((path for path in candidates if path.is_file()), None)


def _warn(folder: Path, poses: Mapping[str, Tensor | None], depths: Mapping[str, Path | None]) -> None:
    """Say once, in one line, which frames are left out or lack depth, and which depth has no picture."""
    parts = []
    if lost := [stem for stem, pose in poses.items() if pose is None]:
        parts.append(f"{len(lost)} have no valid pose and are left out ({_few(lost)})")
    stems = {path.name.split(".")[0] for path in folder.glob("frame-*.pose.txt")}
    if blind := sorted(stems - set(poses)):
        parts.append(f"{len(blind)} have no picture and are left out ({_few(blind)})")
    if flat := [stem for stem, depth in depths.items() if depth is None and poses[stem] is not None]:
        parts.append(f"{len(flat)} have no depth ({_few(flat)})")
    if parts:
        logger.warning("%s: of %d frames, %s", folder, len(set(poses) | stems), "; ".join(parts))


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")


def _pose(path: Path) -> Float[Tensor, "4 4"] | None:
    """A camera-to-world pose; None where there is none, or where tracking was lost.

    Lost poses are written as NaN, infinity (also in Windows' spelling, 1.#QNAN), zeros or the word.
    """
    if not path.is_file():
        return None
    words = _words(path)
    if any(word.lower() == "lost" or "#" in word for word in words):
        return None
    matrix = _matrix(words, path, (4,))
    if not np.isfinite(matrix).all() or not matrix[:3, :3].any():
        return None
    left, stretch, right = np.linalg.svd(matrix[:3, :3])
    if np.abs(stretch - 1).max() > 0.01 or np.linalg.det(left @ right) < 0:
        raise FileFormatError(
            f"{path}: expected a camera-to-world pose, a rotation and a translation [m], got a matrix that"
            " scales, shears or mirrors; take that out of it"
        )
    # Fusion programs let rotations drift from orthonormal by some 1e-4.
    matrix[:3, :3], matrix[3] = left @ right, (0, 0, 0, 1)
    return torch.from_numpy(matrix).float()


def _words(path: Path) -> list[str]:
    try:
        if (size := path.stat().st_size) > _MAX_BYTES:
            raise FileFormatError(f"{path}: expected a small matrix as text, got {size} bytes")
        return path.read_text(encoding="ascii").replace(",", " ").split()
    except OSError as error:
        raise FileFormatError(f"{path}: expected a readable file, got: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise FileFormatError(f"{path}: expected numbers as text, got other bytes; write it again") from error


def _matrix(words: Sequence[str], path: Path, sides: tuple[int, ...]) -> np.ndarray:
    """A square matrix of one of the given sizes."""
    try:
        numbers = np.array([float(word) for word in words])
    except ValueError as error:
        raise FileFormatError(f"{path}: expected numbers, got {str(error)[-60:]}; write it again") from error
    if len(numbers) not in [side * side for side in sides]:
        wanted = " or ".join(f"{side}x{side}" for side in sides)
        raise FileFormatError(f"{path}: expected a {wanted} matrix, got {len(numbers)} numbers")
    side = math.isqrt(len(numbers))
    return numbers.reshape(side, side)


def _sensor(folder: Path, image: Path, depth: Path | None) -> _Sensor:
    """The cameras by the intrinsics files in the folder, or above it."""
    stated = _beside(folder, _COLOR_INTRINSICS)
    if stated is None:
        raise CaptureError(
            f"{folder}: expected the intrinsics in {_COLOR_INTRINSICS[1]} there or above it, got none; write"
            " 3 rows of 3 numbers [px], such as '585 0 320', '0 585 240', '0 0 1'"
        )
    color = _camera(stated, image)
    if depth is None:
        return _Sensor(color, None)
    extrinsics = _beside(folder, (_DEPTH_FROM_COLOR,))
    moved = None if extrinsics is None else _pose(extrinsics)
    color_from_depth = torch.eye(4) if moved is None else invert_pose(moved)
    if (own := _beside(folder, (_DEPTH_INTRINSICS,))) is not None:
        return _Sensor(color, replace(_camera(own, depth), world_from_camera=color_from_depth))
    width, height = image_size(depth)
    if (width, height) == (color.width, color.height):
        return _Sensor(color, None)
    if abs(width * color.height - height * color.width) > max(color.width, color.height):
        raise CaptureError(
            f"{depth}: expected depth of the picture's proportions, {color.width}x{color.height}, got"
            f" {width}x{height}; state the depth camera in {_DEPTH_INTRINSICS} beside {stated.name}"
        )
    return _Sensor(color, color.rescaled(width, height))


def _beside(folder: Path, names: Sequence[str]) -> Path | None:
    places = (folder / name for folder in (folder, folder.parent) for name in names)
    return next((path for path in places if path.is_file()), None)


def _camera(intrinsics: Path, picture: Path) -> Camera:
    """A camera at the origin, of a 3x3 matrix (or a 4x4 one around it) for pictures of this size."""
    width, height = image_size(picture)
    matrix = _matrix(_words(intrinsics), intrinsics, (3, 4))[:3, :3]
    # By the programs that use such folders, the centre of the first pixel is at 0; here it is at 0.5.
    K = torch.from_numpy(matrix).float() + torch.tensor([[0, 0, 0.5], [0, 0, 0.5], [0, 0, 0]])
    try:
        camera = Camera(torch.eye(4), K, width, height)
    except ValueError as error:
        raise FileFormatError(f"{intrinsics}: {error}") from error
    if not (0.3 < K[0, 2] / width < 0.7 and 0.3 < K[1, 2] / height < 0.7):
        raise CaptureError(
            f"{intrinsics}: expected a principal point near the middle of {picture.name}, which has"
            f" {width}x{height} pixels, got ({matrix[0, 2]:g}, {matrix[1, 2]:g}); give the intrinsics of that"
            " size"
        )
    return camera
