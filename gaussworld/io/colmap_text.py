"""COLMAP's text model files: one row a line, '#' comments, two lines an image."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from ..errors import FileFormatError
from .atomic import replacing
from .colmap_lens import BY_NAME
from .colmap_model import CameraRow, ImageRow, Points


def read_cameras(path: Path) -> dict[int, CameraRow]:
    """The rows of cameras.txt by camera id.

    Raises:
        FileFormatError: a malformed line, or a camera model nobody knows.
    """
    cameras = {}
    for number, line in _rows(path):
        with _blaming(path, number, "CAMERA_ID MODEL WIDTH HEIGHT PARAMS", line):
            camera_id, name, width, height, *parameters = line.split()
            lens = BY_NAME.get(name)
            if lens is None or len(parameters) != lens.parameters:
                wanted = f"{lens.parameters} parameters" if lens else f"a model among {', '.join(BY_NAME)}"
                raise FileFormatError(f"{path}, line {number}: expected {wanted}, got {line[:80]!r}")
            values = tuple(float(value) for value in parameters)
            cameras[int(camera_id)] = CameraRow(lens, int(width), int(height), values)
    return cameras


def read_images(path: Path) -> list[ImageRow]:
    """The rows of images.txt; the 2D points, on every second line, are skipped.

    Raises:
        FileFormatError: a malformed line.
    """
    images, rows = [], _rows(path, pairs=True)
    for number, line in rows:
        with _blaming(path, number, "IMAGE_ID QW QX QY QZ TX TY TZ CAMERA_ID NAME", line):
            _, *pose, camera_id, name = line.split(maxsplit=9)
            if len(pose) != 7:
                raise ValueError("too few words")
            values = tuple(float(value) for value in pose)
            images.append(ImageRow(name, int(camera_id), values[:4], values[4:7]))
    return images


def read_points(path: Path) -> Points:
    """Positions and colours of points3D.txt; tracks are skipped.

    Raises:
        FileFormatError: a malformed line, or a colour outside 0 to 255.
    """
    positions: list[list[float]] = []
    colors: list[bytes] = []
    for number, line in _rows(path):
        with _blaming(path, number, "POINT3D_ID X Y Z R G B ERROR TRACK", line):
            _, x, y, z, r, g, b, *_ = line.split(maxsplit=7)
            positions.append([float(x), float(y), float(z)])
            colors.append(bytes([int(r), int(g), int(b)]))
    return Points(
        np.array(positions, np.float64).reshape(-1, 3),
        np.frombuffer(b"".join(colors), np.uint8).reshape(-1, 3),
    )


def _rows(path: Path, pairs: bool = False) -> Iterator[tuple[int, str]]:
    """Numbered lines that are neither empty nor comments; with `pairs`, the line after each is dropped."""
    with path.open(encoding="utf-8", errors="surrogateescape") as file:
        lines = enumerate(file, 1)
        for number, line in lines:
            line = line.strip()
            if line and not line.startswith("#"):
                yield number, line
                if pairs:
                    next(lines, None)


@contextmanager
def _blaming(path: Path, number: int, wanted: str, line: str) -> Iterator[None]:
    try:
        yield
    except ValueError as error:
        raise FileFormatError(f"{path}, line {number}: expected {wanted}, got {line[:80]!r}") from error


def write_cameras(path: Path, cameras: dict[int, CameraRow]) -> None:
    """Write cameras.txt."""
    lines = ["# CAMERA_ID, MODEL, WIDTH, HEIGHT, PARAMS[]"]
    for camera_id, camera in cameras.items():
        values = " ".join(map(repr, camera.parameters))
        lines.append(f"{camera_id} {camera.lens.name} {camera.width} {camera.height} {values}")
    _write(path, lines)


def write_images(path: Path, images: list[ImageRow]) -> None:
    """Write images.txt without 2D points, whose lines stay empty; ids count from 1."""
    lines = ["# IMAGE_ID, QW, QX, QY, QZ, TX, TY, TZ, CAMERA_ID, NAME", "# POINTS2D[] as (X, Y, POINT3D_ID)"]
    for image_id, image in enumerate(images, 1):
        pose = " ".join(map(repr, image.quaternion + image.translation))
        lines += [f"{image_id} {pose} {image.camera_id} {image.name}", ""]
    _write(path, lines)


def write_points(path: Path, points: Points) -> None:
    """Write points3D.txt with error 0 and empty tracks; ids count from 1."""
    lines = ["# POINT3D_ID, X, Y, Z, R, G, B, ERROR, TRACK[] as (IMAGE_ID, POINT2D_IDX)"]
    for row, (position, color) in enumerate(zip(points.positions.tolist(), points.colors.tolist()), 1):
        lines.append(" ".join(map(repr, [row, *position, *color, 0])))
    _write(path, lines)


def _write(path: Path, lines: list[str]) -> None:
    with replacing(path) as file:
        file.write(("\n".join(lines) + "\n").encode("utf-8", "surrogateescape"))
