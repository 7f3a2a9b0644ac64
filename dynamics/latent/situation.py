"""`Situation` and `Hands`: where things and tools are at a moment, as a scene's tokens see it."""

from dataclasses import dataclass, fields, replace

import torch
from jaxtyping import Float
from torch import Tensor

from gaussworld.state import State

from ..matter.parts import Matter
from ..physics.motion import rotations, turned
from .scene import Scene, movers


@dataclass(frozen=True, eq=False)
class Situation:
    """Where the m things of a scene are, and how they move; the world's axes."""

    centers: Float[Tensor, "*b m 3"]
    """[m]"""
    turns: Float[Tensor, "*b m 3 3"]
    """World from rest frame."""
    anchors: Float[Tensor, "*b m A 3"]
    """[m]"""
    velocities: Float[Tensor, "*b m 3"]
    """[m/s] of the centres."""
    spins: Float[Tensor, "*b m 3"]
    """[rad/s]"""
    drifts: Float[Tensor, "*b m A 3"]
    """[m/s] of the anchors of what bends; 0 elsewhere."""
    joints: Float[Tensor, "*b m"]
    """[rad] or [m]"""
    rates: Float[Tensor, "*b m"]

    def __getitem__(self, index: int | slice | Tensor) -> "Situation":
        return Situation(**{f.name: getattr(self, f.name)[index] for f in fields(self)})

    def mirrored(self, signs: Float[Tensor, " n"]) -> "Situation":
        """Worlds whose x is turned round where the sign is -1; the first axis is that of worlds."""
        flip = torch.stack([signs, torch.ones_like(signs), torch.ones_like(signs)], -1)

        def by(value: Tensor, factor: Tensor) -> Tensor:
            return value * factor.reshape(-1, *[1] * (value.ndim - 2), 3)

        changed = {
            name: by(getattr(self, name), flip) for name in ("centers", "anchors", "velocities", "drifts")
        }
        turns = _mirrored_turns(self.turns, flip)
        return replace(self, **changed, turns=turns, spins=by(self.spins, flip * signs[:, None]))


@dataclass(frozen=True, eq=False)
class Hands:
    """Where the k boxes of the tools are."""

    places: Float[Tensor, "*b a 3"]
    """[m] of the tools."""
    sides: Float[Tensor, "*b a 2"]
    """Horizontal part of their x axes, which tells turns about the vertical apart."""
    boxes: Float[Tensor, "*b k 3"]
    """[m] middles."""
    turns: Float[Tensor, "*b k 3 3"]
    """World from box."""

    def __getitem__(self, index: int | slice | Tensor) -> "Hands":
        return Hands(**{f.name: getattr(self, f.name)[index] for f in fields(self)})

    def mirrored(self, signs: Float[Tensor, " n"]) -> "Hands":
        """As `Situation.mirrored`. A box is its own mirror image; of the tool's axis x the side is turned."""
        flip = torch.stack([signs, torch.ones_like(signs), torch.ones_like(signs)], -1)
        shaped = flip.reshape(-1, *[1] * (self.places.ndim - 2), 3)
        turns = _mirrored_turns(self.turns, flip)
        sides = self.sides * shaped[..., :2] * signs.reshape(-1, *[1] * (self.sides.ndim - 1))
        return Hands(self.places * shaped, sides, self.boxes * shaped, turns)


def _mirrored_turns(turns: Tensor, flip: Float[Tensor, "n 3"]) -> Tensor:
    both = flip[:, :, None] * flip[:, None]
    return turns * both.reshape(-1, *[1] * (turns.ndim - 3), 3, 3)


def hands_of(scene: Scene, poses: Float[Tensor, "*b a 7"], grip: Float[Tensor, "*b a"]) -> Hands:
    """Boxes of tools at poses, closed that far; the scene is of one world."""
    turns = rotations(poses[..., 3:])
    rows = scene.box_tools[0]
    mine = turns[..., rows, :, :] if turns.shape[-3] > 1 else turns.expand(*turns.shape[:-3], len(rows), 3, 3)
    places = poses[..., rows, :3] if poses.shape[-2] > 1 else poses[..., :3]
    closed = grip[..., rows, None] if grip.shape[-1] > 1 else grip[..., None]
    local = scene.boxes[0] + closed * scene.travel[0]
    return Hands(poses[..., :3], turns[..., :2, 0], places + (mine @ local[..., None])[..., 0], mine)


class Follower:
    """Between the states of one world and the situations of its scene."""

    def __init__(self, scene: Scene, matter: Matter) -> None:
        """Work out which anchor carries which particle.

        Args:
            scene: of this world alone.
            matter: its own.
        """
        self.scene, self.matter = scene, matter
        self.parts = movers(matter)
        self.rows = torch.tensor([part.row for part in self.parts])
        self.weights: dict[int, Tensor] = {}
        self.picked: dict[int, Tensor] = {}
        for index, part in enumerate(self.parts):
            if part.kind.bends:
                anchors = scene.arms[0, index] + scene.centers[0, index]
                apart = torch.cdist(matter.rest[part.rows], anchors)
                self.weights[index], self.picked[index] = _weights(apart), apart.argmin(0)

    def situation(self, state: State) -> Situation:
        """Of a state with any batch axes."""
        poses, twists = state.object_poses[..., self.rows, :], state.object_twists[..., self.rows, :]
        turns = rotations(poses[..., 3:])
        levers = (turns @ self.scene.centers[0, ..., None])[..., 0]
        centers = poses[..., :3] + levers
        anchors = centers[..., None, :] + self.scene.arms[0] @ turns.transpose(-1, -2)
        spins = twists[..., 3:]
        velocities = twists[..., :3] + torch.linalg.cross(spins, levers)
        drifts, joints = torch.zeros_like(anchors), torch.zeros_like(centers[..., 0])
        rates = torch.zeros_like(joints)
        for index, part in enumerate(self.parts):
            if part.kind.bends:
                rows = self.picked[index] + part.start
                anchors[..., index, :, :] = state.particle_positions[..., rows, :]
                drifts[..., index, :, :] = state.particle_velocities[..., rows, :]
                centers[..., index, :] = anchors[..., index, :, :].mean(-2)
                velocities[..., index, :] = drifts[..., index, :, :].mean(-2)
                spins[..., index, :] = 0
            elif part.joint_row is not None:
                joints[..., index] = state.joint_positions[..., part.joint_row]
                rates[..., index] = state.joint_rates[..., part.joint_row]
        return Situation(centers, turns, anchors, velocities, spins, drifts, joints, rates)

    def particles(self, index: int, start: Tensor, moved: Tensor) -> Tensor:
        """(*b, q, 3) [m] particles of what bends, whose anchors moved (*b, A, 3) since `start`."""
        return start + self.weights[index] @ moved


def _weights(apart: Float[Tensor, "q A"]) -> Float[Tensor, "q A"]:
    """How much each particle goes with each anchor, by nearness at rest: with its own one alone."""
    nearest, rows = apart.topk(min(4, apart.shape[1]), largest=False)
    values = 1 / (nearest + 1e-5).square()
    weights = torch.zeros_like(apart).scatter_(1, rows, values)
    return weights / weights.sum(1, keepdim=True)


def shaken(scene: Scene, situation: Situation, noise: float, generator: torch.Generator) -> Situation:
    """Free rigid things moved in the plane by `noise` [m] and turned by a degree about the vertical."""
    shape, device = situation.centers.shape[:-1], situation.centers.device
    free = scene.kinds[..., 0].reshape(shape)
    shift = torch.randn(*shape, 2, generator=generator).to(device) * noise * free[..., None]
    angle = torch.randn(shape, generator=generator).to(device).deg2rad() * free * (noise > 0)
    turn = torch.stack([0 * angle, 0 * angle, angle], -1)
    unit = angle.new_tensor([1.0, 0, 0, 0]).expand(*shape, 4)
    turns = rotations(turned(unit, turn)) @ situation.turns
    shift = torch.cat([shift, torch.zeros_like(shift[..., :1])], -1)
    centers = situation.centers + shift
    rigid = centers[..., None, :] + scene.arms @ turns.transpose(-1, -2)
    stiff = scene.kinds[..., 2:].sum(-1) == 0
    anchors = torch.where(stiff[..., None, None], rigid, situation.anchors)
    return replace(situation, centers=centers, turns=turns, anchors=anchors)
