"""SPZ (Niantic's packed Gaussians): versions 2 to 4 are read, 3 and 4 written.

The format's axes are RUB: x right, y up, z back. Gaussians here, as in 3DGS `.ply` files, have RDF: x right,
y down, z front. So everything, SH too, makes half a turn about x on the way in and on the way out, as other
converters have it: the `.spz` and the `.ply` of one scene load the same. Only signs change.

Versions 2 and 3 are one gzip stream: a header of 16 bytes, then all positions, opacities, colours, scales,
rotations and SH. Version 4 has a plain header of 32 bytes, extensions, a table of sizes, and a zstd frame for
each attribute.
"""

import logging
import struct
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal

import numpy as np
import torch
import zstandard

from ..errors import FileFormatError
from ..gaussians import Gaussians
from ..sh import coefficient_count
from . import spz_rows as rows
from .atomic import replacing
from .axes import to_rdf
from .framing import Framing
from .inflate import GzipStream, check_plausible, unpack_zstd

_MAGIC = 0x5053474E
_HEADER = struct.Struct("<IIIBBBB")
#: The same, with the number of streams in the place of a reserved byte, and where their table begins.
_HEADER_4 = struct.Struct("<IIIBBBBI12x")
_STREAM = struct.Struct("<QQ")
_RECORD = struct.Struct("<II")
_ANTIALIASED, _EXTENDED = 1, 2
#: [bytes] extensions are a few numbers each.
_MAX_EXTENSIONS = 1 << 16
_ORBIT_LIMITS, _AXES = 0xADBE0002, 0xADBE0003
#: What the number in an axes extension means; 0 is unspecified, and then the format's own hold.
_AXES_NAMES = (
    "RUB", "LDB", "RDB", "LUB", "RUB", "LDF", "RDF", "LUF", "RUF",
    "LFD", "RFD", "LFU", "RFU", "LBD", "RBD", "LBU", "RBU",
)  # fmt: skip
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Header:
    version: int
    count: int
    degree: int
    bits: int
    flags: int

    @property
    def sizes(self) -> dict[str, int]:
        """[bytes] of each attribute, in the order of the file."""
        above = coefficient_count(self.degree) - 1
        each = {"positions": 9, "opacities": 1, "colors": 3, "scales": 3}
        each |= {"rotations": 3 if self.version == 2 else 4, "SH": 3 * above}
        return {name: size * self.count for name, size in each.items()}


def read(path: Path) -> Gaussians:
    """Read Gaussians; of SH degree 4 the highest band is dropped with a warning.

    Raises:
        FileFormatError: not SPZ, a version that is not known, counts that the file cannot hold, damaged, or
            something follows.
    """
    with path.open("rb") as file:
        start = file.read(4)
        file.seek(0)
        if start[:2] == b"\x1f\x8b":
            header, parts, extensions = _read_gzip(file, path)
        elif start == struct.pack("<I", _MAGIC):
            header, parts, extensions = _read_streams(file, path)
        else:
            raise FileFormatError(
                f"{path}: expected SPZ, which begins with gzip or NGSP, got {start!r}; fetch it again"
            )
    axes = _axes_of(extensions, path)
    if header.flags & _ANTIALIASED:
        _log.warning("%s was trained with antialiasing (Mip-Splatting): render it with antialiasing", path)
    return to_rdf(_gaussians_from(header, parts, path), axes)


def read_framing(path: Path) -> Framing:
    """Nothing: the format says how its axes are named, but not where up is in a scene, nor its unit."""
    return Framing()


def write(gaussians: Gaussians, path: Path, framing: Framing, version: Literal[3, 4] = 3) -> None:
    """Write the Gaussians that are not deleted; object ids and `framing` are lost, the rest is rounded.

    Positions are kept to 2^-17 of a unit (coarser where one is beyond ±127), log scales to 1/32 within
    [-10, 5.94], opacities to 1/510, colour coefficients to 1/76 within ±3.3, SH of band 1 to 1/32 and above
    to 1/16 within ±1, components of rotations to 1/1445.

    Args:
        gaussians: what to write.
        path: where.
        framing: has no place in the format.
        version: 3 is what most programs read; 4 is smaller by a little and newer.

    Raises:
        ValueError: a value that is not finite, a zero quaternion, or a coordinate beyond ±8388607.
    """
    kept = gaussians.detach().to("cpu").select((gaussians.flags.cpu() & 1) == 0)
    for name in ("means", "quats", "log_scales", "opacity_logits", "sh"):
        if not bool(torch.isfinite(getattr(kept, name)).all()):
            raise ValueError(f"{path}: expected finite {name}, got others; drop those rows")
    if not bool(kept.quats.any(dim=1).all()):
        raise ValueError(f"{path}: expected quaternions of non-zero length, got zeros; drop those rows")
    turned = to_rdf(kept, "RUB")  # Its own inverse.
    bits = rows.bits_for(turned.means.numpy())
    parts, header = _parts_from(turned, bits), (_MAGIC, version, len(kept), kept.sh_degree, bits, 0)
    with replacing(path) as file:
        if version == 3:
            _write_gzip(file, [_HEADER.pack(*header, 0), *parts])
        else:
            _write_streams(file, header, [part for part in parts if part])


def _read_gzip(file: BinaryIO, path: Path) -> tuple[_Header, dict[str, np.ndarray], bytes]:
    stream, size = GzipStream(file, path), path.stat().st_size
    magic, version, *facts, _ = _HEADER.unpack(stream.read(_HEADER.size).tobytes())
    if magic != _MAGIC:
        raise FileFormatError(f"{path}: expected SPZ in the gzip stream, got something that begins otherwise")
    header = _checked(_Header(version, *facts), (2, 3), path)
    check_plausible(sum(header.sizes.values()), size, path)
    parts = {name: stream.read(count) for name, count in header.sizes.items()}
    # Readers that know no extensions can leave them, since they come last.
    return header, parts, stream.rest(_MAX_EXTENSIONS if header.flags & _EXTENDED else 0)


def _read_streams(file: BinaryIO, path: Path) -> tuple[_Header, dict[str, np.ndarray], bytes]:
    size, start = path.stat().st_size, file.read(_HEADER_4.size)
    if len(start) < _HEADER_4.size:
        raise FileFormatError(f"{path}: expected a header of {_HEADER_4.size} bytes, got {len(start)}")
    _, version, *facts, streams, table = _HEADER_4.unpack(start)
    header = _checked(_Header(version, *facts), (4,), path)
    if not _HEADER_4.size <= table <= min(size - streams * _STREAM.size, _MAX_EXTENSIONS):
        raise FileFormatError(
            f"{path}: expected a table of {streams} streams in {size} bytes, got it at {table}"
        )
    extensions = file.read(table - _HEADER_4.size)
    listed = [_STREAM.unpack(file.read(_STREAM.size)) for _ in range(streams)]
    expected = {name: count for name, count in header.sizes.items() if count}
    if [unpacked for _, unpacked in listed if unpacked] != list(expected.values()):
        raise FileFormatError(
            f"{path}: expected streams of {list(expected.values())} bytes for {header.count} Gaussians,"
            f" got {[unpacked for _, unpacked in listed]}; fetch it again"
        )
    end = table + streams * _STREAM.size + sum(packed for packed, _ in listed)
    if end != size:
        raise FileFormatError(f"{path}: expected {end} bytes, got {size}; fetch it again")
    check_plausible(sum(expected.values()), size, path)
    parts = {name: np.empty(0, np.uint8) for name in header.sizes}
    names = iter(expected)
    for packed, unpacked in listed:
        data = file.read(packed)
        if unpacked:
            name = next(names)
            parts[name] = unpack_zstd(data, unpacked, name, path)
    return header, parts, extensions if header.flags & _EXTENDED else b""


def _checked(header: _Header, versions: tuple[int, ...], path: Path) -> _Header:
    if header.version not in versions:
        known = " or ".join(map(str, versions))
        raise FileFormatError(
            f"{path}: expected SPZ of version {known} here, got {header.version}; convert it with newer or"
            " older tools"
        )
    if header.degree > 4:
        raise FileFormatError(f"{path}: expected SH of degree 0 to 4, got {header.degree}")
    if header.bits > 24:
        raise FileFormatError(f"{path}: expected at most 24 fractional bits, got {header.bits}")
    return header


def _axes_of(extensions: bytes, path: Path) -> str:
    """The axes that an extension states, else the format's; what else extensions say is not needed."""
    axes = "RUB"
    while extensions:
        kind, size = _RECORD.unpack(extensions[: _RECORD.size].ljust(_RECORD.size, b"\0"))
        data, extensions = extensions[_RECORD.size :][:size], extensions[_RECORD.size + size :]
        if len(data) < size or not kind:
            raise FileFormatError(f"{path}: expected whole extensions, got one cut short; fetch it again")
        if kind == _AXES:
            number = int.from_bytes(data, "little")
            if size != 4 or number >= len(_AXES_NAMES):
                raise FileFormatError(f"{path}: expected axes by a number from 0 to 16, got {data[:8]!r}")
            axes = _AXES_NAMES[number]
        elif kind != _ORBIT_LIMITS:
            _log.warning("%s: passed over an extension of kind %#x, which is not known", path, kind)
    return axes


def _gaussians_from(header: _Header, parts: dict[str, np.ndarray], path: Path) -> Gaussians:
    n, above = header.count, coefficient_count(min(header.degree, 3)) - 1
    if header.degree > 3:
        _log.warning("%s: dropped the SH of degree 4, which nothing here draws", path)
    rotations = parts["rotations"]
    quats = (
        rows.quats_from_xyz(rotations)
        if header.version == 2
        else rows.quats_from_codes(rotations.view("<u4"))
    )
    sh = np.empty((n, above + 1, 3), np.float32)
    sh[:, 0] = rows.COLORS[parts["colors"]].reshape(n, 3)
    sh[:, 1:] = rows.SH[parts["SH"].reshape(n, coefficient_count(header.degree) - 1, 3)[:, :above]]
    return Gaussians(
        means=torch.from_numpy(rows.positions_from(parts["positions"], header.bits)),
        quats=torch.from_numpy(quats),
        log_scales=torch.from_numpy(rows.LOG_SCALES[parts["scales"]].reshape(n, 3)),
        opacity_logits=torch.from_numpy(rows.OPACITY_LOGITS[parts["opacities"]]),
        sh=torch.from_numpy(sh),
    )


def _parts_from(gaussians: Gaussians, bits: int) -> list[bytes]:
    sh = gaussians.sh.numpy()
    return [
        rows.bytes_from_positions(gaussians.means.numpy(), bits).tobytes(),
        rows.bytes_from_logits(gaussians.opacity_logits.numpy()).tobytes(),
        rows.bytes_from_colors(sh[:, 0]).tobytes(),
        rows.bytes_from_log_scales(gaussians.log_scales.numpy()).tobytes(),
        rows.codes_from_quats(gaussians.quats.numpy()).astype("<u4").tobytes(),
        rows.bytes_from_sh(sh[:, 1:]).tobytes(),
    ]


def _write_gzip(file: BinaryIO, parts: Iterable[bytes]) -> None:
    packer = zlib.compressobj(level=5, wbits=31)
    for part in parts:
        file.write(packer.compress(part))
    file.write(packer.flush())


def _write_streams(file: BinaryIO, header: tuple[int, ...], parts: list[bytes]) -> None:
    packed = [zstandard.ZstdCompressor(level=12).compress(part) for part in parts]
    file.write(_HEADER_4.pack(*header, len(parts), _HEADER_4.size))
    for before, after in zip(parts, packed):
        file.write(_STREAM.pack(len(after), len(before)))
    for part in packed:
        file.write(part)
