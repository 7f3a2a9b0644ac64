"""Where an object that looks changed is now: at a new pose, gone, or where it was."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from gaussworld.gaussians import Gaussians
from gaussworld.pose import pose_from, rotation_from_rotvec
from gaussworld.threads import one_torch_thread

from ..adam import Learnt
from .explain import Backdrop, cost_map, placed, put, total_cost

Verdict = Literal["moved", "gone", "stays"]

#: Steps of the descent on coarse and on fine pictures, and pictures looked at in each.
_COARSE, _FINE, _AT_ONCE = 25, 45, 4
#: What a step may change: [rad], and share of the object's size.
_COARSE_RATE, _FINE_RATE = 0.08, 0.006
#: An explanation must be better than another by this much for each pixel of the object.
_MARGIN = 0.012
#: [dB] How much an object that moved must look like the pictures where it is now.
_ALIKE = 14.0
#: Features that are worth more than colours, and how many times as many as colours keep in place.
_FEATURES, _LED_AWAY = 10, 1.15
#: Features that leave no doubt.
_SURE = 40
#: How many of the motions are followed to their end.
_FOLLOWED = 3


@dataclass(frozen=True, eq=False)
class Move:
    """What became of one object."""

    object_id: int
    verdict: Verdict
    motion: Float[Tensor, "4 4"]
    """`new_world_from_old_world` of the object; the identity unless it moved."""
    psnr_before: float
    """[dB] of the pictures where the object is now, as the world was."""
    psnr_after: float
    """[dB] likewise, as it is now."""
    costs: dict[str, float]
    """Mean cost of a pixel of the object, for each explanation."""


def explained(
    object_id: int,
    item: Gaussians,
    motions: Sequence[Float[Tensor, "4 4"]],
    coarse: Sequence[Backdrop],
    fine: Sequence[Backdrop],
    support: Callable[[Tensor], int] | None = None,
) -> Move:
    """The best explanation of what pictures show of an object.

    Args:
        object_id: its id.
        item: its Gaussians where they were, in the world frame.
        motions: where it may have gone.
        coarse, fine: the pictures, small and larger, with the world without all objects in question.
        support: how many of its features are where a motion puts them.
    """
    eye = torch.eye(4)
    with one_torch_thread():
        likely = _by_cost(item, motions, coarse)[:_FOLLOWED]
        tried = [descended(item, motion, coarse, _COARSE, _COARSE_RATE) for motion in likely]
        best = _by_cost(item, tried, coarse)[0] if tried else eye
        best = descended(item, best, fine, _FINE, _FINE_RATE)
        best = _borne_out(best, motions, support)
    area = max(1.0, _area(fine, item))
    per_pixel = {
        "stays": total_cost(fine, item) / area,
        "gone": total_cost(fine, None) / area,
        "moved": total_cost(fine, placed(item, best)) / area,
    }
    before, after = _likeness(fine, item, placed(item, best))
    sure = support is not None and support(best) >= _SURE
    verdict = _verdict(per_pixel, after, sure)
    motion = best if verdict == "moved" else eye
    return Move(object_id, verdict, motion, before, after, per_pixel)


def _borne_out(
    best: Tensor, motions: Sequence[Tensor], support: Callable[[Tensor], int] | None
) -> Float[Tensor, "4 4"]:
    """The motion that features ask for, where colours, which the light changes, have led away from it."""
    if support is None or not motions:
        return best
    asked = max(motions, key=support)
    return asked if support(asked) >= max(_FEATURES, _LED_AWAY * support(best)) else best


def _by_cost(
    item: Gaussians, motions: Sequence[Float[Tensor, "4 4"]], views: Sequence[Backdrop]
) -> list[Float[Tensor, "4 4"]]:
    costs = [total_cost(views, placed(item, motion)) for motion in motions]
    return [motions[i] for i in sorted(range(len(costs)), key=lambda i: costs[i])]


def _verdict(costs: dict[str, float], alike: float, sure: bool) -> Verdict:
    """Staying is believed unless something else is clearly better; moving unless it only hides the object.

    Where many features say so, an object has moved even if it shows sides that were never seen before.
    """
    if sure and costs["moved"] < costs["stays"] - _MARGIN:
        return "moved"
    if costs["moved"] < min(costs["stays"], costs["gone"]) - _MARGIN and alike > _ALIKE:
        return "moved"
    return "gone" if costs["gone"] < costs["stays"] - _MARGIN else "stays"


def descended(
    item: Gaussians,
    motion: Float[Tensor, "4 4"],
    views: Sequence[Backdrop],
    steps: int,
    rate: float,
) -> Float[Tensor, "4 4"]:
    """A motion improved by gradient through the rasterizer, in six degrees of freedom."""
    start = placed(item, motion).detach()
    middle = start.means.mean(0)
    size = float((start.means - middle).norm(dim=1).quantile(0.9)) + 1e-9
    delta, best = Learnt(torch.zeros(6)), (float("inf"), torch.zeros(6))
    chosen = [view for view in views if _sees(view, start)] or list(views)
    for step in range(steps):
        some = [chosen[(step * _AT_ONCE + i) % len(chosen)] for i in range(min(_AT_ONCE, len(chosen)))]
        loss = torch.stack(
            [cost_map(v, put(start, _change(delta.value, middle, size)))[0].sum() for v in some]
        )
        loss.sum().backward()
        delta.step(rate * 0.1 ** (step / steps))
        if step >= steps - 2 or step % 8 == 7:
            reached = total_cost(chosen, put(start, _change(delta.value.detach(), middle, size)))
            if reached < best[0]:
                best = (reached, delta.value.detach().clone())
    if total_cost(chosen, start) <= best[0]:
        return motion
    return _change(best[1], middle, size) @ motion


def _change(delta: Tensor, middle: Tensor, size: float) -> Tensor:
    """A turn about the object's middle and a shift in units of its size."""
    rotation = rotation_from_rotvec(delta[:3])
    return pose_from(rotation, middle - rotation @ middle + delta[3:] * size)


def _sees(view: Backdrop, item: Gaussians) -> bool:
    at, depth = view.camera.project(item.means)
    x, y = at.unbind(1)
    inside = (depth > 0) & (x > 0) & (y > 0) & (x < view.camera.width) & (y < view.camera.height)
    return float(inside.float().mean()) > 0.3


@torch.no_grad()
def _area(views: Sequence[Backdrop], item: Gaussians) -> float:
    """[px] of an object in all pictures, where it was; nothing in front counts."""
    return sum(float(cost_map(view, item)[1].sum()) for view in views)


@torch.no_grad()
def _likeness(views: Sequence[Backdrop], old: Gaussians, new: Gaussians) -> tuple[float, float]:
    """[dB] of what pictures show where the object is now: the world as it was, and with the object there."""
    before, after, count = 0.0, 0.0, 0.0
    for view in views:
        alpha = cost_map(view, new)[1]
        there = alpha > 0.5
        count += 3 * float(there.sum())
        for item in (old, new):
            squared = float((_drawn_over(view, item) - view.picture)[there].square().sum())
            before, after = (before + squared, after) if item is old else (before, after + squared)
    if not count:
        return 0.0, 0.0
    error = torch.tensor([before, after]) / count
    worse, better = (-10 * error.clamp(min=1e-10).log10()).tolist()
    return worse, better


def _drawn_over(view: Backdrop, item: Gaussians) -> Tensor:
    from gaussworld.render import render

    front = render(item, view.camera)
    return front.rgb + (1 - front.alpha)[..., None] * view.rgb
