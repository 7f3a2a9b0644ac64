"""`.worldz`: a world with its whole history in one zip file, for sharing."""

import os
import re
import secrets
import shutil
import sqlite3
import tempfile
import zipfile
from collections import deque
from collections.abc import Generator, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO

import torch

from ..errors import ConfigError, FileFormatError, StoreError
from ..io.archive import open_archive
from ..io.atomic import replacing
from ..log import Done, Event, Progress, part
from . import database as db
from .revisions import Store
from .verify import verify

SUFFIX = ".worldz"
_MOST_BYTES = 1 << 44
_MOST_PACKS = 200_000
_PIECE = 1 << 22
_ENTRY = re.compile(r"world\.db|packs/[0-9a-f]{16}\.pack")


def export(store: Store, path: Path | str) -> Generator[Event[Path], None, None]:
    """Write a store as one file; others may go on writing to it meanwhile.

    Raises:
        GaussWorldError: the file system refuses.
    """
    path = Path(path)
    with tempfile.TemporaryDirectory() as scratch:
        snapshot = Path(scratch) / db.FILE
        with db.translated(store.path):
            copy = sqlite3.connect(snapshot)
            store.database.connection.backup(copy)
            # A log beside the file would not travel.
            copy.execute("PRAGMA journal_mode = DELETE")
            rows = copy.execute(
                "SELECT name, max(offset + length) FROM chunk JOIN pack ON pack.id = chunk.pack GROUP BY name"
            ).fetchall()
            copy.close()
        with ExitStack() as stack:
            # All at once: a pack that is collected meanwhile stays readable.
            packs = [(name, size, stack.enter_context(_opened(store, name))) for name, size in rows]
            file = stack.enter_context(replacing(path))
            zipped = stack.enter_context(zipfile.ZipFile(file, "w", zipfile.ZIP_STORED))
            zipped.write(snapshot, db.FILE)
            total, done = sum(size for _, size in rows), 0
            for name, size, pack in packs:
                with zipped.open(f"packs/{name}", "w", force_zip64=True) as out:
                    for piece in _pieces(pack, size, store.packs.path(name)):
                        out.write(piece)
                        done += len(piece)
                        yield Progress(done, total, stage="Packing [bytes]")
    yield Done(path)


def _opened(store: Store, name: str) -> BinaryIO:
    path = store.packs.path(name)
    try:
        return path.open("rb")
    except OSError as error:
        raise StoreError(
            f"{path}: expected a readable pack, got: {error.strerror}; see `gaussworld world verify`"
        ) from error


def _pieces(pack: BinaryIO, size: int, path: Path) -> Iterator[bytes]:
    while size:
        piece = pack.read(min(_PIECE, size))
        if not piece:
            raise StoreError(
                f"{path}: expected {size} bytes more, got the end; see `gaussworld world verify`"
            )
        size -= len(piece)
        yield piece


def unpack(path: Path | str, target: Path | str) -> Generator[Event[Path], None, None]:
    """Make a store of a `.worldz`; everything in it is checked before it appears.

    Raises:
        FileFormatError: no such archive, or a damaged or hostile one.
        StoreError: `target` exists, or the file system refuses.
    """
    path, target = Path(path), Path(target)
    if target.exists():
        raise StoreError(f"expected a new folder for the world, got {target}, which exists; choose another")
    if not path.is_file():
        got = "a folder" if path.is_dir() else "no such file"
        raise FileFormatError(f"{path}: expected a {SUFFIX} file, got {got}")
    build = target.with_name(f".{target.name}.{secrets.token_hex(4)}.tmp")
    try:
        with open_archive(path, max_total_bytes=_MOST_BYTES, max_entries=_MOST_PACKS) as archive:
            # A journal beside the database would be obeyed when that is opened, whatever it names.
            if strange := [name for name in archive.entries if not _ENTRY.fullmatch(name)]:
                raise FileFormatError(
                    f"{path}: expected {db.FILE} and packs, got an entry {strange[0]!r:.80}"
                )
            archive.extract(build)
        for folder in ("packs", "cache"):
            (build / folder).mkdir(exist_ok=True)
        try:
            with Store(build, read_only=False) as store:
                found = yield from part(verify(store), "Checking")
                if not found.damages:
                    _refuse_nonsense(store)
                store.release()
        except (StoreError, ConfigError) as error:
            raise FileFormatError(f"{path}: expected a packed world, got another archive: {error}") from error
        if found.damages:
            raise FileFormatError(f"{path}: expected a sound world, got damage: {found.damages[0].problem}")
        os.replace(build, target)
    except OSError as error:
        raise StoreError(
            f"could not write {target}: {error.strerror or error}; choose another place or make room"
        ) from error
    finally:
        shutil.rmtree(build, ignore_errors=True)
    yield Done(target)


def _refuse_nonsense(store: Store) -> None:
    """Names that lead nowhere, and numbers that no edit can make.

    Raises:
        StoreError: a branch or tag holds some.
        ConfigError: there is no branch to open.
    """
    store.branch()
    for ref in store.refs():
        deque(store.history(ref.tip), maxlen=0)
        for number, item in store.read(ref.revision).world.objects.items():
            for name in ("means", "quats", "log_scales", "opacity_logits", "sh"):
                if not bool(torch.isfinite(getattr(item.gaussians, name)).all()):
                    raise StoreError(
                        f"object {number} ({item.name}): expected finite {name}, got NaN or infinity"
                    )
