"""From where an object is measured: views cut out of the world's cameras, and a ring of new ones."""

import math
from collections.abc import Sequence
from typing import TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

from gaussworld.camera import Camera
from gaussworld.pose import look_at

T = TypeVar("T")

#: Fewer cameras than this that see an object do not show its form: a ring of new ones is used.
_FEW = 6
#: [deg] elevations of that ring.
_RING = (5.0, 30.0, 60.0)
#: [deg] from how low the object is looked at beside its cameras: that cuts away what hangs under it.
_LOW = 4.0


def spread_over(items: Sequence[T], count: int) -> list[T]:
    """At most `count` of them, evenly over their order, which for cameras is that of a walk or of a ring."""
    if len(items) <= count:
        return list(items)
    return [items[math.floor((i + 0.5) * len(items) / count)] for i in range(count)]


def cameras_of(
    cameras: Sequence[Camera],
    corners: Float[Tensor, "8 3"],
    up: Float[Tensor, "3"],
    count: int,
    pixels: int,
) -> list[Camera]:
    """Views that are filled by a box: of the cameras that see it whole, and from the side at their azimuths.

    An object is drawn alone, so nothing hides it, but where no camera was, Gaussians are not trained: new
    views stay at the azimuths and distances of cameras that saw it, if enough did.

    Args:
        cameras: those of the world.
        corners: of the box, in the world frame.
        up: unit direction against gravity in the world frame.
        count: at most so many of the world's cameras; about a third as many come from the side.
        pixels: [px] longer side of a view.
    """
    seeing = [camera.undistorted() for camera in cameras if _sees(camera, corners)]
    if len(seeing) < _FEW:
        return [filled(camera, corners, pixels) for camera in _ring(corners, up)]
    chosen = spread_over(seeing, count)
    low = [_lowered(camera, corners, up) for camera in spread_over(chosen, max(6, count // 3))]
    return [filled(camera, corners, pixels) for camera in (*chosen, *low) if camera is not None]


def filled(camera: Camera, corners: Float[Tensor, "8 3"], pixels: int) -> Camera:
    """The part of a picture that shows a box, at most `pixels` a side and no finer than the picture."""
    places, depths = camera.project(corners)
    low, high = places.amin(0), places.amax(0)
    if not bool((depths > 0).all()):
        scale = min(1.0, pixels / max(camera.width, camera.height))
        return camera.rescaled(math.ceil(camera.width * scale), math.ceil(camera.height * scale))
    margin = 0.03 * (high - low).amax() + 1
    low, high = low - margin, high + margin
    scale = min(1.0, pixels / float((high - low).amax()))
    width, height = (max(8, math.ceil(float(side) * scale)) for side in high - low)
    K = camera.K.clone()
    K[:2, 2] -= low
    K[:2] *= scale
    return Camera(camera.world_from_camera, K, width, height)


def _sees(camera: Camera, corners: Tensor) -> bool:
    """Whether the middle of the box is in the picture, with all of the box before the camera."""
    middle = corners.mean(0, keepdim=True)
    flat = camera.undistorted()
    (place,), _ = flat.project(middle)
    _, depths = flat.project(corners)
    inside = 0 <= float(place[0]) < camera.width and 0 <= float(place[1]) < camera.height
    size = float((corners.amax(0) - corners.amin(0)).norm())
    return inside and float(depths.min()) > 0.05 * size


def _lowered(camera: Camera, corners: Tensor, up: Tensor) -> Camera | None:
    """The same camera, moved down until it looks at the box from the side; None from straight above."""
    middle = corners.mean(0)
    away = camera.center - middle
    flat = away - (away @ up) * up
    if float(flat.norm()) < 0.05 * float(away.norm()):
        return None
    slope = math.radians(_LOW)
    direction = math.cos(slope) * flat / flat.norm() + math.sin(slope) * up
    eye = middle + direction * away.norm()
    return Camera(look_at(eye, middle, up), camera.K, camera.width, camera.height)


def _ring(corners: Tensor, up: Tensor) -> list[Camera]:
    middle, size = corners.mean(0), float((corners.amax(0) - corners.amin(0)).norm())
    side = torch.linalg.cross(up, torch.eye(3)[int(up.abs().argmin())])
    side = side / side.norm()
    other = torch.linalg.cross(up, side)
    found = []
    for elevation in map(math.radians, _RING):
        for turn in (2 * math.pi * (i + 0.5) / 12 for i in range(12)):
            flat = math.cos(turn) * side + math.sin(turn) * other
            eye = middle + 2.5 * size * (math.cos(elevation) * flat + math.sin(elevation) * up)
            found.append(Camera.pinhole(look_at(eye, middle, up), 1024, 1024, 40.0))
    return found
