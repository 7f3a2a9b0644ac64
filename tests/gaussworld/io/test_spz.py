"""SPZ files: hand-made ones, round trips within the quantisation, outside oracles, refusals."""

import gzip
import logging
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from gaussworld.errors import FileFormatError
from gaussworld.gaussians import Gaussians
from gaussworld.io import load, load_framing, save, spz, spz_rows
from gaussworld.io.axes import flipped, to_rdf
from gaussworld.io.framing import Framing
from gaussworld.pose import normalize_quats, rotation_from_quats
from gaussworld.sh import evaluate_sh

DATA = Path(__file__).parent / "data"
NAMES = ("means", "quats", "log_scales", "opacity_logits", "sh")


def random_gaussians(n: int, degree: int = 3, seed: int = 0, extent: float = 3.0) -> Gaussians:
    generator = torch.Generator().manual_seed(seed)
    k = (degree + 1) ** 2
    rows = torch.randn(n, 11 + 3 * k, generator=generator)
    sh = rows[:, 11:].reshape(n, k, 3) * 0.3
    sh[:, 0] *= 3
    return Gaussians(rows[:, :3] * extent, rows[:, 3:7], rows[:, 7:10] - 4, rows[:, 10] * 3, sh)


def header(count: int = 1, version: int = 3, degree: int = 0, bits: int = 12, flags: int = 0) -> bytes:
    return struct.pack("<IIIBBBB", 0x5053474E, version, count, degree, bits, flags, 0)


#: Position (1, -2, 3.5), opacity 128/255, colour, log scales -10, 0, 5, in this order.
ROW = b"".join(value.to_bytes(3, "little", signed=True) for value in (1 << 12, -2 << 12, 7 << 11))
ROW += bytes([128, 255, 0, 128, 0, 160, 240])
#: Rotation by a quarter turn about z: w and z are both √½, z is left out as the largest.
QUARTER_3 = (2 << 30 | 511).to_bytes(4, "little")
QUARTER_2 = bytes([128, 128, 218])


def write_gzip(folder: Path, data: bytes) -> Path:
    path = folder / "a.spz"
    path.write_bytes(gzip.compress(data))
    return path


@pytest.mark.parametrize(("version", "quarter"), [(2, QUARTER_2), (3, QUARTER_3)])
def test_a_hand_made_row(tmp_path: Path, version: int, quarter: bytes) -> None:
    """Every field by the layout; half a turn about x between the file's axes and ours."""
    path = write_gzip(tmp_path, header(version=version, degree=1) + ROW + quarter + bytes(range(120, 129)))
    got = load(path)
    assert got.means.tolist() == [[1, 2, -3.5]]
    assert torch.allclose(got.opacities, torch.tensor([128 / 255]))
    assert got.log_scales.tolist() == [[-10, 0, 5]]
    assert torch.allclose(got.sh[0, 0], torch.tensor([0.5, -0.5, 0.5 / 255]) / 0.15)
    # Coefficients of y, z, x; those of y and z change sign.
    assert (got.sh[0, 1:] * 128).tolist() == [[8, 7, 6], [5, 4, 3], [-2, -1, 0]]
    half = 0.5**0.5
    assert torch.allclose(normalize_quats(got.quats), torch.tensor([[half, 0, 0, -half]]), atol=0.01)
    assert load_framing(path) == Framing()


def test_versions_3_and_4_hold_the_same(tmp_path: Path) -> None:
    """Only the container differs."""
    for degree in range(4):
        gaussians = random_gaussians(40, degree)
        spz.write(gaussians, tmp_path / "3.spz", Framing())
        spz.write(gaussians, tmp_path / "4.spz", Framing(), version=4)
        assert (tmp_path / "3.spz").read_bytes()[:2] == b"\x1f\x8b"
        assert (tmp_path / "4.spz").read_bytes()[:8] == b"NGSP\4\0\0\0"
        for name in NAMES:
            assert torch.equal(
                getattr(load(tmp_path / "3.spz"), name), getattr(load(tmp_path / "4.spz"), name)
            )


@given(st.integers(0, 40), st.integers(0, 3), st.integers(0, 2**31), st.sampled_from([3, 4]))
def test_a_round_trip_stays_within_the_quantisation(
    tmp_path_factory, n: int, degree: int, seed: int, version
) -> None:
    path = tmp_path_factory.mktemp("spz") / "a.spz"
    before = random_gaussians(n, degree, seed)
    spz.write(before, path, Framing(), version=version)
    after = load(path)
    assert after.sh.shape == before.sh.shape
    if n == 0:
        return
    assert (after.means - before.means).abs().max() <= 2.0**-17
    assert (after.log_scales - before.log_scales.clamp(-10, 5.9375)).abs().max() <= 1 / 32 + 1e-6
    assert (after.opacities - before.opacities).abs().max() <= 0.5 / 255 + 1e-6
    assert (after.sh[:, 0] - before.sh[:, 0].clamp(-3.33, 3.33)).abs().max() <= 0.5 / 38.25 + 5e-3
    above = before.sh[:, 1:].clamp(-1, 127 / 128)
    for band, bound in ((slice(0, 3), 1 / 32), (slice(3, 15), 1 / 16)):
        if above[:, band].numel():
            assert (after.sh[:, 1:][:, band] - above[:, band]).abs().max() <= bound + 1e-6
    turn = rotation_from_quats(after.quats) - rotation_from_quats(before.quats)
    assert turn.abs().max() < 0.006


@given(st.integers(1, 60), st.integers(0, 3), st.integers(0, 2**31), st.floats(1e-3, 1e6))
def test_a_second_round_trip_changes_nothing(tmp_path_factory, n, degree, seed, extent: float) -> None:
    """Bit for bit, and so does the file: what was rounded once stays."""
    folder = tmp_path_factory.mktemp("spz")
    save(random_gaussians(n, degree, seed, extent), folder / "1.spz")
    once = load(folder / "1.spz")
    save(once, folder / "2.spz")
    twice = load(folder / "2.spz")
    for name in NAMES:
        assert torch.equal(getattr(once, name), getattr(twice, name)), name
    assert (folder / "1.spz").read_bytes() == (folder / "2.spz").read_bytes()


def test_rotations_settle() -> None:
    """Near ties between components, rounding changes which is largest; a second pass must not."""
    generator = np.random.default_rng(0)
    quats = generator.normal(size=(100_000, 4))
    quats[:50_000] = np.sign(quats[:50_000]) * generator.choice([0.5, 0.7, 0.001, 0.707], (50_000, 4))
    quats[:50_000] += generator.normal(size=(50_000, 4)) * 1e-3
    codes = spz_rows.codes_from_quats(quats.astype(np.float32))
    again = spz_rows.codes_from_quats(spz_rows.quats_from_codes(codes))
    np.testing.assert_array_equal(codes, again)
    got = spz_rows.quats_from_codes(codes)
    quats /= np.linalg.norm(quats, axis=1, keepdims=True)
    assert np.abs((got * quats).sum(axis=1)).min() > 1 - 5e-6


def test_large_scenes_get_coarser_steps(tmp_path: Path) -> None:
    """24 bits hold what is before the point first; beyond that nothing is written."""
    gaussians = random_gaussians(1, 0)
    for largest, bits in ((127.0, 16), (129.0, 15), (2000.0, 12), (8_388_607.0, 0)):
        assert spz_rows.bits_for(np.array([[largest, 0, 0]])) == bits
    gaussians.means[0] = torch.tensor([8_388_607.0, -8_388_607.0, 1.0])
    save(gaussians, tmp_path / "a.spz")
    assert load(tmp_path / "a.spz").means.tolist() == [[8_388_607.0, -8_388_607.0, 1.0]]
    gaussians.means[0, 1] = 1e7
    with pytest.raises(ValueError, match="within ±8388607"):
        save(gaussians, tmp_path / "a.spz")


@pytest.mark.parametrize(("name", "turned"), [("splat_transform_v4.spz", True), ("gsply_v3.spz", False)])
def test_we_read_what_others_write(name: str, turned: bool) -> None:
    """splat-transform 2.7.1 turns to the format's axes and back, as we do; gsply 0.4.6 does not turn."""
    got, wanted = load(DATA / name), load(DATA / "oracle.ply")
    wanted = wanted if turned else to_rdf(wanted, "RUB")
    assert (got.means - wanted.means).abs().max() <= 0.5 / 4096 + 1e-6
    assert (got.log_scales - wanted.log_scales).abs().max() <= 1 / 32 + 1e-6
    assert (got.opacities - wanted.opacities).abs().max() <= 0.5 / 255 + 1e-6
    assert (got.sh[:, 0] - wanted.sh[:, 0]).abs().max() <= 0.5 / 38.25 + 1e-6
    assert (got.sh[:, 1:] - wanted.sh[:, 1:]).abs().max() <= 8.5 / 128 + 1e-6
    rotations = (rotation_from_quats(g.quats) @ torch.diag_embed(g.scales) for g in (wanted, got))
    a, b = (half @ half.transpose(-1, -2) for half in rotations)
    assert ((a - b).abs().amax((1, 2)) / a.abs().amax((1, 2))).max() < 0.1


@pytest.mark.parametrize("axes", ["RUB", "RDF", "LUF", "RUF", "RFU", "RBU", "LDB"])
def test_axes_turn_what_is_seen(axes: str) -> None:
    """Covariances and colours from any side follow positions, also through a mirror."""
    before = random_gaussians(6)
    after = to_rdf(before, axes)
    letters = {
        "R": [1, 0, 0],
        "L": [-1, 0, 0],
        "D": [0, 1, 0],
        "U": [0, -1, 0],
        "F": [0, 0, 1],
        "B": [0, 0, -1],
    }
    change = torch.tensor([letters[letter] for letter in axes]).float().T
    assert torch.allclose(after.means, before.means @ change.T, atol=1e-5)
    assert torch.allclose(after.covariances, change @ before.covariances @ change.T, rtol=1e-3, atol=1e-6)
    sides = torch.nn.functional.normalize(torch.randn(6, 3), dim=-1)
    seen = evaluate_sh(after.sh, sides @ change.T)
    assert torch.allclose(seen, evaluate_sh(before.sh, sides), atol=1e-4)


def test_flips_are_exact() -> None:
    """Turning there and back is the identity, bit for bit."""
    gaussians = random_gaussians(5)
    twice = flipped(flipped(gaussians, (1.0, -1.0, -1.0)), (1.0, -1.0, -1.0))
    assert all(torch.equal(getattr(twice, name), getattr(gaussians, name)) for name in NAMES)


def record(kind: int, data: bytes) -> bytes:
    return struct.pack("<II", kind, len(data)) + data


def test_extensions(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """One that states other axes is obeyed, limits of a camera are passed over, unknown ones named."""
    body = ROW + QUARTER_3
    for kind, data in ((0xADBE0003, struct.pack("<I", 6)), (0xADBE0002, bytes(12)), (0x12340001, b"x")):
        path = write_gzip(tmp_path, header(flags=2) + body + record(kind, data))
        got = load(path).means.tolist()[0]
        assert got == ([1, -2, 3.5] if kind == 0xADBE0003 else [1, 2, -3.5])
    assert [line.message.split("passed over ")[1] for line in caplog.records] == [
        "an extension of kind 0x12340001, which is not known"
    ]
    for bad, message in (
        (record(0xADBE0003, b"\x11\0\0\0"), "from 0 to 16"),
        (b"\1\0\0\0\xff\xff\xff\xff", "cut"),
    ):
        with pytest.raises(FileFormatError, match=message):
            load(write_gzip(tmp_path, header(flags=2) + body + bad))


def test_what_is_dropped_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """SH of degree 4 loses its highest band; antialiasing is for the renderer to know."""
    with caplog.at_level(logging.WARNING):
        got = load(write_gzip(tmp_path, header(degree=4, flags=1) + ROW + QUARTER_3 + bytes([192] * 72)))
    assert got.sh_degree == 3
    assert torch.equal(got.sh[0, 1:].abs(), torch.full((15, 3), 0.5))
    assert "antialiasing" in caplog.records[0].message
    assert "degree 4" in caplog.records[1].message


def test_several_gzip_members_are_one_stream(tmp_path: Path) -> None:
    """As parallel compressors write them."""
    data = header() + ROW + QUARTER_3
    (tmp_path / "a.spz").write_bytes(gzip.compress(data[:20]) + gzip.compress(data[20:]))
    assert load(tmp_path / "a.spz").means.tolist() == [[1, 2, -3.5]]


def streams(parts: list[bytes], *, table: int = 32, sizes: list[int] | None = None, **facts: int) -> bytes:
    """A file of version 4, of which `sizes` may lie about the streams."""
    packed = [zstandard.compress(part) for part in parts]
    start = header(version=4, **facts)[:15] + bytes([len(parts)]) + struct.pack("<I12x", table)
    sizes = sizes or [len(part) for part in parts]
    listed = [struct.pack("<QQ", len(after), size) for after, size in zip(packed, sizes)]
    return b"".join([start, *listed, *packed])


PARTS = [ROW[:9], ROW[9:10], ROW[10:13], ROW[13:], QUARTER_3]
GOOD = header() + ROW + QUARTER_3
HOSTILE = {
    "empty": (b"", "begins with gzip or NGSP, got b''"),
    "another file": (b"ply\nformat", "begins with gzip or NGSP, got b'ply"),
    "cut gzip": (gzip.compress(GOOD)[:-20], "a whole gzip file|more bytes in the gzip stream"),
    "no checksum": (gzip.compress(GOOD)[:-8], "a whole gzip file"),
    "damaged": (gzip.compress(GOOD)[:-8] + bytes(8), "expected gzip, got"),
    "other gzip": (gzip.compress(b"hello" * 10), "begins otherwise"),
    "wrong endianness": (gzip.compress(struct.pack(">4I", 0x5053474E, 3, 1, 12)), "begins otherwise"),
    "version 1": (gzip.compress(header(version=1) + bytes(100)), "version 2 or 3 here, got 1"),
    "version 5": (gzip.compress(header(version=5) + bytes(100)), "version 2 or 3 here, got 5"),
    "version 4 in gzip": (gzip.compress(header(version=4) + bytes(100)), "version 2 or 3 here, got 4"),
    "version 3 plain": (header() + bytes(100), "version 4 here, got 3"),
    "4 billion rows": (gzip.compress(header(count=2**32 - 1) + ROW), "for the 85899345900 that its header"),
    "short": (gzip.compress(header(count=2) + ROW + QUARTER_3), "6 more bytes in the gzip stream"),
    "long": (gzip.compress(GOOD + b"x"), "at most 0 bytes after the Gaussians"),
    "long extensions": (gzip.compress(header(flags=2) + GOOD[16:] + bytes(70_000)), "at most 65536 bytes"),
    "degree 5": (gzip.compress(header(degree=5) + GOOD[16:]), "degree 0 to 4, got 5"),
    "200 bits": (gzip.compress(header(bits=200) + GOOD[16:]), "at most 24 fractional bits, got 200"),
    "gzip bomb": (gzip.compress(header(count=10) + bytes(50_000_000)), "something else follows"),
    "short header": (b"NGSP\4\0\0\0", "a header of 32 bytes, got 8"),
    "table outside": (streams(PARTS, table=10**6), "a table of 5 streams"),
    "table inside": (streams(PARTS, table=31), "a table of 5 streams"),
    "streams missing": (streams(PARTS[:4]), r"streams of \[9, 1, 3, 3, 4\] bytes"),
    "4 billion rows in 4": (streams(PARTS, count=2**32 - 1), "streams of"),
    "4 billion rows meant": (
        streams(PARTS, count=2**32 - 1, sizes=[(2**32 - 1) * size for size in (9, 1, 3, 3, 4)]),
        "for the 85899345900 that its header",
    ),
    "sizes that lie": (streams([*PARTS[:4], b"12345"], sizes=[9, 1, 3, 3, 4]), "a zstd frame of 5"),
    "no zstd": (streams(PARTS)[:-5] + b"12345", "expected zstd in rotations"),
    "bytes after": (streams(PARTS) + b"x", r"expected \d+ bytes, got"),
}  # fmt: skip


def test_what_the_hostile_files_vary_from_is_fine(tmp_path: Path) -> None:
    """Otherwise they would prove nothing."""
    assert load(write_gzip(tmp_path, GOOD)).means.tolist() == [[1, 2, -3.5]]
    (tmp_path / "a.spz").write_bytes(streams(PARTS))
    assert load(tmp_path / "a.spz").means.tolist() == [[1, 2, -3.5]]


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_is_refused(tmp_path: Path, name: str) -> None:
    """One sentence that names the file."""
    data, message = HOSTILE[name]
    path = tmp_path / "hostile.spz"
    path.write_bytes(data)
    with pytest.raises(FileFormatError, match=message) as caught:
        load(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_zstd_bombs_stop_at_the_count(tmp_path: Path) -> None:
    """A frame that states no size, or a small one, must not unpack beyond what the header counts."""
    packer = zstandard.ZstdCompressor().compressobj()
    bomb = packer.compress(bytes(100_000_000)) + packer.flush()
    honest = [zstandard.compress(part) for part in PARTS[1:]]
    start = header(version=4)[:15] + b"\5" + struct.pack("<I12x", 32)
    listed = [struct.pack("<QQ", len(p), size) for p, size in zip([bomb, *honest], [9, 1, 3, 3, 4])]
    (tmp_path / "a.spz").write_bytes(b"".join([start, *listed, bomb, *honest]))
    with pytest.raises(FileFormatError, match="expected zstd in positions"):
        load(tmp_path / "a.spz")


@pytest.mark.parametrize("name", NAMES)
def test_values_that_cannot_be_written_are_refused(tmp_path: Path, name: str) -> None:
    """Casting NaN to an integer would write nonsense."""
    gaussians = random_gaussians(2)
    getattr(gaussians, name)[1] = float("nan")
    with pytest.raises(ValueError, match=f"finite {name}"):
        save(gaussians, tmp_path / "a.spz")
    gaussians = random_gaussians(2)
    gaussians.quats[1] = 0
    with pytest.raises(ValueError, match="non-zero length"):
        save(gaussians, tmp_path / "a.spz")
    assert not list(tmp_path.iterdir())


def test_deleted_rows_are_not_written(tmp_path: Path) -> None:
    """Their flag would not survive, so they must not either."""
    gaussians = random_gaussians(3)
    gaussians.flags[:] = torch.tensor([0, 1, 2])
    save(gaussians, tmp_path / "a.spz")
    assert len(load(tmp_path / "a.spz")) == 2
