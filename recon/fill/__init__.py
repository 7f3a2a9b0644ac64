"""Objects that can be cut out and moved: clean borders, filled holes, closed undersides, light that stays."""

from .cut import tidy_cut
from .light import Light, light_of, moved_in_light, relit, turned_brightness
from .polish import PolishConfig, polish

__all__ = [
    "Light",
    "PolishConfig",
    "light_of",
    "moved_in_light",
    "polish",
    "relit",
    "tidy_cut",
    "turned_brightness",
]
