"""SOG: both containers, both versions, an outside oracle, refusals."""

import io
import json
import math
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from gaussworld.errors import FileFormatError
from gaussworld.io import load, load_framing, save
from gaussworld.io.framing import Framing
from gaussworld.pose import normalize_quats, rotation_from_quats

DATA = Path(__file__).parent / "data"
COUNT, SIDE = 5, 4


def test_we_read_what_splat_transform_writes() -> None:
    """The same numbers as splat-transform 2.7.1 gets out of its own file; it was only packed tighter."""
    got, wanted = load(DATA / "oracle.sog"), load(DATA / "sog_decoded.ply")
    assert got.sh_degree == 3
    for name in ("means", "log_scales", "opacity_logits", "sh"):
        assert torch.allclose(getattr(got, name), getattr(wanted, name), atol=3e-6), name
    a, b = rotation_from_quats(got.quats), rotation_from_quats(wanted.quats)
    assert torch.allclose(a, b, atol=1e-5)
    assert load_framing(DATA / "oracle.sog") == Framing()


def picture(pixels: np.ndarray, kind: str = "WEBP", **options: Any) -> bytes:
    """Pixels as a lossless picture: WebP by default, exact also where nothing is seen."""
    out = io.BytesIO()
    options = ({"lossless": True, "exact": True} if kind == "WEBP" else {}) | options
    Image.fromarray(pixels).save(out, kind, **options)
    return out.getvalue()


def noise(seed: int, width: int = SIDE, height: int = SIDE, channels: int = 4) -> np.ndarray:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, channels), dtype=np.uint8)
    if channels == 4:
        pixels[..., 3] = np.maximum(pixels[..., 3], 1)
    return pixels


def codebook(low: float, high: float) -> list[float]:
    return np.linspace(low, high, 256).tolist()


def version_2(bands: int = 1) -> tuple[dict[str, Any], dict[str, bytes]]:
    """A meta.json and its pictures, of noise."""
    meta: dict[str, Any] = {
        "version": 2, "count": COUNT, "antialias": False,
        "means": {"mins": [-1, -2, 0.5], "maxs": [1, 2.5, 0.5], "files": ["l.webp", "u.webp"]},
        "scales": {"codebook": codebook(-9, -1), "files": ["scales.webp"]},
        "quats": {"files": ["quats.webp"]},
        "sh0": {"codebook": codebook(-2, 2), "files": ["sh0.webp"]},
        "shN": {"count": 64, "bands": bands, "codebook": codebook(-1, 1), "files": ["c.webp", "labels.webp"]},
    }  # fmt: skip
    width = 64 * {1: 3, 2: 8, 3: 15}[bands]
    labels, quats = noise(5), noise(4)
    labels[..., 0] %= 64
    labels[..., 1] = 0
    quats[..., 3] = 252 + quats[..., 3] % 4
    files = {
        "l.webp": picture(noise(1, channels=3)),
        "u.webp": picture(noise(2, channels=3)),
        "scales.webp": picture(noise(3)),
        "quats.webp": picture(quats),
        "sh0.webp": picture(noise(6)),
        "c.webp": picture(noise(7, width, 1)),
        "labels.webp": picture(labels),
    }
    return meta, files


def version_1() -> tuple[dict[str, Any], dict[str, bytes]]:
    meta, files = version_2(2)
    meta = {name: {"files": part["files"]} for name, part in meta.items() if isinstance(part, dict)}
    meta["means"] |= {"shape": [COUNT, 3], "mins": [-1, -2, 0.5], "maxs": [1, 2.5, 0.5]}
    meta["scales"] |= {"mins": [-9, -8, -7], "maxs": [-1, -2, -3]}
    meta["sh0"] |= {"mins": [-2, -2, -2, -5], "maxs": [2, 2, 2, 6]}
    meta["shN"] |= {"mins": -1, "maxs": 1.5}
    return meta, files


def bundle(folder: Path, meta: Any, files: dict[str, bytes], method: int = 0) -> Path:
    path = folder / "a.sog"
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
        archive.writestr("meta.json", meta if isinstance(meta, str | bytes) else json.dumps(meta))
    return path


def unbundled(folder: Path, meta: Any, files: dict[str, bytes]) -> Path:
    for name, data in files.items():
        (folder / name).write_bytes(data)
    (folder / "meta.json").write_text(json.dumps(meta))
    return folder / "meta.json"


def pixel(files: dict[str, bytes], name: str, index: int) -> list[int]:
    with Image.open(io.BytesIO(files[name])) as image:
        return list(np.asarray(image.convert("RGBA")).reshape(-1, 4)[index].tolist())


@pytest.mark.parametrize("bands", [1, 2, 3])
def test_version_2_by_the_layout(tmp_path: Path, bands: int) -> None:
    """Every field of one Gaussian, computed here in another way; folder and zip are the same."""
    meta, files = version_2(bands)
    got = load(bundle(tmp_path, meta, files))
    same = load(unbundled(tmp_path, meta, files))
    assert all(torch.equal(getattr(got, name), value) for name, value in vars(same).items())
    low, high = pixel(files, "l.webp", 4), pixel(files, "u.webp", 4)
    log = -2 + 4.5 * (low[1] + 256 * high[1]) / 65535
    assert math.isclose(got.means[4, 1], math.copysign(math.exp(abs(log)) - 1, log), rel_tol=1e-5)
    assert torch.allclose(got.means[:, 2], torch.tensor(math.exp(0.5) - 1))
    scale, color = pixel(files, "scales.webp", 4), pixel(files, "sh0.webp", 4)
    assert np.isclose(got.log_scales[4, 2], -9 + 8 * scale[2] / 255)
    assert np.isclose(got.sh[4, 0, 1], -2 + 4 * color[1] / 255)
    assert np.isclose(got.opacities[4], color[3] / 255)
    quat = pixel(files, "quats.webp", 4)
    rest = [(value / 255 - 0.5) * 2**0.5 for value in quat[:3]]
    rest.insert(quat[3] - 252, math.sqrt(max(0, 1 - sum(value**2 for value in rest))))
    assert np.allclose(got.quats[4], rest, atol=1e-6)
    label = pixel(files, "labels.webp", 4)[0]
    entry = pixel(files, "c.webp", label * (got.sh.shape[1] - 1) + 2)
    assert np.allclose(got.sh[4, 3], [-1 + 2 * value / 255 for value in entry[:3]], atol=1e-6)
    assert len(got) == COUNT


def test_version_1_by_the_layout(tmp_path: Path) -> None:
    """Ranges for columns, opacity as a logit, bands told by the width of the palette."""
    meta, files = version_1()
    got = load(bundle(tmp_path, meta, files))
    assert got.sh_degree == 2
    scale, color = pixel(files, "scales.webp", 3), pixel(files, "sh0.webp", 3)
    assert np.isclose(got.log_scales[3, 1], -8 + 6 * scale[1] / 255)
    assert np.isclose(got.sh[3, 0, 0], -2 + 4 * color[0] / 255)
    assert np.isclose(got.opacity_logits[3], -5 + 11 * color[3] / 255)
    label = pixel(files, "labels.webp", 3)[0]
    entry = pixel(files, "c.webp", label * 8 + 7)
    assert np.allclose(got.sh[3, 8], [-1 + 2.5 * value / 255 for value in entry[:3]], atol=1e-6)


def test_pictures_may_be_png_and_packed(tmp_path: Path) -> None:
    """Names are arbitrary, other lossless pictures are allowed, and so is a zip that packs."""
    meta, files = version_2()
    meta["scales"]["files"] = ["s.png"]
    files["s.png"] = picture(noise(3), "PNG")
    a = load(bundle(tmp_path, meta, files, zipfile.ZIP_DEFLATED))
    meta["scales"]["files"] = ["scales.webp"]
    assert torch.equal(a.log_scales, load(bundle(tmp_path, meta, files)).log_scales)


def test_an_early_writers_slip_is_mended(tmp_path: Path) -> None:
    """Codebooks whose first entry is null."""
    meta, files = version_2()
    meta["scales"]["codebook"][0] = None
    got = load(bundle(tmp_path, meta, files))
    assert torch.isfinite(got.log_scales).all()


def test_antialiasing_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    meta, files = version_2()
    load(bundle(tmp_path, meta | {"antialias": True}, files))
    assert "antialiasing" in caplog.text


def test_sog_is_not_written(tmp_path: Path) -> None:
    meta, files = version_2()
    with pytest.raises(ValueError, match=r"got SOG; write \.spz"):
        save(load(bundle(tmp_path, meta, files)), tmp_path / "b.sog")
    assert not (tmp_path / "b.sog").exists()


def changed(path: str, value: Any) -> tuple[Any, dict[str, bytes]]:
    """A good version 2 in which one value of the meta.json is another."""
    meta, files = version_2()
    part, *rest = path.split("/")
    if rest:
        meta[part][rest[0]] = value
    else:
        meta[part] = value
    return meta, files


def swapped(name: str, data: bytes | None) -> tuple[Any, dict[str, bytes]]:
    """A good version 2 in which one picture is another, or missing."""
    meta, files = version_2()
    if data is None:
        del files[name]
    else:
        files[name] = data
    return meta, files


BIG = b"VP8L" + struct.pack("<IB", 9, 0x2F) + (16382 | 16382 << 14).to_bytes(4, "little") + bytes(5)
BIG = b"RIFF" + struct.pack("<I", len(BIG) + 4) + b"WEBP" + BIG
BIG_PNG = (
    b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + b"IHDR" + struct.pack(">II", 10**5, 10**5) + bytes(20)
)
LOSSY = picture(noise(3), lossless=False, quality=100)
QUATS = picture(np.full((SIDE, SIDE, 4), 251, np.uint8))
HOSTILE: dict[str, tuple[Any, str]] = {
    "10^12 rows": (changed("count", 10**12), "for the 20000000000000 that its header counts"),
    "more rows than pixels": (changed("count", 17), r"expected 17 to \d+ pixels in 'sh0.webp', got 4x4"),
    "negative rows": (changed("count", -1), "a count of Gaussians, got -1"),
    "true rows": (changed("count", True), "a count of Gaussians, got True"),
    "wordy rows": (changed("count", "many"), "a count of Gaussians, got many"),
    "version 3": (changed("version", 3), "version 1 or 2, got 3"),
    "version null": (changed("version", None), "version 1 or 2, got None"),
    "nan": (changed("means/mins", [0, float("nan"), 0]), "finite numbers as 'mins'"),
    "infinite codebook": (changed("sh0/codebook", [math.inf] * 256), "finite numbers as 'codebook'"),
    "long integer": (changed("means/maxs", [10**400, 0, 0]), "too large|finite numbers"),
    "endless positions": (changed("means/maxs", [100, 100, 100]), r"positions below 10\^34"),
    "two ranges": (changed("means/maxs", [1, 1]), "3 numbers as 'maxs'"),
    "codebook of words": (changed("scales/codebook", ["a"] * 256), "256 numbers as 'codebook'"),
    "short codebook": (changed("shN/codebook", [0.0] * 255), "256 numbers as 'codebook'"),
    "no files": (changed("quats/files", []), "at least 1 names as 'files'"),
    "files as object": (changed("quats/files", {"0": "quats.webp"}), "at least 1 names"),
    "file as number": (changed("quats/files", [1]), "at least 1 names"),
    "scales as list": (changed("scales", []), "'scales' as an object"),
    "traversal": (changed("quats/files", ["../quats.webp"]), "'../quats.webp' in the archive, got none"),
    "absolute": (changed("quats/files", ["/etc/passwd"]), "'/etc/passwd' in the archive, got none"),
    "bands": (changed("shN/bands", 3), "wide for its bands, got 192"),
    "bands as list": (changed("shN/bands", [1]), "unhashable|wide for its bands"),
    "missing picture": (swapped("sh0.webp", None), "'sh0.webp' in the archive, got none"),
    "lossy": (swapped("scales.webp", LOSSY), "'scales.webp' to be a lossless WebP or a PNG"),
    "text": (swapped("scales.webp", b"hello"), "to be a lossless WebP or a PNG, got b'hello'"),
    "empty picture": (swapped("scales.webp", b""), "to be a lossless WebP or a PNG"),
    "huge picture": (swapped("scales.webp", BIG), "got 16383x16383 in 30 bytes"),
    "huge png": (swapped("scales.webp", BIG_PNG), "got 100000x100000"),
    "cut picture": (swapped("scales.webp", picture(noise(3))[:40]), "to be a whole picture"),
    "reserved rotation": (swapped("quats.webp", QUATS), "252 to 255 as alpha of rotations, got 251"),
    "label": (swapped("labels.webp", picture(noise(9))), "labels below 64"),
    "no json": (("{", {}), "JSON in meta.json"),
    "deep json": (("[" * 200_000 + "]" * 200_000, {}), "JSON in meta.json|'meta.json'"),
    "other json": (('{"frames": []}', {}), "which has 'means'"),
    "a list": (("[1]", {}), "which has 'means'"),
    "long json": ((" " * (1 << 20) + "{}", {}), "at most 1048576 bytes"),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_bundle_is_refused(tmp_path: Path, name: str) -> None:
    """One sentence that names the file."""
    (meta, files), message = HOSTILE[name]
    path = bundle(tmp_path, meta, files)
    with pytest.raises(FileFormatError, match=message) as caught:
        load(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["../secret.webp", "/etc/passwd", "sub/a.webp", "..\\a", "gone.webp", ".."])
def test_folders_are_not_left(tmp_path: Path, name: str) -> None:
    """A meta.json that names files elsewhere."""
    meta, files = version_2()
    (tmp_path / "secret.webp").write_bytes(files["quats.webp"])
    (tmp_path / "scene" / "sub").mkdir(parents=True)
    (tmp_path / "scene" / "sub" / "a.webp").write_bytes(files["quats.webp"])
    meta["quats"]["files"] = [name]
    path = unbundled(tmp_path / "scene", meta, files)
    with pytest.raises(FileFormatError, match="files that lie beside it"):
        load(path)


def test_other_json_files_are_pointed_elsewhere(tmp_path: Path) -> None:
    """A transforms.json is a capture."""
    (tmp_path / "transforms.json").write_text("{}")
    with pytest.raises(FileFormatError, match="of captures, see load_capture"):
        load(tmp_path / "transforms.json")


def test_no_zip_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.sog").write_bytes(b"RIFF")
    with pytest.raises(FileFormatError, match="a zip archive"):
        load(tmp_path / "a.sog")


def test_rotations_have_unit_length(tmp_path: Path) -> None:
    """Where the three stored components allow it."""
    meta, files = version_2()
    got = load(bundle(tmp_path, meta, files))
    assert (normalize_quats(got.quats).norm(dim=1) - 1).abs().max() < 1e-6
