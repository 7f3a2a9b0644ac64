"""Masks on disk as pictures of ids: numbered, coloured or indexed pictures, or folders of binary ones."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType

import numpy as np
import torch
from jaxtyping import Int
from PIL import Image
from torch import Tensor

from gaussworld.capture import Frame
from gaussworld.errors import CaptureError, FileFormatError
from gaussworld.io.images import image_size

SUFFIXES = (".png", ".tif", ".tiff", ".bmp", ".webp", ".jpg", ".jpeg")
#: More colours than this are no labels: somebody saved them with losses, or they are photographs.
_MOST_LABELS = 4096
_SIXTEEN_BIT = ("I;16", "I;16L", "I;16B", "I;16N", "I")
_LARGEST_ID = 0xFFFF


@dataclass(frozen=True, eq=False)
class Masks:
    """What a folder of masks says about the pictures of a capture."""

    frames: tuple[Frame, ...]
    """Those that have masks."""
    pictures: tuple[Int[Tensor, "h w"], ...]
    """Id of each pixel, 0 for the background: one picture for each of `frames`."""
    names: Mapping[int, str] = field(default_factory=dict)
    """Of ids, where the files tell."""
    notices: tuple[str, ...] = ()
    """Sentences that a person should read."""
    per_picture: bool = False
    """Whether ids mean nothing beyond their picture."""


def read_masks(folder: Path, frames: Sequence[Frame]) -> Masks:
    """Read the masks of pictures by their names: PICTURE.png, OBJECT/PICTURE.png or PICTURE/ANY.png.

    Grey pictures of 8 or 16 bits and indexed ones hold ids, coloured ones a colour for each object, black
    being the background. Folders called after objects, or after pictures, hold binary masks.

    Raises:
        CaptureError: no masks, none for these pictures, or one of other proportions than its picture.
        FileFormatError: a damaged file, or a photograph in place of a mask.
    """
    if not folder.is_dir():
        raise CaptureError(
            f"--masks: expected a folder of masks, got {folder}, which is none; check the path"
        )
    stems = {stem(frame): frame for frame in frames}
    folders = sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    files = _by_stem(folder, stems)
    if files:
        return _of_files(folder, files, stems)
    if any(path.name in stems for path in folders):
        return _of_picture_folders(folder, [path for path in folders if path.name in stems], stems)
    return _of_object_folders(folder, folders, stems)


def capture_masks(frames: Sequence[Frame]) -> Masks:
    """The masks that a capture lists beside its pictures: white is one object.

    Raises:
        CaptureError: it lists none.
        FileFormatError: one is damaged.
    """
    masked = [frame for frame in frames if frame.mask is not None]
    if not masked:
        raise CaptureError(
            "--masks capture: expected a capture that lists masks, got one without; name a folder"
        )
    pictures = [(read_labels(frame.mask) > 0).long() for frame in masked if frame.mask is not None]
    return made("--masks capture", masked, pictures, {1: "object"})


def stem(frame: Frame) -> str:
    """What masks of a frame are called."""
    return frame.image.stem if isinstance(frame.image, Path) else frame.name


def read_labels(path: Path) -> Int[Tensor, "h w"]:
    """One picture of labels: ids of grey and indexed pictures, 24-bit colours of coloured ones; 0 is nothing.

    Raises:
        FileFormatError: no picture, a damaged one, or one with more colours than labels could have.
    """
    image_size(path, upright=False)  # says in one sentence what is wrong with the file
    try:
        with Image.open(path) as picture:
            labels = _labels(picture)
    except Exception as error:
        raise FileFormatError(f"{path}: expected a whole picture, got: {error}; make it again") from error
    if len(found := np.unique(labels)) > _MOST_LABELS:
        raise FileFormatError(
            f"{path}: expected a picture of ids or a colour for each object, got {len(found):,} colours; save"
            " masks as PNG, without smoothing or losses"
        )
    return torch.from_numpy(labels.astype(np.int64))


def _labels(picture: Image.Image) -> np.ndarray:
    if picture.mode == "P" or picture.mode in _SIXTEEN_BIT:
        return np.array(picture)
    if picture.mode in ("1", "L"):
        return np.array(picture.convert("L"))
    rgba = np.array(picture.convert("RGBA")).astype(np.int64)
    packed = rgba[..., 0] << 16 | rgba[..., 1] << 8 | rgba[..., 2]
    packed[rgba[..., 3] < 128] = 0
    return packed


def _of_files(folder: Path, files: Mapping[str, Path], stems: Mapping[str, Frame]) -> Masks:
    read = {name: read_labels(path) for name, path in files.items()}
    # Colours become small numbers; numbers stay what they are, so that a user finds his ids again.
    names: dict[int, str] = {}
    if any(int(labels.max()) > _LARGEST_ID for labels in read.values()):
        colors = sorted({c for labels in read.values() for c in labels.unique().tolist()} - {0})
        lookup = torch.tensor([0, *colors])
        read = {name: torch.searchsorted(lookup, labels) for name, labels in read.items()}
        names = {i: f"object {i} (#{color:06x})" for i, color in enumerate(colors, start=1)}
    return _of_pictures(folder, read, stems, names)


def _of_object_folders(folder: Path, folders: Sequence[Path], stems: Mapping[str, Frame]) -> Masks:
    """A folder for each object, with a binary mask for each picture."""
    found = {path.name: _by_stem(path, stems) for path in folders}
    if not any(found.values()):
        some = ", ".join(list(stems)[:3])
        raise CaptureError(
            f"{folder}: expected masks called after the pictures ({some}, ...), got none; name them"
            " PICTURE.png, OBJECT/PICTURE.png or PICTURE/ANY.png"
        )
    layers: dict[str, dict[int, Path]] = {}
    for number, files in enumerate(found.values(), start=1):
        for name, path in files.items():
            layers.setdefault(name, {})[number] = path
    read = {name: _stacked(paths) for name, paths in layers.items()}
    return _of_pictures(folder, read, stems, dict(enumerate(found, start=1)))


def _of_picture_folders(folder: Path, folders: Sequence[Path], stems: Mapping[str, Frame]) -> Masks:
    """A folder for each picture, with a binary mask for each thing in it; numbers mean nothing elsewhere."""
    found = {path.name: binary_masks(path) for path in folders}
    read = {name: labels for name, labels in found.items() if labels is not None}
    return replace(_of_pictures(folder, read, stems, {}), per_picture=True)


def binary_masks(folder: Path) -> Int[Tensor, "h w"] | None:
    """The masks of one picture, one file each, as a picture of numbers from 1; None where there is none.

    Raises:
        CaptureError: they differ in size.
        FileFormatError: one is damaged.
    """
    files = [path for path in sorted(folder.iterdir()) if path.suffix.lower() in SUFFIXES]
    return _stacked(dict(enumerate(files, start=1))) if files else None


def _stacked(paths: Mapping[int, Path]) -> Int[Tensor, "h w"]:
    """Binary masks over one another, small ones on top: what lies on a thing is cut out of it."""
    masks = {number: read_labels(path) > 0 for number, path in paths.items()}
    stacked = torch.zeros(next(iter(masks.values())).shape, dtype=torch.int64)
    for number, mask in sorted(masks.items(), key=lambda each: -int(each[1].sum())):
        if mask.shape != stacked.shape:
            raise CaptureError(
                f"{paths[number]}: expected {_size(stacked)} px as the other masks of its picture, got"
                f" {_size(mask)}; make them of one picture"
            )
        stacked[mask] = number
    return stacked


def _of_pictures(
    folder: Path, read: Mapping[str, Tensor], stems: Mapping[str, Frame], names: Mapping[int, str]
) -> Masks:
    """In the order of the pictures."""
    order = [name for name in stems if name in read]
    few = [f"{folder} has masks of {len(order)} of {len(stems)} pictures; the others are left out."]
    masks = made(str(folder), [stems[name] for name in order], [read[name] for name in order], names)
    return replace(masks, notices=(*(few if len(order) < len(stems) else ()), *masks.notices))


def made(
    where: str,
    frames: Sequence[Frame],
    pictures: Sequence[Int[Tensor, "h w"]],
    names: Mapping[int, str] = MappingProxyType({}),
) -> Masks:
    """Masks of frames, each looked at: its proportions, and whether there is anything in them.

    Raises:
        CaptureError: a mask has other proportions than its picture, or all are empty.
    """
    notices = [
        each for picture, frame in zip(pictures, frames) if (each := _stretched(where, picture, frame))
    ]
    seen = {label for picture in pictures for label in picture.unique().tolist()}
    if not seen - {0}:
        raise CaptureError(
            f"{where}: expected masks of things, got {len(pictures)} empty ones; check what made them"
        )
    if absent := [name for number, name in names.items() if number not in seen]:
        notices.append(f"No mask shows {', '.join(absent)}: left out.")
    kept = {number: name for number, name in names.items() if number in seen}
    whole = tuple(picture.long() for picture in pictures)
    return Masks(tuple(frames), whole, kept, tuple(dict.fromkeys(notices)))


def _stretched(where: str, picture: Tensor, frame: Frame) -> str | None:
    """A notice where a mask is its picture at another size.

    Raises:
        CaptureError: its proportions are others.
    """
    (height, width), camera = picture.shape, frame.camera
    if (height, width) == (camera.height, camera.width):
        return None
    scale = max(height, width) / max(camera.height, camera.width)
    if max(abs(camera.width * scale - width), abs(camera.height * scale - height)) > 1.5:
        raise CaptureError(
            f"{where}: expected a mask of {camera.width}x{camera.height} px for {frame.name}, or of these"
            f" proportions, got {width}x{height}; make it from that picture"
        )
    return (
        f"Masks of {width}x{height} px are stretched to their pictures of {camera.width}x{camera.height} px."
    )


def _by_stem(folder: Path, stems: Mapping[str, Frame]) -> dict[str, Path]:
    """Files of masks by the stem of their picture; `a.png` and `a.jpg.png` belong to `a.jpg`."""
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() in SUFFIXES and path.is_file():
            name = path.stem if path.stem in stems else Path(path.stem).stem
            if name in stems:
                found[name] = path
    return found


def _size(mask: Tensor) -> str:
    return f"{mask.shape[1]}x{mask.shape[0]}"
