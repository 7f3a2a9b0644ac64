"""poses_bounds.npy (LLFF: Mildenhall et al. 2019, "Local Light Field Fusion") to `Capture`."""

from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from numpy import ndarray

from ..camera import Camera
from ..capture import Capture, Frame
from ..errors import CaptureError, FileFormatError
from .images import image_size
from .lookup import PICTURE_SUFFIXES

_NAME = "poses_bounds.npy"
#: A row is a 3x5 matrix [down right backward centre (height, width, focal length)], then near and far bounds.
_COLUMNS = 17
_MAX_ROWS = 1 << 20
_FOLDERS = ("images", "images_2", "images_4", "images_8", "")
_SUFFIXES = frozenset(suffix.lower() for suffix in PICTURE_SUFFIXES)


def find(path: Path) -> Path | None:
    """The file to read for `path`: itself, or the one in that folder."""
    file = path if path.name == _NAME else path / _NAME
    return file if file.is_file() else None


def read(path: Path, images: Path | None = None) -> Capture:
    """Read the cameras, and the pictures that belong to them by the order of their names.

    Of `images/` and the smaller copies beside it (`images_4/` and so on) the first that exists is taken. The
    poses' unit is unknown, and the bounds are not used.

    Args:
        path: the file, or its folder.
        images: where the pictures are, if elsewhere.

    Raises:
        FileFormatError: no such array, or values that are no cameras.
        CaptureError: no pictures, as many as there are no poses, or of other proportions.
    """
    file = find(path)
    if file is None:
        raise CaptureError(f"{path}: expected a {_NAME}, got none; check the path")
    rows = _rows(file)
    pictures = _pictures(file.parent, images)
    if len(pictures) != len(rows):
        where = pictures[0].parent if pictures else images or file.parent / _FOLDERS[0]
        raise CaptureError(
            f"{file}: expected one picture for each of its {len(rows)} poses, got {len(pictures)} in {where};"
            " poses belong to pictures by the order of names, so keep exactly those it was made from"
        )
    frames = (_frame(file, index, row, picture) for index, (row, picture) in enumerate(zip(rows, pictures)))
    return Capture(tuple(frames))


def _rows(file: Path) -> Float[ndarray, "n 17"]:
    """The array; its header is compared with the file's size before memory is taken, objects are refused."""
    try:
        with file.open("rb") as stream:
            version = np.lib.format.read_magic(stream)
            read_header = np.lib.format.read_array_header_1_0
            if version >= (2, 0):
                read_header = np.lib.format.read_array_header_2_0
            shape, _, dtype = read_header(stream)
            body = file.stat().st_size - stream.tell()
        if len(shape) != 2 or shape[1] != _COLUMNS or not 0 < shape[0] <= _MAX_ROWS or dtype.kind != "f":
            raise FileFormatError(
                f"{file}: expected rows of {_COLUMNS} floating-point numbers, got shape {shape} of {dtype};"
                " make it again with LLFF's imgs2poses"
            )
        if body != shape[0] * _COLUMNS * dtype.itemsize:
            raise FileFormatError(f"{file}: expected {shape[0]} rows, got {body} bytes; copy it again")
        rows = np.load(file, allow_pickle=False).astype(np.float64)
    except FileFormatError:
        raise
    # Besides OSError and ValueError, numpy's parser of headers lets some of Python's own escape.
    except Exception as error:
        raise FileFormatError(
            f"{file}: expected an array written by numpy, got: {str(error)[:200]}"
        ) from error
    if bad := np.flatnonzero(~np.isfinite(rows[:, :15]).all(axis=1)).tolist():
        raise FileFormatError(f"{file}: expected finite numbers, got others in row {bad[0]}; make it again")
    return rows


def _pictures(folder: Path, images: Path | None) -> list[Path]:
    """The pictures of the first place that has any, in the order of their names."""
    for place in [images] if images is not None else [folder / name for name in _FOLDERS]:
        entries = place.iterdir() if place.is_dir() else ()
        found = sorted(p for p in entries if p.suffix.lower() in _SUFFIXES and not p.name.startswith("."))
        if found:
            return found
    return []


def _frame(file: Path, index: int, row: Float[ndarray, "17"], picture: Path) -> Frame:
    matrix = torch.from_numpy(row[:15].reshape(3, 5))
    down, right, backward, center = (matrix[:, column] for column in range(4))
    top = torch.stack([right, down, -backward, center], dim=-1)
    world_from_camera = torch.cat([top, top.new_tensor([[0.0, 0.0, 0.0, 1.0]])]).float()
    height, width, focal = matrix[:, 4].tolist()
    try:
        K = torch.tensor([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]])
        camera = Camera(world_from_camera, K, round(width), round(height))
    except (ValueError, OverflowError) as error:
        raise FileFormatError(f"{file}: row {index}: {error}") from error
    # Smaller copies of the pictures have sides rounded to whole pixels.
    size = image_size(picture)
    if abs(size[0] * camera.height - size[1] * camera.width) > 1.5 * max(camera.width, camera.height):
        raise CaptureError(
            f"{picture}: expected the proportions of pose {index} of {file.name}, {camera.width}x"
            f"{camera.height}, got {size[0]}x{size[1]}; are these the pictures it was made from?"
        )
    return Frame(camera.rescaled(*size), picture)
