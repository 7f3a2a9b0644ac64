"""The surfaces and convex parts of a robot's links, in their own frames and in the world."""

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from ..hull import convex_hull
from ..shape import Mesh, Shape, joined
from ..surface import Surface
from ..surface.painted import merged
from .model import Link, Piece, Robot


def posed_meshes(
    robot: Robot,
    joints: Mapping[str, float] | Sequence[float] | None = None,
    world_from_base: Float[Tensor, "4 4"] | None = None,
) -> dict[str, Mesh]:
    """The mesh of every link that has one, in the world frame [m], with vertex colours.

    Args:
        robot: whose links.
        joints: [rad or m] positions, as `Robot.positions` takes them.
        world_from_base: where the robot stands; default: its base is at the origin.

    Raises:
        ValueError: an unknown joint, or a value outside of its limits.
    """
    base = torch.eye(4) if world_from_base is None else world_from_base
    poses = base.float() @ robot.link_poses(robot.positions(joints)).float()
    surfaces = {link.name: link_surface(link) for link in robot.links}
    return {
        name: surfaces[name].colored.transformed(pose)  # pyright: ignore[reportOptionalMemberAccess]
        for name, pose in zip(robot.link_names, poses)
        if surfaces[name] is not None
    }


def link_surface(link: Link) -> Surface | None:
    """What a link looks like, in its own frame; None without geometry."""
    return merged([_placed(piece) for piece in link.pieces]) if link.pieces else None


def link_shape(link: Link) -> Shape | None:
    """The surface of a link and the convex hulls of its collision geometry; None without geometry.

    Flat pieces have no hull, and so are no parts.
    """
    if not link.pieces:
        return None
    solids = (
        _placed(piece).mesh if piece.convex else convex_hull(_placed(piece).mesh) for piece in link.collision
    )
    parts = tuple(each for each in solids if each is not None)
    return Shape(joined([_placed(piece).colored for piece in link.pieces]), parts)


def _placed(piece: Piece) -> Surface:
    return piece.surface.transformed(piece.link_from_piece)
