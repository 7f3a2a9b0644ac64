"""Records of what a result was made from, so that it is taken again while nothing has changed."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any


def sources(paths: Iterable[Path]) -> list[dict[str, Any]]:
    """Path, size [bytes] and time of change [ns] of each file; None where there is no such file."""
    found = []
    for path in paths:
        facts = path.stat() if path.is_file() else None
        found.append(
            {
                "path": str(path),
                "bytes": facts.st_size if facts else None,
                "modified_ns": facts.st_mtime_ns if facts else None,
            }
        )
    return found


def read_record(path: Path) -> dict[str, Any]:
    """A JSON object, or nothing where there is none that can be read: the work is then done anew."""
    try:
        record = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}


def matches(record: dict[str, Any], asked: dict[str, Any]) -> bool:
    """Whether a record was made for exactly what is asked now."""
    return {key: record.get(key) for key in asked} == asked
