"""Parquet files through pyarrow, which is loaded only here."""

from functools import lru_cache
from pathlib import Path
from typing import Any

from gaussworld.errors import FileFormatError, MissingDependency


def existing(path: Path, what: str) -> Path:
    """The path of a file that is there.

    Raises:
        FileFormatError: it is not; the message says what it should have been.
    """
    if not path.is_file():
        raise FileFormatError(f"{path}: expected {what}, got no such file; copy the whole dataset")
    return path


def table_of(path: Path) -> Any:
    """A parquet file; the last two stay in memory, since episodes share them.

    Raises:
        FileFormatError: it is damaged or no parquet file.
        MissingDependency: pyarrow is not installed.
    """
    return _read_table(path, path.stat().st_mtime_ns)


@lru_cache(maxsize=2)
def _read_table(path: Path, changed: int) -> Any:
    try:
        import pyarrow  # pyright: ignore[reportMissingImports]
        import pyarrow.parquet  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise MissingDependency(
            "expected pyarrow to read a LeRobot dataset, found none; run `pip install 'gaussworld[lerobot]'`"
        ) from error
    try:
        # As a file of its own: a path with chunk-000 in it would be searched for partitions.
        return pyarrow.parquet.ParquetFile(path).read()
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        why = str(error).splitlines()[0][:120]
        raise FileFormatError(
            f"{path}: expected a parquet file, got one that cannot be read: {why}"
        ) from error
