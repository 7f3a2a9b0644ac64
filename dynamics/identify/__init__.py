"""Identification: which materials make physics alone predict what was recorded, and how surely."""

from .search import Identified, identify
from .unknowns import Found, IdentifyConfig, Unknown

__all__ = ["Found", "Identified", "IdentifyConfig", "Unknown", "identify"]
