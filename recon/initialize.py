"""What training starts from: Gaussians at sparse points, or guesses along the pixels' rays."""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from gaussworld.camera import Camera
from gaussworld.errors import CaptureError
from gaussworld.gaussians import Gaussians
from gaussworld.neighbors import nearest
from gaussworld.pose import transform_points

from .frames import View, depth_points
from .sweep import small, sweep, witnesses

_START_OPACITY = 0.1
#: Depths are sought between these shares of the distance to what the cameras look at.
_NEAREST, _FARTHEST = 0.3, 2.5


def starting_gaussians(
    views: Sequence[View],
    points: Float[Tensor, "m 3"],
    colors: Float[Tensor, "m 3"],
    count: int,
    generator: torch.Generator,
) -> Gaussians:
    """At most `count` Gaussians: where depth was measured, else at the points and, to fill up, along rays.

    Args:
        views: the training pictures.
        points: [unit of the poses] sparse points, possibly none.
        colors: theirs, range [0, 1].
        count: how many; with more points than that, a random choice of them.
        generator: decides all choices.
    """
    if any(view.depth is not None for view in views):
        points, colors = measured_points(views, count, generator)
    if len(points) > count:
        rows = torch.randperm(len(points), generator=generator)[:count].sort().values
        points, colors = points[rows], colors[rows]
    if len(points) >= count // 2 and len(points) >= 4:
        return from_points(points, colors)
    guessed, shades = along_rays(views, count - len(points), generator)
    return from_points(torch.cat([points, guessed]), torch.cat([colors, shades]))


def measured_points(
    views: Sequence[View], count: int, generator: torch.Generator
) -> tuple[Float[Tensor, "m 3"], Float[Tensor, "m 3"]]:
    """About `count` points of the depth maps, evenly over the pictures, and their colours."""
    measured = [view.to("cpu") for view in views if view.depth is not None]
    share = math.ceil(count / len(measured))
    points, colors = [], []
    for view in measured:
        found, shades = depth_points(view)
        rows = torch.randperm(len(found), generator=generator)[:share]
        points.append(found[rows])
        colors.append(shades[rows])
    return torch.cat(points), torch.cat(colors)


def from_points(points: Float[Tensor, "m 3"], colors: Float[Tensor, "m 3"]) -> Gaussians:
    """Round Gaussians at the points, as wide as their three neighbours are far (Kerbl et al. 2023, 5.1).

    Raises:
        CaptureError: there are fewer than four points.
    """
    if len(points) < 4:
        raise CaptureError(
            f"expected at least 4 points to start from, got {len(points)}; leave points empty instead"
        )
    distances, _ = nearest(points, 3)
    widths = distances.square().mean(dim=1).sqrt()
    # Duplicate points would give width zero; a lone point far away, a Gaussian that covers the scene.
    widths = widths.clamp(
        widths.median() / 10, widths.quantile(0.95) if len(widths) < 1 << 24 else widths.max()
    )
    quats = points.new_tensor([1.0, 0.0, 0.0, 0.0]).expand(len(points), 4)
    opacities = torch.full_like(widths, _START_OPACITY)
    return Gaussians.from_activated(
        points, quats, widths.clamp(min=1e-7)[:, None].expand(-1, 3), opacities, colors.clamp(0, 1)
    )


def along_rays(
    views: Sequence[View], count: int, generator: torch.Generator
) -> tuple[Float[Tensor, "m 3"], Float[Tensor, "m 3"]]:
    """Guess points behind random pixels, in those pixels' colours, at the depth where other views agree most.

    Depths are sought between 0.3 and 2.5 times the distance to the point the cameras look at.
    """
    reduced = small([view.to("cpu") for view in views])
    cameras = [view.camera for view in reduced]
    target = focus(cameras)
    asked = witnesses(cameras, target).tolist()
    points, colors = [], []
    for i, view in enumerate(reduced):
        share = count * (i + 1) // len(views) - count * i // len(views)
        pixels = torch.rand(share, 2, generator=generator) * torch.tensor(
            [view.camera.width, view.camera.height]
        )
        reach = float((target - view.camera.center).norm())
        depths = sweep(
            view, [reduced[j] for j in asked[i]], pixels, _NEAREST * reach, _FARTHEST * reach, generator
        )
        points.append(view.camera.unproject(pixels, depths))
        colors.append(view.image[pixels[:, 1].long(), pixels[:, 0].long()])
    return torch.cat(points), torch.cat(colors)


def focus(cameras: Sequence[Camera]) -> Float[Tensor, "3"]:
    """The point closest to all optical axes, in front of them; what the cameras look at.

    Cameras side by side or looking outward have no such point: then it lies ahead of the first camera by the
    width of the camera path.
    """
    poses = torch.stack([camera.world_from_camera.cpu() for camera in cameras])
    axes, centers = poses[:, :3, 2], poses[:, :3, 3]
    across = torch.eye(3) - axes[:, :, None] * axes[:, None, :]
    point = torch.linalg.lstsq(across.sum(0), (across @ centers[..., None]).sum(0)).solution[:, 0]
    ahead = ((point - centers) * axes).sum(-1)
    if bool((ahead > 0).float().mean() > 0.9):
        return point
    reach = scene_extent(cameras)
    return transform_points(poses[0], torch.tensor([[0.0, 0.0, reach]]))[0]


def scene_extent(cameras: Sequence[Camera]) -> float:
    """1.1 times the largest distance [unit of the poses] of a camera from their middle; scales steps."""
    centers = torch.stack([camera.center.cpu() for camera in cameras])
    extent = 1.1 * float((centers - centers.mean(0)).norm(dim=-1).max())
    # A single camera, or a tripod: any positive length is as good as another.
    return extent if extent > 0 else 1.0
