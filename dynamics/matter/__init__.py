"""Worlds as physics sees them: parts, particles, masses, edges, distance fields and ground."""

from .parts import Fields, Ground, Matter, Part, PartKind
from .sample import MatterConfig, check_frame, matter_of, tied

__all__ = [
    "Fields",
    "Ground",
    "Matter",
    "MatterConfig",
    "Part",
    "PartKind",
    "check_frame",
    "matter_of",
    "tied",
]
