"""PlayCanvas's compressed PLY (`.compressed.ply`): 16 bytes a Gaussian and a range for every 256, SH apart.

Coordinates are read as they are, in the frame of the PLY file that was compressed.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch

from ..errors import FileFormatError
from ..gaussians import MAX_LOGIT, Gaussians
from ..sh import sh0_from_rgb
from .ply_body import check_length, read_rows
from .ply_header import Element, Header
from .smallest_three import with_largest

_CHUNK = 256
_RANGES = tuple(f"{end}_{axis}" for end in ("min", "max") for axis in "xyz")
_RANGES += tuple(f"{end}_scale_{axis}" for end in ("min", "max") for axis in "xyz")
_COLOR_RANGES = tuple(f"{end}_{channel}" for end in ("min", "max") for channel in "rgb")
_PACKED = ("packed_position", "packed_rotation", "packed_scale", "packed_color")
#: Number of `f_rest_*` properties and the number of SH coefficients above 0 each of them stands for.
_ABOVE = {0: 0, 9: 3, 24: 8, 45: 15}
_LARGEST = 1e30
_BYTES = np.arange(256)
#: What a byte of SH stands for: its middle, but the ends of the range for 0 and 255.
_SH = (8 * np.where(_BYTES == 0, 0, np.where(_BYTES == 255, 1, (_BYTES + 0.5) / 256)) - 4).astype(np.float32)
with np.errstate(divide="ignore"):
    _LOGITS = (np.log(_BYTES / 255) - np.log1p(-_BYTES / 255)).clip(-MAX_LOGIT, MAX_LOGIT).astype(np.float32)


def is_packed(header: Header) -> bool:
    """Whether a PLY file is a compressed one."""
    vertex = header.element("vertex")
    return header.element("chunk") is not None and vertex is not None and _PACKED[0] in vertex.properties


def read(file: BinaryIO, header: Header, path: Path) -> Gaussians:
    """Read the Gaussians of a file for which `is_packed` holds.

    Raises:
        FileFormatError: elements or properties are missing, their counts do not fit each other or the file,
            or a range is not finite.
    """
    chunk, vertex, above = _checked(header, path)
    check_length(file, header, path)
    ranges = _read_ranges(file, header, chunk, path)
    n = vertex.count
    shapes = {"means": (n, 3), "quats": (n, 4), "log_scales": (n, 3), "opacity_logits": (n,)}
    arrays: dict[str, np.ndarray] = {name: np.empty(shape, np.float32) for name, shape in shapes.items()}
    arrays["sh"] = np.empty((n, above + 1, 3), np.float32)
    for part, rows in _parts(file, header, vertex, path):
        _unpack(arrays, part, rows, ranges)
    if above:
        sh = header.element("sh")
        assert sh is not None
        for part, rows in _parts(file, header, sh, path):
            for i in range(3 * above):
                # Channel-major, as in an ordinary PLY file.
                arrays["sh"][part, 1 + i % above, i // above] = _SH[rows[f"f_rest_{i}"]]
    return Gaussians(**{name: torch.from_numpy(array) for name, array in arrays.items()})


def _checked(header: Header, path: Path) -> tuple[Element, Element, int]:
    """The elements of ranges and of Gaussians, and the number of SH coefficients above 0."""
    chunk, vertex, sh = (header.element(name) for name in ("chunk", "vertex", "sh"))
    assert chunk is not None and vertex is not None
    if header.encoding == "ascii" or any(element.has_lists for element in header.elements):
        raise FileFormatError(f"{path}: expected a compressed PLY to be binary without lists, got otherwise")
    colors = _COLOR_RANGES if _COLOR_RANGES[0] in chunk.properties else ()
    wanted = [(chunk, "f4", _RANGES + colors), (vertex, "u4", _PACKED)]
    if sh is not None:
        wanted.append((sh, "u1", tuple(f"f_rest_{i}" for i in range(len(sh.properties)))))
    for element, code, names in wanted:
        if missing := [name for name in names if element.properties.get(name) != code]:
            raise FileFormatError(
                f"{path}: expected a compressed PLY with {', '.join(missing)} of type {code} in"
                f" {element.name!r}, got none"
            )
    counts = [chunk.count * _CHUNK - vertex.count not in range(_CHUNK)]
    if sh is not None:
        counts += [sh.count != vertex.count, len(sh.properties) not in _ABOVE]
    if any(counts):
        got = ", ".join(f"{element.count} of {element.name}" for element in header.elements)
        raise FileFormatError(
            f"{path}: expected a chunk for every {_CHUNK} Gaussians and 9, 24, 45 or no SH bytes for each,"
            f" got {got}; compress it again"
        )
    return chunk, vertex, _ABOVE[len(sh.properties)] if sh is not None else 0


def _parts(
    file: BinaryIO, header: Header, element: Element, path: Path
) -> Iterator[tuple[slice, np.ndarray]]:
    start = 0
    for rows in read_rows(file, header, element, path):
        yield slice(start, start + len(rows)), rows
        start += len(rows)


def _read_ranges(file: BinaryIO, header: Header, chunk: Element, path: Path) -> dict[str, np.ndarray]:
    ranges: dict[str, np.ndarray] = {name: np.empty(chunk.count) for name in chunk.properties}
    for part, rows in _parts(file, header, chunk, path):
        # Some NaN warn when they are cast; all are refused below.
        with np.errstate(invalid="ignore"):
            for name, values in ranges.items():
                values[part] = rows[name]
    for name, values in ranges.items():
        # What overflows float32 once it is a coefficient is no better than what is infinite.
        if not (np.abs(values) < _LARGEST).all():
            row = int((~(np.abs(values) < _LARGEST)).argmax())
            raise FileFormatError(
                f"{path}: expected finite ranges below 10^30, got {values[row]} as {name} of chunk {row};"
                " compress it again"
            )
    return ranges


def _unpack(
    arrays: dict[str, np.ndarray], part: slice, rows: np.ndarray, ranges: dict[str, np.ndarray]
) -> None:
    chunks = np.arange(part.start, part.stop) // _CHUNK
    for name, column, prefix in (
        ("means", "packed_position", ""),
        ("log_scales", "packed_scale", "scale_"),
    ):
        steps = np.stack([rows[column] >> 21, rows[column] >> 11 & 1023, rows[column] & 2047], axis=1)
        shares = steps / np.array([2047, 1023, 2047])
        for i, axis in enumerate("xyz"):
            low, high = (ranges[f"{end}_{prefix}{axis}"][chunks] for end in ("min", "max"))
            arrays[name][part, i] = low * (1 - shares[:, i]) + high * shares[:, i]
    codes = rows["packed_rotation"]
    small = np.stack([codes >> 20, codes >> 10, codes], axis=1) & 1023
    arrays["quats"][part] = with_largest((small / 1023 - 0.5) * np.sqrt(2), (codes >> 30).astype(np.int64))
    rgba = np.stack([rows["packed_color"] >> shift for shift in (24, 16, 8, 0)], axis=1) & 255
    rgb = rgba[:, :3] / 255
    if _COLOR_RANGES[0] in ranges:
        low, high = (
            np.stack([ranges[f"{end}_{channel}"][chunks] for channel in "rgb"], axis=1)
            for end in ("min", "max")
        )
        rgb = low * (1 - rgb) + high * rgb
    arrays["sh"][part, 0] = sh0_from_rgb(torch.from_numpy(rgb)).numpy()
    arrays["opacity_logits"][part] = _LOGITS[rgba[:, 3]]
