"""The pictures of one reconstruction: names below a common folder, and which of them share a lens."""

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from PIL import Image, UnidentifiedImageError

from gaussworld.errors import CaptureError

#: Structure from motion needs at least so many pictures.
FEWEST = 3
#: Maker, model; in the second folder of tags: focal length, the same for 35 mm film.
_MAKER, _MODEL, _EXIF, _FOCAL, _FOCAL_35 = 0x010F, 0x0110, 0x8769, 0x920A, 0xA405


@dataclass(frozen=True)
class Picture:
    """A file and what its header says."""

    name: str
    """Path below the common folder, with slashes: COLMAP's name for it."""
    path: Path
    width: int
    """[px] as stored; COLMAP turns nothing."""
    height: int
    """[px]"""
    bytes: int
    lens: tuple[str, ...]
    """Equal for pictures taken with the same camera at the same focal length, as far as EXIF says."""


@dataclass(frozen=True)
class Pictures:
    """All pictures that can be opened, and those that cannot."""

    root: Path
    all: tuple[Picture, ...]
    left_out: tuple[tuple[str, str], ...]

    def __len__(self) -> int:
        return len(self.all)

    @property
    def names(self) -> list[str]:
        return [picture.name for picture in self.all]

    def signature(self, **settings: Any) -> dict[str, Any]:
        """What a file that was made from these pictures is worth only for: names, sizes and settings."""
        pictures = [[p.name, p.width, p.height, p.bytes] for p in self.all]
        plain = {k: asdict(v) if hasattr(v, "__dataclass_fields__") else v for k, v in settings.items()}
        return {"pictures": pictures, **plain}

    def lenses(self, one_camera: Literal["auto", "yes", "no"]) -> list[list[Picture]]:
        """The pictures in groups that share one camera; a camera can only have one size."""
        groups: dict[Any, list[Picture]] = {}
        for picture in self.all:
            size = (picture.width, picture.height)
            keys = {"auto": (*size, *picture.lens), "yes": size, "no": picture.name}
            groups.setdefault(keys[one_camera], []).append(picture)
        return list(groups.values())


def open_pictures(images: Sequence[Path]) -> Pictures:
    """Read the headers.

    Args:
        images: files in any folders; repeats count once.

    Raises:
        CaptureError: fewer than three pictures that can be opened.
    """
    paths = list(dict.fromkeys(Path(os.path.abspath(path)) for path in images))
    if not paths:
        raise CaptureError("expected pictures of one scene, got none; give a folder or list of photographs")
    root = Path(os.path.commonpath([path.parent for path in paths]))
    opened = [_open(path, path.relative_to(root).as_posix()) for path in paths]
    left_out = tuple(each for each in opened if not isinstance(each, Picture))
    good = tuple(each for each in opened if isinstance(each, Picture))
    if len(good) < FEWEST:
        why = f" ({left_out[0][0]}: {left_out[0][1]})" if left_out else ""
        raise CaptureError(
            f"expected at least {FEWEST} pictures of one scene from different places, got {len(good)} that"
            f" can be opened{why}; take more"
        )
    return Pictures(root, good, left_out)


def _open(path: Path, name: str) -> Picture | tuple[str, str]:
    try:
        with Image.open(path) as image:
            (width, height), tags = image.size, image.getexif()
            more = tags.get_ifd(_EXIF)
            values = (tags.get(_MAKER), tags.get(_MODEL), more.get(_FOCAL), more.get(_FOCAL_35))
        lens = tuple("" if value is None else str(value).strip() for value in values)
        return Picture(name, path, width, height, path.stat().st_size, lens)
    except FileNotFoundError:
        return name, "no such file"
    except (UnidentifiedImageError, Image.DecompressionBombError):
        return name, "no picture that can be opened"
    # Pillow raises anything from SyntaxError to struct.error on malformed headers.
    except Exception as error:
        return name, f"cannot be opened ({str(error) or type(error).__name__})"
