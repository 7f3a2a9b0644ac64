"""`Revision` and `Ref`: rows of the database, which a damaged file may hold anything in."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from ..errors import StoreError

RefKind = Literal["branch", "tag", "undone"]


@dataclass(frozen=True)
class Revision:
    """One state of a world, and the edit that led to it."""

    id: int
    parent: int | None
    op: str
    """Name of the edit."""
    details: Mapping[str, Any]
    """The edit's own fields."""
    author: str
    time: float
    """[s since 1970]"""
    root: str
    """Hash of the manifest's root."""

    @classmethod
    def from_row(cls, row: Sequence[Any]) -> "Revision":
        """A row of the columns `COLUMNS`.

        Raises:
            StoreError: a value is of another type.
        """
        number, parent, op, text, author, when, root = row
        kinds = (int, int | None, str, str, str, int | float, str)
        if not all(isinstance(value, kind) for value, kind in zip(row, kinds)):
            raise StoreError(f"expected the facts of a revision, got {row!r:.200}; the database is damaged")
        try:
            details = json.loads(text)
        except (ValueError, RecursionError):
            details = {}
        return cls(number, parent, op, details if isinstance(details, dict) else {}, author, when, root)


COLUMNS = "id, parent, op, op_json, author, time, manifest"


@dataclass(frozen=True)
class Ref:
    """A name for a revision; a branch is where undo and redo have led it, its tip how far redo leads."""

    kind: RefKind
    name: str
    revision: int
    tip: int

    @classmethod
    def from_row(cls, row: Sequence[Any]) -> "Ref":
        """A row of kind, name, revision, tip.

        Raises:
            StoreError: a value is of another type.
        """
        kind, name, revision, tip = row
        if not (isinstance(kind, str) and isinstance(name, str) and {type(revision), type(tip)} == {int}):
            raise StoreError(f"expected a name of a revision, got {row!r:.200}; the database is damaged")
        return cls(kind, name, revision, tip)  # pyright: ignore[reportArgumentType]
