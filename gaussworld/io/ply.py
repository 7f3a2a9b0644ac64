"""PLY: Gaussians in the layout of 3D Gaussian splatting (Kerbl et al. 2023), and plain point clouds."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ..errors import FileFormatError
from ..gaussians import MAX_LOGIT, Gaussians
from . import ply_packed
from .atomic import replacing
from .framing import Framing, comments_from, framing_from
from .ply_body import CHUNK_ROWS, check_length, check_no_more_lines, read_rows
from .ply_header import Element, Header, read_header

#: Number of `f_rest_*` properties and the number k of SH coefficients each of them stands for.
_COEFFICIENTS = {0: 1, 9: 4, 24: 9, 45: 16}
_POSITION = ("x", "y", "z")
_SCALES = ("scale_0", "scale_1", "scale_2")
_QUATERNION = ("rot_0", "rot_1", "rot_2", "rot_3")
_COLOR = ("f_dc_0", "f_dc_1", "f_dc_2")
_REQUIRED = (*_POSITION, *_COLOR, "opacity", *_SCALES, *_QUATERNION)
_SMALLEST_LOG_SCALE = float(np.log(np.finfo(np.float32).tiny))
_INTEGERS = ("i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8")


def read(path: Path) -> Gaussians:
    """Read Gaussians, whatever the order of their properties; properties beside the layout's are passed over.

    A compressed PLY is unpacked. Opacities of 0 and 1 become logits of ∓15, scales of 0 the smallest float.

    Raises:
        FileFormatError: not a PLY file, a mesh, a point cloud, a property is missing, the body is shorter
            or longer than the header promises, or a row holds NaN, another infinity or a zero quaternion.
    """
    with _opened(path) as (file, header):
        if ply_packed.is_packed(header):
            return ply_packed.read(file, header, path)
        vertex = _gaussian_element(header, path)
        check_length(file, header, path)
        arrays = _allocate(vertex)
        start = 0
        for rows in read_rows(file, header, vertex, path):
            _fill(arrays, start, rows, path)
            start += len(rows)
        if header.encoding == "ascii":
            check_no_more_lines(file, header, path)
    _check_rows(arrays, path)
    return Gaussians(**{name: torch.from_numpy(array) for name, array in arrays.items()})


def read_framing(path: Path) -> Framing:
    """What the file's comments state about its frame, up direction and unit.

    Raises:
        FileFormatError: not a PLY file.
    """
    with _opened(path) as (_, header):
        return framing_from(header.comments)


def write(gaussians: Gaussians, path: Path, framing: Framing) -> None:
    """Write the Gaussians that are not deleted as binary little-endian float32, in the layout's usual order.

    `object_id` is added as an int property when any is non-zero; `framing` becomes comments.
    """
    kept = gaussians.detach().to("cpu").select((gaussians.flags.cpu() & 1) == 0)
    arrays = {name: value.contiguous().numpy() for name, value in vars(kept).items()}
    dtype = _written_dtype(kept)
    lines = ["ply", "format binary_little_endian 1.0"]
    lines += [f"comment {comment}" for comment in comments_from(framing)]
    lines += [f"element vertex {len(kept)}"]
    lines += [f"property {'int' if name == 'object_id' else 'float'} {name}" for name in dtype.names or ()]
    with replacing(path) as file:
        file.write("\n".join([*lines, "end_header\n"]).encode("ascii"))
        for start in range(0, len(kept), CHUNK_ROWS):
            file.write(_packed(arrays, slice(start, start + CHUNK_ROWS), dtype).tobytes())


def read_points(path: Path) -> tuple[Float[Tensor, "m 3"], Float[Tensor, "m 3"]]:
    """The vertices of any PLY file as points and colours in [0, 1]; grey where the file has no colours.

    Raises:
        FileFormatError: not a PLY file, no x y z, cut short, or a coordinate or colour is not finite.
    """
    with _opened(path) as (file, header):
        vertex = header.element("vertex")
        if (
            vertex is None
            or vertex.has_lists
            or header.elements[0] is not vertex
            or not _has(vertex, _POSITION)
        ):
            raise FileFormatError(
                f"{path}: expected a PLY whose first element is vertex with x, y, z; write one without lists"
            )
        check_length(file, header, path, first_only=True)
        colored = _has(vertex, ("red", "green", "blue"))
        points = np.empty((vertex.count, 3), np.float32)
        colors = np.full((vertex.count, 3), 0.5, np.float32)
        unit = 255.0 if colored and vertex.properties["red"] in _INTEGERS else 1.0
        start = 0
        for rows in read_rows(file, header, vertex, path):
            part = slice(start, start + len(rows))
            with np.errstate(over="ignore", invalid="ignore"):  # As in _fill.
                for i, (axis, channel) in enumerate(zip(_POSITION, ("red", "green", "blue"))):
                    points[part, i] = rows[axis]
                    if colored:
                        colors[part, i] = rows[channel] / unit
            start += len(rows)
    _check_finite("position", points, path)
    _check_finite("color", colors, path)
    return torch.from_numpy(points), torch.from_numpy(colors)


def write_points(points: Float[Tensor, "m 3"], colors: Float[Tensor, "m 3"], path: Path) -> None:
    """Write a point cloud: float32 positions, uint8 colours."""
    rows = np.empty(len(points), [("position", "<f4", 3), ("color", "u1", 3)])
    rows["position"] = points.detach().cpu().numpy()
    rows["color"] = (colors.detach().cpu().clamp(0, 1) * 255).round().numpy()
    names = [*(f"float {n}" for n in _POSITION), *(f"uchar {n}" for n in ("red", "green", "blue"))]
    lines = ["ply", "format binary_little_endian 1.0", f"element vertex {len(points)}"]
    lines += [f"property {name}" for name in names]
    with replacing(path) as file:
        file.write("\n".join([*lines, "end_header\n"]).encode("ascii") + rows.tobytes())


@contextmanager
def _opened(path: Path) -> Iterator[tuple[BinaryIO, Header]]:
    with path.open("rb") as file:
        yield file, read_header(file, path)


def _has(element: Element, names: tuple[str, ...]) -> bool:
    return all(name in element.properties for name in names)


def _gaussian_element(header: Header, path: Path) -> Element:
    """The element that holds Gaussians, or one sentence about what else this file is."""
    vertex = header.element("vertex")
    if vertex is None or not _has(vertex, _POSITION):
        names = ", ".join(element.name for element in header.elements) or "none"
        raise FileFormatError(
            f"{path}: expected Gaussians as element vertex with x, y, z, got elements: {names}"
        )
    if not any(name in vertex.properties for name in _REQUIRED[3:]):
        _refuse_geometry(header, vertex, path)
    if missing := [name for name in _REQUIRED if name not in vertex.properties]:
        raise FileFormatError(
            f"{path}: expected the properties of 3D Gaussian splatting, got a file without all of them;"
            f" missing: {', '.join(missing)}; export it again"
        )
    if listed := [element.name for element in header.elements if element.has_lists]:
        raise FileFormatError(
            f"{path}: expected no list properties beside Gaussians, got some in {', '.join(listed)}"
        )
    rest = [name for name in vertex.properties if name.startswith("f_rest_")]
    if len(rest) not in _COEFFICIENTS or set(rest) != {f"f_rest_{i}" for i in range(len(rest))}:
        raise FileFormatError(
            f"{path}: expected f_rest_0 to f_rest_8, 23 or 44 (SH degree 1, 2 or 3) or none,"
            f" got {len(rest)} of them; export it again"
        )
    return vertex


def _refuse_geometry(header: Header, vertex: Element, path: Path) -> None:
    faces = header.element("face") or header.element("tristrips")
    if faces is not None and faces.count:
        raise FileFormatError(
            f"{path} is a triangle mesh ({vertex.count} vertices), not Gaussians; sample points on its"
            " surface and build some with Gaussians.from_activated"
        )
    raise FileFormatError(
        f"{path} is a plain point cloud ({vertex.count} points), not Gaussians; name it"
        " 'ply_file_path' in its pictures' transforms.json or build Gaussians with Gaussians.from_activated"
    )


def _allocate(vertex: Element) -> dict[str, np.ndarray]:
    n = vertex.count
    k = _COEFFICIENTS[sum(name.startswith("f_rest_") for name in vertex.properties)]
    shapes = {"means": (n, 3), "quats": (n, 4), "log_scales": (n, 3), "opacity_logits": (n,), "sh": (n, k, 3)}
    arrays: dict[str, np.ndarray] = {name: np.empty(shape, np.float32) for name, shape in shapes.items()}
    if vertex.properties.get("object_id") in _INTEGERS:
        arrays["object_ids"] = np.empty(n, np.int32)
    return arrays


def _fill(arrays: dict[str, np.ndarray], start: int, rows: np.ndarray, path: Path) -> None:
    """Copy one chunk of rows into the arrays, property by property."""
    part = slice(start, start + len(rows))
    # A double too large for float32 becomes infinite here and is refused with its row afterwards; so is NaN.
    with np.errstate(over="ignore", invalid="ignore"):
        for name, columns in (("means", _POSITION), ("log_scales", _SCALES), ("quats", _QUATERNION)):
            for i, column in enumerate(columns):
                arrays[name][part, i] = rows[column]
        arrays["opacity_logits"][part] = rows["opacity"]
        _make_finite(arrays["log_scales"][part], arrays["opacity_logits"][part])
        sh = arrays["sh"]
        for channel, column in enumerate(_COLOR):
            sh[part, 0, channel] = rows[column]
        above = sh.shape[1] - 1
        for i in range(3 * above):
            # Channel-major: all coefficients of red, then green, then blue.
            sh[part, 1 + i % above, i // above] = rows[f"f_rest_{i}"]
    if "object_ids" in arrays:
        ids = rows["object_id"]
        if len(ids) and (ids.min() < -(2**31) or ids.max() >= 2**31):
            raise FileFormatError(
                f"{path}: expected object_id within 32 bits, got {int(ids.max())} after row {start}"
            )
        arrays["object_ids"][part] = ids


def _make_finite(log_scales: np.ndarray, logits: np.ndarray) -> None:
    """Opacities of exactly 0 and 1 and scales of 0, which other programs write as they are, become limits."""
    np.copyto(log_scales, _SMALLEST_LOG_SCALE, where=log_scales == -np.inf)
    np.copyto(logits, logits.clip(-MAX_LOGIT, MAX_LOGIT), where=np.isinf(logits))


def _check_rows(arrays: dict[str, np.ndarray], path: Path) -> None:
    for name, array in arrays.items():
        _check_finite(name, array, path)
    zero = ~arrays["quats"].any(axis=1)
    if zero.any():
        row = int(zero.argmax())
        raise FileFormatError(
            f"{path}: expected a non-zero quaternion rot_0..3, got zeros in row {row}; drop that row"
        )


def _check_finite(name: str, array: np.ndarray, path: Path) -> None:
    finite = np.isfinite(array)
    if not finite.all():
        row = int(np.argwhere(~finite)[0, 0])
        got = array[row].reshape(-1)[~finite[row].reshape(-1)][0]
        raise FileFormatError(
            f"{path}: expected finite numbers, got {got} in {name} of row {row}; drop that row"
        )


def _written_dtype(gaussians: Gaussians) -> np.dtype:
    rest = 3 * (gaussians.sh.shape[1] - 1)
    names = [*_POSITION, "nx", "ny", "nz", *_COLOR, *(f"f_rest_{i}" for i in range(rest))]
    columns = [(name, "<f4") for name in [*names, "opacity", *_SCALES, *_QUATERNION]]
    if bool(gaussians.object_ids.any()):
        columns.append(("object_id", "<i4"))
    return np.dtype(columns)


def _packed(arrays: dict[str, np.ndarray], part: slice, dtype: np.dtype) -> np.ndarray:
    """One chunk of Gaussians as rows of the file; normals, which older viewers insist on, are zero."""
    rows = np.zeros(len(arrays["means"][part]), dtype)
    for name, columns in (("means", _POSITION), ("log_scales", _SCALES), ("quats", _QUATERNION)):
        for i, column in enumerate(columns):
            rows[column] = arrays[name][part, i]
    rows["opacity"] = arrays["opacity_logits"][part]
    sh = arrays["sh"][part]
    for channel, column in enumerate(_COLOR):
        rows[column] = sh[:, 0, channel]
    above = sh.shape[1] - 1
    for i in range(3 * above):
        rows[f"f_rest_{i}"] = sh[:, 1 + i % above, i // above]
    if "object_id" in (dtype.names or ()):
        rows["object_id"] = arrays["object_ids"][part]
    return rows
