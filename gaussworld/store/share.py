"""`.worldz`: a world with its whole history in one zip file, for sharing."""

import os
import secrets
import shutil
import sqlite3
import tempfile
import zipfile
from collections import deque
from collections.abc import Generator
from pathlib import Path

import torch

from ..errors import FileFormatError, StoreError
from ..io.archive import extract
from ..io.atomic import replacing
from ..log import Done, Event, Progress, part
from . import database as db
from .revisions import Store
from .verify import verify

SUFFIX = ".worldz"
_MOST_BYTES = 1 << 44
_PIECE = 1 << 22


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
        total, done = sum(size for _, size in rows), 0
        with (
            replacing(path) as file,
            zipfile.ZipFile(file, "w", zipfile.ZIP_STORED, allowZip64=True) as zipped,
        ):
            zipped.write(snapshot, db.FILE)
            for name, size in rows:
                with (
                    (store.packs.folder / name).open("rb") as pack,
                    zipped.open(f"packs/{name}", "w", force_zip64=True) as out,
                ):
                    left = size
                    while left and (piece := pack.read(min(_PIECE, left))):
                        out.write(piece)
                        left -= len(piece)
                        done += len(piece)
                        yield Progress(done, total, stage="Packing [bytes]")
    yield Done(path)


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
        raise FileFormatError(f"expected a {SUFFIX} file, got {path}, which is none")
    build = target.with_name(f".{target.name}.{secrets.token_hex(4)}.tmp")
    try:
        extract(path, build, max_total_bytes=_MOST_BYTES)
        for folder in ("packs", "cache"):
            (build / folder).mkdir(exist_ok=True)
        try:
            with Store(build, read_only=False) as store:
                found = yield from part(verify(store), "Checking")
                _refuse_nonsense(store)
        except StoreError as error:
            raise FileFormatError(f"{path}: expected a packed world, got another archive: {error}") from error
        if found.damages:
            raise FileFormatError(f"{path}: expected a sound world, got damage: {found.damages[0].problem}")
        os.replace(build, target)
    finally:
        shutil.rmtree(build, ignore_errors=True)
    yield Done(target)


def _refuse_nonsense(store: Store) -> None:
    """Numbers that no edit can make.

    Raises:
        StoreError: a branch or tag holds some.
    """
    for ref in store.refs():
        deque(store.history(ref.tip), maxlen=0)
        for number, item in store.read(ref.revision).world.objects.items():
            for name in ("means", "quats", "log_scales", "opacity_logits", "sh"):
                if not bool(torch.isfinite(getattr(item.gaussians, name)).all()):
                    raise StoreError(
                        f"object {number} ({item.name}): expected finite {name}, got NaN or infinity"
                    )
