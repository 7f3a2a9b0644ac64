"""Selection by volumes placed in the world: boxes and spheres."""

from jaxtyping import Bool, Float
from torch import Tensor

from ..gaussians import Gaussians
from ..pose import check_rigid, invert_pose
from ..threads import one_torch_thread
from ..world_object import Vector
from .masks import selectable, vector_of


@one_torch_thread()
def in_box(
    gaussians: Gaussians, world_from_box: Float[Tensor, "4 4"], size: tuple[float, float, float]
) -> Bool[Tensor, " n"]:
    """Gaussians whose centre lies in a box, its faces included.

    Args:
        gaussians: in the world frame.
        world_from_box: pose of the box; the origin of its frame is its middle.
        size: [unit of the world] whole lengths of its edges along its x, y and z axis.

    Raises:
        ValueError: the pose is not rigid, or a length is negative.
    """
    check_rigid(world_from_box, "world_from_box")
    if not min(size) >= 0:
        raise ValueError(f"expected lengths of at least 0, got {size}")
    means = gaussians.means.detach()
    box_from_world = invert_pose(world_from_box).to(means)
    inside = selectable(gaussians)
    for axis, length in enumerate(size):
        inside &= (means @ box_from_world[axis, :3] + box_from_world[axis, 3]).abs_() <= length / 2
    return inside


@one_torch_thread()
def in_sphere(gaussians: Gaussians, center: Float[Tensor, "3"] | Vector, radius: float) -> Bool[Tensor, " n"]:
    """Gaussians whose centre lies in a sphere, its surface included.

    Args:
        gaussians: in the world frame.
        center: [unit of the world] of the sphere.
        radius: [unit of the world].

    Raises:
        ValueError: the radius is negative, or the centre is not three numbers.
    """
    if not radius >= 0:
        raise ValueError(f"expected a radius of at least 0, got {radius}")
    x, y, z = (gaussians.means.detach() - vector_of(center, gaussians.means, "center")).unbind(dim=1)
    return (x * x + y * y + z * z <= radius * radius) & selectable(gaussians)
