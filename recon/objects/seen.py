"""What pictures say, handed back to the Gaussians that draw them: the transpose of rendering."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from gaussworld.camera import Camera
from gaussworld.gaussians import Gaussians
from gaussworld.log import Done, Event, Progress
from gaussworld.render import render
from gaussworld.threads import one_torch_thread

#: Pictures that are drawn to find the surface, and [px] their longer side, at most.
_VIEWS, _LONGEST = 24, 480
#: The rasterizer's backward pass works on sixteen channels at once.
_CHANNELS = 16
#: A depth that is off the line through its neighbours by this share of itself is an edge, not a surface.
_EDGE = 0.004


@dataclass(frozen=True, eq=False)
class Seen:
    """The surface that each Gaussian is part of, as pictures show it: centres of blobs lie beneath it."""

    weights: Float[Tensor, " n"]
    """[px] how much of the pictures each makes up."""
    points: Float[Tensor, "n 3"]
    """[unit of the world] middle of the surface that it draws; its centre where it draws none."""
    normals: Float[Tensor, "n 3"]
    """Of that surface, towards the cameras; zero where it draws none."""


@one_torch_thread()
def gathered(gaussians: Gaussians, camera: Camera, image: Float[Tensor, "h w c"]) -> Float[Tensor, "n c"]:
    """Sum of a picture's pixels for each Gaussian, times its blending weight there.

    Rendering is linear in what it blends: this is the gradient with respect to a feature of the Gaussians.
    What is hidden behind something gets nothing.
    """
    gaussians, parts = gaussians.detach(), [torch.zeros(len(gaussians), 0)]
    for some in image.split(_CHANNELS, dim=-1):
        features = torch.zeros(len(gaussians), some.shape[-1], requires_grad=True)
        # Colours are not looked at: black ones save evaluating the harmonics.
        drawn = render(gaussians, camera, colors=torch.zeros_like(gaussians.means), features=features)
        assert drawn.features is not None
        parts.append(torch.autograd.grad(drawn.features, features, some)[0])
    return torch.cat(parts, dim=1)


def look(gaussians: Gaussians, cameras: Sequence[Camera]) -> Iterator[Event[Seen]]:
    """Draw the scene from some of the cameras and find the surface that each Gaussian is part of."""
    total = torch.zeros(len(gaussians), 8)
    chosen = spread_out(cameras, _VIEWS)
    for i, camera in enumerate(chosen):
        total += gathered(gaussians, small := _small(camera), _surface(gaussians, small))
        yield Progress(i + 1, len(chosen))
    weights, clean = total[:, 7], total[:, 6:7]
    known = clean > 0.05
    points = torch.where(known, total[:, :3] / clean.clamp(min=1e-6), gaussians.means.detach())
    normals = torch.nn.functional.normalize(torch.where(known, total[:, 3:6], 0.0), dim=1)
    yield Done(Seen(weights, points, normals))


def spread_out(cameras: Sequence[Camera], most: int) -> list[Camera]:
    """At most so many of the cameras, each as far as can be from those before it."""
    if len(cameras) <= most:
        return list(cameras)
    centers = torch.stack([camera.center.cpu() for camera in cameras])
    chosen = [0]
    while len(chosen) < most:
        chosen.append(int(torch.cdist(centers, centers[chosen]).amin(1).argmax()))
    return [cameras[i] for i in sorted(chosen)]


def _small(camera: Camera) -> Camera:
    scale = min(1.0, _LONGEST / max(camera.width, camera.height))
    return camera.rescaled(max(8, round(camera.width * scale)), max(8, round(camera.height * scale)))


@torch.no_grad()
def _surface(gaussians: Gaussians, camera: Camera) -> Float[Tensor, "h w 8"]:
    """Of each pixel: surface point and normal where they are clean, whether they are, and one."""
    drawn = render(gaussians, camera, colors=torch.zeros_like(gaussians.means), outputs=("depth",))
    assert drawn.depth is not None
    depth, pixels = drawn.depth, camera.pixel_centers()
    points = camera.unproject(pixels.reshape(-1, 2), depth.flatten()).reshape(*depth.shape, 3)
    middle = depth[1:-1, 1:-1]
    bent = torch.maximum(
        (depth[1:-1, 2:] + depth[1:-1, :-2] - 2 * middle).abs(),
        (depth[2:, 1:-1] + depth[:-2, 1:-1] - 2 * middle).abs(),
    )
    image = torch.zeros(*depth.shape, 8)
    image[..., 7] = 1
    clean = (bent < _EDGE * middle) & (drawn.alpha[1:-1, 1:-1] > 0.9)
    along = _step(points, depth)[1:-1, 1:-1]
    down = _step(points.transpose(0, 1), depth.T).transpose(0, 1)[1:-1, 1:-1]
    normals = torch.nn.functional.normalize(torch.linalg.cross(down, along, dim=-1), dim=-1)
    image[1:-1, 1:-1, :3] = points[1:-1, 1:-1] * clean[..., None]
    image[1:-1, 1:-1, 3:6] = normals * clean[..., None]
    image[1:-1, 1:-1, 6] = clean.float()
    return image


def _step(points: Float[Tensor, "h w 3"], depth: Float[Tensor, "h w"]) -> Float[Tensor, "h w 3"]:
    """From each pixel's point towards the next column's, measured on the side that is straighter.

    Across a crease a centred difference would see a slope that neither side has.
    """
    ahead = torch.diff(points, dim=1, append=points[:, -1:])
    behind = torch.diff(points, dim=1, prepend=points[:, :1])
    bend = torch.zeros_like(depth)
    bend[:, 1:-1] = (depth[:, 2:] + depth[:, :-2] - 2 * depth[:, 1:-1]).abs()
    bend[:, 0], bend[:, -1] = torch.inf, torch.inf
    to_right = torch.cat([bend[:, 1:], bend[:, -1:]], dim=1)
    to_left = torch.cat([bend[:, :1], bend[:, :-1]], dim=1)
    even = ((to_right - to_left).abs() < 0.2 * (to_right + to_left))[..., None]
    one_sided = torch.where((to_right < to_left)[..., None], ahead, behind)
    return torch.where(even, (ahead + behind) / 2, one_sided)
