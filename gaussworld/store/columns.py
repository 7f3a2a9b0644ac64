"""`Column`: an array that is cut into chunks."""

from typing import NamedTuple

#: Rows of a chunk: a multiple of 64, so that the chunks of an array written together lie without gaps.
ROWS = 16384


class Column(NamedTuple):
    """One array: n rows of a shape and type, cut into chunks."""

    dtype: str
    tail: tuple[int, ...]
    chunks: tuple[str, ...]
