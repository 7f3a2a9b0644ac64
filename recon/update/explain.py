"""How well new pictures are explained by a world without some objects, and with one of them put somewhere."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from gaussworld.camera import Camera
from gaussworld.gaussians import Gaussians
from gaussworld.pose import multiply_quats, quats_from_rotation, transform_points
from gaussworld.render import render

from .changes import widened
from .landmarks import drawn
from .relocalise import Shot

#: What a pixel costs whose colour nobody can know, such as that of a table where something stood.
_UNKNOWN = 0.1
#: A colour difference costs no more than this.
_WORST = 0.3
#: Share of its distance by which a thing may lie behind a surface and still be in front of it.
_BEHIND = 0.01
_SOLID = 0.8
#: An object elsewhere may be brighter or darker by this factor.
_SHADE = 1.4


@dataclass(frozen=True, eq=False)
class Backdrop:
    """One picture, and the world behind the objects in question, in the world's colours."""

    camera: Camera
    picture: Float[Tensor, "h w 3"]
    rgb: Float[Tensor, "h w 3"]
    depth: Float[Tensor, "h w"]
    """[unit of the world] 0 where there is nothing."""
    known: Bool[Tensor, "h w"]
    """Where the world knows what is behind them."""
    vacated: Bool[Tensor, "h w"]
    """Where an object in question is drawn at its old place."""


def backdrops(
    gaussians: Gaussians, shots: Sequence[Shot], without: Collection[int], shrink: int
) -> list[Backdrop]:
    """Pictures and the world without some objects.

    Args:
        gaussians: what is shown of the world, with object ids.
        shots: pictures that found their place.
        without: ids of the objects in question.
        shrink: what the sides of the pictures are divided by.
    """
    away = torch.isin(gaussians.object_ids, torch.tensor(sorted(without), dtype=gaussians.object_ids.dtype))
    rest, gone = gaussians.select(~away), gaussians.select(away)
    return [_backdrop(rest, gone, shot.shrunk(shrink) if shrink > 1 else shot) for shot in shots]


@torch.no_grad()
def _backdrop(rest: Gaussians, gone: Gaussians, shot: Shot) -> Backdrop:
    drawing = drawn(rest, shot.camera)
    assert drawing.depth is not None
    vacated = torch.zeros(drawing.alpha.shape, dtype=torch.bool)
    if len(gone):
        front = render(gone, shot.camera, outputs=("depth",))
        assert front.depth is not None
        visible = (drawing.depth <= 0) | (front.depth < drawing.depth * (1 + _BEHIND))
        vacated = widened((front.alpha > 0.3) & visible, max(1, round(shot.camera.width / 200)))
    known = (drawing.alpha > _SOLID) & ~vacated
    picture = shot.exposure.undone(shot.view.image)
    return Backdrop(shot.camera, picture, drawing.rgb, drawing.depth, known, vacated)


def cost_map(backdrop: Backdrop, item: Gaussians | None) -> tuple[Float[Tensor, "h w"], Float[Tensor, "h w"]]:
    """What each pixel costs if an object is where these Gaussians are, and how much of it is seen there.

    Differentiable in the Gaussians.
    """
    target = backdrop.picture
    # What is seen of the world behind costs no more than what is unknown: an object that does not fit must
    # not be welcome because it hides something else that does not.
    plain = (backdrop.rgb - target).abs().mean(-1).clamp(max=_UNKNOWN)
    behind = torch.where(backdrop.known, plain, _UNKNOWN)
    if item is None or not len(item):
        return behind, torch.zeros_like(behind)
    front = render(item, backdrop.camera, outputs=("depth",))
    assert front.depth is not None
    farther = front.depth.detach() > backdrop.depth * (1 + _BEHIND)
    hidden = farther & backdrop.known & (backdrop.depth > 0)
    alpha, rgb = front.alpha * ~hidden, front.rgb * ~hidden[..., None]
    own = (rgb * _shaded(rgb, alpha, target) - alpha[..., None] * target).abs().mean(-1).clamp(max=_WORST)
    return own + (1 - alpha) * behind, alpha


@torch.no_grad()
def _shaded(rgb: Tensor, alpha: Tensor, target: Tensor) -> float:
    """How much brighter an object is where the light falls on it differently."""
    there = alpha > 0.5
    if not bool(there.any()):
        return 1.0
    shown, wanted = rgb[there].sum(-1), target[there].sum(-1)
    ratio = float((wanted / shown.clamp(min=0.05)).median())
    return min(max(ratio, 1 / _SHADE), _SHADE)


@torch.no_grad()
def total_cost(views: Sequence[Backdrop], item: Gaussians | None) -> float:
    """The sum over all pixels of all pictures."""
    return sum(float(cost_map(view, item)[0].sum()) for view in views)


def put(item: Gaussians, motion: Float[Tensor, "4 4"]) -> Gaussians:
    """Gaussians moved rigidly in the world, but for their spherical harmonics; differentiable and fast."""
    turn = quats_from_rotation(motion[:3, :3])
    return Gaussians(
        transform_points(motion, item.means),
        multiply_quats(turn.expand_as(item.quats), item.quats),
        item.log_scales,
        item.opacity_logits,
        item.sh,
        item.object_ids,
        item.flags,
    )


def placed(item: Gaussians, motion: Float[Tensor, "4 4"]) -> Gaussians:
    """Gaussians moved rigidly in the world, colours and all."""
    return item.transformed(motion.to(item.means))
