"""Correction by pictures: objects move until the rasterizer draws what was seen."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from gaussworld.gaussians import Gaussians
from gaussworld.pose import pose_from_pose7
from gaussworld.render import Rendering, render
from gaussworld.state import State
from gaussworld.world import World

from ..matter.parts import Matter
from ..prediction.stage import Posed, Stage
from ..tool import Tool
from .correct import (
    CorrectConfig,
    Corrected,
    ImageView,
    exponential,
    free_objects,
    moved_objects,
    moved_particles,
)

#: A colour that is off by this much counts 1.
_COLOR_TOLERANCE = 0.1
#: Fewest pixels of an object that move it.
_FEWEST = 30
#: Lowest and highest factor between what is drawn and what is seen that is taken for light.
_LIGHT = (0.4, 2.5)


@dataclass(frozen=True, eq=False)
class _Region:
    """Where in a view something that moves may be, and no tool is."""

    mask: Bool[Tensor, "h w"]
    shown: dict[int, int]
    """Pixels of each object, by id."""


class ImageCorrection:
    """Pulls states of one world to pictures: gradients through the rasterizer, Adam (Kingma and Ba 2015)."""

    def __init__(
        self,
        world: World,
        tools: Sequence[Tool] = (),
        matter: Matter | None = None,
        posed: Posed | None = None,
        config: CorrectConfig | None = None,
    ) -> None:
        """Get ready.

        Args:
            world: in metres; its Gaussians are what is compared with the pictures.
            tools: they cover what is behind them; how they look is not compared.
            matter: whose particles the states have; needed where something bends.
            posed: gives the Gaussians of a state, bent where things bend; differentiable.
            config: how far to pull.
        """
        self.world, self.matter, self.config = world, matter, config or CorrectConfig()
        self._stage = Stage(world, tools, posed)
        self._rigid, self._jointed, self._bending = free_objects(world, State.at_rest(world))

    def correct(self, state: State, views: Sequence[ImageView]) -> Corrected:
        """The state pulled to the pictures; what none of them shows stays as it is.

        Args:
            state: unbatched, as it was predicted.
            views: of one moment.
        """
        state = state.detach()
        regions = [self._region(state, view) for view in views]
        shown: dict[int, int] = {}
        for region in regions:
            for number, count in region.shown.items():
                shown[number] = shown.get(number, 0) + count
        unknowns = _Unknowns(self, state, {number for number, count in shown.items() if count >= _FEWEST})
        if not unknowns.groups or not views:
            return Corrected(state)
        optimizer = torch.optim.Adam(unknowns.groups, betas=(0.8, 0.95))
        rates = [group["lr"] for group in optimizer.param_groups]
        for step in range(self.config.steps):
            for group, rate in zip(optimizer.param_groups, rates):
                group["lr"] = rate * (1 - 0.8 * step / self.config.steps)
            optimizer.zero_grad()
            drawn = self._stage.gaussians(unknowns.state())
            loss = unknowns.doubt()
            for view, region in zip(views, regions):
                loss = loss + self._difference(drawn, view, region) / len(views)
            loss.backward()
            optimizer.step()
        with torch.no_grad():
            after = unknowns.state().detach()
        far = (after.object_poses[:, :3] - state.object_poses[:, :3]).norm(dim=-1).tolist()
        known = {number: count for number, count in shown.items() if number in unknowns.ids}
        return Corrected(after, {n: d for n, d in zip(state.object_ids, far) if n in known}, known)

    def _region(self, state: State, view: ImageView) -> _Region:
        """The pixels that can tell something: where movable things are drawn, and a margin around them."""
        with torch.no_grad():
            gaussians = self._stage.gaussians(state)
            ids = gaussians.object_ids
            movable = torch.isin(ids, torch.tensor([*self._rigid, *self._jointed, *self._bending]))
            tool = ids >= self.world.next_id
            features = torch.stack([movable, tool], 1).float()
            seen = render(gaussians, view.camera, features=features, outputs=["ids", "depth"])
        assert seen.features is not None and seen.ids is not None and seen.depth is not None
        objects = ids[seen.ids.clamp(min=0).long()]
        solid = (seen.alpha > 0.5) & (seen.features[..., 0] > 0.5)
        near = seen.depth[solid]
        margin = 3
        if len(near):
            reach = float(view.camera.K[0, 0]) * self.config.gate / 2 / float(near.median())
            margin = max(3, min(round(reach), max(view.camera.width, view.camera.height) // 8))
        wide = torch.nn.functional.max_pool2d(solid[None].float(), 2 * margin + 1, 1, margin)[0] > 0
        mask = wide & (seen.features[..., 1] < 0.05)
        if view.mask is not None:
            mask &= view.mask
        counted = objects[solid & mask]
        return _Region(mask, {int(n): int((counted == n).sum()) for n in counted.unique()})

    def _difference(self, gaussians: Gaussians, view: ImageView, region: _Region) -> Tensor:
        if not bool(region.mask.any()):
            return gaussians.means.new_zeros(())
        seen = render(
            gaussians, view.camera, mask=region.mask, outputs=["depth"] if view.depth is not None else []
        )
        mine = region.mask
        drawn, wanted = seen.rgb[mine], view.rgb[mine]
        if self.config.match_light:
            drawn = _lit(drawn, wanted)
        loss = _robust((drawn - wanted) / _COLOR_TOLERANCE).mean()
        return loss + self._depth_difference(seen, view, mine)

    def _depth_difference(self, seen: Rendering, view: ImageView, mine: Tensor) -> Tensor:
        if view.depth is None or seen.depth is None:
            return seen.rgb.new_zeros(())
        both = mine & (view.depth > 0) & (seen.alpha.detach() > 0.5)
        if not bool(both.any()):
            return seen.rgb.new_zeros(())
        return _robust((seen.depth - view.depth)[both] / self.config.depth_tolerance).sum() / mine.sum()


class _Unknowns:
    """What a correction looks for: a small motion of each rigid object, joint positions, particles."""

    def __init__(self, owner: ImageCorrection, state: State, ids: set[int]) -> None:
        self._owner, self._start, self.ids = owner, state, ids
        config = owner.config
        rigid = [number for number in owner._rigid if number in ids]
        jointed = [number for number in owner._jointed if number in ids]
        bending = bool(ids & set(owner._bending)) and owner.matter is not None
        self.shift = torch.zeros(len(rigid), 3, requires_grad=True)
        self.turn = torch.zeros(len(rigid), 3, requires_grad=True)
        self.joints = torch.zeros(len(jointed), requires_grad=True)
        self.particles = torch.zeros_like(state.particle_positions).requires_grad_()
        self._rigid, self._jointed, self._bends = rigid, jointed, bending
        poses = dict(zip(state.object_ids, pose_from_pose7(state.object_poses)))
        self._poses = poses
        self._centers = {
            number: poses[number][:3, :3] @ owner.world.objects[number].gaussians.means.mean(0)
            + poses[number][:3, 3]
            for number in rigid
        }
        self.groups = []
        if rigid:
            self.groups += [
                {"params": [self.shift], "lr": config.rate_place},
                {"params": [self.turn], "lr": config.rate_turn},
            ]
        if jointed:
            self.groups.append({"params": [self.joints], "lr": config.rate_turn})
        if bending:
            self.groups.append({"params": [self.particles], "lr": config.rate_place})

    def state(self) -> State:
        """The state that the unknowns make of the predicted one; differentiable."""
        state, owner = self._start, self._owner
        poses = {
            number: exponential(torch.cat([self.shift[row], self.turn[row]]), self._centers[number])
            @ self._poses[number]
            for row, number in enumerate(self._rigid)
        }
        joints = {
            number: (state.joint_positions[state.joint_ids.index(number)] + self.joints[row])
            for row, number in enumerate(self._jointed)
        }
        if self._bends and owner.matter is not None:
            bends = torch.tensor([owner.matter.parts[row].kind.bends for row in owner.matter.owners.tolist()])
            moved = state.particle_positions + self._smooth() * bends[:, None]
            state = moved_particles(state, moved, owner.matter)
        return moved_objects(owner.world, state, poses, joints, owner.matter)

    def doubt(self) -> Tensor:
        """How unlikely the motion is, by how far a prediction may be off."""
        config = self._owner.config
        loss = (self.shift / config.place_doubt).square().sum() + (
            self.turn / config.turn_doubt
        ).square().sum()
        loss = loss + (self.joints / config.turn_doubt).square().sum()
        if self._bends:
            loss = loss + (self.particles / config.place_doubt).square().mean()
        return 0.02 * loss

    def _smooth(self) -> Float[Tensor, "p 3"]:
        """Shifts that neighbours share, so that what is not seen follows what is."""
        matter = self._owner.matter
        assert matter is not None
        both = torch.cat([matter.edges, matter.edges.flip(1)])
        degree = torch.zeros(len(self.particles)).index_add(0, both[:, 0], torch.ones(len(both))) + 1
        shift = self.particles
        for _ in range(2):
            shift = shift.index_add(0, both[:, 0], shift[both[:, 1]]) / degree[:, None]
        return shift


def _robust(error: Tensor) -> Tensor:
    """Geman and McClure's: grows as the square, then towards 1; what is somebody else's shadow is bounded."""
    square = error.square()
    return square / (1 + square)


def _lit(drawn: Float[Tensor, "m 3"], wanted: Float[Tensor, "m 3"]) -> Float[Tensor, "m 3"]:
    """What is drawn under the light of what is seen: one factor for each colour, the median of the ratios."""
    with torch.no_grad():
        ratio = (wanted + 0.02) / (drawn + 0.02)
        factor = ratio.median(dim=0).values.clamp(*_LIGHT)
    return drawn * factor
