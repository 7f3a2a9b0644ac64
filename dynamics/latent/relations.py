"""What things, tools and ground are to each other at a moment, seen from each thing: numbers without axes.

Everything is told in the frame of a thing: about its centre, x towards the nearest tool, z up. So nothing
depends on where the world's origin is, nor on a turn of the world about the vertical.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from .scene import KINDS, Scene
from .situation import Hands, Situation

#: [m] scales at which distances are looked at.
NEAR, WIDE = 0.01, 0.06
#: [m/s] and [rad/s] that count as one.
SPEED, SPIN = 0.1, 1.0
#: [m] and [rad] that motion in a step is measured in.
WAY, TURN = 0.02, 0.2
#: [m] beyond its largest gap, how far from its anchors a tool still moves a thing, and over which that ends.
_REACH, _FADE = 0.02, 0.01
#: [m/s] slower than the first a thing rests, faster than the second it moves.
_RESTS, _MOVES = 0.002, 0.006
#: [m] how far the tool's own x axis turns the frame of what is right below it.
_ASIDE = 0.01
#: Anchors that are looked at between two things.
_COARSE = 20
#: Numbers of each kind of relation.
TRAITS, GROUND, PAIR, TOOL, EDGE, PER_VECTOR = len(KINDS) + 11, 7, 11, 6, 10, 5


@dataclass(frozen=True, eq=False)
class Touch:
    """How the tools' boxes are to the anchors before and after a step in which things stay where they are."""

    frames: Float[Tensor, "n m 3 3"]
    """World from each thing's frame."""
    edges: Float[Tensor, "n m k A e"]
    """Column 0 is the distance before, 1 where it is large."""
    gaps: Float[Tensor, "n m"]
    """[m] the smallest distance."""
    places: Float[Tensor, "n m a 3"]
    """[m] of each tool."""
    ways: Float[Tensor, "n m a 3"]
    """[m] of each tool's motion."""


def soft(values: Tensor, limit: float) -> Tensor:
    """The values while they are small, never more than the limit."""
    return values / (1 + values.abs() / limit)


def touch(
    scene: Scene, vectors: Float[Tensor, "n m A v 3"], at: Situation, before: Hands, after: Hands
) -> Touch:
    """Where the tools are to the things.

    Args:
        scene: what they are.
        vectors: directions at the anchors, in the rest frames.
        at: where the things are.
        before: where the tools are.
        after: where they will be.
    """
    toward = before.places[:, None] - at.centers[:, :, None]
    frames = _frames(scene, toward, before)
    turns = torch.stack([before.turns, after.turns])[:, :, None]
    middles = torch.stack([before.boxes, after.boxes])[:, :, None, :, None]
    local = (at.anchors[None, :, :, None] - middles) @ turns
    halves = scene.halves[:, None, :, None]
    outside = local - torch.maximum(torch.minimum(local, halves), -halves)
    # From the boxes' axes to each thing's frame at once.
    delta = outside @ (turns.transpose(-1, -2) @ frames[:, :, None])
    distance = (delta.square().sum(-1) + 1e-10).sqrt() - scene.radii[:, None, :, None]
    if scene.lacking:
        distance = distance.masked_fill(~scene.box_present[:, None, :, None], 1.0)
    unturned = frames.transpose(-1, -2) @ at.turns
    seen = vectors.flatten(2, 3) @ unturned.transpose(-1, -2)
    edges = _edges(delta, distance, seen.unflatten(2, vectors.shape[2:4]))
    ways = (after.places - before.places)[:, None].expand(-1, toward.shape[1], -1, -1)
    return Touch(frames, edges, distance.flatten(3).amin(-1).amin(0), toward @ frames, ways @ frames)


def _frames(scene: Scene, toward: Tensor, hands: Hands) -> Float[Tensor, "n m 3 3"]:
    if toward.shape[2] == 1:
        way, side = toward[:, :, 0, :2], hands.sides
    else:
        far = toward.square().sum(-1).masked_fill(~scene.tool_present[:, None], torch.inf)
        row = far.argmin(-1)[..., None, None].expand(-1, -1, 1, 2)
        way = toward[..., :2].gather(2, row)[:, :, 0]
        side = hands.sides[:, None].expand(-1, way.shape[1], -1, -1).gather(2, row)[:, :, 0]
    way = way + _ASIDE * side
    x, y = (way / (way.square().sum(-1, keepdim=True) + 1e-12).sqrt()).unbind(-1)
    o, i = torch.zeros_like(x), torch.ones_like(x)
    return torch.stack([x, -y, o, y, x, o, o, o, i], -1).unflatten(-1, (3, 3))


def _edges(delta: Tensor, distance: Tensor, vectors: Tensor) -> Float[Tensor, "n m k A e"]:
    own = vectors.flatten(-2)[:, :, None]
    own = own if delta.shape[3] == 1 else own.expand(-1, -1, delta.shape[3], -1, -1)
    planes = (vectors[:, :, None] @ delta[..., None])[..., 0]
    ways, planes = soft(delta / WIDE, 2.0), soft(planes / (2 * NEAR), 4.0)
    far = torch.stack([distance / WIDE, distance / NEAR], -1).tanh()
    return torch.cat([far[0], far[1], ways[0], ways[1], own, planes[0], planes[1]], -1)


def traits(scene: Scene, at: Situation, frames: Tensor) -> Float[Tensor, "n m t"]:
    """What kind of thing it is, its size, and its joint."""
    turns = frames.transpose(-1, -2) @ at.turns
    joint = (turns @ torch.stack([scene.axes, scene.origins / 0.2], -1)).flatten(-2)
    room = torch.stack([at.joints - scene.limits[..., 0], scene.limits[..., 1] - at.joints], -1)
    rate = at.rates * (scene.slides * (1 / SPEED - 1 / SPIN) + 1 / SPIN)
    size = scene.sizes.clamp(min=1e-4).log() + 3
    rest = torch.stack([scene.slides.expand_as(rate), soft(rate, 10.0), size.expand_as(rate)], -1)
    count = len(at.centers)
    own = torch.cat([scene.kinds.expand(count, -1, -1), soft(room / 0.1, 2.0), rest], -1)
    return torch.cat([own, joint], -1)


def ground(scene: Scene, at: Situation, frames: Tensor) -> Float[Tensor, "n m g"]:
    """How far the edge of the patch below a thing is, and how high it is over it and over the floor."""
    flat = scene.edges.flatten(1, 2)
    inside = (flat[:, None, :, :2] * at.centers[:, :, None, :2]).sum(-1) - flat[:, None, :, 2]
    inside = inside.unflatten(2, scene.edges.shape[1:3])
    room, side = inside.min(-1)
    room = room.masked_fill(~scene.patch_present[:, None], -1.0)
    room, patch = room.max(-1)
    row = patch * scene.edges.shape[2] + side.gather(2, patch[..., None])[..., 0]
    flat = flat.expand(len(row), -1, -1)
    inward = flat.gather(1, row[..., None].expand(-1, -1, 3))[..., :2]
    inward = (inward[..., None, :] @ frames[..., :2, :2])[..., 0, :]
    lowest = at.anchors[..., 2].amin(-1)
    present = scene.patch_present.any(-1)[:, None]
    over = lowest - scene.heights.expand(len(row), -1).gather(1, patch)
    high = torch.where(present, over, lowest - scene.floors[:, None])
    there = present.expand_as(room).to(room)
    numbers = [there, soft(room / WIDE, 3.0), (room / (2 * NEAR)).tanh(), soft(high / WIDE, 3.0),
               soft((lowest - scene.floors[:, None]) / 0.2, 3.0)]  # fmt: skip
    return torch.cat([torch.stack(numbers, -1), inward], -1)


def tool_facts(scene: Scene, before: Hands, after: Hands) -> Float[Tensor, "n a f"]:
    """How each tool moves, turns and closes in a step."""
    way = after.places - before.places
    level = (way[..., :2].square().sum(-1) + 1e-10).sqrt()
    whole = (way.square().sum(-1) + 1e-10).sqrt()
    turn = (after.sides - before.sides).square().sum(-1)
    # All boxes count for all tools: with several, which one closes is told by the edges.
    here = scene.box_present.to(way)[..., None]
    hands = [each.boxes - each.places[:, :1] for each in (before, after)]
    closing = ((hands[1] - hands[0]).square().sum(-1) * here[..., 0]).sum(-1, keepdim=True).expand_as(level)
    wide = (hands[0].square() * here).sum((-1, -2))[:, None].expand_as(level)
    columns = [level / WAY, way[..., 2] / WAY, whole / WAY, turn / TURN**2, closing / WAY**2, wide / 0.01]
    return soft(torch.stack(columns, -1), 5.0)


def pairs(
    scene: Scene, at: Situation, touched: Touch
) -> tuple[Float[Tensor, "n m l p"], Float[Tensor, "n m m"]]:
    """What each thing sees of the l = m + a things and tools, and how near other things are to it, 0 to 1."""
    n, m, tools = *at.centers.shape[:2], touched.places.shape[2]
    frames = touched.frames
    like = at.centers
    level = (touched.places.square().sum(-1) + 1e-10).sqrt()[..., None]
    nothing = like.new_zeros(n, m, tools, 3)
    acts = [soft(touched.places / 0.1, 3.0), soft(touched.ways / WAY, 5.0), nothing, (level / 0.1).tanh()]
    acts = torch.cat([*acts, like.new_ones(n, m, tools, 1)], -1)
    if m == 1:
        return torch.cat([like.new_zeros(n, 1, 1, PAIR), acts], 2), like.new_zeros(n, 1, 1)
    apart = (at.centers[:, None] - at.centers[:, :, None]) @ frames
    speeds = (at.velocities[:, None] - at.velocities[:, :, None]) @ frames
    coarse = at.anchors[:, :, :_COARSE]
    delta = coarse[:, None, :, None] - coarse[:, :, None, :, None]
    square = delta.square().sum(-1).flatten(3)
    least, row = square.min(-1)
    nearest = (
        delta.flatten(3, 4).gather(3, row[..., None, None].expand(-1, -1, -1, 1, 3))[:, :, :, 0] @ frames
    )
    gap = (least + 1e-10).sqrt()
    others = [
        soft(apart / 0.1, 3.0),
        soft(speeds / SPEED, 5.0),
        soft(nearest / 0.03, 3.0),
        (gap / 0.03)[..., None].tanh(),
    ]
    others = torch.cat([*others, torch.zeros_like(gap[..., None])], -1)
    reach = 1.5 * (scene.gaps[:, None] + scene.gaps[:, :, None]) + _REACH
    here = (
        scene.present[:, None]
        & scene.present[:, :, None]
        & ~torch.eye(m, dtype=torch.bool, device=like.device)
    )
    contact = ((reach + _FADE - gap) / _FADE).clamp(0, 1) * here
    return torch.cat([others, acts], 2), contact


def gate(
    scene: Scene, at: Situation, touched: Touch, contact: Float[Tensor, "n m m"]
) -> Float[Tensor, "n m"]:
    """0 for what rests and nothing reaches, 1 for what moves or may be touched, also through others."""
    near = ((scene.gaps + _REACH + _FADE - touched.gaps) / _FADE).clamp(0, 1)
    spin = at.spins.square().sum(-1).add(1e-12).sqrt() * scene.sizes
    speed = at.velocities.square().sum(-1).add(1e-12).sqrt() + spin
    bent = at.drifts.square().sum(-1).amax(-1).add(1e-12).sqrt()
    speed = torch.maximum(speed, bent).detach()
    moves = ((speed - _RESTS) / (_MOVES - _RESTS)).clamp(0, 1)
    value = torch.maximum(near.detach(), moves)
    if contact.shape[1] > 1:
        for _ in range(2):
            value = torch.maximum(value, (contact * value[:, None]).amax(-1).detach())
    return value * scene.present


def present_tokens(scene: Scene) -> Bool[Tensor, "n l"]:
    """Which of the things and tools there are."""
    return torch.cat([scene.present, scene.tool_present], 1)
