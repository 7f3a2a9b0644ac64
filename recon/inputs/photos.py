"""Photographs made ready for structure from motion: upright, 8 bits, none of them broken or a repeat."""

import importlib
import itertools
import json
import os
import re
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from gaussworld.errors import CaptureError
from gaussworld.io.atomic import replacing
from gaussworld.log import Done, Event, Notice, Progress

from .sources import matches, read_record, sources

T, S = TypeVar("T"), TypeVar("S")

_VERSION = 1
#: Structure from motion wants at least so many pictures.
_FEWEST = 3
#: Longer side [px] to which larger pictures are shrunk; phones' usual 4032 px stay.
_LARGEST = 4096
#: Pictures with a side shorter than this [px] show too little.
_SMALLEST = 64
#: What COLMAP reads as it is; everything else is copied.
_FORMATS = ("JPEG", "MPO", "PNG")
_MODES = ("L", "RGB", "RGBA")
_SIXTEEN_BIT = ("I;16", "I;16L", "I;16B", "I;16N", "I")
#: So many of the pictures left out are named in a sentence.
_NAMED = 5
_ORIENTATION, _EXIF, _MAKER_NOTE = 0x0112, 0x8769, 0x927C
_WIDTH, _HEIGHT, _PLANE_X, _PLANE_Y = 0xA002, 0xA003, 0xA20E, 0xA20F


@dataclass(frozen=True)
class Photos:
    """Pictures that structure from motion can use."""

    images: tuple[Path, ...]
    """The files given, or copies of them, in the same order."""
    left_out: tuple[tuple[str, str], ...]
    """Name and reason of each picture that is not used."""


@dataclass(frozen=True)
class _Look:
    """What a first look at a file shows."""

    problem: str = ""
    """Why it cannot be used."""
    copy: str = ""
    """Suffix of the copy that has to be made."""
    pixels: str = ""
    """Digest of the picture: equal for files that show the same."""


def usable_photos(images: Sequence[Path], folder: Path) -> Iterator[Event[Photos]]:
    """Sort out photographs: good ones stay where they are, awkward ones are copied, useless ones left out.

    Copied are pictures that EXIF turns, that are not 8-bit grey, RGB or RGBA, in other formats than JPEG and
    PNG, or larger than 4096 px: upright as JPEG, or PNG where there is transparency, with the rest of their
    EXIF. A second call with the same files takes what is there.

    Args:
        images: the files.
        folder: where copies go.

    Yields:
        `Progress` in pictures; a `Notice` naming what was left out; `Done` with the usable pictures last.

    Raises:
        CaptureError: fewer than three pictures can be used.
    """
    images = list(dict.fromkeys(images))
    photos = _known(images, folder)
    if photos is None:
        photos = yield from _sorted_out(images, folder)
    if photos.left_out:
        yield Notice(f"left out {_listed(photos.left_out, len(images))}")
    yield Done(photos, f"{len(photos.images)} of {len(images)} pictures can be used")


def _sorted_out(images: Sequence[Path], folder: Path) -> Generator[Progress, None, Photos]:
    _learn_heic()
    looks: list[_Look] = []
    for look in _in_threads(_look, images):
        looks.append(look)
        yield Progress(len(looks), len(images), message="looking at pictures")
    left_out = _left_out(_shown(images), looks)
    kept = [(path, look) for path, look in zip(images, looks) if path not in left_out]
    refused = tuple((_shown(images)[path], reason) for path, reason in left_out.items())
    if len(kept) < _FEWEST:
        why = f": {_listed(refused, len(images))}" if refused else ""
        raise CaptureError(
            f"expected at least {_FEWEST} pictures of one scene, got {len(kept)} that can be used{why};"
            " take more from different places"
        )
    copies = _copies(kept, folder)
    for count, _ in enumerate(_in_threads(_copy, copies.items()), 1):
        yield Progress(count, len(copies), message="turning and converting pictures")
    photos = Photos(tuple(copies.get(path, path) for path, _ in kept), refused)
    _record(photos, images, folder)
    return photos


def _in_threads(work: Callable[[T], S], items: Iterable[T]) -> Iterator[S]:
    """Results in the order of the items; work that has not begun is dropped when nobody asks for more."""
    pool = ThreadPoolExecutor(min(8, os.cpu_count() or 1))
    try:
        yield from pool.map(work, items)
    finally:
        pool.shutdown(cancel_futures=True)


def _look(path: Path) -> _Look:
    """Decode a picture, a JPEG at an eighth of its size: enough to find it truncated or to know it again."""
    if not path.is_file():
        return _Look("no such file")
    if not path.stat().st_size:
        return _Look("an empty file")
    try:
        with Image.open(path) as picture:
            if min(picture.size) < _SMALLEST:
                return _Look(f"only {picture.width}x{picture.height} pixels")
            if picture.mode == "F":
                return _Look("floating-point pixels: convert it to 8 bits")
            copy = _suffix(picture) if _awkward(picture) else ""
            picture.draft(None, (picture.width // 8, picture.height // 8))
            small = picture.convert("RGBA").resize((64, 64), Image.Resampling.BOX)
            facts = f"{picture.size}".encode()
            return _Look("", copy, blake2b(facts + small.tobytes()).hexdigest())
    # Pillow's decoders raise anything from SyntaxError to struct.error on malformed bytes.
    except Exception as error:
        return _Look(_reason(path, error))


def _reason(path: Path, error: Exception) -> str:
    if path.suffix.lower() in (".heic", ".heif"):
        return (
            "HEIC, which Pillow does not read by itself: run `pip install pillow-heif` or convert it to JPEG"
        )
    if isinstance(error, UnidentifiedImageError):
        return "not a picture"
    return str(error).replace(str(path), "").strip(" '.") or type(error).__name__


def _awkward(picture: Image.Image) -> bool:
    """Whether structure from motion or training would misread the file."""
    return (
        picture.format not in _FORMATS
        or picture.mode not in _MODES
        # Pillow hands out 16-bit colour as RGB; only the decoder's settings tell.
        or ";16" in str(getattr(picture, "tile", ""))
        or picture.getexif().get(_ORIENTATION, 1) not in (0, 1)
        or max(picture.size) > _LARGEST
    )


def _suffix(picture: Image.Image) -> str:
    return ".png" if picture.has_transparency_data else ".jpg"


def _left_out(names: dict[Path, str], looks: Sequence[_Look]) -> dict[Path, str]:
    """The reasons of those that cannot be used, or that show the same as an earlier one."""
    seen: dict[str, str] = {}
    reasons: dict[Path, str] = {}
    for (path, name), look in zip(names.items(), looks):
        if look.problem:
            reasons[path] = look.problem
        elif look.pixels in seen:
            reasons[path] = f"shows the same as {seen[look.pixels]}"
        else:
            seen[look.pixels] = name
    return reasons


def _copies(kept: Sequence[tuple[Path, _Look]], folder: Path) -> dict[Path, Path]:
    """Where copies go: named after the picture, with a number where pictures would share a name."""
    copies: dict[Path, Path] = {}
    taken: set[str] = set()
    for path, look in kept:
        if not look.copy:
            continue
        stem = re.sub(r"[^\w.-]", "_", path.stem, flags=re.ASCII)
        numbers = itertools.chain([""], (f"-{number}" for number in itertools.count(2)))
        name = next(name for number in numbers if (name := f"{stem}{number}{look.copy}") not in taken)
        taken.add(name)
        copies[path] = folder / name
    return copies


def _copy(job: tuple[Path, Path]) -> None:
    """Write a picture upright, with 8 bits a channel and at most 4096 px."""
    source, target = job
    with Image.open(source) as picture:
        shrink = min(1.0, _LARGEST / max(picture.size))
        profile = picture.info.get("icc_profile") if picture.mode in _MODES else None
        upright = ImageOps.exif_transpose(picture)
        # Only now: this changes what the opened file believes about its orientation.
        exif = _exif(picture, shrink)
    picture = _eight_bits(upright, target.suffix == ".png")
    if shrink < 1:
        size = round(picture.width * shrink), round(picture.height * shrink)
        picture = picture.resize(size, Image.Resampling.LANCZOS, reducing_gap=2.0)
    with replacing(target) as file:
        if target.suffix == ".png":
            picture.save(file, "PNG", exif=exif, icc_profile=profile, compress_level=3)
        else:
            picture.save(file, "JPEG", exif=exif, icc_profile=profile, quality=95, subsampling=0)


def _eight_bits(picture: Image.Image, transparent: bool) -> Image.Image:
    if picture.mode in _SIXTEEN_BIT:
        picture = Image.fromarray((np.asarray(picture).clip(0, 65535) >> 8).astype(np.uint8))
    return picture.convert("RGBA" if transparent else "RGB")


def _exif(picture: Image.Image, shrink: float) -> bytes:
    """What the file says about camera, focal length and place, for a copy that stands upright."""
    try:
        exif = picture.getexif()
        exif[_ORIENTATION] = 1
        details = exif.get_ifd(_EXIF)
        # The maker's note points at places in the old file.
        for tag in (_MAKER_NOTE, _WIDTH, _HEIGHT):
            details.pop(tag, None)
        for tag in (_PLANE_X, _PLANE_Y):
            if tag in details:
                details[tag] = float(details[tag]) * shrink
        return exif.tobytes()
    except Exception:  # Malformed tags are many; the picture is worth more than they are.
        return b""


def _shown(images: Sequence[Path]) -> dict[Path, str]:
    """Names for people: the path below the folder that all pictures share."""
    if len({path.is_absolute() for path in images}) != 1:
        return {path: str(path) for path in images}
    shared = os.path.commonpath([path.parent for path in images])
    return {path: str(path.relative_to(shared)) for path in images}


def _listed(left_out: Sequence[tuple[str, str]], total: int) -> str:
    several = [f"{name} ({reason})" for name, reason in left_out[:_NAMED]]
    more = [f"and {len(left_out) - _NAMED} more"] if len(left_out) > _NAMED else []
    return f"{len(left_out)} of {total} pictures: {', '.join(several + more)}"


def _learn_heic() -> None:
    """Phones write HEIC, which Pillow reads only with a plug-in."""
    with suppress(ImportError):
        importlib.import_module("pillow_heif").register_heif_opener()


def _asked(images: Sequence[Path]) -> dict[str, Any]:
    return {"version": _VERSION, "given": sources(images)}


def _record(photos: Photos, images: Sequence[Path], folder: Path) -> None:
    record = _asked(images) | {"images": [str(path) for path in photos.images], "left_out": photos.left_out}
    with replacing(folder / "photos.json") as file:
        file.write(json.dumps(record, indent=1).encode())


def _known(images: Sequence[Path], folder: Path) -> Photos | None:
    """What an earlier call with the same files made, if it is all there."""
    record = read_record(folder / "photos.json")
    if not matches(record, _asked(images)):
        return None
    try:
        paths = tuple(Path(path) for path in record["images"])
        left_out = tuple((str(name), str(reason)) for name, reason in record["left_out"])
    except (KeyError, TypeError, ValueError):
        return None
    return Photos(paths, left_out) if paths and all(path.is_file() for path in paths) else None
