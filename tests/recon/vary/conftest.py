"""A small world to vary: a table with blocks, a stack, a robot's post and a camera, of boxes."""

from collections.abc import Callable

import pytest

# Nothing of the project is imported here: the shape checks hook into imports that come later.


@pytest.fixture
def make_box() -> Callable:
    """A function that makes an object: a box with its middle at a place, with a shape or without."""
    import torch

    from gaussworld.gaussians import Gaussians
    from gaussworld.pose import pose_from, rotation_from_rotvec
    from gaussworld.shape import Mesh, Shape
    from gaussworld.world_object import ObjectKind, WorldObject

    corners = torch.cartesian_prod(*[torch.tensor([-0.5, 0.5])] * 3)
    faces = [[0, 1, 3], [0, 3, 2], [4, 6, 7], [4, 7, 5], [0, 4, 5], [0, 5, 1]]
    faces += [[2, 3, 7], [2, 7, 6], [0, 2, 6], [0, 6, 4], [1, 5, 7], [1, 7, 3]]

    def box(number, size, at, *, shape=True, kind=ObjectKind.RIGID, turn=0.0, count=600, **more):
        draw = torch.Generator().manual_seed(number)
        points = torch.rand(count, 3, generator=draw) - 0.5
        side = torch.randint(0, 6, (count,), generator=draw)
        points[torch.arange(count), 2 - side // 2] = (side % 2).float() - 0.5
        points = points * torch.tensor(size)
        pose = pose_from(rotation_from_rotvec(torch.tensor([0.0, 0.0, turn])), torch.tensor(at))
        gaussians = Gaussians.from_activated(
            points,
            torch.tensor([1.0, 0, 0, 0]).expand(count, 4),
            torch.full((count, 3), 0.006),
            torch.full((count,), 0.9),
            torch.rand(3, generator=draw).expand(count, 3),
        )
        mesh = Mesh(corners * torch.tensor(size), torch.tensor(faces))
        surface = Shape(mesh, (mesh,)) if shape else None
        return WorldObject(number, f"box {number}", gaussians, kind, pose, shape=surface, **more)

    return box


@pytest.fixture
def tabletop(make_box) -> Callable:
    """A function that makes the world; `shape=False` leaves only Gaussians."""
    from gaussworld.camera import Camera
    from gaussworld.world import World
    from gaussworld.world_object import ObjectKind

    def world(shape: bool = True) -> World:
        items = [
            make_box(1, (1.0, 0.8, 0.04), (0.0, 0.0, -0.02), shape=shape, kind=ObjectKind.STATIC, count=4000),
            make_box(2, (0.1, 0.1, 0.1), (0.2, 0.2, 0.05), shape=shape, turn=0.4),
            make_box(3, (0.06, 0.06, 0.06), (0.2, 0.2, 0.13), shape=shape),
            make_box(4, (0.12, 0.05, 0.08), (-0.2, -0.2, 0.04), shape=shape),
            make_box(5, (0.05, 0.05, 0.3), (0.0, 0.0, 0.15), shape=shape, kind=ObjectKind.ROBOT),
            make_box(6, (0.05, 0.05, 0.05), (0.3, -0.3, 0.2), shape=shape),
        ]
        cameras = tuple(Camera.looking_at((x, -1.0, 0.8), (0.0, 0.0, 0.0), 96, 72) for x in (-0.5, 0.0, 0.5))
        objects = {item.id: item for item in items}
        return World(objects, cameras, metres_per_unit=1.0, up=(0.0, 0.0, 1.0))

    return world
