"""SOG (PlayCanvas): Gaussians as lossless pictures and a meta.json, in a folder or a `.sog` zip; read only.

Coordinates are read as they are, in the frame of the PLY file that was compressed. Version 1, whose files
state no version, has a range for every column; version 2 has codebooks.
"""

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..errors import FileFormatError
from ..gaussians import MAX_LOGIT, Gaussians
from .archive import Archive, open_archive
from .framing import Framing
from .inflate import check_plausible
from .json_object import blaming
from .smallest_three import with_largest
from .sog_images import read_pixels

META = "meta.json"
_MAX_META_BYTES = 1 << 20
#: [bytes] per Gaussian once unpacked: five pictures of four channels.
_BYTES_EACH = 20
#: Number of SH bands above the first, and of the coefficients in them.
_ABOVE = {1: 3, 2: 8, 3: 15}
_BANDS = {count: bands for bands, count in _ABOVE.items()}
#: Palette entries in a row of the picture of SH centroids.
_PER_ROW = 64
_log = logging.getLogger(__name__)


def read(path: Path) -> Gaussians:
    """Read Gaussians from a `.sog`, or from a folder of which `path` is the meta.json.

    Raises:
        FileFormatError: no SOG, another version, files that are missing or lie elsewhere, pictures that do
            not fit the counts or are not lossless, or values that are not finite or out of range.
    """
    with _opened(path) as files:
        meta = _parse(files.read(META, _MAX_META_BYTES), path)
        with blaming(f"{path}"):
            count, ranged = _count_of(meta), _ranged(meta)
            check_plausible(_BYTES_EACH * count, files.packed_bytes, path)
            arrays = _read_arrays(files, meta, count, ranged)
    if meta.get("antialias") is True:
        _log.warning("%s was trained with antialiasing (Mip-Splatting): render it with antialiasing", path)
    return Gaussians(**{name: torch.from_numpy(array) for name, array in arrays.items()})


def read_framing(path: Path) -> Framing:
    """Nothing: the format has no place to state a frame, up direction or unit."""
    return Framing()


def write(gaussians: Gaussians, path: Path, framing: Framing) -> None:
    """Refuse: SOG is only read.

    Raises:
        ValueError: always.
    """
    raise ValueError(
        f"{path}: expected a format that can be written, got SOG; write .spz (as small) or .ply (lossless)"
    )


class _Folder:
    """Files beside a meta.json; nothing that lies elsewhere is opened."""

    def __init__(self, meta: Path) -> None:
        self._meta = meta
        self.packed_bytes = sum(file.stat().st_size for file in meta.parent.iterdir() if file.is_file())

    def read(self, name: str, max_bytes: int) -> bytes:
        path = self._meta if name == META else self._meta.parent / name
        if "/" in name or "\\" in name or not path.is_file():
            raise FileFormatError(
                f"{self._meta}: expected files that lie beside it, got {name[:80]!r}, which does not"
            )
        if (size := path.stat().st_size) > max_bytes:
            raise FileFormatError(f"{path}: expected at most {max_bytes} bytes, got {size}")
        return path.read_bytes()


class _Bundle:
    """Entries of a zip."""

    def __init__(self, archive: Archive) -> None:
        self._archive = archive
        self.packed_bytes = archive.path.stat().st_size

    def read(self, name: str, max_bytes: int) -> bytes:
        return self._archive.read(name, max_bytes)


_Files = _Folder | _Bundle


@contextmanager
def _opened(path: Path) -> Iterator[_Files]:
    if path.suffix.lower() == ".json":
        if path.name != META:
            raise FileFormatError(
                f"{path}: expected the {META} of Gaussians as SOG, got {path.name!r}; of captures, see"
                " load_capture"
            )
        yield _Folder(path)
        return
    with open_archive(path, max_total_bytes=1 << 34, max_entries=100) as archive:
        yield _Bundle(archive)


def _parse(data: bytes, path: Path) -> dict[str, Any]:
    try:
        meta = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise FileFormatError(f"{path}: expected JSON in {META}, got: {error}; fetch it again") from error
    if not isinstance(meta, dict) or "means" not in meta:
        raise FileFormatError(f"{path}: expected a {META} of SOG, which has 'means', got another JSON file")
    if meta.get("version", 1) not in (1, 2):
        raise FileFormatError(
            f"{path}: expected SOG of version 1 or 2, got {str(meta['version'])[:40]}; convert it with"
            " splat-transform"
        )
    return meta


def _ranged(meta: dict[str, Any]) -> bool:
    """Whether bytes lie between the ends of ranges, as in version 1."""
    return meta.get("version", 1) == 1


def _count_of(meta: dict[str, Any]) -> int:
    count = meta.get("count")
    if _ranged(meta):
        shape = _object(meta, "means").get("shape")
        count = shape[0] if isinstance(shape, list) and shape else None
    if not isinstance(count, int) or isinstance(count, bool) or count < 0:
        raise ValueError(f"expected a count of Gaussians, got {str(count)[:40]}")
    return count


def _read_arrays(files: _Files, meta: dict[str, Any], count: int, ranged: bool) -> dict[str, np.ndarray]:
    def pixels(name: str, index: int = 0) -> np.ndarray:
        return _pixels(files, _object(meta, name), index, count)

    scales, sh0 = _object(meta, "scales"), _object(meta, "sh0")
    colors = pixels("sh0")
    arrays = {
        "means": _means(_object(meta, "means"), pixels("means", 0), pixels("means", 1)),
        "quats": _quats(pixels("quats")),
        "log_scales": _decoded(scales, pixels("scales")[:, :3], ranged),
        "opacity_logits": _opacities(sh0, colors[:, 3], ranged),
    }
    base = _decoded(sh0, colors[:, :3], ranged)[:, None]
    above = _sh_above(files, meta, count, ranged)
    return arrays | {"sh": base if above is None else np.concatenate([base, above], axis=1)}


def _pixels(files: _Files, part: dict[str, Any], index: int, count: int) -> np.ndarray:
    """The first `count` pixels of a picture, as rows of four bytes."""
    name = _file(part, index)
    # No lossless picture needs more than its pixels, a palette and a header.
    data = files.read(name, 8 * count + (1 << 16))
    return read_pixels(data, name, at_least=count, at_most=2 * count + (1 << 16)).reshape(-1, 4)[:count]


def _means(part: dict[str, Any], low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """16 bits an axis, between the ends of a range of sign(x) ln(|x| + 1)."""
    least, most = _numbers(part, "mins", 3), _numbers(part, "maxs", 3)
    shares = (low[:, :3].astype(np.float32) + 256 * high[:, :3].astype(np.float32)) / 65535
    logs = least * (1 - shares) + most * shares
    if not (np.abs([least, most]) < 80).all():
        raise ValueError("expected positions below 10^34, got a range beyond that")
    return (np.sign(logs) * np.expm1(np.abs(logs))).astype(np.float32)


def _quats(pixels: np.ndarray) -> np.ndarray:
    if len(pixels) and pixels[:, 3].min() < 252:
        row = int(pixels[:, 3].argmin())
        raise ValueError(f"expected 252 to 255 as alpha of rotations, got {pixels[row, 3]} in row {row}")
    small = (pixels[:, :3] / 255 - 0.5) * np.sqrt(2)
    return with_largest(small, pixels[:, 3].astype(np.int64) - 252).astype(np.float32)


def _decoded(part: dict[str, Any], pixels: np.ndarray, ranged: bool) -> np.ndarray:
    """Bytes as numbers: of a codebook, or, in version 1, between the ends of a range for each column."""
    if not ranged:
        return _codebook(part)[pixels]
    least, most = (_numbers(part, name, None)[: pixels.shape[1]] for name in ("mins", "maxs"))
    if len(least) != pixels.shape[1] or len(most) != pixels.shape[1]:
        raise ValueError(f"expected ranges of {pixels.shape[1]} columns, got {len(least)} and {len(most)}")
    return (least + (most - least) * (pixels / 255)).astype(np.float32)


def _opacities(part: dict[str, Any], alphas: np.ndarray, ranged: bool) -> np.ndarray:
    """Opacity itself in version 2, its logit in version 1."""
    if not ranged:
        with np.errstate(divide="ignore"):
            shares = alphas / 255
            return (np.log(shares) - np.log1p(-shares)).clip(-MAX_LOGIT, MAX_LOGIT).astype(np.float32)
    least, most = (_numbers(part, name, 4)[3] for name in ("mins", "maxs"))
    return (least + (most - least) * (alphas / 255)).astype(np.float32)


def _sh_above(files: _Files, meta: dict[str, Any], count: int, ranged: bool) -> np.ndarray | None:
    """SH above degree 0: each Gaussian names an entry of a palette."""
    if meta.get("shN") is None:
        return None
    part = _object(meta, "shN")
    name = _file(part, 0)
    centroids = read_pixels(files.read(name, 1 << 24), name, at_least=1, at_most=1 << 20)
    width = centroids.shape[1]
    coefficients = width // _PER_ROW
    if width % _PER_ROW or coefficients != _ABOVE.get(part.get("bands", _BANDS.get(coefficients, 0))):
        raise ValueError(f"expected {name} to be 192, 512 or 960 pixels wide for its bands, got {width}")
    palette = centroids[..., :3].reshape(-1, coefficients, 3)
    pairs = _pixels(files, part, 1, count).astype(np.int64)
    labels = pairs[:, 0] + 256 * pairs[:, 1]
    if len(labels) and labels.max() >= len(palette):
        raise ValueError(f"expected labels below {len(palette)}, the entries of {name}, got {labels.max()}")
    if not ranged:
        return _codebook(part)[palette][labels]
    least, most = (_numbers({name: [part.get(name)]}, name, 1)[0] for name in ("mins", "maxs"))
    return (least + (most - least) * (palette / 255)).astype(np.float32)[labels]


def _object(meta: dict[str, Any], name: str) -> dict[str, Any]:
    part = meta.get(name)
    if not isinstance(part, dict):
        raise ValueError(f"expected {name!r} as an object in {META}, got {str(part)[:40]}")
    return part


def _file(part: dict[str, Any], index: int) -> str:
    names = part.get("files")
    if not isinstance(names, list) or len(names) <= index or not isinstance(names[index], str):
        raise ValueError(f"expected at least {index + 1} names as 'files' in {META}, got {str(names)[:80]}")
    return names[index]


def _numbers(part: dict[str, Any], name: str, count: int | None) -> np.ndarray:
    values = part.get(name)
    if (
        not isinstance(values, list)
        or (count is not None and len(values) != count)
        or not all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
    ):
        raise ValueError(f"expected {count or 'some'} numbers as {name!r} in {META}, got {str(values)[:80]}")
    numbers = np.array([float(value) for value in values])
    if not (np.abs(numbers) < 1e30).all():
        raise ValueError(f"expected finite numbers as {name!r} in {META}, got {str(values)[:80]}")
    return numbers


def _codebook(part: dict[str, Any]) -> np.ndarray:
    values = part.get("codebook")
    if isinstance(values, list) and len(values) == 256 and values[0] is None:
        # An early writer's slip: the first entry continues the slope of the others.
        rest = _numbers({"codebook": values[1:]}, "codebook", 255)
        return np.concatenate([[rest[0] + (rest[0] - rest[-1]) / 255], rest]).astype(np.float32)
    return _numbers(part, "codebook", 256).astype(np.float32)
