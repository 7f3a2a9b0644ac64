"""Depths of single pixels by plane sweep: the depth at which other pictures show the same patch."""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from gaussworld.camera import Camera

from .frames import View

#: Depths tried on each ray, and other pictures asked.
_CANDIDATES, _WITNESSES = 32, 4
#: [deg] between two views of one point: less tells little about depth, more changes what a patch looks like.
_BEST_ANGLE = 10.0
#: [px] shorter side of the pictures in which patches are compared.
_SIDE = 135
_PATCH = torch.cartesian_prod(torch.tensor([-1.5, 0.0, 1.5]), torch.tensor([-1.5, 0.0, 1.5]))


def small(views: Sequence[View]) -> list[View]:
    """The views at the size in which `sweep` compares them."""
    return [view.shrunk(max(1, round(min(view.pixels.shape[:2]) / _SIDE))) for view in views]


def witnesses(cameras: Sequence[Camera], target: Float[Tensor, "3"]) -> Int[Tensor, "c w"]:
    """For each camera the others that see the target from about ten degrees away."""
    arms = torch.nn.functional.normalize(torch.stack([c.center.cpu() for c in cameras]) - target, dim=-1)
    angles = torch.rad2deg(torch.acos((arms @ arms.T).clamp(-1, 1)))
    off = (angles - _BEST_ANGLE).abs().fill_diagonal_(float("inf"))
    return off.argsort(dim=1, stable=True)[:, : min(_WITNESSES, len(cameras) - 1)]


def sweep(
    view: View,
    others: Sequence[View],
    pixels: Float[Tensor, "m 2"],
    nearest: float,
    farthest: float,
    generator: torch.Generator,
) -> Float[Tensor, " m"]:
    """z-depths of pixels: of candidates even in 1/z, where the two best witnesses agree most.

    Plane sweep after Collins 1996 on patches of 3x3 samples. Where no two others see a ray, it is random.

    Args:
        view: whose pixels.
        others: the witnesses.
        pixels: [px] coordinates in `view`.
        nearest, farthest: [unit of the poses] range of depths.
        generator: moves the candidates of each pixel a little.
    """
    m = len(pixels)
    t = (torch.arange(_CANDIDATES) + torch.rand(m, _CANDIDATES, generator=generator)) / _CANDIDATES
    depths = 1 / ((1 - t) / farthest + t / nearest)
    points = view.camera.unproject(pixels.repeat_interleave(_CANDIDATES, dim=0), depths.flatten())
    own = _patches(view, pixels).reshape(m, 1, -1)
    # Two that never agree stand in where witnesses are missing; the noise then draws a depth.
    costs = [1 + 1e-6 * torch.rand(m, _CANDIDATES, generator=generator) for _ in range(2)]
    for other in others:
        at, z = other.camera.project(points)
        size = at.new_tensor([other.camera.width, other.camera.height])
        seen = ((at > 1) & (at < size - 1)).all(-1) & (z > 0)
        cost = (_patches(other, at).reshape(m, _CANDIDATES, -1) - own).abs().mean(-1)
        costs.append(torch.where(seen.reshape(m, -1), cost, 2.0))
    best = torch.stack(costs).sort(dim=0).values[:2].mean(0)
    return depths.gather(1, best.argmin(dim=1, keepdim=True))[:, 0]


def _patches(view: View, pixels: Float[Tensor, "m 2"]) -> Float[Tensor, "m p 3"]:
    size = pixels.new_tensor([view.camera.width, view.camera.height])
    grid = (pixels[:, None] + _PATCH) * 2 / size - 1
    looked_up = torch.nn.functional.grid_sample(
        view.image.permute(2, 0, 1)[None], grid[None], padding_mode="border", align_corners=False
    )
    return looked_up[0].permute(1, 2, 0)
