"""Lossless pictures whose pixels are numbers, in WebP or PNG: measured before they are decoded."""

import io
import struct
import warnings
import zlib

import numpy as np
from PIL import Image

from .archive import MAX_RATIO

#: [bytes] of pixels that a picture of any size in bytes may have.
_SMALL = 1 << 24
_BROKEN = (OSError, SyntaxError, struct.error, EOFError, zlib.error, Warning, Image.DecompressionBombError)


def read_pixels(data: bytes, name: str, *, at_least: int, at_most: int) -> np.ndarray:
    """The pixels of a picture, h×w×4 bytes; alpha is 255 where the file has none.

    Args:
        data: the file.
        name: for messages.
        at_least: how many pixels there must be.
        at_most: how many there may be.

    Raises:
        ValueError: no WebP or PNG, a lossy or damaged one, or another number of pixels.
    """
    width, height = _size_of(data, name)
    pixels = width * height
    if not at_least <= pixels <= at_most or 4 * pixels > max(_SMALL, MAX_RATIO * len(data)):
        raise ValueError(
            f"expected {at_least} to {at_most} pixels in {name!r}, got {width}x{height} in {len(data)} bytes"
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            with Image.open(io.BytesIO(data), formats=("WEBP", "PNG")) as picture:
                if picture.size != (width, height):
                    raise ValueError(f"expected {width}x{height} pixels in {name!r}, got {picture.size}")
                return np.asarray(picture.convert("RGBA"))
    except _BROKEN as error:
        raise ValueError(f"expected {name!r} to be a whole picture, got: {error}; fetch it again") from error


def _size_of(data: bytes, name: str) -> tuple[int, int]:
    """Width and height by the header. WebP's decoder takes memory for all pixels when it is opened."""
    if data[:8] == b"\x89PNG\r\n\x1a\n" and data[12:16] == b"IHDR" and len(data) >= 24:
        width, height = struct.unpack(">II", data[16:24])
        return width, height
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        if data[12:16] == b"VP8X" and len(data) >= 30:
            # Canvas first, then chunks among which a lossless picture must be.
            sides = [1 + int.from_bytes(data[start : start + 3], "little") for start in (24, 27)]
            if b"VP8L" in data[30:] and b"VP8 " not in data[30:38]:
                return sides[0], sides[1]
        if data[12:16] == b"VP8L" and len(data) >= 25 and data[20] == 0x2F:
            bits = int.from_bytes(data[21:25], "little")
            return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    raise ValueError(f"expected {name!r} to be a lossless WebP or a PNG, got {data[:16]!r}")
