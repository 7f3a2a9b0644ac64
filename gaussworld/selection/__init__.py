"""Selecting Gaussians: functions from arrays and geometry to masks, without a viewer.

All take Gaussians in the world frame (`World.posed()`) and give a mask with a row for each; rows that are
deleted, hidden or locked are never selected.
"""

from .color import like_color, oklab
from .connect import Neighborhood, components, connected, spacing
from .margin import grow, shrink
from .masks import How, combined, invert, selectable
from .ray import Hit, pick
from .screen import in_brush, in_polygon, in_rectangle, seen
from .volume import in_box, in_sphere

__all__ = [
    "Hit",
    "How",
    "Neighborhood",
    "combined",
    "components",
    "connected",
    "grow",
    "in_box",
    "in_brush",
    "in_polygon",
    "in_rectangle",
    "in_sphere",
    "invert",
    "like_color",
    "oklab",
    "pick",
    "seen",
    "selectable",
    "shrink",
    "spacing",
]
