"""Reading a JSON object out of a file that may be anything, and blaming that file for bad values in it."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..errors import FileFormatError


def read_object(path: Path, max_bytes: int, wanted: str = "a JSON object") -> dict[str, Any]:
    """The JSON object in a file.

    Args:
        path: the file.
        max_bytes: a larger file is not what it is taken for.
        wanted: what the object should be, for the message.

    Raises:
        FileFormatError: it cannot be read, is too large, or is no JSON object.
    """
    try:
        if (size := path.stat().st_size) > max_bytes:
            raise FileFormatError(f"{path}: expected at most {max_bytes} bytes of JSON, got {size}")
        meta = json.loads(path.read_bytes())
    except OSError as error:
        raise FileFormatError(f"{path}: expected a readable file, got: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise FileFormatError(f"{path}: expected JSON, got: {error}; write it again") from error
    if not isinstance(meta, dict):
        raise FileFormatError(f"{path}: expected {wanted}, got {type(meta).__name__}")
    return meta


@contextmanager
def blaming(where: str) -> Iterator[None]:
    """Turn what the nouns and parsers say about bad values into a complaint about the file."""
    try:
        yield
    except (ValueError, TypeError, OverflowError) as error:
        raise FileFormatError(f"{where}: {error}") from error
