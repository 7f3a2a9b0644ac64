"""COLMAP's binary model files; counts are compared with the file's size before anything is made."""

import struct
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import FileFormatError
from .atomic import replacing
from .colmap_lens import BY_ID
from .colmap_model import CameraRow, ImageRow, Points

_CAMERA = struct.Struct("<IiQQ")
_IMAGE = struct.Struct("<I7dI")
_POINT = struct.Struct("<Q3d3BdQ")
_COUNT = struct.Struct("<Q")
#: Image names are paths; a longer one is no name.
_MAX_NAME = 4096


class _Reader:
    """The bytes of one file and how far they have been read."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.data = path.read_bytes()
        self.position = 0

    def take(self, layout: struct.Struct, what: str) -> tuple[Any, ...]:
        self.need(layout.size, what)
        values = layout.unpack_from(self.data, self.position)
        self.position += layout.size
        return values

    def need(self, size: int, what: str) -> None:
        left = len(self.data) - self.position
        if size > left:
            raise FileFormatError(
                f"{self.path}: expected {size} bytes of {what} at byte {self.position}, got {left};"
                " the file is cut short"
            )

    def skip(self, size: int, what: str) -> None:
        self.need(size, what)
        self.position += size

    def count(self, smallest: int, what: str) -> int:
        """A leading row count, refused when that many rows of the smallest size cannot be in the file."""
        (count,) = self.take(_COUNT, "the row count")
        left = len(self.data) - self.position
        if count * smallest > left:
            raise FileFormatError(
                f"{self.path}: expected at least {count * smallest} bytes for {count} {what}, got {left};"
                " the file is cut short"
            )
        return count

    def name(self) -> str:
        end = self.data.find(b"\0", self.position, self.position + _MAX_NAME)
        if end < 0:
            raise FileFormatError(
                f"{self.path}: expected an image name at byte {self.position}, got no end of it"
            )
        name = self.data[self.position : end].decode("utf-8", "surrogateescape")
        self.position = end + 1
        return name

    def finish(self) -> None:
        if extra := len(self.data) - self.position:
            raise FileFormatError(
                f"{self.path}: expected the end at byte {self.position}, got {extra} more bytes"
            )


def read_cameras(path: Path) -> dict[int, CameraRow]:
    """The rows of cameras.bin by camera id.

    Raises:
        FileFormatError: cut short, too long, or a camera model nobody knows.
    """
    reader, cameras = _Reader(path), {}
    for _ in range(reader.count(_CAMERA.size + 16, "cameras")):
        camera_id, lens_id, width, height = reader.take(_CAMERA, "a camera")
        lens = BY_ID.get(lens_id)
        if lens is None:
            raise FileFormatError(f"{path}: expected a camera model 0 to {max(BY_ID)}, got {lens_id}")
        parameters = reader.take(struct.Struct(f"<{lens.parameters}d"), "camera parameters")
        cameras[camera_id] = CameraRow(lens, width, height, parameters)
    reader.finish()
    return cameras


def read_images(path: Path) -> list[ImageRow]:
    """The rows of images.bin; the 2D points are skipped.

    Raises:
        FileFormatError: cut short or too long.
    """
    reader, images = _Reader(path), []
    for _ in range(reader.count(_IMAGE.size + 2 + _COUNT.size, "images")):
        _, *pose, camera_id = reader.take(_IMAGE, "an image")
        name = reader.name()
        (points,) = reader.take(_COUNT, "the 2D point count")
        reader.skip(points * 24, "2D points")
        images.append(ImageRow(name, camera_id, tuple(pose[:4]), tuple(pose[4:])))
    reader.finish()
    return images


def read_points(path: Path) -> Points:
    """Positions and colours of points3D.bin; tracks are skipped.

    Raises:
        FileFormatError: cut short or too long.
    """
    reader = _Reader(path)
    count = reader.count(_POINT.size, "points")
    positions, colors = np.empty((count, 3)), np.empty((count, 3), np.uint8)
    for row in range(count):
        _, *values, _, track = reader.take(_POINT, "a point")
        positions[row], colors[row] = values[:3], values[3:]
        reader.skip(track * 8, "a track")
    reader.finish()
    return Points(positions, colors)


def write_cameras(path: Path, cameras: dict[int, CameraRow]) -> None:
    """Write cameras.bin."""
    rows = [_COUNT.pack(len(cameras))]
    for camera_id, camera in cameras.items():
        rows.append(_CAMERA.pack(camera_id, camera.lens.id, camera.width, camera.height))
        rows.append(struct.pack(f"<{camera.lens.parameters}d", *camera.parameters))
    _write(path, rows)


def write_images(path: Path, images: list[ImageRow]) -> None:
    """Write images.bin without 2D points; ids count from 1."""
    rows = [_COUNT.pack(len(images))]
    for image_id, image in enumerate(images, 1):
        rows.append(_IMAGE.pack(image_id, *image.quaternion, *image.translation, image.camera_id))
        rows.append(image.name.encode("utf-8", "surrogateescape") + b"\0" + _COUNT.pack(0))
    _write(path, rows)


def write_points(path: Path, points: Points) -> None:
    """Write points3D.bin with error 0 and empty tracks; ids count from 1."""
    dtype = np.dtype(
        [("id", "<u8"), ("position", "<f8", 3), ("color", "u1", 3), ("error", "<f8"), ("track", "<u8")]
    )
    rows = np.zeros(len(points.positions), dtype)
    rows["id"] = np.arange(1, len(rows) + 1)
    rows["position"], rows["color"] = points.positions, points.colors
    _write(path, [_COUNT.pack(len(rows)), rows.tobytes()])


def _write(path: Path, parts: Iterable[bytes]) -> None:
    with replacing(path) as file:
        file.writelines(parts)
