"""Cameras of a copy: some of the world's, moved about the scene a little."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from gaussworld.camera import Camera
from gaussworld.commands import Viewpoint, around, choose_camera
from gaussworld.gaussians import Gaussians
from gaussworld.pose import rotation_from_rotvec

#: [rad] How far about the scene and up or down a camera goes at most, and which part of its distance.
_ROUND, _TILT, _AWAY = math.radians(30), math.radians(12), 0.2
#: [rad] The lowest and the steepest view.
_LOWEST, _STEEPEST = math.radians(8), math.radians(80)
#: Cameras of a world that has none.
_RING = 24


def viewpoints(
    cameras: tuple[Camera, ...],
    gaussians: Gaussians,
    pivot: Float[Tensor, "3"],
    up: Float[Tensor, "3"],
    count: int,
    motion: float,
    longest: int,
    generator: torch.Generator,
) -> list[Camera]:
    """Cameras that look at what varies.

    Args:
        cameras: of the world; where it has none, a ring about all of it.
        gaussians: what is shown, in the world.
        pivot: what they go round.
        up: unit direction against gravity.
        count: how many; each camera of the world is taken once before one is taken again.
        motion: range [0, 1], of the largest motion.
        longest: [px] longer side at most.
        generator: of the randomness.
    """
    cameras = cameras or _ring(gaussians, up)
    order: list[int] = []
    while len(order) < count:
        order += torch.randperm(len(cameras), generator=generator).tolist()
    chosen = [_sized(cameras[i].to("cpu").undistorted(), longest) for i in order[:count]]
    return [_moved(camera, pivot, up, motion, generator) for camera in chosen]


def _ring(gaussians: Gaussians, up: Tensor) -> tuple[Camera, ...]:
    camera, pivot = choose_camera(Viewpoint(), gaussians, up)
    return tuple(around(camera, pivot, up, _RING))


def _sized(camera: Camera, longest: int) -> Camera:
    scale = min(1.0, longest / max(camera.width, camera.height))
    return camera.rescaled(max(1, round(camera.width * scale)), max(1, round(camera.height * scale)))


def _moved(camera: Camera, pivot: Tensor, up: Tensor, motion: float, generator: torch.Generator) -> Camera:
    """The camera after a turn about the pivot, which stays where it is in the picture, but for its size."""
    round_about, tilt, away = (motion * (2 * torch.rand(3, generator=generator) - 1)).tolist()
    pose = camera.world_from_camera
    offset = pose[:3, 3] - pivot
    distance, level = float(offset.norm()), float(torch.nn.functional.normalize(offset, dim=0) @ up)
    if motion == 0 or not distance > 0:
        return camera
    turn = rotation_from_rotvec(up * (_ROUND * round_about))
    offset, axes = turn @ offset, turn @ pose[:3, :3]
    side = torch.linalg.cross(offset, up)
    elevation = math.asin(max(-1.0, min(1.0, level)))
    # Cameras below the table or straight above stay as low or steep as they were.
    aim = min(max(elevation + _TILT * tilt, min(_LOWEST, elevation)), max(_STEEPEST, elevation))
    if float(side.norm()) > 1e-6 * distance:
        tip = rotation_from_rotvec(torch.nn.functional.normalize(side, dim=0) * (aim - elevation))
        offset, axes = tip @ offset, tip @ axes
    moved = torch.eye(4)
    moved[:3, :3], moved[:3, 3] = axes, pivot + offset * (1 + _AWAY * away)
    return Camera(moved, camera.K, camera.width, camera.height)
