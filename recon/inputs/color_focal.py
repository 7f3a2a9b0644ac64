"""The colour camera's focal length where RGB-D frames state only one: by colours that agree across frames."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from gaussworld.camera import Camera, CameraModel
from gaussworld.capture import Capture, Frame
from gaussworld.io.images import read_depth, read_frame
from gaussworld.pose import transform_points
from gaussworld.threads import one_torch_thread

logger = logging.getLogger(__name__)

#: How many frames are compared, each with the next, and how many rows of their pixels.
_COMPARED, _ROWS = 6, 48
#: Ratios of the colour camera's focal length to the stated one that are tried.
_LOWEST, _HIGHEST, _TRIED = 0.75, 1.34, 16
#: What is believed: a cost this much lower than the stated focal length's, this far from it; and the cost up
#: to which the stated one is not doubted.
_BETTER, _APART, _SMALL = 0.85, 0.04, 0.02


def with_color_focal(capture: Capture) -> Capture:
    """Give colour and depth cameras of their own when the one that was stated does not fit the colours.

    Sensors with two cameras often come with the depth camera's intrinsics alone, and with pictures that were
    not warped to it. A point that depth puts into two frames must have one colour in both; the focal length
    at which it has, if it is clearly another than the stated one, is the colour camera's.

    Args:
        capture: frames with depth; those that already have a depth camera of their own are believed.
    """
    usable = [frame for frame in capture.frames if _is_open(frame)]
    rows = torch.linspace(0, len(usable) - 1, _COMPARED).round().int().unique().tolist() if usable else []
    with one_torch_thread():
        pairs = [_Pair.of(usable[a], usable[b]) for a, b in pairwise(rows)]
        ratio = _best_ratio([pair for pair in pairs if len(pair.first) > 500])
    if ratio is None:
        return capture
    focal = float(usable[0].camera.K[0, 0])
    logger.warning(
        "colours of different frames agree at a focal length of %.0f px, not at the stated %.0f px, which is"
        " taken for the depth camera's; color-intrinsics.txt and depth-intrinsics.txt would settle it",
        ratio * focal, focal,
    )  # fmt: skip
    return replace(capture, frames=tuple(_split(f, ratio) if _is_open(f) else f for f in capture.frames))


def _best_ratio(pairs: Sequence["_Pair"]) -> float | None:
    """The colour camera's focal length over the stated one; None where that one serves, or nothing tells."""
    if len(pairs) < 2:
        return None
    ratios = (_LOWEST * (_HIGHEST / _LOWEST) ** (i / (_TRIED - 1)) for i in range(_TRIED))
    best = min(ratios, key=lambda ratio: _cost(pairs, ratio))
    best = min((best * (1 + 0.005 * step) for step in range(-4, 5)), key=lambda ratio: _cost(pairs, ratio))
    stated, found = _cost(pairs, 1.0), _cost(pairs, best)
    doubtful = stated > _SMALL and found < _BETTER * stated and abs(best - 1) > _APART
    return best if doubtful else None


def _is_open(frame: Frame) -> bool:
    plain = frame.camera.model is CameraModel.PINHOLE and isinstance(frame.depth, Path)
    return plain and frame.depth_camera is None


def _split(frame: Frame, ratio: float) -> Frame:
    return replace(frame, camera=_zoomed(frame.camera, ratio), depth_camera=frame.camera)


def _zoomed(camera: Camera, ratio: float) -> Camera:
    return replace(camera, K=camera.K * camera.K.new_tensor([[ratio, ratio, 1.0]] * 2 + [[1.0, 1.0, 1.0]]))


@dataclass(frozen=True)
class _Pair:
    """Points that depth shows in two frames, where either camera sees them, and both pictures."""

    camera: Camera
    """As stated."""
    first: Float[Tensor, "m 2"]
    """On the plane at distance 1 from the camera."""
    second: Float[Tensor, "m 2"]
    pictures: tuple[Float[Tensor, "h w"], Float[Tensor, "h w"]]

    @classmethod
    def of(cls, a: Frame, b: Frame) -> "_Pair":
        assert isinstance(a.depth, Path) and isinstance(b.depth, Path)
        depth, there = read_depth(a.depth), read_depth(b.depth)
        step = max(1, min(depth.shape) // _ROWS)
        sparse, pixels = (
            grid[step // 2 :: step, step // 2 :: step] for grid in (depth, a.camera.pixel_centers())
        )
        points = a.camera.unproject(pixels[sparse > 0], sparse[sparse > 0])
        landed, expected = b.camera.project(points)
        inside = ((landed >= 0) & (landed < landed.new_tensor(there.shape[::-1]))).all(-1) & (expected > 0)
        points, (x, y), expected = points[inside], landed[inside].long().unbind(-1), expected[inside]
        # What the other frame sees nearer or farther is hidden in one of them.
        points = points[(there[y, x] - expected).abs() < 0.03 * expected]
        in_a, in_b = (transform_points(f.camera.camera_from_world, points) for f in (a, b))
        return cls(a.camera, in_a[:, :2] / in_a[:, 2:], in_b[:, :2] / in_b[:, 2:], (_grey(a), _grey(b)))


def _grey(frame: Frame) -> Float[Tensor, "h w"]:
    """Brightness, averaged over 3x3 pixels: single pixels of edges say little."""
    grey = read_frame(frame)[0][..., :3].mean(-1)[None, None]
    return torch.nn.functional.avg_pool2d(grey, 3, 1, 1)[0, 0]


def _cost(pairs: Sequence[_Pair], ratio: float) -> float:
    """Mean difference of brightness at the same points, bounded for each (Geman & McClure 1987)."""
    costs = []
    for pair in pairs:
        size = torch.tensor([pair.camera.width, pair.camera.height])
        focal, center = pair.camera.K.diagonal()[:2] * ratio, pair.camera.K[:2, 2]
        pixels = [plane * focal + center for plane in (pair.first, pair.second)]
        inside = torch.stack([((p > 1) & (p < size - 1)).all(-1) for p in pixels]).all(0)
        first, second = (_looked_up(grey, p[inside] / size) for grey, p in zip(pair.pictures, pixels))
        squared = (first - second).square()
        costs.append(squared / (squared + 0.01))
    return float(torch.cat(costs).mean())


def _looked_up(grey: Float[Tensor, "h w"], where: Float[Tensor, "m 2"]) -> Float[Tensor, " m"]:
    grid = (where * 2 - 1)[None, None]
    return torch.nn.functional.grid_sample(grey[None, None], grid, align_corners=False)[0, 0, 0]
