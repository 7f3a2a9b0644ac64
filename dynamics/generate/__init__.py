"""Simulated scenes with known truth, at rest or moved by a tool: made of parts, run and drawn by MuJoCo."""

from .config import StillConfig
from .episodes_config import EpisodesConfig
from .produce import Made, generate_episodes
from .still import Still, generate_still

__all__ = ["EpisodesConfig", "Made", "Still", "StillConfig", "generate_episodes", "generate_still"]
