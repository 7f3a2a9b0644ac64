"""Pictures on disk: colour images the right way up, masks, and 16-bit depth in millimetres."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float
from PIL import Image, ImageOps
from torch import Tensor

from ..camera import Camera
from ..capture import Frame
from ..errors import CaptureError, FileFormatError
from .atomic import replacing

#: The EXIF tag that says how the picture must be turned to stand upright.
_ORIENTATION = 0x0112
_SIXTEEN_BIT = ("I;16", "I;16L", "I;16B", "I;16N", "I")
_INVALID_MILLIMETRES = 65535
_FORMATS = {
    ".png": "PNG",
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".webp": "WEBP",
    ".bmp": "BMP",
    ".tif": "TIFF",
    ".tiff": "TIFF",
}


def read_image(path: Path | str, upright: bool = True) -> Float[Tensor, "h w c"]:
    """A picture in [0, 1]: h×w×3, or h×w×4 where the file has transparency; grey becomes RGB.

    Args:
        path: anything Pillow decodes, 8 or 16 bits a channel; of 16-bit colour the upper 8 bits are used.
        upright: turn the picture as its EXIF orientation asks.

    Raises:
        FileFormatError: no picture, a truncated one, or one of more pixels than Pillow deems safe.
    """
    with _decoding(Path(path)) as picture:
        picture = ImageOps.exif_transpose(picture) if upright else picture
        if picture.mode in _SIXTEEN_BIT:
            grey = np.asarray(picture).astype(np.float32) / 65535
            return torch.from_numpy(grey)[..., None].expand(-1, -1, 3).contiguous()
        picture = picture.convert("RGBA" if picture.has_transparency_data else "RGB")
        return torch.from_numpy(np.array(picture)).float() / 255


def read_frame(frame: Frame) -> tuple[Float[Tensor, "h w c"], Camera]:
    """A frame's picture, turned as when its camera was calibrated, and the camera rescaled to its pixels.

    Structure from motion looks at pixels as they are stored, people and `read_image` as EXIF turns them: the
    one whose proportions are the camera's is taken, the stored one where both fit.

    Raises:
        FileFormatError: the picture cannot be read.
        CaptureError: the picture's proportions are not the camera's.
    """
    camera = frame.camera
    if isinstance(frame.image, Tensor):
        image = frame.image
    else:
        stored, upright = image_size(frame.image, upright=False), image_size(frame.image)
        fits = [size for size in (stored, upright) if _same_shape(size, camera)]
        if not fits:
            raise CaptureError(
                f"{frame.image}: expected a picture with the proportions of its camera,"
                f" {camera.width}x{camera.height}, got {upright[0]}x{upright[1]};"
                " give the picture the camera was calibrated with"
            )
        image = read_image(frame.image, upright=fits[0] != stored)
    height, width = image.shape[:2]
    return image, camera if (width, height) == (camera.width, camera.height) else camera.rescaled(
        width, height
    )


def _same_shape(size: tuple[int, int], camera: Camera) -> bool:
    """Whether a picture is the camera's up to rescaling, allowing its sides to be rounded to whole pixels."""
    (width, height), scale = size, max(size) / max(camera.width, camera.height)
    return abs(camera.width * scale - width) <= 1.5 and abs(camera.height * scale - height) <= 1.5


def image_size(path: Path | str, upright: bool = True) -> tuple[int, int]:
    """Width and height [px], from the header alone; `upright` as in `read_image`.

    Raises:
        FileFormatError: no picture.
    """
    with _decoding(Path(path)) as picture:
        width, height = picture.size
        # Orientations 5 to 8 are the quarter turns.
        turned = upright and picture.getexif().get(_ORIENTATION, 1) in (5, 6, 7, 8)
        return (height, width) if turned else (width, height)


def read_mask(path: Path | str) -> Bool[Tensor, "h w"]:
    """A black-and-white picture as a mask: true where it is lighter than mid-grey, on all its channels' mean.

    Raises:
        FileFormatError: no picture, or a truncated one.
    """
    return read_image(path)[..., :3].mean(dim=-1) > 0.5


def read_depth(path: Path | str) -> Float[Tensor, "h w"]:
    """z-depth [m] of a 16-bit picture in millimetres; 0, unknown, where the file says 0 or 65535.

    Raises:
        FileFormatError: no picture, a truncated one, or one that is not 16-bit grey.
    """
    with _decoding(Path(path)) as picture:
        if picture.mode not in _SIXTEEN_BIT:
            raise FileFormatError(
                f"{path}: expected 16-bit grey depth in millimetres, got a picture of mode {picture.mode}"
            )
        millimetres = np.asarray(picture).astype(np.float32)
    millimetres[millimetres == _INVALID_MILLIMETRES] = 0
    return torch.from_numpy(millimetres / 1000)


def write_image(
    path: Path | str, image: Float[Tensor, "h w c"] | Float[Tensor, "h w"], quality: int = 95
) -> None:
    """Write a picture in [0, 1] with 8 bits a channel: h×w grey, h×w×3 colour, h×w×4 with transparency.

    Raises:
        ValueError: another shape, an unknown suffix, or transparency in a JPEG.
    """
    path = Path(path)
    channels = image.shape[2] if image.ndim == 3 else 1
    if image.ndim not in (2, 3) or channels not in (1, 3, 4):
        raise ValueError(f"write_image: expected h×w, h×w×3 or h×w×4, got shape {tuple(image.shape)}")
    kind = _FORMATS.get(path.suffix.lower())
    if kind is None or (kind == "JPEG" and channels == 4):
        wanted = ".png for transparency" if kind else f"one of {', '.join(_FORMATS)}"
        raise ValueError(f"{path}: expected {wanted}, got suffix {path.suffix!r}")
    pixels = (image.detach().cpu().nan_to_num(0).clamp(0, 1) * 255).round().to(torch.uint8).numpy()
    with replacing(path) as file:
        Image.fromarray(pixels[..., 0] if image.ndim == 3 and channels == 1 else pixels).save(
            file, kind, quality=quality
        )


def write_depth(path: Path | str, depth: Float[Tensor, "h w"]) -> None:
    """Write z-depth [m] as a 16-bit PNG in millimetres; what is not in (0, 65.534] m becomes 0, unknown."""
    millimetres = (depth.detach().cpu().double() * 1000).nan_to_num(0, 0, 0).round()
    millimetres[(millimetres < 0) | (millimetres >= _INVALID_MILLIMETRES)] = 0
    with replacing(Path(path)) as file:
        Image.fromarray(millimetres.numpy().astype(np.uint16)).save(file, "PNG")


@contextmanager
def _decoding(path: Path) -> Iterator[Image.Image]:
    """An opened picture; whatever goes wrong while it is decoded becomes one sentence."""
    try:
        with Image.open(path) as picture:
            yield picture
    except FileFormatError:
        raise
    except FileNotFoundError as error:
        raise FileFormatError(f"{path}: expected a picture, got no such file; check the path") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise FileFormatError(
            f"{path}: expected a picture of a size that is safe to decode, got: {error}"
        ) from error
    # Pillow's decoders raise anything from SyntaxError to struct.error on malformed bytes.
    except Exception as error:
        why = str(error).replace(str(path), "").strip(" '.") or type(error).__name__
        raise FileFormatError(
            f"{path}: expected a whole picture, got: {why}; take or fetch it again"
        ) from error
