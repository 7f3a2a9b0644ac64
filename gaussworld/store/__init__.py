"""Worlds on disk: SQLite for what happened, append-only packs for what it happened to."""

from .records import Ref, Revision
from .revisions import MAIN, Store

__all__ = ["MAIN", "Ref", "Revision", "Store"]
