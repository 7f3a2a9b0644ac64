"""Selection in a picture: rectangle, polygon and brush, through everything or only what is seen."""

import math
from collections.abc import Callable

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ..camera import Camera
from ..gaussians import Gaussians
from ..render import render
from ..render.unscented import camera_holds
from ..threads import one_torch_thread
from .masks import BLOCK, drawn, selectable
from .outline import inside_polygon, near_stroke

#: [px] longer side of the picture in which is looked what is seen.
_SEEN_SIDE = 480
#: What stands behind the drawn surface by less than so many of its deviations, or part of the depth, is seen.
_SEEN_DEVIATIONS, _SEEN_DEPTH = 2.0, 0.01


@one_torch_thread()
def in_rectangle(
    gaussians: Gaussians,
    camera: Camera,
    low: tuple[float, float],
    high: tuple[float, float],
    front_only: bool = False,
) -> Bool[Tensor, " n"]:
    """Gaussians whose centre the camera sees between two corners of a rectangle, the borders included.

    Args:
        gaussians: in the world frame.
        camera: of any model; what is behind it, or where its lens folds back, is not selected.
        low: [px] one corner, x and y.
        high: [px] the opposite corner.
        front_only: leave out what is hidden behind something; see `seen`.
    """
    (left, right), (top, bottom) = (sorted(pair) for pair in zip(low, high))
    places = projected(gaussians, camera)
    found = _between(places, left, right, top, bottom) & selectable(gaussians)
    return _finish(found, gaussians, camera, places, front_only)


@one_torch_thread()
def in_polygon(
    gaussians: Gaussians, camera: Camera, points: Float[Tensor, "v 2"], front_only: bool = False
) -> Bool[Tensor, " n"]:
    """Gaussians whose centre the camera sees inside a closed polygon, by the even-odd rule.

    Args:
        gaussians: in the world frame.
        camera: of any model; what is behind it, or where its lens folds back, is not selected.
        points: [px] corners; the last is joined to the first.
        front_only: leave out what is hidden behind something; see `seen`.

    Raises:
        ValueError: there are fewer than three corners, or one is not finite.
    """
    if len(points) < 3 or not bool(torch.isfinite(points).all()):
        raise ValueError(f"expected at least 3 finite corners, got {points.tolist()[:4]}")
    places = projected(gaussians, camera)
    found = _inside(places, gaussians, points, 0.0, lambda pixels: inside_polygon(pixels, points))
    return _finish(found, gaussians, camera, places, front_only)


@one_torch_thread()
def in_brush(
    gaussians: Gaussians,
    camera: Camera,
    stroke: Float[Tensor, "v 2"],
    radius: float,
    front_only: bool = False,
) -> Bool[Tensor, " n"]:
    """Gaussians whose centre the camera sees within `radius` of a stroke.

    Args:
        gaussians: in the world frame.
        camera: of any model; what is behind it, or where its lens folds back, is not selected.
        stroke: [px] points that the brush went through in straight lines; one point is a dab.
        radius: [px] of the brush.
        front_only: leave out what is hidden behind something; see `seen`.

    Raises:
        ValueError: no point, one that is not finite, or a radius that is not positive.
    """
    if not len(stroke) or not bool(torch.isfinite(stroke).all()) or not 0 < radius < math.inf:
        raise ValueError(f"expected finite points and a positive radius, got {stroke.tolist()[:4]}, {radius}")
    places = projected(gaussians, camera)
    found = _inside(places, gaussians, stroke, radius, lambda pixels: near_stroke(pixels, stroke, radius))
    return _finish(found, gaussians, camera, places, front_only)


def projected(gaussians: Gaussians, camera: Camera) -> Float[Tensor, "3 n"]:
    """Pixel x, y and z-depth of all centres; x is NaN behind the camera, and past the edge of its lens."""
    means = gaussians.means.detach()
    view, found = camera.to(means.device), means.new_empty(3, len(means))
    camera_from_world = view.camera_from_world.detach().to(means)
    (fx, _, cx), (_, fy, cy), _ = camera.K.detach().tolist()
    for part, out in zip(means.split(BLOCK), found.split(BLOCK, dim=1)):
        torch.addmm(camera_from_world[:3, 3, None], camera_from_world[:3, :3], part.T, out=out)
        x, y, z = out
        behind = z <= 0
        if view.distortion:
            at = out.T.contiguous()
            behind |= ~camera_holds(view, at)
            x[:], y[:] = view.distort(at).unbind(dim=1)
        else:
            x.div_(z)
            y.div_(z)
        x.mul_(fx).add_(cx).masked_fill_(behind, math.nan)
        y.mul_(fy).add_(cy)
    return found


def _between(places: Tensor, left: float, right: float, top: float, bottom: float) -> Bool[Tensor, " n"]:
    x, y, _ = places
    return (x >= left).logical_and_(x <= right).logical_and_(y >= top).logical_and_(y <= bottom)


def _inside(
    places: Tensor,
    gaussians: Gaussians,
    outline: Tensor,
    margin: float,
    test: Callable[[Tensor], Tensor],
) -> Bool[Tensor, " n"]:
    """Selectable rows inside an outline; the test sees those within its bounds only."""
    # A pixel more, against rounding.
    left, top = (outline.detach().amin(dim=0) - (margin + 1)).tolist()
    right, bottom = (outline.detach().amax(dim=0) + (margin + 1)).tolist()
    found = _between(places, left, right, top, bottom) & selectable(gaussians)
    rows = found.nonzero()[:, 0]
    found[rows] = test(places[:2].index_select(1, rows).T.cpu()).to(found.device)
    return found


@one_torch_thread()
def seen(gaussians: Gaussians, camera: Camera) -> Bool[Tensor, " n"]:
    """Gaussians in the picture that no surface hides: nearer than the drawn depth, or reaching to it.

    The depth is that of a small rendering, in which hidden and deleted Gaussians do not take part but locked
    ones do. A Gaussian reaches so far as two of its largest deviations, or one hundredth of the depth.
    """
    return _unhidden(gaussians, camera, projected(gaussians, camera), drawn(gaussians))


def _unhidden(gaussians: Gaussians, camera: Camera, places: Tensor, wanted: Tensor) -> Tensor:
    """Which of the wanted rows are in the picture and not hidden."""
    x, y, _ = places
    inside = wanted & (x >= 0) & (x < camera.width) & (y >= 0) & (y < camera.height)
    found, rows = torch.zeros_like(wanted), inside.nonzero()[:, 0]
    if not len(rows):
        return found
    places = places.index_select(1, rows)
    depths = places[2]
    behind = depths - _surface(gaussians, camera, places[:2].T)
    a, b, c = gaussians.log_scales.detach().index_select(0, rows).unbind(dim=1)
    deviations = torch.maximum(torch.maximum(a, b), c).exp_()
    found[rows] = behind <= _SEEN_DEVIATIONS * deviations + _SEEN_DEPTH * depths
    return found


def _surface(gaussians: Gaussians, camera: Camera, pixels: Tensor) -> Float[Tensor, " m"]:
    """Depth drawn at each pixel, from a small rendering of the part of the picture they are in."""
    left, top = pixels.amin(dim=0).floor().long().tolist()
    right, bottom = pixels.amax(dim=0).floor().long().tolist()
    view = camera.cropped(left, top, right + 1 - left, bottom + 1 - top)
    scale = min(1.0, _SEEN_SIDE / max(view.width, view.height))
    small = view.rescaled(max(1, round(view.width * scale)), max(1, round(view.height * scale)))
    shown, everything = drawn(gaussians), gaussians.detach()
    rows = everything if bool(shown.all()) else everything.select(shown)
    with torch.no_grad():
        picture = render(rows, small, colors=torch.zeros_like(rows.means), outputs=("depth",))
    assert picture.depth is not None
    # Where little is drawn, nothing hides.
    depths = torch.where(picture.alpha > 0.5, picture.depth, math.inf)
    x = ((pixels[:, 0] - left) * (small.width / view.width)).long().clamp_(max=small.width - 1)
    y = ((pixels[:, 1] - top) * (small.height / view.height)).long().clamp_(max=small.height - 1)
    return depths.flatten().index_select(0, y * small.width + x)


def _finish(found: Tensor, gaussians: Gaussians, camera: Camera, places: Tensor, front_only: bool) -> Tensor:
    if front_only and bool(found.any()):
        return _unhidden(gaussians, camera, places, found)
    return found
