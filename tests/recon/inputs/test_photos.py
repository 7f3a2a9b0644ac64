"""Photographs for structure from motion: what is used in place, what is copied, what is left out and why."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gaussworld.errors import CaptureError
from gaussworld.io.images import read_image
from gaussworld.log import Done, Notice, Progress
from recon.inputs.photos import Photos, usable_photos

_ORIENTATION, _EXIF, _FOCAL_35MM, _FOCAL = 0x0112, 0x8769, 0xA405, 0x920A


def _picture(seed: int, width: int = 120, height: int = 90) -> Image.Image:
    """Blocks of colour: they survive JPEG, and no two seeds give the same."""
    rng = np.random.default_rng(seed)
    blocks = rng.integers(0, 255, (9, 12, 3), dtype=np.uint8)
    return Image.fromarray(blocks).resize((width, height), Image.Resampling.NEAREST)


def _plain(folder: Path, count: int) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"plain{i}.jpg" for i in range(count)]
    for i, path in enumerate(paths):
        _picture(i).save(path)
    return paths


def _exif(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[_ORIENTATION] = orientation
    exif[0x010F], exif[0x0110] = "Maker", "Model"
    details = exif.get_ifd(_EXIF)
    details[_FOCAL], details[_FOCAL_35MM] = 4.0, 26
    return exif


def _run(images: list[Path], folder: Path) -> tuple[Photos, list]:
    events = list(usable_photos(images, folder))
    assert isinstance(events[-1], Done)
    return events[-1].result, events


def test_good_pictures_stay_where_they_are(tmp_path):
    """8-bit JPEG, grey, RGB and RGBA PNG need no copy, whatever their sizes."""
    paths = _plain(tmp_path / "in", 2)
    for name, mode in (("grey.png", "L"), ("alpha.png", "RGBA"), ("wide.png", "RGB")):
        paths.append(tmp_path / "in" / name)
        _picture(len(paths) + 10, 80 + 20 * len(paths)).convert(mode).save(paths[-1])
    photos, events = _run(paths, tmp_path / "out")
    assert photos == Photos(tuple(paths), ())
    assert not any(isinstance(event, Notice) for event in events)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["photos.json"]


@pytest.mark.parametrize("orientation", [2, 3, 4, 5, 6, 7, 8])
def test_pictures_turned_by_exif_are_set_upright(tmp_path, orientation):
    """The copy's stored pixels are what a viewer shows of the original; the focal length stays for COLMAP."""
    turned = tmp_path / "turned.jpg"
    _picture(7).save(turned, exif=_exif(orientation), quality=95)
    photos, _ = _run([*_plain(tmp_path, 2), turned], tmp_path / "out")
    copy = photos.images[2]
    assert copy == tmp_path / "out" / "turned.jpg"
    with Image.open(copy) as picture:
        exif = picture.getexif()
        assert exif[_ORIENTATION] == 1
        assert exif.get_ifd(_EXIF)[_FOCAL_35MM] == 26
    stored, shown = read_image(copy, upright=False), read_image(turned)
    assert stored.shape == shown.shape
    assert float((stored - shown).abs().mean()) < 0.02


def test_colmap_takes_the_focal_length_from_a_copy(tmp_path):
    """pycolmap finds the same prior in the upright copy as in the original."""
    pycolmap = pytest.importorskip("pycolmap")
    turned = tmp_path / "turned.jpg"
    _picture(7).save(turned, exif=_exif(6))
    photos, _ = _run([*_plain(tmp_path, 2), turned], tmp_path / "out")
    before, after = (pycolmap.infer_camera_from_image(p) for p in (turned, photos.images[2]))
    assert after.has_prior_focal_length
    assert after.params[0] == pytest.approx(before.params[0], rel=1e-3)
    assert (after.width, after.height) == (before.height, before.width)


def _sixteen_bit(path: Path) -> None:
    Image.fromarray(np.asarray(_picture(20).convert("L")).astype(np.uint16) * 257).save(path)


@pytest.mark.parametrize(
    ("name", "write", "suffix", "mode"),
    [
        ("palette.png", lambda p: _picture(20).convert("P").save(p), ".jpg", "RGB"),
        ("sixteen.png", _sixteen_bit, ".jpg", "RGB"),
        ("cmyk.jpg", lambda p: _picture(20).convert("CMYK").save(p), ".jpg", "RGB"),
        ("bits.bmp", lambda p: _picture(20).save(p), ".jpg", "RGB"),
        ("page.tif", lambda p: _picture(20).save(p), ".jpg", "RGB"),
        ("web.webp", lambda p: _picture(20).convert("RGBA").save(p, lossless=True), ".jpg", "RGB"),
    ],
)
def test_awkward_kinds_become_eight_bit_copies(tmp_path, name, write, suffix, mode):
    """Palettes, 16 bits, CMYK and formats that COLMAP does not read are copied, and look the same."""
    path = tmp_path / name
    write(path)
    photos, _ = _run([*_plain(tmp_path, 2), path], tmp_path / "out")
    copy = photos.images[2]
    assert copy.parent == tmp_path / "out"
    with Image.open(copy) as picture:
        if name == "web.webp":
            suffix, mode = copy.suffix, picture.mode
        assert (copy.suffix, picture.mode) == (suffix, mode)
    assert float((read_image(copy)[..., :3] - read_image(path)[..., :3]).abs().mean()) < 0.02


def test_transparency_survives_in_a_png(tmp_path):
    """Grey with alpha, and palettes with a transparent colour, become RGBA."""
    alpha = Image.fromarray(np.tile(np.linspace(0, 255, 120).astype(np.uint8), (90, 1)))
    picture = _picture(20).convert("L")
    picture.putalpha(alpha)
    picture.save(tmp_path / "la.png")
    photos, _ = _run([*_plain(tmp_path, 2), tmp_path / "la.png"], tmp_path / "out")
    assert photos.images[2].suffix == ".png"
    assert photos.images[2].parent == tmp_path / "out"
    copy, original = read_image(photos.images[2]), read_image(tmp_path / "la.png")
    assert copy.shape[-1] == 4
    assert float((copy - original).abs().max()) < 1e-6


def test_large_pictures_are_shrunk(tmp_path):
    """At most 4096 px remain, with the picture's proportions."""
    Image.new("RGB", (5000, 2500), (10, 200, 30)).save(tmp_path / "large.jpg", exif=_exif(1))
    photos, _ = _run([*_plain(tmp_path, 2), tmp_path / "large.jpg"], tmp_path / "out")
    with Image.open(photos.images[2]) as picture:
        assert picture.size == (4096, 2048)
        assert picture.getexif().get_ifd(_EXIF)[_FOCAL_35MM] == 26


def test_useless_pictures_are_named_with_their_reasons(tmp_path):
    """Truncated, empty, missing, tiny, no picture at all, and repeats under another name."""
    good = _plain(tmp_path, 3)
    bad = {name: tmp_path / name for name in ("cut.jpg", "empty.jpg", "text.jpg", "tiny.png", "again.jpg")}
    _picture(5, 1200, 900).save(bad["cut.jpg"])
    bad["cut.jpg"].write_bytes(bad["cut.jpg"].read_bytes()[:15_000])
    bad["empty.jpg"].write_bytes(b"")
    bad["text.jpg"].write_text("not a picture")
    _picture(6, 40, 30).save(bad["tiny.png"])
    start, rest = good[0].read_bytes()[:2], good[0].read_bytes()[2:]
    bad["again.jpg"].write_bytes(start + b"\xff\xfe\x00\x09comment" + rest)
    photos, events = _run([*good, *bad.values(), tmp_path / "missing.jpg"], tmp_path / "out")
    assert photos.images == tuple(good)
    reasons = dict(photos.left_out)
    assert list(reasons) == [*bad, "missing.jpg"]
    assert "truncated" in reasons["cut.jpg"]
    assert reasons["empty.jpg"] == "an empty file"
    assert reasons["text.jpg"] == "not a picture"
    assert reasons["tiny.png"] == "only 40x30 pixels"
    assert reasons["again.jpg"] == "shows the same as plain0.jpg"
    assert reasons["missing.jpg"] == "no such file"
    (notice,) = (event for event in events if isinstance(event, Notice))
    assert notice.message.startswith("left out 6 of 9 pictures: cut.jpg (")
    assert notice.message.endswith("and 1 more")


def test_too_few_pictures_explain_themselves(tmp_path):
    """One sentence says how many there are and what is wrong with the others."""
    good = _plain(tmp_path, 2)
    (tmp_path / "bad.jpg").write_bytes(b"")
    with pytest.raises(CaptureError) as refusal:
        list(usable_photos([*good, tmp_path / "bad.jpg"], tmp_path / "out"))
    assert str(refusal.value) == (
        "expected at least 3 pictures of one scene, got 2 that can be used:"
        " 1 of 3 pictures: bad.jpg (an empty file); take more from different places"
    )
    with pytest.raises(CaptureError, match="got 0 that can be used; take more"):
        list(usable_photos([], tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_names_from_several_folders_do_not_collide(tmp_path):
    """Copies of pictures that share a name get numbers; blanks, which COLMAP's text files forbid, go."""
    paths = []
    for i, name in enumerate(("a/my view.bmp", "b/my view.bmp", "c/my view.tif")):
        paths.append(tmp_path / name)
        paths[-1].parent.mkdir()
        _picture(i).save(paths[-1])
    photos, _ = _run(paths, tmp_path / "out")
    assert [path.name for path in photos.images] == ["my_view.jpg", "my_view-2.jpg", "my_view-3.jpg"]
    for path, copy in zip(paths, photos.images):
        assert float((read_image(path) - read_image(copy)).abs().mean()) < 0.02


def test_a_second_call_takes_what_is_there(tmp_path):
    """Nothing is decoded again until a file, or a copy, has changed."""
    paths = _plain(tmp_path, 3)
    _picture(9).save(tmp_path / "x.bmp")
    paths.append(tmp_path / "x.bmp")
    first, events = _run(paths, tmp_path / "out")
    assert any(isinstance(event, Progress) for event in events)
    again, events = _run(paths, tmp_path / "out")
    assert again == first
    assert [type(event) for event in events] == [Done]
    first.images[3].unlink()
    assert _run(paths, tmp_path / "out")[0] == first
    assert first.images[3].is_file()
    _picture(50, 200, 100).save(paths[0])
    _, events = _run(paths, tmp_path / "out")
    assert any(isinstance(event, Progress) for event in events)


def test_real_photographs_need_no_copies(captures, tmp_path):
    """The banana's 16 photographs are all used in place."""
    images = sorted((captures / "banana" / "images").iterdir())
    photos, _ = _run(images, tmp_path / "out")
    assert photos == Photos(tuple(images), ())
