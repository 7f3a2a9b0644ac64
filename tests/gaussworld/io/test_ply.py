"""PLY files: round trips, an outside oracle, and everything that must be refused."""

import struct
from pathlib import Path

import numpy as np
import plyfile
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from gaussworld.errors import FileFormatError
from gaussworld.gaussians import Gaussians
from gaussworld.io import load, load_framing, save
from gaussworld.io.ply import read_points, write_points

FINITE = st.floats(allow_nan=False, allow_infinity=False, width=32)
NAMES = ["x", "y", "z", "f_dc_0", "f_dc_1", "f_dc_2", "opacity"]
NAMES += [f"scale_{i}" for i in range(3)] + [f"rot_{i}" for i in range(4)]


def random_gaussians(n: int, degree: int = 3, seed: int = 0) -> Gaussians:
    generator = torch.Generator().manual_seed(seed)
    k = (degree + 1) ** 2
    rows = torch.randn(n, 11 + 3 * k, generator=generator)
    sh = rows[:, 11:].reshape(n, k, 3)
    return Gaussians(rows[:, :3], rows[:, 3:7], rows[:, 7:10], rows[:, 10], sh)


@st.composite
def any_gaussians(draw: st.DrawFn) -> Gaussians:
    n, degree = draw(st.integers(0, 6)), draw(st.integers(0, 3))
    shapes = [(n, 3), (n, 4), (n, 3), (n,), (n, (degree + 1) ** 2, 3)]
    values = [torch.from_numpy(draw(hnp.arrays(np.float32, shape, elements=FINITE))) for shape in shapes]
    values[1][(values[1] == 0).all(dim=1)] = torch.tensor([1.0, 0, 0, 0])
    ids = torch.from_numpy(draw(hnp.arrays(np.int32, (n,), elements=st.integers(-(2**31), 2**31 - 1))))
    return Gaussians(*values, object_ids=ids)


def assert_same(a: Gaussians, b: Gaussians) -> None:
    for name in ("means", "quats", "log_scales", "opacity_logits", "sh", "object_ids"):
        left, right = getattr(a, name).contiguous(), getattr(b, name).contiguous()
        assert left.dtype == right.dtype, name
        assert torch.equal(left.view(torch.int32), right.view(torch.int32)), name


@settings(max_examples=60, deadline=None)
@given(any_gaussians())
def test_a_round_trip_keeps_every_bit(tmp_path_factory: pytest.TempPathFactory, gaussians: Gaussians) -> None:
    path = tmp_path_factory.mktemp("ply") / "a.ply"
    save(gaussians, path)
    assert_same(load(path), gaussians)


def test_more_rows_than_a_chunk_survive(tmp_path: Path) -> None:
    gaussians = random_gaussians(10_001, 1)
    save(gaussians, tmp_path / "a.ply")
    assert_same(load(tmp_path / "a.ply"), gaussians)


@pytest.mark.parametrize("degree", [0, 1, 2, 3])
def test_plyfile_reads_what_we_write(tmp_path: Path, degree: int) -> None:
    """The layout as an outside reader sees it: standard order, channel-major f_rest, raw parameters."""
    gaussians = random_gaussians(7, degree)
    save(gaussians, tmp_path / "a.ply")
    vertex = plyfile.PlyData.read(tmp_path / "a.ply")["vertex"]
    rest = 3 * ((degree + 1) ** 2 - 1)
    names = [p.name for p in vertex.properties]
    assert names[:9] == ["x", "y", "z", "nx", "ny", "nz", "f_dc_0", "f_dc_1", "f_dc_2"]
    assert names[9:] == [f"f_rest_{i}" for i in range(rest)] + NAMES[6:]
    np.testing.assert_array_equal(vertex["rot_0"], gaussians.quats[:, 0])
    np.testing.assert_array_equal(vertex["opacity"], gaussians.opacity_logits)
    if degree:
        np.testing.assert_array_equal(vertex["f_rest_1"], gaussians.sh[:, 2, 0])
        np.testing.assert_array_equal(vertex[f"f_rest_{rest // 3}"], gaussians.sh[:, 1, 1])


@pytest.mark.parametrize(("text", "order"), [(False, "<"), (False, ">"), (True, "=")])
def test_we_read_what_plyfile_writes(tmp_path: Path, text: bool, order: str) -> None:
    """Any property order, other scalar types, extra properties and elements, all three encodings."""
    generator = np.random.default_rng(1)
    names = [*NAMES, *(f"f_rest_{i}" for i in range(24))]
    generator.shuffle(names)
    dtype = [("label", "u1")] + [(name, "f8" if i % 3 == 0 else "f4") for i, name in enumerate(names)]
    rows = np.zeros(5, [*dtype, ("object_id", "i2")])
    for name in names:
        rows[name] = generator.normal(size=5).astype(np.float32)
    rows["object_id"] = [0, -3, 7, 0, 300]
    extra = np.zeros(2, [("a", "i4"), ("b", "f8")])
    parts = [plyfile.PlyElement.describe(extra, "extra"), plyfile.PlyElement.describe(rows, "vertex")]
    data = plyfile.PlyData(parts, text=text, byte_order=order, comments=["made up"])
    data.write(tmp_path / "a.ply")
    got = load(tmp_path / "a.ply")
    np.testing.assert_array_equal(got.means, np.stack([rows[c] for c in "xyz"], -1).astype(np.float32))
    np.testing.assert_array_equal(got.sh[:, 8, 2], rows["f_rest_23"].astype(np.float32))
    assert got.sh_degree == 2
    assert got.object_ids.tolist() == [0, -3, 7, 0, 300]


def test_deleted_rows_are_not_written(tmp_path: Path) -> None:
    gaussians = random_gaussians(4, 0)
    flags = torch.tensor([0, 1, 2, 5], dtype=torch.uint8)
    save(Gaussians(*list(vars(gaussians).values())[:6], flags=flags), tmp_path / "a.ply")
    assert torch.equal(load(tmp_path / "a.ply").means, gaussians.means[[0, 2]])


def test_comments_carry_the_framing(tmp_path: Path) -> None:
    save(random_gaussians(1), tmp_path / "a.ply", frame="robot base", up=(0.0, 0.0, 1.0), metres_per_unit=0.1)
    framing = load_framing(tmp_path / "a.ply")
    assert (framing.frame, framing.up, framing.metres_per_unit) == ("robot base", (0.0, 0.0, 1.0), 0.1)


def test_foreign_comments_are_no_framing(tmp_path: Path) -> None:
    body = header([], comments=["up and away", "metres_per_unit many", "frame"], count=0)
    assert load_framing(write_bytes(tmp_path, body)).up is None


@pytest.mark.parametrize(
    "bad",
    [
        {"frame": "two\nlines"}, {"frame": ""}, {"up": (0.0, 0.0, 0.0)}, {"up": (0.0, 1.0, float("inf"))},
        {"metres_per_unit": 0.0}, {"metres_per_unit": float("nan")},
    ],
)  # fmt: skip
def test_a_bad_framing_is_refused(tmp_path: Path, bad: dict) -> None:
    with pytest.raises(ValueError, match=r"Framing\."):
        save(random_gaussians(1), tmp_path / "a.ply", **bad)
    assert not list(tmp_path.iterdir())


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(random_gaussians(3), tmp_path / "a.ply")
    before = (tmp_path / "a.ply").read_bytes()

    def fail(*_: object) -> None:
        raise RuntimeError("the power went")

    monkeypatch.setattr("gaussworld.io.ply._packed", fail)
    with pytest.raises(RuntimeError):
        save(random_gaussians(5), tmp_path / "a.ply")
    assert (tmp_path / "a.ply").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["a.ply"]


# Hostile files.


def header(
    names: list[str],
    count: int | str = 1,
    comments: list[str] | None = None,
    encoding: str = "binary_little_endian",
    kind: str = "float",
) -> bytes:
    lines = ["ply", f"format {encoding} 1.0", *(f"comment {c}" for c in comments or [])]
    lines += [f"element vertex {count}", *(f"property {kind} {name}" for name in names), "end_header\n"]
    return "\n".join(lines).encode()


def write_bytes(folder: Path, data: bytes) -> Path:
    path = folder / "hostile.ply"
    path.write_bytes(data)
    return path


ROW = struct.pack("<14f", *range(1, 15))


def test_the_row_used_below_is_fine(tmp_path: Path) -> None:
    """What the hostile files vary from must load, or they would prove nothing."""
    assert len(load(write_bytes(tmp_path, header(NAMES) + ROW))) == 1
    assert len(load(write_bytes(tmp_path, header(NAMES).replace(b"\n", b"\r\n") + ROW))) == 1
    assert len(load(write_bytes(tmp_path, header(NAMES, encoding="ascii") + b"1 " * 14))) == 1


HOSTILE = {
    "empty": (b"", "empty file"),
    "no ply": (b"solid cube\n", "first line is 'ply'"),
    "no end": (b"ply\nformat ascii 1.0\n", "'end_header'"),
    "endless": (b"ply\n" + b"comment x\n" * 20_000, "first 65536 bytes"),
    "one long line": (b"ply\n" + b"x" * 200_000, "first 65536 bytes"),
    "many properties": (header([f"p{i}" for i in range(100_000)]), "first 65536 bytes"),
    "no format": (header(NAMES).replace(b"format", b"fromat") + ROW, "second line"),
    "odd format": (header(NAMES, encoding="binary_middle_endian") + ROW, "second line"),
    "negative count": (header(NAMES, -1) + ROW, "count of at least 0"),
    "wordy count": (header(NAMES, "many") + ROW, "count of at least 0"),
    "long count": (header(NAMES, "9" * 5000) + ROW, "count of at least 0"),
    "10^12 rows": (header(NAMES, 10**12) + ROW, "expected 56000000000000 bytes after the header, got 56"),
    "10^12 ascii rows": (header(NAMES, 10**12, encoding="ascii") + ROW, "at least 27999999999999 bytes"),
    "short": (header(NAMES, 2) + ROW, "expected 112 bytes after the header, got 56"),
    "long": (header(NAMES) + ROW + b"more", "got 60; 4 bytes of something else follow"),
    "short ascii": (header(NAMES, 2, encoding="ascii") + b"1.000 " * 14, "14 numbers in row 1 of 'vertex'"),
    "long ascii": (header(NAMES, encoding="ascii") + b"1 " * 14 + b"\n3", "expected 1 lines"),
    "words in ascii": (header(NAMES, encoding="ascii") + b"one " * 14, "expected numbers in row 0"),
    "double element": (
        header(NAMES).replace(b"end_header", b"element vertex 1\nend_header") + ROW, "element 'vertex' twice",
    ),
    "double property": (header([*NAMES, "x"]) + ROW, "'x' twice"),
    "unknown type": (header(NAMES, kind="half") + ROW, "got 'half'"),
    "unknown line": (header(NAMES).replace(b"end_h", b"texture cat.png\nend_h") + ROW, "texture cat.png"),
    "property first": (b"ply\nformat ascii 1.0\nproperty int a\nend_header\n", "an element before property"),
    "typeless property": (header(NAMES).replace(b"float x", b"x") + ROW, "'property <type> <name>'"),
    "no elements": (b"ply\nformat ascii 1.0\nend_header\n", "got elements: none"),
    "missing property": (header([n for n in NAMES if n != "rot_2"]) + ROW, "missing: rot_2; export"),
    "list property": (
        header(NAMES).replace(b"end_h", b"property list uchar int a\nend_h") + ROW, "no list properties",
    ),
    "8 f_rest": (header(NAMES + [f"f_rest_{i}" for i in range(8)]) + ROW + ROW[:32], "got 8 of them"),
    "f_rest with a gap": (
        header(NAMES + [f"f_rest_{i}" for i in range(1, 10)]) + ROW + ROW[:36], "got 9 of them",
    ),
    "nan": (header(NAMES, 2) + ROW + struct.pack("<f", np.nan) + ROW[4:], "got nan in means of row 1"),
    "infinity": (
        header(NAMES) + ROW[:28] + struct.pack("<f", np.inf) + ROW[32:],
        "got inf in log_scales of row 0",
    ),
    "endless nothing": (
        b"ply\nformat ascii 1.0\nelement void 999999999999\n" + header(NAMES).split(b"\n", 2)[2] + b"1 " * 14,
        "a property in element 'void'",
    ),
    "too large a double": (header(NAMES, kind="double") + struct.pack("<14d", *[1e300] * 14), "got inf in"),
    "zero quaternion": (header(NAMES) + ROW[:40] + bytes(16), "zeros in row 0"),
    "huge object id": (
        header(NAMES).replace(b"end_h", b"property uint object_id\nend_h") + ROW + b"\xff" * 4,
        "within 32 bits",
    ),
    "mesh": (
        header(["x", "y", "z"]).replace(b"end_h", b"element face 1\nproperty list uchar int v\nend_h")
        + ROW[:12],
        "is a triangle mesh .* Gaussians.from_activated",
    ),
    "points": (header(["x", "y", "z", "red", "green", "blue"]) + ROW[:24], "is a plain point cloud"),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_is_refused(tmp_path: Path, name: str) -> None:
    """One clear sentence that names the file, and no allocation: 10^12 rows would otherwise kill the test."""
    data, message = HOSTILE[name]
    path = write_bytes(tmp_path, data)
    with pytest.raises(FileFormatError, match=message) as caught:
        load(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_is_wholly_opaque_or_flat_is_read(tmp_path: Path) -> None:
    """Others write logits of 0 and 1 and the logarithm of 0 as infinities; here they become limits."""
    opaque = ROW[:24] + struct.pack("<2f", np.inf, -np.inf) + ROW[32:]
    clear = ROW[:24] + struct.pack("<f", -np.inf) + ROW[28:]
    got = load(write_bytes(tmp_path, header(NAMES, 2) + opaque + clear))
    assert got.opacity_logits.tolist() == [15, -15]
    assert torch.isclose(got.scales[0, 0], torch.tensor(np.finfo(np.float32).tiny), atol=0.0)


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=300), st.integers(0, 200))
def test_noise_never_escapes_the_error_family(tmp_path_factory, noise: bytes, at: int) -> None:
    """Bytes spliced into a good file give Gaussians or a FileFormatError, nothing else."""
    good = header(NAMES) + ROW
    path = write_bytes(tmp_path_factory.mktemp("noise"), good[:at] + noise + good[at + len(noise) :])
    try:
        load(path)
    except FileFormatError:
        pass


def test_a_folder_and_nothing_are_refused(tmp_path: Path) -> None:
    (tmp_path / "folder.ply").mkdir()
    with pytest.raises(FileFormatError, match="a folder"):
        load(tmp_path / "folder.ply")
    with pytest.raises(FileFormatError, match="no such file"):
        load(tmp_path / "nothing.ply")


def test_points_round_trip_and_come_out_of_meshes(tmp_path: Path) -> None:
    points, colors = torch.randn(5, 3), torch.randint(0, 256, (5, 3)) / 255
    write_points(points, colors, tmp_path / "p.ply")
    got, got_colors = read_points(tmp_path / "p.ply")
    assert torch.equal(got, points)
    assert torch.allclose(got_colors, colors)
    data, _ = HOSTILE["mesh"]
    mesh, grey = read_points(write_bytes(tmp_path, data + bytes(13)))
    assert mesh.tolist() == [[1, 2, 3]]
    assert grey.tolist() == [[0.5, 0.5, 0.5]]
