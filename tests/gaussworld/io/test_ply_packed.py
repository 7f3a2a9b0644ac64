"""Compressed PLY: a hand-made file, an outside oracle, refusals."""

import struct
from pathlib import Path
from typing import Any

import numpy as np
import plyfile
import pytest
import torch

from gaussworld.errors import FileFormatError
from gaussworld.io import load, load_framing
from gaussworld.pose import normalize_quats

DATA = Path(__file__).parent / "data"
RANGES = [f"{end}_{what}{axis}" for what in ("", "scale_") for end in ("min", "max") for axis in "xyz"]
COLORS = [f"{end}_{channel}" for end in ("min", "max") for channel in "rgb"]
PACKED = ["packed_position", "packed_rotation", "packed_scale", "packed_color"]


def test_we_read_what_splat_transform_writes() -> None:
    """splat-transform 2.7.1 compressed `oracle.ply` and unpacked it again: the same numbers, SH included."""
    got, wanted = load(DATA / "oracle.compressed.ply"), load(DATA / "compressed_decoded.ply")
    assert got.sh_degree == 3
    for name in ("means", "log_scales", "opacity_logits", "sh"):
        assert torch.allclose(getattr(got, name), getattr(wanted, name), atol=2e-6), name
    assert (normalize_quats(got.quats) * normalize_quats(wanted.quats)).sum(-1).abs().min() > 1 - 1e-6


def packed_file(
    folder: Path,
    n: int = 300,
    chunks: int | None = None,
    sh: int = 9,
    sh_rows: int | None = None,
    colors: bool = True,
    **options: Any,
) -> Path:
    """A file in which everything is noise that is allowed, but for what the test asks."""
    generator = np.random.default_rng(0)
    count = -(-n // 256) if chunks is None else chunks
    ranges = np.zeros(count, [(name, "f4") for name in RANGES + COLORS * colors])
    for name in ranges.dtype.names or ():
        ranges[name] = generator.normal(size=count)
    rows = np.zeros(n, [(name, "u4") for name in PACKED])
    for name in PACKED:
        rows[name] = generator.integers(0, 2**32, n, dtype=np.uint32)
    elements = [plyfile.PlyElement.describe(ranges, "chunk"), plyfile.PlyElement.describe(rows, "vertex")]
    if sh:
        bands = np.zeros(n if sh_rows is None else sh_rows, [(f"f_rest_{i}", "u1") for i in range(sh)])
        for name in bands.dtype.names or ():
            bands[name] = generator.integers(0, 256, len(bands))
        elements.append(plyfile.PlyElement.describe(bands, "sh"))
    path = folder / "a.compressed.ply"
    options.setdefault("byte_order", "<")
    plyfile.PlyData(elements, **options).write(path)
    return path


def test_a_file_by_the_layout(tmp_path: Path) -> None:
    """Bits, ranges of the right chunk, and channel-major SH, computed here in another way."""
    path = packed_file(tmp_path)
    got, data = load(path), plyfile.PlyData.read(path)
    word, chunk = int(data["vertex"]["packed_position"][299]), data["chunk"][1]
    bits = f"{word:032b}"
    shares = [int(bits[:11], 2) / 2047, int(bits[11:21], 2) / 1023, int(bits[21:], 2) / 2047]
    wanted = [chunk[f"min_{a}"] + s * (chunk[f"max_{a}"] - chunk[f"min_{a}"]) for a, s in zip("xyz", shares)]
    assert np.allclose(got.means[299], wanted, atol=1e-6)
    color = int(data["vertex"]["packed_color"][299]) >> 24
    red = chunk["min_r"] + color / 255 * (chunk["max_r"] - chunk["min_r"])
    assert np.isclose(got.sh[299, 0, 0], (red - 0.5) / 0.28209479177387814, atol=1e-5)
    byte = int(data["sh"]["f_rest_4"][299])
    assert np.isclose(got.sh[299, 2, 1], (byte + 0.5) / 32 - 4)
    assert torch.isfinite(got.opacity_logits).all()
    assert got.opacity_logits.abs().max() <= 15


def test_older_files_without_ranges_of_colours(tmp_path: Path) -> None:
    """Colours are bytes of [0, 1] then; big-endian files and comments are as in any PLY."""
    options = {"byte_order": ">", "comments": ["metres_per_unit 2"]}
    path = packed_file(tmp_path, sh=0, colors=False, **options)
    got, data = load(path), plyfile.PlyData.read(path)
    assert got.sh_degree == 0
    assert np.isclose(got.rgb[7, 2], (int(data["vertex"]["packed_color"][7]) >> 8 & 255) / 255)
    assert load_framing(path).metres_per_unit == 2


def test_none_at_all(tmp_path: Path) -> None:
    """No Gaussians need no chunk."""
    assert len(load(packed_file(tmp_path, n=0))) == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"chunks": 1}, "1 of chunk, 300 of vertex"),
        ({"chunks": 3}, "3 of chunk, 300 of vertex"),
        ({"sh_rows": 299}, "299 of sh"),
        ({"sh": 10}, "9, 24, 45 or no SH bytes"),
        ({"text": True}, "to be binary without lists"),
    ],
)
def test_counts_that_contradict_each_other_are_refused(tmp_path: Path, options: dict, message: str) -> None:
    path = packed_file(tmp_path, **options)
    with pytest.raises(FileFormatError, match=message) as caught:
        load(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (b"float max_z", b"float max_q", "with max_z of type f4 in 'chunk', got none"),
        (b"uint packed_color", b"int packed_color", "with packed_color of type u4"),
        (b"uint packed_scale", b"uint packed_sxale", "with packed_scale of type u4"),
        (b"uchar f_rest_3", b"uchar f_rest_7x", "with f_rest_3 of type u1 in 'sh'"),
        (b"element vertex 300", b"element vertex 999999999999", "a chunk for every 256"),
        (b"element sh 300", b"element sh 299", "299 of sh"),
        (b"element chunk 2", b"element chunk 3906250000", "3906250000 of chunk"),
        (b"uint packed_color", b"list uchar uint packed_color", "to be binary without lists"),
    ],
)
def test_hostile_headers_are_refused(tmp_path: Path, old: bytes, new: bytes, message: str) -> None:
    path = packed_file(tmp_path)
    path.write_bytes(path.read_bytes().replace(old, new, 1))
    with pytest.raises(FileFormatError, match=message):
        load(path)


def test_counts_beyond_the_file_are_refused_before_memory_is_taken(tmp_path: Path) -> None:
    """10^12 Gaussians that agree with their chunks."""
    path = packed_file(tmp_path, sh=0)
    data = path.read_bytes().replace(b"element vertex 300", b"element vertex 1000000000000")
    path.write_bytes(data.replace(b"element chunk 2", b"element chunk 3906250000"))
    with pytest.raises(FileFormatError, match=r"expected 16\d+ bytes after the header"):
        load(path)


@pytest.mark.parametrize("cut", [-1, 1])
def test_bodies_of_another_length_are_refused(tmp_path: Path, cut: int) -> None:
    path = packed_file(tmp_path)
    data = path.read_bytes()
    path.write_bytes(data[:cut] if cut < 0 else data + b"x")
    with pytest.raises(FileFormatError, match=r"bytes after the header, got"):
        load(path)


def test_ranges_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    path = packed_file(tmp_path)
    data = path.read_bytes()
    start = data.index(b"end_header\n") + 11 + 72
    path.write_bytes(data[:start] + struct.pack("<f", float("nan")) + data[start + 4 :])
    with pytest.raises(FileFormatError, match="got nan as min_x of chunk 1"):
        load(path)
