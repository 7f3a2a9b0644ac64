"""Packs: append-only files of chunks; a chunk is named by the hash of its bytes and aligned to be mapped."""

import base64
import mmap
import os
import re
import secrets
import threading
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, NamedTuple

from blake3 import blake3

from ..errors import StoreError
from ..io.atomic import sync_folder

ALIGNMENT = 64
_NAME = re.compile(r"[0-9a-f]{16}\.pack")
#: First bytes of every pack.
MAGIC = b"GaussWorld pack 1\n".ljust(ALIGNMENT, b"\0")
#: A pack that has grown beyond this is left alone and a new one begun [bytes].
FULL = 1 << 30
#: The disk begins to write when so much has been added, while more is being hashed [bytes].
_AHEAD = 1 << 25


def hash_of(data: bytes | memoryview) -> str:
    """The name of a chunk: 160 bits of its BLAKE3, as 27 characters."""
    return base64.urlsafe_b64encode(blake3(data).digest(20)).decode().rstrip("=")


class Location(NamedTuple):
    """Where a chunk lies."""

    pack: str
    """Name of the file in the folder of packs."""
    offset: int
    """[bytes]"""
    length: int
    """[bytes]"""


class PackWriter:
    """Appends chunks to a pack of its own, so that two writers never share a file."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.name = ""
        self.size = 0
        self._file: BinaryIO | None = None
        self._safe = 0
        self._asked = 0
        self._syncing: threading.Thread | None = None
        self._failure: OSError | None = None

    def add(self, data: bytes | memoryview) -> Location:
        """Append one chunk; it is safe only after `sync`.

        Raises:
            OSError: the file system refuses.
        """
        if self._file is None or (self.size > FULL and self.size == self._safe):
            self._begin()
        assert self._file is not None
        offset = -(-self.size // ALIGNMENT) * ALIGNMENT
        self._file.seek(offset)
        view, written = memoryview(data), 0
        while written < len(view):
            written += self._file.write(view[written:])
        self.size = offset + written
        if self.size - self._asked > _AHEAD:
            self._sync_ahead()
        return Location(self.name, offset, written)

    def sync(self) -> None:
        """Bring all that was added onto the disk, with the name of a new file.

        Raises:
            OSError: the file system refuses.
        """
        if self._file is None or self.size == self._safe:
            return
        self._join()
        if self._failure is not None:
            raise self._failure
        os.fsync(self._file.fileno())
        sync_folder(self.folder)
        self._safe = self.size

    def mark(self) -> tuple[str, int]:
        """The place to `rewind` to when what comes now is not committed."""
        return self.name, self.size

    def rewind(self, mark: tuple[str, int]) -> None:
        """Forget what was added since the mark; a file that was begun since then goes."""
        if self._file is None:
            return
        self._join()
        name, size = mark
        if self._failure is not None:
            # Nobody knows what the disk did with the rest of this file: what is committed stays in it.
            self.close()
            return
        with suppress(OSError):
            if name == self.name:
                self._file.truncate(size)
            else:
                (self.folder / self.name).unlink()
        if name != self.name:
            self.close()
        self.size = self._safe = size if name == self.name else 0

    def close(self) -> None:
        """Let go of the file; the next chunk begins another."""
        self._join()
        if self._file is not None:
            self._file.close()
        self._file, self.name, self.size, self._safe, self._asked = None, "", 0, 0, 0
        self._failure = None

    def _sync_ahead(self) -> None:
        """Let the disk write while the next chunks are made."""
        if self._file is None or (self._syncing is not None and self._syncing.is_alive()):
            return
        self._asked, handle = self.size, self._file.fileno()

        def work() -> None:
            # A system tells of a failure once: what is lost here the next fsync would not mention.
            try:
                os.fsync(handle)
            except OSError as error:
                self._failure = error

        self._syncing = threading.Thread(target=work, daemon=True)
        self._syncing.start()

    def _join(self) -> None:
        if self._syncing is not None:
            self._syncing.join()
            self._syncing = None

    def _begin(self) -> None:
        self.close()
        self.name = f"{secrets.token_hex(8)}.pack"
        # Unbuffered: chunks are large, and an error must come from the write that caused it.
        self._file = (self.folder / self.name).open("xb", buffering=0)  # pyright: ignore[reportAttributeAccessIssue]
        assert self._file is not None
        self._file.write(MAGIC)
        self.size = len(MAGIC)


class PackReader:
    """Maps packs into memory, once each."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._maps: dict[str, mmap.mmap] = {}

    def path(self, name: str) -> Path:
        """The file of a pack.

        Raises:
            StoreError: that is no name of one; a file from a stranger could name anything.
        """
        if not _NAME.fullmatch(name):
            raise StoreError(f"{self.folder}: expected the name of a pack, got {name!r:.80}")
        return self.folder / name

    def view(self, at: Location) -> memoryview:
        """The bytes of a chunk, without a copy; changing them changes nothing on the disk.

        Raises:
            StoreError: the pack is gone or shorter than it was.
        """
        return memoryview(self.mapped(at))[at.offset : at.offset + at.length]

    def mapped(self, at: Location) -> mmap.mmap:
        """The whole pack a chunk lies in, mapped far enough to hold it.

        Raises:
            StoreError: the pack is gone or shorter than it was.
        """
        if at.offset < len(MAGIC) or at.length < 0 or at.offset % ALIGNMENT:
            raise StoreError(
                f"{self.folder / at.pack}: expected a chunk's place, got {at.offset}, {at.length}"
            )
        known = self._maps.get(at.pack)
        if known is None or len(known) < at.offset + at.length:
            # A pack that grew is mapped anew; views of the old mapping keep it alive.
            known = self._maps[at.pack] = self._map(at.pack)
        if len(known) < at.offset + at.length:
            raise StoreError(
                f"{self.folder / at.pack}: expected at least {at.offset + at.length} bytes, got {len(known)}"
            )
        return known

    def exists(self, name: str) -> bool:
        """Whether a pack is there; somebody may have taken one that was not committed for garbage."""
        return self.path(name).exists()

    def release(self) -> None:
        """Forget the mappings; worlds that use one keep it alive."""
        self._maps.clear()

    def _map(self, name: str) -> mmap.mmap:
        path = self.path(name)
        try:
            with path.open("rb") as file:
                # A private mapping may be written to, as torch wants it, and never reaches the file.
                mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
        except (OSError, ValueError) as error:
            why = getattr(error, "strerror", None) or "an empty file"
            raise StoreError(f"{path}: expected a readable pack, got: {why}") from error
        if mapped[: len(MAGIC)] != MAGIC:
            raise StoreError(f"{path}: expected a pack of this program, got other first bytes")
        return mapped
