"""Writing files and folders so that readers see the old one or the whole new one, never a part."""

import errno
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from ..errors import GaussWorldError


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Open a hidden neighbour of `path` for writing; rename it to `path` once the block ends without error.

    Missing parent folders are made.

    Raises:
        GaussWorldError: the file system refuses (no permission, no space, `path` is a folder).
    """
    # Not tempfile.mkstemp: that makes files which only their owner may read, and os.replace keeps the mode.
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        why = error.strerror or error
        raise GaussWorldError(f"could not write {path}: {why}; choose another place or make room") from error
    finally:
        with suppress(OSError):
            temporary.unlink()


@contextmanager
def appearing(folder: Path) -> Iterator[Path]:
    """Make a folder to fill beside `folder`, renamed to it once the block ends without error.

    Nothing stays behind after an error. `folder` may be there if it is empty.

    Raises:
        GaussWorldError: the file system refuses.
    """
    temporary = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}.tmp")
    try:
        temporary.mkdir(parents=True)
        yield temporary
        if folder.is_dir():
            folder.rmdir()
        os.rename(temporary, folder)
    except OSError as error:
        why = error.strerror or error
        raise GaussWorldError(
            f"could not write {folder}: {why}; choose another place or make room"
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def sync_folder(folder: Path) -> None:
    """Make new names in a folder survive a loss of power, where the system has a way to."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:  # Windows cannot open folders; its journal keeps names.
        return
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(handle)
