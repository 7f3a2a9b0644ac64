"""The body of a PLY file: one element's rows in chunks, once its length has been compared with the header."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np

from ..errors import FileFormatError
from .ply_header import Element, Header

#: Rows handled at once: at 62 floats a row they fit a core's cache, where access by columns is fast.
CHUNK_ROWS = 4096


def check_length(file: BinaryIO, header: Header, path: Path, first_only: bool = False) -> None:
    """Compare what the header promises with the size of the file, before anything is allocated.

    With `first_only`, the body need only hold the first element, and whatever follows is passed over.

    Raises:
        FileFormatError: the body is shorter or longer than promised.
    """
    elements = header.elements[:1] if first_only else header.elements
    got = os.fstat(file.fileno()).st_size - header.size
    if header.encoding == "ascii":
        # The shortest row is one digit and one separator per property; the last line end may be missing.
        expected, least = (
            sum(2 * len(element.properties) * element.count for element in elements) - 1,
            "at least ",
        )
    else:
        expected, least = (
            sum(element.dtype(header.encoding).itemsize * element.count for element in elements),
            "",
        )
    if got < expected:
        raise FileFormatError(
            f"{path}: expected {least}{expected} bytes after the header, got {got};"
            " the file is cut short, fetch it again"
        )
    if got > expected and not first_only and header.encoding != "ascii":
        raise FileFormatError(
            f"{path}: expected {expected} bytes after the header, got {got};"
            f" {got - expected} bytes of something else follow"
        )


def read_rows(file: BinaryIO, header: Header, wanted: Element, path: Path) -> Iterator[np.ndarray]:
    """Structured arrays that together hold all rows of `wanted`; no element before it may have lists.

    Raises:
        FileFormatError: a row is malformed, or the file ends while it is read.
    """
    before = header.elements[: header.elements.index(wanted)]
    dtype = wanted.dtype(header.encoding)
    if header.encoding == "ascii":
        yield from _read_ascii(file, sum(element.count for element in before), wanted, path)
        return
    file.seek(
        header.size + sum(element.dtype(header.encoding).itemsize * element.count for element in before)
    )
    for start in range(0, wanted.count, CHUNK_ROWS):
        rows = min(CHUNK_ROWS, wanted.count - start)
        data = file.read(rows * dtype.itemsize)
        if len(data) != rows * dtype.itemsize:
            raise FileFormatError(
                f"{path}: expected {wanted.count} rows, the file ended in row {start}; is it being written?"
            )
        yield np.frombuffer(data, dtype)


def _read_ascii(file: BinaryIO, skipped: int, wanted: Element, path: Path) -> Iterator[np.ndarray]:
    lines = (line for line in file if line.strip())
    for _ in range(skipped):
        next(lines, None)
    # Parsed as doubles: exact for every float32 and for integers below 2^53.
    dtype = np.dtype([(name, "f8") for name in wanted.properties])
    for start in range(0, wanted.count, CHUNK_ROWS):
        rows = min(CHUNK_ROWS, wanted.count - start)
        block = np.empty((rows, len(wanted.properties)))
        for i in range(rows):
            block[i] = _parse_ascii_row(next(lines, b""), start + i, wanted, path)
        yield block.view(dtype)[:, 0]


def _parse_ascii_row(line: bytes, row: int, wanted: Element, path: Path) -> list[float]:
    words, columns = line.split(), len(wanted.properties)
    if len(words) != columns:
        raise FileFormatError(
            f"{path}: expected {columns} numbers in row {row} of {wanted.name!r}, got {len(words)};"
            " the file is cut or malformed"
        )
    try:
        return [float(word) for word in words]
    except ValueError:
        raise FileFormatError(
            f"{path}: expected numbers in row {row} of {wanted.name!r}, got {line[:60]!r}"
        ) from None


def check_no_more_lines(file: BinaryIO, header: Header, path: Path) -> None:
    """Refuse an ASCII body with more lines than the header promises."""
    file.seek(header.size)
    promised = sum(element.count for element in header.elements)
    got = sum(1 for line in file if line.strip())
    if got != promised:
        raise FileFormatError(
            f"{path}: expected {promised} lines after the header, got {got}; something else follows"
        )
