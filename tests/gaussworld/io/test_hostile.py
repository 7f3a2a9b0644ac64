"""Every reader of Gaussians against the same tricks: bombs, cuts, and damage that fuzzing once found."""

import gzip
import io
import json
import struct
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import zstandard

from gaussworld.camera import Camera
from gaussworld.capture import Capture, Frame
from gaussworld.errors import FileFormatError, GaussWorldError
from gaussworld.gaussians import Gaussians
from gaussworld.io import load, load_capture, load_framing, save, save_cameras

DATA = Path(__file__).parent / "data"
PLY = b"ply\nformat binary_little_endian 1.0\nelement vertex %d\n"
PLY_NAMES = ["x", "y", "z", "f_dc_0", "f_dc_1", "f_dc_2", "opacity"]
PLY_NAMES += [f"scale_{i}" for i in range(3)] + [f"rot_{i}" for i in range(4)]


def ply(count: int) -> bytes:
    lines = "".join(f"property float {name}\n" for name in PLY_NAMES)
    return PLY % count + lines.encode() + b"end_header\n"


def spz_header(count: int, version: int = 3) -> bytes:
    return struct.pack("<IIIBBBB", 0x5053474E, version, count, 0, 12, 0, 0)


def spz_streams(count: int, positions: bytes) -> bytes:
    """Version 4 with one stream packed by the caller, the others of zeros."""
    sizes = [size * count for size in (9, 1, 3, 3, 4)]
    packed = [positions, *(zstandard.compress(bytes(min(size, 10**6))) for size in sizes[1:])]
    start = spz_header(count, 4)[:15] + b"\5" + struct.pack("<I12x", 32)
    listed = [struct.pack("<QQ", len(part), size) for part, size in zip(packed, sizes)]
    return b"".join([start, *listed, *packed])


def endless_zstd() -> bytes:
    packer = zstandard.ZstdCompressor().compressobj()
    return packer.compress(bytes(60_000_000)) + packer.flush()


def sog(meta: object, method: int = zipfile.ZIP_DEFLATED, **files: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        archive.writestr("meta.json", meta if isinstance(meta, bytes) else json.dumps(meta))
        for name, data in files.items():
            archive.writestr(f"{name}.webp", data)
    return out.getvalue()


def webp_of(width: int, height: int) -> bytes:
    """The first bytes of a lossless WebP that says it is so large."""
    body = b"\x2f" + (width - 1 | height - 1 << 14).to_bytes(4, "little") + bytes(30)
    chunk = b"VP8L" + struct.pack("<I", len(body)) + body + bytes(len(body) % 2)
    return b"RIFF" + struct.pack("<I", len(chunk) + 4) + b"WEBP" + chunk


def sog_of(count: int, picture: bytes) -> bytes:
    codebook = {"codebook": [0.0] * 256}
    meta = {"version": 2, "count": count, "scales": codebook, "sh0": codebook, "quats": {}}
    meta["means"] = {"mins": [0, 0, 0], "maxs": [1, 1, 1]}
    names = ("means", "scales", "sh0", "quats")
    parts = {name: {**meta[name], "files": ["a.webp", "a.webp"]} for name in names}
    return sog(meta | parts, a=picture)


BOMBS: dict[str, tuple[str, Callable[[], bytes]]] = {
    "ply of 10^12 rows": (".ply", lambda: ply(10**12) + bytes(56)),
    "splat of noise": (".splat", lambda: bytes(33)),
    "spz of 4 billion rows": (".spz", lambda: gzip.compress(spz_header(2**32 - 1))),
    "spz gzip bomb": (".spz", lambda: gzip.compress(spz_header(100) + bytes(60_000_000))),
    "spz gzip bomb that counts": (".spz", lambda: gzip.compress(spz_header(3 * 10**6) + bytes(6 * 10**7))),
    "spz of 4 billion rows in streams": (".spz", lambda: spz_streams(2**32 - 1, b"")),
    "spz zstd bomb": (".spz", lambda: spz_streams(10, endless_zstd())),
    "spz zstd bomb with a size": (".spz", lambda: spz_streams(10, zstandard.compress(bytes(6 * 10**7)))),
    "sog of 10^12 rows": (".sog", lambda: sog_of(10**12, webp_of(4, 4))),
    "sog with a huge picture": (".sog", lambda: sog_of(10**6, webp_of(16383, 16383))),
    "sog with a large enough picture": (".sog", lambda: sog_of(10**8, webp_of(10_000, 10_000))),
    "sog zip bomb": (".sog", lambda: sog(b" " * 60_000_000)),
    "sog of deep json": (".sog", lambda: sog(b'{"means":' + b"[" * 500_000, zipfile.ZIP_STORED)),
    "json of deep json": (".json", lambda: b'{"means":' + b"[" * 500_000),
    "long json": (".json", lambda: b" " * 50_000_000),
}


@pytest.mark.parametrize("name", BOMBS)
def test_no_bomb_goes_off(tmp_path: Path, name: str) -> None:
    """Refused with one sentence, and at most 24 MB of memory on the way."""
    suffix, make = BOMBS[name]
    path = tmp_path / ("meta.json" if suffix == ".json" else f"bomb{suffix}")
    path.write_bytes(make())
    tracemalloc.start()
    try:
        with pytest.raises(FileFormatError) as caught:
            load(path)
        assert tracemalloc.get_traced_memory()[1] < 24_000_000
    finally:
        tracemalloc.stop()
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def seeds(folder: Path) -> list[Path]:
    """A valid file of every format and version that is read here."""
    from gaussworld.io import spz
    from gaussworld.io.framing import Framing

    generator = torch.Generator().manual_seed(0)
    shapes = ((3,), (4,), (3,), (), (4, 3))
    gaussians = Gaussians(*(0.3 * torch.randn(3, *shape, generator=generator) for shape in shapes))
    for suffix in (".ply", ".splat", ".spz"):
        save(gaussians, folder / f"a{suffix}")
    spz.write(gaussians, folder / "4.spz", Framing(), version=4)
    (folder / "sog").mkdir()
    with zipfile.ZipFile(DATA / "oracle.sog") as archive:
        archive.extractall(folder / "sog")
    for name in ("oracle.compressed.ply", "oracle.sog"):
        (folder / name).write_bytes((DATA / name).read_bytes())
    return [*sorted(path for path in folder.iterdir() if path.is_file()), folder / "sog" / "meta.json"]


def test_every_cut_is_noticed(tmp_path: Path) -> None:
    """A file that ends early is refused wherever it ends, unless whole rows are left and none are counted."""
    for path in seeds(tmp_path):
        data = path.read_bytes()
        load(path)
        for length in sorted({*range(0, len(data), max(1, len(data) // 25)), len(data) - 1}):
            path.write_bytes(data[:length])
            if path.suffix == ".splat" and length % 32 == 0 < length:
                continue
            with pytest.raises(FileFormatError):
                load(path)


def test_nothing_but_the_error_family(tmp_path: Path) -> None:
    """Each byte in turn becomes 255 or 0: Gaussians that are finite, or a FileFormatError."""
    for path in seeds(tmp_path):
        data = path.read_bytes()
        for at in range(0, min(len(data), 2000), 19):
            path.write_bytes(data[:at] + (b"\0" if data[at] == 255 else b"\xff") + data[at + 1 :])
            try:
                got = load(path)
            except FileFormatError:
                continue
            assert all(torch.isfinite(value).all() for value in vars(got).values()), (path, at)


def test_a_line_end_in_a_name_makes_no_second_sentence(tmp_path: Path) -> None:
    """Fuzzing found it: a picture of a COLMAP model named `\\n.png`, of a camera that does not exist."""
    camera = Camera(torch.eye(4), torch.tensor([[30.0, 0, 16], [0, 30, 12], [0, 0, 1]]), 32, 24)
    save_cameras(Capture((Frame(camera, tmp_path / "0.png"),)), tmp_path / "model")
    path = tmp_path / "model" / "images.bin"
    data = path.read_bytes().replace(b"0.png", b"\n.png")
    at = data.index(b"\n.png")
    path.write_bytes(data[: at - 4] + struct.pack("<I", 77) + data[at:])
    with pytest.raises(GaussWorldError, match="got 77") as caught:
        load_capture(tmp_path / "model", need_pictures=False)
    assert "\n" not in str(caught.value)


OFFENDERS = sorted((DATA / "offenders").glob("*"))


@pytest.mark.skipif(not OFFENDERS, reason="fuzzing has found nothing yet")
@pytest.mark.parametrize("path", OFFENDERS, ids=lambda path: path.name)
def test_what_fuzzing_once_found(path: Path) -> None:
    """Files that ended otherwise than with Gaussians or an error of ours."""
    try:
        load_framing(path)
        load(path)
    except GaussWorldError as error:
        assert "\n" not in str(error)
