"""Worlds on disk: SQLite for what happened, append-only packs for what it happened to."""

from .revisions import MAIN, Ref, Revision, Store

__all__ = ["MAIN", "Ref", "Revision", "Store"]
