"""Objects in a scene: ids for Gaussians from masks of pictures, from geometry, and from a robot's meshes."""

from .associate import cast_votes_of_pictures
from .found import Found, segment_edit
from .geometry import from_geometry
from .lift import Lifted, Votes, cast_votes, decided, lift
from .masks import Masks, read_masks
from .picture import draw_ids
from .robot import mesh_pictures, near_meshes, with_robot
from .segment import combined, from_both, from_masks

__all__ = [
    "Found",
    "Lifted",
    "Masks",
    "Votes",
    "cast_votes",
    "cast_votes_of_pictures",
    "combined",
    "decided",
    "draw_ids",
    "from_both",
    "from_geometry",
    "from_masks",
    "lift",
    "mesh_pictures",
    "near_meshes",
    "read_masks",
    "segment_edit",
    "with_robot",
]
