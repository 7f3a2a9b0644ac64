"""The rows of an episode: numbers, and pictures that lie among them."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from gaussworld.errors import FileFormatError

from .dataset import Dataset, Recording
from .parquet import existing, table_of

#: What lerobot writes into every dataset, beside the features that the user chose.
INDEX = ("timestamp", "frame_index", "episode_index")


def read_rows(dataset: Dataset, recording: Recording, names: tuple[str, ...]) -> dict[str, np.ndarray]:
    """Columns of an episode in the order of time.

    Args:
        dataset: where it is.
        recording: the episode.
        names: features that hold numbers.

    Returns:
        For each name float64 of shape (n, k); `timestamp` too.

    Raises:
        FileFormatError: a file is missing or damaged, has another number of rows, or another rate.
        MissingDependency: pyarrow is not installed.
    """
    table = table_of(existing(recording.data, f"the rows of episode {recording.index}"))
    where = f"{recording.data}, episode {recording.index}"
    wanted = (*INDEX, *names)
    if missing := [name for name in wanted if name not in table.column_names]:
        raise FileFormatError(
            f"{where}: expected a column {missing[0]!r}, got {', '.join(table.column_names)}"
        )
    mine = np.flatnonzero(table["episode_index"].to_numpy() == recording.index)
    order = mine[np.argsort(table["frame_index"].to_numpy()[mine], kind="stable")]
    if len(order) != recording.length:
        raise FileFormatError(
            f"{where}: expected {recording.length} rows as meta says, got {len(order)};"
            " copy the dataset again"
        )
    rows = {name: _numbers(table[name], order, f"{where}, {name}") for name in ("timestamp", *names)}
    _check_rate(rows["timestamp"][:, 0], dataset.fps, where)
    return rows


def read_images(dataset: Dataset, recording: Recording, name: str) -> Iterator[bytes]:
    """The encoded pictures of a feature of dtype `image`, which lie among the rows.

    Raises:
        FileFormatError: a file is missing or damaged, or the pictures are not in it.
        MissingDependency: pyarrow is not installed.
    """
    table = table_of(existing(recording.data, f"the rows of episode {recording.index}"))
    mine = np.flatnonzero(table["episode_index"].to_numpy() == recording.index)
    for row in mine[np.argsort(table["frame_index"].to_numpy()[mine], kind="stable")]:
        cell = table[name][int(row)].as_py()
        encoded = cell.get("bytes") if isinstance(cell, dict) else None
        if not isinstance(encoded, bytes):
            raise FileFormatError(
                f"{recording.data}, {name}: expected pictures inside the rows, got none;"
                " embed them with lerobot"
            )
        yield encoded


def _numbers(column: Any, order: np.ndarray, where: str) -> np.ndarray:
    """The rows of a column of numbers, or of lists of equally many numbers, as (n, k)."""
    try:
        rows = np.array(column.take(order).to_pylist(), dtype=np.float64)
    except (ValueError, TypeError) as error:
        raise FileFormatError(
            f"{where}: expected numbers, equally many in each row, got {error!s:.80}"
        ) from error
    if rows.ndim > 2:
        raise FileFormatError(
            f"{where}: expected a list of numbers in each row, got an array of shape {rows.shape[1:]}"
        )
    return rows.reshape(len(order), -1)


def _check_rate(times: np.ndarray, fps: float, where: str) -> None:
    gaps = np.diff(times)
    # Times are float32: after hours they are some milliseconds coarse.
    allowed = max(0.02 / fps, 1e-3)
    if gaps.size and not (worst := np.abs(gaps - 1 / fps)).max() <= allowed:
        at = int(np.nanargmax(worst))
        raise FileFormatError(
            f"{where}: expected a row every {1 / fps:.4g} s (fps {fps:g} in info.json),"
            f" got {gaps[at]:.4g} s after row {at}; record or convert at an even rate"
        )
