"""What of a new picture a world can be trusted about: places that several of its own cameras saw."""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from gaussworld.camera import Camera
from gaussworld.gaussians import Gaussians

from .landmarks import drawn, sized
from .relocalise import Shot

#: [px] longer side of small renderings, cameras that must have seen a place, share of depth it may differ by.
_SIDE, _FEWEST, _SLACK = 160, 3, 0.03


def well_known(
    gaussians: Gaussians, cameras: Sequence[Camera], shots: Sequence[Shot], most: int
) -> list[Bool[Tensor, "h w"]]:
    """Where each picture shows a place that enough of the world's own cameras saw, or nothing at all.

    What only one or two saw was never fitted well; a new picture differs there from the world, not from what
    was.

    Args:
        gaussians: what is shown of the world.
        cameras: the world's own.
        shots: pictures that found their place.
        most: how many of the cameras to ask.
    """
    chosen = [cameras[i * len(cameras) // most] for i in range(most)] if len(cameras) > most else cameras
    views = [_surface(gaussians, sized(camera, _SIDE)) for camera in chosen]
    fewest = min(_FEWEST, len(views))
    masks = []
    for shot in shots:
        camera, depth = _surface(gaussians, sized(shot.camera, _SIDE))
        places = camera.unproject(camera.pixel_centers().reshape(-1, 2), depth.flatten())
        seen = sum((_sees(view, surface, places) for view, surface in views), torch.zeros(len(places)))
        known = ((seen >= fewest) | (depth.flatten() <= 0)).reshape(1, 1, *depth.shape).float()
        size = (shot.camera.height, shot.camera.width)
        masks.append(torch.nn.functional.interpolate(known, size, mode="nearest-exact")[0, 0] > 0.5)
    return masks


def _surface(gaussians: Gaussians, camera: Camera) -> tuple[Camera, Float[Tensor, "h w"]]:
    drawing = drawn(gaussians, camera)
    assert drawing.depth is not None
    return camera, torch.where(drawing.alpha > 0.5, drawing.depth, 0.0)


def _sees(camera: Camera, surface: Tensor, places: Tensor) -> Float[Tensor, " n"]:
    at, z = camera.project(places)
    x, y = at.floor().long().unbind(1)
    inside = (z > 0) & (x >= 0) & (y >= 0) & (x < camera.width) & (y < camera.height)
    there = torch.zeros(len(places))
    there[inside] = surface[y[inside], x[inside]]
    return (inside & ((there - z).abs() < _SLACK * z)).float()
