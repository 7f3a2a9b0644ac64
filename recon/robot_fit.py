"""Joint positions of a robot from masks of it in calibrated pictures of one moment."""

import math
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import avg_pool2d, max_pool2d

from gaussworld.camera import Camera
from gaussworld.errors import CaptureError
from gaussworld.log import Done, Progress
from gaussworld.pose import transform_points
from gaussworld.robot import Robot, posed_meshes
from gaussworld.shape import Mesh, joined

from .mesh.open3d_mesh import decimated, open3d

#: Points on the robot, and across how many cells pictures are cut for the search: coarse, then fine.
_POINTS, _CELLS = (4000, 12000), (60, 120)
#: How many random positions the search begins with, and how many of the best it goes on from.
_SCATTERED, _STARTS = 4096, 6
#: Generations of the search from every start, of the fine search, and of the last one on whole silhouettes.
_GENERATIONS = (25, 30, 25)
#: [px] side of the longer edge of the pictures of the last search, and faces of each link in it.
_SIDE, _FACES = 240, 400
#: A point beside the mask costs by its distance from it, up to this share of the picture's width.
_FAR = 0.25
#: [rad or m per unit of the search] what a step of a joint that turns, and of one that slides, means.
_TURN, _SLIDE = 1.0, 0.05
#: A position far beyond the picture cannot be trusted through a lens [share of the picture].
_MARGIN = 0.2


@dataclass(frozen=True, eq=False)
class RobotView:
    """What one picture tells of where the robot is."""

    camera: Camera
    mask: Bool[Tensor, "h w"]
    """Where it shows the robot."""
    known: Bool[Tensor, "h w"]
    """Where the mask counts: elsewhere there may be robot or not."""


@dataclass(frozen=True, eq=False)
class JointFit:
    """Positions found, and how well the robot's silhouettes then cover the masks."""

    positions: Float[Tensor, " j"]
    """[rad or m] in the order of `Robot.joint_names`."""
    overlaps: tuple[float, ...]
    """Intersection over union of silhouette and mask where it is known, by view."""


def fit_joints(
    robot: Robot,
    views: Sequence[RobotView],
    *,
    generator: torch.Generator,
    start: Float[Tensor, " j"] | None = None,
    spread: float | Float[Tensor, " j"] = 0.7,
    upright: tuple[str, float] | None = None,
    world_from_base: Float[Tensor, "4 4"] | None = None,
) -> Generator[Progress, None, Done[JointFit]]:
    raise NotImplementedError
