"""A robot's links as things that become objects: parents, joints, shapes and poses at given joint values."""

import torch
from jaxtyping import Float
from torch import Tensor

from ..surface.objects import Thing
from ..world_object import Joint, ObjectKind
from .geometry import link_shape, link_surface
from .model import LinkJoint, Robot


def link_things(
    robot: Robot,
    joint_positions: Float[Tensor, " j"],
    world_from_base: Float[Tensor, "4 4"] | None = None,
    prefix: str = "",
) -> list[Thing]:
    """The base first, every other link after the one it is mounted on.

    A link without geometry is left out where its joint is fixed, and what it carries hangs on its parent; the
    base, and a link that moves, stay as things without a surface.

    Args:
        robot: whose links.
        joint_positions: [rad or m] as `Robot.positions` gives them.
        world_from_base: where it stands; default: at the origin.
        prefix: put before the links' names, with a slash.
    """
    base = torch.eye(4) if world_from_base is None else world_from_base.float()
    poses = base @ robot.link_poses(joint_positions.double()).float()
    positions = robot.all_positions(joint_positions)
    rows: dict[str, int] = {}
    things: list[Thing] = []
    for link, joint, pose in zip(robot.links, (None, *robot.joints), poses):
        parent = None if joint is None else rows[joint.parent]
        surface = link_surface(link)
        if parent is not None and surface is None and joint is not None and joint.kind == "fixed":
            rows[link.name] = parent
            continue
        rows[link.name] = len(things)
        moving = None if joint is None else _joint(joint, positions.get(joint.name, 0.0))
        name = f"{prefix}/{link.name}" if prefix else link.name
        things.append(
            Thing(
                name,
                surface,
                pose,
                ObjectKind.ROBOT,
                link_shape(link),
                link.mass,
                link.center_of_mass,
                parent,
                moving,
            )
        )
    return things


def _joint(joint: LinkJoint, position: float) -> Joint | None:
    """As worlds have it: in the frame of the link that it moves, which lies on the axis."""
    if joint.kind == "fixed":
        return None
    kind = "prismatic" if joint.kind == "prismatic" else "revolute"
    return Joint(kind, joint.axis, (0.0, 0.0, 0.0), joint.limits, position)
