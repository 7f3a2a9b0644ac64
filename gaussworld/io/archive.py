"""Zip archives from strangers: entries are checked before a byte is unpacked, then read as bounded streams.

with open_archive(path, max_total_bytes=2**34) as archive:
    meta = archive.read("meta.json", max_bytes=2**20)

extract(path, into, max_total_bytes=2**40)  # every entry, to a folder that does not exist yet
"""

import os
import secrets
import shutil
import stat
import struct
import unicodedata
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from ..errors import FileFormatError, GaussWorldError
from .atomic import sync_folder

#: [bytes] how much is unpacked at once.
CHUNK_BYTES = 1 << 20
#: Deflate packs zeros a thousandfold; nothing that is worth sending does better than this, beyond `_SMALL`.
MAX_RATIO = 200
#: [bytes] an entry up to this size may be packed as tightly as it likes.
_SMALL = 1 << 20
#: [bytes] of the central directory that one entry may take on average: 46, its name, and extra fields.
_DIRECTORY_BYTES = 1024
_BROKEN = (zipfile.BadZipFile, RuntimeError, zlib.error, EOFError, struct.error, ValueError, OverflowError)


@dataclass(frozen=True)
class Entry:
    """A file in an archive; its name is a relative path with `/` that stays below where it is unpacked."""

    name: str
    size: int
    """[bytes] when unpacked."""


class Archive:
    """An open archive whose list of entries has been checked; made by `open_archive`."""

    def __init__(self, path: Path, opened: zipfile.ZipFile, infos: dict[str, zipfile.ZipInfo]) -> None:
        self.path = path
        #: Files by name, in the order of the archive; folders are left out.
        self.entries = {name: Entry(name, info.file_size) for name, info in infos.items()}
        self._zip, self._infos = opened, infos

    @property
    def total_bytes(self) -> int:
        """[bytes] of all entries when unpacked."""
        return sum(entry.size for entry in self.entries.values())

    def read(self, name: str, max_bytes: int) -> bytes:
        """One entry, whole.

        Raises:
            FileFormatError: no such entry, one of more than `max_bytes`, or one that is damaged.
        """
        size = self._entry(name).size
        if size > max_bytes:
            raise FileFormatError(f"{self.path}: expected at most {max_bytes} bytes in {name!r}, got {size}")
        return b"".join(self.stream(name))

    def stream(self, name: str) -> Iterator[bytes]:
        """One entry in pieces of at most 1 MiB; the last comes only after its checksum was found right.

        Raises:
            FileFormatError: no such entry, or one that is damaged.
        """
        size, got = self._entry(name).size, 0
        try:
            with self._zip.open(self._infos[name]) as file:
                while got < size and (piece := file.read(min(CHUNK_BYTES, size - got))):
                    got += len(piece)
                    yield piece
        except _BROKEN as error:
            raise FileFormatError(
                f"{self.path}: expected {name!r} undamaged, got: {error}; fetch it again"
            ) from error
        if got != size:
            raise FileFormatError(
                f"{self.path}: expected {size} bytes in {name!r}, got {got}; fetch it again"
            )

    def extract(self, into: Path) -> None:
        """Unpack everything to a new folder, which appears only when it is whole; missing parents are made.

        Raises:
            FileFormatError: an entry is damaged.
            GaussWorldError: `into` exists, there is no room, or the file system refuses.
        """
        if into.exists() or into.is_symlink():
            raise GaussWorldError(
                f"could not unpack {self.path}: expected a new folder, got {into}; choose another"
            )
        temporary = into.with_name(f".{into.name}.{secrets.token_hex(4)}.tmp")
        try:
            into.parent.mkdir(parents=True, exist_ok=True)
            self._check_room(into.parent)
            temporary.mkdir()
            for name in self.entries:
                self._unpack(name, temporary / name)
            _sync_folders(temporary)
            os.rename(temporary, into)
        except OSError as error:
            why = error.strerror or error
            raise GaussWorldError(
                f"could not unpack {self.path} to {into}: {why}; choose another place or make room"
            ) from error
        finally:
            shutil.rmtree(temporary, ignore_errors=True)

    def _entry(self, name: str) -> Entry:
        if name not in self.entries:
            raise FileFormatError(f"{self.path}: expected {name!r} in the archive, got none")
        return self.entries[name]

    def _check_room(self, folder: Path) -> None:
        if (free := shutil.disk_usage(folder).free) < self.total_bytes:
            raise GaussWorldError(
                f"could not unpack {self.path}: expected {self.total_bytes} bytes of room in {folder},"
                f" got {free}; choose another place or make room"
            )

    def _unpack(self, name: str, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("xb") as file:
            for piece in self.stream(name):
                file.write(piece)
            file.flush()
            os.fsync(file.fileno())


@contextmanager
def open_archive(
    path: Path, *, max_total_bytes: int, max_entries: int = 10_000, max_ratio: int = MAX_RATIO
) -> Iterator[Archive]:
    """Open a zip whose entries are stored or deflated.

    Args:
        path: the archive.
        max_total_bytes: [bytes] what all entries together may be, unpacked.
        max_entries: how many there may be.
        max_ratio: how many bytes of a large entry one packed byte may stand for.

    Raises:
        FileFormatError: not a zip; names that leave the folder or clash; links, encryption, other methods of
            compression; entries that overlap; or one of the limits is exceeded.
    """
    try:
        source = path.open("rb")
    except OSError as error:
        raise FileFormatError(f"{path}: expected a readable file, got: {error.strerror or error}") from error
    with source:
        guarded = _Guarded(source, path, max_entries * _DIRECTORY_BYTES)
        try:
            opened = zipfile.ZipFile(guarded)  # pyright: ignore[reportArgumentType]
        except _BROKEN as error:
            raise FileFormatError(f"{path}: expected a zip archive, got: {error}; fetch it again") from error
        guarded.most = CHUNK_BYTES
        infos = _checked_infos(opened, path, max_entries)
        _check_sizes(infos, path, max_total_bytes, max_ratio)
        yield Archive(path, opened, infos)


def extract(path: Path, into: Path, *, max_total_bytes: int, max_entries: int = 10_000) -> None:
    """Unpack an archive to a new folder; see `open_archive` and `Archive.extract`.

    Raises:
        FileFormatError: the archive is damaged or hostile.
        GaussWorldError: `into` exists, there is no room, or the file system refuses.
    """
    with open_archive(path, max_total_bytes=max_total_bytes, max_entries=max_entries) as archive:
        archive.extract(into)


class _Guarded:
    """A file that gives little at once: zipfile reads the list of entries whole, whatever its size."""

    def __init__(self, file: BinaryIO, path: Path, most: int) -> None:
        self._file, self._path = file, path
        self.size = os.fstat(file.fileno()).st_size
        #: [bytes] the largest read that is granted, once the 64 KiB in which a zip ends are.
        self.most = most

    def read(self, count: int = -1) -> bytes:
        left = max(0, self.size - self._file.tell())
        count = left if count < 0 else min(count, left)
        if count > max(self.most, 1 << 17):
            raise FileFormatError(
                f"{self._path}: expected a list of entries of at most {self.most} bytes, got {count}"
            )
        return self._file.read(count)

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def seekable(self) -> bool:
        return True


def _checked_infos(opened: zipfile.ZipFile, path: Path, max_entries: int) -> dict[str, zipfile.ZipInfo]:
    """The files of an archive by name, once each name and kind is known to be harmless."""
    listed = opened.infolist()
    if len(listed) > max_entries:
        raise FileFormatError(f"{path}: expected at most {max_entries} entries, got {len(listed)}")
    infos: dict[str, zipfile.ZipInfo] = {}
    seen: dict[str, str] = {}
    for info in listed:
        _check_name(info, path)
        _check_kind(info, path)
        # What differs only in case or in the spelling of accents is one file on many a disk.
        plain = unicodedata.normalize("NFC", info.filename.rstrip("/")).casefold()
        if plain in seen:
            raise FileFormatError(
                f"{path}: expected each entry once, got {info.filename!r} after {seen[plain]!r}"
            )
        seen[plain] = info.filename
        if not info.is_dir():
            infos[info.filename] = info
    files = {plain for plain, name in seen.items() if name in infos}
    for plain, name in seen.items():
        if inside := [parent for parent in PurePosixPath(plain).parents if str(parent) in files]:
            raise FileFormatError(
                f"{path}: expected folders or files, got {name!r} inside the file {str(inside[0])!r}"
            )
    return infos


def _check_name(info: zipfile.ZipInfo, path: Path) -> None:
    name = info.orig_filename  # What zipfile shows as the name ends at the first NUL.
    parts = name.removesuffix("/").split("/")
    if (
        not name.isprintable()
        or "\\" in name
        or ":" in name
        or any(part in ("", ".", "..") or len(part.encode("utf-8", "replace")) > 255 for part in parts)
        or len(name) > 1024
    ):
        raise FileFormatError(
            f"{path}: expected relative names that stay in one folder, got the entry {name[:80]!r}"
        )


def _check_kind(info: zipfile.ZipInfo, path: Path) -> None:
    where = f"{path}: entry {info.filename[:80]!r}"
    if info.flag_bits & 0x2041:
        raise FileFormatError(f"{where}: expected one without encryption; pack it again without a password")
    if stat.S_IFMT(info.external_attr >> 16) not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise FileFormatError(f"{where}: expected a file or a folder, got a link or a device")
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise FileFormatError(
            f"{where}: expected it stored or deflated, got compression method {info.compress_type}"
        )


def _check_sizes(infos: dict[str, zipfile.ZipInfo], path: Path, max_total_bytes: int, max_ratio: int) -> None:
    packed, held = sum(info.compress_size for info in infos.values()), path.stat().st_size
    if packed > held:
        raise FileFormatError(f"{path}: expected entries apart from each other, got {packed} bytes in {held}")
    total = sum(info.file_size for info in infos.values())
    if total > max_total_bytes:
        raise FileFormatError(f"{path}: expected at most {max_total_bytes} bytes unpacked, got {total}")
    for info in infos.values():
        if info.compress_type == zipfile.ZIP_STORED and info.file_size != info.compress_size:
            raise FileFormatError(
                f"{path}: expected the stored entry {info.filename!r} to have {info.file_size} bytes,"
                f" got {info.compress_size}"
            )
        if info.file_size > max(_SMALL, max_ratio * info.compress_size):
            raise FileFormatError(
                f"{path}: expected {info.filename!r} to unpack to at most {max_ratio} times its"
                f" {info.compress_size} bytes, got {info.file_size}"
            )


def _sync_folders(root: Path) -> None:
    """Make the names durable too, before the rename does so for the whole."""
    for folder, _, _ in os.walk(root):
        sync_folder(Path(folder))
