"""`Gallery`: predictions as pictures, beside the same Gaussians posed by the truth, and what was filmed."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from gaussworld.camera import Camera
from gaussworld.gaussians import DELETED, HIDDEN
from gaussworld.io.video import read_video
from gaussworld.metrics import SSIM_RADIUS, psnr, ssim
from gaussworld.render import render
from gaussworld.state import State
from gaussworld.world_object import ObjectKind

from ..prediction.picture import BACKGROUND, fitted
from ..prediction.stage import framing_camera
from ..prediction.truth_view import recorded
from .truth import Truth

#: [dB] what pictures get that are equal: a mean of infinity says nothing.
MOST_DB = 60.0
#: [m] a table may reach so far above the lowest point of what lies on it.
_BELOW = 0.01
Perceptual = Callable[[Float[Tensor, "h w 3"], Float[Tensor, "h w 3"]], float | None]


@dataclass(frozen=True, eq=False)
class Picture:
    """What is seen at a moment."""

    rgb: Float[Tensor, "h w 3"]
    ids: Int[Tensor, "h w"]
    """The object at each pixel; -1 is what they lie on, or nothing."""


class Gallery:
    """Draws states of one episode and compares them with its truth.

    Pictures are taken by the episode's first camera where it has one, else by one that sees all that moves.
    """

    def __init__(self, truth: Truth, width: int = 320, perceptual: Perceptual | None = None) -> None:
        """For an episode; pictures are `width` px wide."""
        self._truth, self._width, self._perceptual = truth, width, perceptual
        self._drawn: dict[int, Picture] = {}
        rest = truth.skin.rest
        shown = (rest.flags & (DELETED | HIDDEN)) == 0
        below = torch.isin(rest.object_ids, torch.tensor(_below(truth), dtype=rest.object_ids.dtype))
        self._thing_rows, self._below_rows = shown & ~below, shown & below
        self._movable = truth.followed.objects
        items = truth.world.objects
        self._robots = [
            row for row, n in enumerate(truth.states.object_ids) if items[n].kind is ObjectKind.ROBOT
        ]

    @cached_property
    def camera(self) -> Camera:
        """Through which everything is seen."""
        cameras = list(self._truth.episode.cameras.values())
        if not cameras:
            return framing_camera(self._truth.world, self._truth.states, self._width, 3 * self._width // 4)
        height = max(1, round(cameras[0].height * self._width / cameras[0].width))
        return cameras[0].rescaled(self._width, height)

    @torch.no_grad()
    def drawn(self, state: State) -> Picture:
        """A state as Gaussians show it.

        What everything lies on is painted first: its Gaussians are not as thin as a rope or a cloth on it.
        """
        rgb, alpha, ids = self._layer(state, self._thing_rows)
        under, _, _ = self._table
        return Picture((rgb + (1 - alpha[..., None]) * under).clamp(0, 1), torch.where(alpha > 0.5, ids, -1))

    @cached_property
    def _table(self) -> tuple[Tensor, Tensor, Tensor]:
        rgb, alpha, ids = self._layer(self._truth.states[0], self._below_rows)
        return rgb + (1 - alpha[..., None]) * torch.tensor(BACKGROUND), alpha, ids

    def _layer(self, state: State, rows: Bool[Tensor, " n"]) -> tuple[Tensor, Tensor, Tensor]:
        """Colour over black, opacity, and the object at each pixel, of some of the Gaussians."""
        posed = self._truth.skin.posed(state)
        gaussians = posed.unturned().select(rows)
        seen = render(gaussians, self.camera, colors=posed.colors(self.camera.center)[rows], outputs=("ids",))
        assert seen.ids is not None
        if not len(gaussians):
            return seen.rgb, seen.alpha, seen.ids.long()
        ids = torch.where(seen.ids >= 0, gaussians.object_ids[seen.ids.clamp(min=0).long()], -1)
        return seen.rgb, seen.alpha, ids.long()

    def compared(self, state: State, step: int) -> dict[str, float]:
        """IoU, PSNR, SSIM and, where it can be had, LPIPS of a predicted state after so many steps.

        Tools are drawn where they really were: they are no prediction.
        """
        if step not in self._drawn:
            self._drawn[step] = self.drawn(self._truth.states[step])
        seen = self.drawn(self.with_true_tools(state, step))
        told = self._alike(seen, self._drawn[step], "")
        return told | (self._alike(seen, self._film[step], "film_") if self._film else {})

    def with_true_tools(self, state: State, step: int) -> State:
        """A state in which robots are where they really were after so many steps."""
        poses = state.object_poses.clone()
        poses[self._robots] = self._truth.states.object_poses[step, self._robots].to(poses)
        return replace(state, object_poses=poses)

    @cached_property
    def _film(self) -> dict[int, Picture]:
        """What the first camera filmed, by moment; nothing without."""
        episode = self._truth.episode
        if not recorded(episode):
            return {}
        name, camera = next(iter(episode.cameras)), self.camera
        found = {}
        for step, (_, picture) in enumerate(read_video(episode.video(name))):
            if step > len(episode):
                break
            ids = episode.ids(name, step)
            rows = ((torch.arange(camera.height) + 0.5) * ids.shape[0] / camera.height).long()
            columns = ((torch.arange(camera.width) + 0.5) * ids.shape[1] / camera.width).long()
            rgb = fitted(picture, camera.width, camera.height)
            found[step] = Picture(rgb, ids[rows][:, columns])
        return found

    def _alike(self, seen: Picture, true: Picture, prefix: str) -> dict[str, float]:
        overlaps, region = [], torch.zeros_like(seen.ids, dtype=torch.bool)
        for number in self._movable:
            a, b = seen.ids == number, true.ids == number
            if bool((a | b).any()):
                overlaps.append(float((a & b).sum() / (a | b).sum()))
                region |= a | b
        if not overlaps:
            return {}
        told = {"iou": sum(overlaps) / len(overlaps)}
        told["psnr_db"] = min(psnr(seen.rgb, true.rgb, region), MOST_DB)
        if bool(_inner(region).any()):
            told["ssim"] = ssim(seen.rgb, true.rgb, region)
        if self._perceptual is not None and (far := self._perceptual(seen.rgb, true.rgb)) is not None:
            told["lpips"] = far
        return {prefix + name: value for name, value in told.items()}


def _below(truth: Truth) -> list[int]:
    """Static things that are below all that can move: tables."""
    lowest = float(truth.followed.points[0, :, 2].min()) + _BELOW
    found = []
    for number, item in truth.world.objects.items():
        if item.kind is ObjectKind.STATIC and len(item.gaussians):
            found += [number] * (float(item.posed().means[:, 2].quantile(0.95)) < lowest)
    return found


def _inner(region: Bool[Tensor, "h w"]) -> Bool[Tensor, "_ _"]:
    """Pixels around which a whole window of SSIM fits."""
    return region[SSIM_RADIUS:-SSIM_RADIUS, SSIM_RADIUS:-SSIM_RADIUS]
