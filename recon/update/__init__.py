"""Bring a world up to date with new pictures: find where they were taken, what changed, and change that."""

from .run import UpdateConfig, Updated, update

__all__ = ["UpdateConfig", "Updated", "update"]
