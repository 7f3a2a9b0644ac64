"""Simulated scenes with known truth: made of parts, settled by physics, drawn with true depth and ids."""

from .config import StillConfig
from .still import Still, generate_still

__all__ = ["Still", "StillConfig", "generate_still"]
