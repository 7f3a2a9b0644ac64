"""gzip and zstd from strangers: unpacked piece by piece, up to the size that was expected and no further."""

import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
import zstandard

from ..errors import FileFormatError
from .archive import CHUNK_BYTES, MAX_RATIO

#: [bytes] that a file of any size may claim to unpack to.
_SMALL = 1 << 24


def check_plausible(unpacked: int, packed: int, path: Path) -> None:
    """Refuse counts that no honest file of this size has, before memory is taken for them.

    Args:
        unpacked: [bytes] what the header's counts ask for.
        packed: [bytes] what there is.
        path: for the message.

    Raises:
        FileFormatError: over 200 times as much, and over 16 MiB.
    """
    if unpacked > max(_SMALL, MAX_RATIO * packed):
        raise FileFormatError(
            f"{path}: expected at least {unpacked // MAX_RATIO} bytes for the {unpacked} that its header"
            f" counts, got {packed}; the file is cut short or hostile"
        )


class GzipStream:
    """The content of a gzip file, read in order."""

    def __init__(self, file: BinaryIO, path: Path) -> None:
        self._path = path
        self._pieces = _inflated(file, path)
        self._left = b""

    def read(self, count: int) -> np.ndarray:
        """The next `count` bytes.

        Raises:
            FileFormatError: damaged, or the content ends before.
        """
        data, filled = np.empty(count, np.uint8), 0
        while filled < count:
            piece = self._next(count - filled)
            if not piece:
                raise FileFormatError(
                    f"{self._path}: expected {count - filled} more bytes in the gzip stream, got its end;"
                    " the file is cut short, fetch it again"
                )
            data[filled : filled + len(piece)] = np.frombuffer(piece, np.uint8)
            filled += len(piece)
        return data

    def rest(self, most: int) -> bytes:
        """All that is left.

        Raises:
            FileFormatError: damaged, or more than `most` bytes.
        """
        data = b""
        while piece := self._next(most + 1 - len(data)):
            data += piece
        if len(data) > most:
            raise FileFormatError(
                f"{self._path}: expected at most {most} bytes after the Gaussians, got more; something else"
                " follows"
            )
        return data

    def _next(self, most: int) -> bytes:
        piece = self._left or next(self._pieces, b"")
        self._left = piece[most:]
        return piece[:most]


def _inflated(file: BinaryIO, path: Path) -> Iterator[bytes]:
    """The content in pieces of at most 1 MiB; a gzip file may have several members."""
    packed = file.read(CHUNK_BYTES)
    while packed:
        member = zlib.decompressobj(wbits=31)
        while not member.eof:
            packed = packed or file.read(CHUNK_BYTES)
            try:
                piece = member.decompress(packed, CHUNK_BYTES)
            except zlib.error as error:
                raise FileFormatError(f"{path}: expected gzip, got: {error}; fetch it again") from error
            if not (packed or piece or member.eof):
                raise FileFormatError(f"{path}: expected a whole gzip file, got its end; fetch it again")
            packed = member.unused_data if member.eof else member.unconsumed_tail
            if piece:
                yield piece
        packed = packed or file.read(CHUNK_BYTES)


def unpack_zstd(packed: bytes, size: int, what: str, path: Path) -> np.ndarray:
    """The content of one zstd frame that must hold exactly `size` > 0 bytes.

    Raises:
        FileFormatError: damaged, of another size, or something follows.
    """
    try:
        stated = zstandard.get_frame_parameters(packed).content_size
        if stated not in (size, zstandard.CONTENTSIZE_UNKNOWN, 2**64 - 1):
            raise FileFormatError(
                f"{path}: expected {size} bytes of {what}, got a zstd frame of {stated}; fetch it again"
            )
        data = zstandard.ZstdDecompressor().decompress(packed, max_output_size=size, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise FileFormatError(f"{path}: expected zstd in {what}, got: {error}; fetch it again") from error
    if len(data) != size:
        raise FileFormatError(f"{path}: expected {size} bytes of {what}, got {len(data)}; fetch it again")
    return np.frombuffer(data, np.uint8)
