"""`Scene`: what does not change while a world moves, as the tensors from which tokens are made."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cached_property

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from gaussworld.gaussians import DELETED, HIDDEN, Gaussians
from gaussworld.pose import rotation_from_quats
from gaussworld.sh import rgb_from_sh0
from gaussworld.world import World

from ..matter.geodesic import farthest_points
from ..matter.parts import Fields, Matter, Part, PartKind
from ..physics.lookup import GroundLookup
from ..tool import Tool
from .config import LatentConfig

#: Kinds of what moves, in the order of `Scene.kinds`.
KINDS = (PartKind.RIGID, PartKind.JOINT, PartKind.ROPE, PartKind.CLOTH, PartKind.VOLUME)
#: Facts of one Gaussian: log size, log thinness, opacity, red, green, blue.
FACTS = 6
#: Gaussians that are less opaque say nothing about a shape.
_CLEAR = 0.1
#: Fields of `Scene` that a mirror turns round as it does places.
_VECTORS = ("centers", "arms", "normals", "near_offsets", "near_normals", "origins", "boxes", "travel")
#: [m] a distance field that says more is none.
_FAR = 5.0
#: What stands for a limit that a joint does not have [rad or m].
_NO_LIMIT = 10.0


@dataclass(frozen=True, eq=False)
class Scene:
    """n worlds of up to m things that move, with A anchors each, k boxes of a tools, and g patches of ground.

    Vectors are in the rest frame of their object, lengths in metres. Where a world has fewer, rows are empty.
    """

    present: Bool[Tensor, "n m"]
    kinds: Float[Tensor, "n m 5"]
    """One-hot, see `KINDS`."""
    centers: Float[Tensor, "n m 3"]
    """Mean of the anchors."""
    arms: Float[Tensor, "n m A 3"]
    """Anchors from there."""
    normals: Float[Tensor, "n m A 3"]
    """Outwards, where that is known."""
    free: Float[Tensor, "n m A"]
    """0 for anchors that are tied, else 1."""
    near_offsets: Float[Tensor, "n m A c 3"]
    """From each anchor to its Gaussians."""
    near_normals: Float[Tensor, "n m A c 3"]
    near_facts: Float[Tensor, "n m A c 6"]
    sizes: Float[Tensor, "n m"]
    """Root mean square of the arms."""
    gaps: Float[Tensor, "n m"]
    """Largest distance of a Gaussian from the nearest anchor."""
    axes: Float[Tensor, "n m 3"]
    """Of the joint; 0 without one."""
    origins: Float[Tensor, "n m 3"]
    """A point on the axis, from the centre."""
    slides: Float[Tensor, "n m"]
    """1 for a joint that slides, 0 for one that turns."""
    limits: Float[Tensor, "n m 2"]
    """Of the joint's position."""
    boxes: Float[Tensor, "n k 3"]
    """Middles of the tools' boxes while open, in the tool's frame."""
    travel: Float[Tensor, "n k 3"]
    halves: Float[Tensor, "n k 3"]
    radii: Float[Tensor, "n k"]
    box_tools: Int[Tensor, "n k"]
    box_present: Bool[Tensor, "n k"]
    tool_present: Bool[Tensor, "n a"]
    edges: Float[Tensor, "n g e 3"]
    """Of the patches that end: inward normal and offset of each side; 0 0 -1 for none, never left."""
    heights: Float[Tensor, "n g"]
    patch_present: Bool[Tensor, "n g"]
    floors: Float[Tensor, " n"]
    """Height of what has no edge."""

    def __len__(self) -> int:
        return len(self.present)

    @cached_property
    def bending(self) -> bool:
        """Whether anything bends."""
        return bool((self.kinds[..., 2:] > 0).any())

    @cached_property
    def hinged(self) -> bool:
        """Whether anything is on a joint."""
        return bool((self.kinds[..., 1] > 0).any())

    @cached_property
    def lacking(self) -> bool:
        """Whether some rows of boxes are empty."""
        return not bool(self.box_present.all())

    def to(self, device: torch.device | str) -> "Scene":
        return Scene(**{f.name: getattr(self, f.name).to(device) for f in fields(self)})

    def repeated(self, times: int) -> "Scene":
        """Every world so many times in a row."""
        if times == 1:
            return self
        return Scene(**{f.name: getattr(self, f.name).repeat_interleave(times, 0) for f in fields(self)})

    def mirrored(self, signs: Float[Tensor, " n"]) -> "Scene":
        """Worlds whose x is turned round where the sign is -1."""
        flip = torch.stack([signs, torch.ones_like(signs), torch.ones_like(signs)], -1)
        changed = {f.name: getattr(self, f.name) for f in fields(self)}
        for name in _VECTORS:
            changed[name] = changed[name] * flip.reshape(-1, *[1] * (changed[name].ndim - 2), 3)
        sides = self.edges[..., :2] * flip[:, None, None, :2]
        changed["edges"] = torch.cat([sides, self.edges[..., 2:]], -1)
        # What turns is no vector: its mirror image goes the other way round.
        turning = flip[:, None] * torch.where(self.slides[..., None] > 0, 1.0, signs[:, None, None])
        changed["axes"] = self.axes * turning
        return Scene(**changed)


def joined(scenes: Sequence[Scene]) -> Scene:
    """Scenes as one, the smaller ones with empty rows."""
    columns = {f.name: padded([getattr(scene, f.name) for scene in scenes]) for f in fields(Scene)}
    edges = columns["edges"]
    columns["edges"] = torch.where((edges == 0).all(-1, keepdim=True), edges.new_tensor([0, 0, -1.0]), edges)
    return Scene(**columns)


def padded(values: Sequence[Tensor]) -> Tensor:
    """Tensors (1, ...) along their first axis, filled with zeros where others are larger."""
    if len({value.shape for value in values}) == 1:
        return torch.cat(list(values))
    sizes = torch.tensor([value.shape for value in values]).amax(0).tolist()
    whole = values[0].new_zeros(len(values), *sizes[1:])
    for row, value in enumerate(values):
        whole[(row, *[slice(size) for size in value.shape[1:]])] = value[0]
    return whole


def movers(matter: Matter) -> list[Part]:
    """The parts that have tokens: those that can move."""
    return [part for part in matter.parts if part.kind is not PartKind.STATIC]


def scene_of(world: World, matter: Matter, tools: Sequence[Tool], config: LatentConfig) -> Scene:
    """The scene of one world, n = 1; it depends on the rest shapes only, not on where things are."""
    rows = {part.object_id: row for row, part in enumerate(matter.parts)}
    things = [_thing(world, matter, part, rows[part.object_id], config) for part in movers(matter)]
    columns = {name: torch.stack([thing[name] for thing in things])[None] for name in things[0]}
    boxes = {
        "boxes": torch.cat([tool.centers for tool in tools]),
        "travel": torch.cat([tool.travel for tool in tools]),
        "halves": torch.cat([tool.halves for tool in tools]),
        "radii": torch.cat([tool.radii for tool in tools]),
        "box_tools": torch.cat([torch.full((len(tool.radii),), row) for row, tool in enumerate(tools)]),
    }
    count = len(boxes["radii"])
    known = {
        "present": torch.ones(1, len(things), dtype=torch.bool),
        "box_present": torch.ones(1, count, dtype=torch.bool),
        "tool_present": torch.ones(1, len(tools), dtype=torch.bool),
    }
    return Scene(
        **columns, **{name: value[None] for name, value in boxes.items()}, **known, **_ground(matter)
    )


def _ground(matter: Matter) -> dict[str, Tensor]:
    planes = GroundLookup.of(matter.ground).planes
    longest = max([len(offsets) for _, offsets in planes], default=1)
    edges = torch.zeros(1, max(len(planes), 1), longest, 3)
    edges[..., 2] = -1.0
    for row, (inward, offsets) in enumerate(planes):
        edges[0, row, : len(offsets)] = torch.cat([inward, offsets[:, None]], -1)
    heights, present = torch.zeros(1, edges.shape[1]), torch.zeros(1, edges.shape[1], dtype=torch.bool)
    heights[0, : len(planes)], present[0, : len(planes)] = matter.ground.heights[: len(planes)], True
    return {
        "edges": edges,
        "heights": heights,
        "patch_present": present,
        "floors": matter.ground.heights[-1:],
    }


def _thing(world: World, matter: Matter, part: Part, row: int, config: LatentConfig) -> dict[str, Tensor]:
    """The columns of one thing that moves."""
    item = world.objects[part.object_id]
    gaussians = item.gaussians
    seen = ((gaussians.flags & (DELETED | HIDDEN)) == 0) & gaussians.means.isfinite().all(1)
    gaussians = gaussians.select(seen & (gaussians.opacities > _CLEAR))
    points = matter.rest[part.rows]
    means, normals, facts = _cloud(gaussians, points)
    # What bends is followed at its particles, what does not at the Gaussians that it is made of.
    spots = points if part.kind.bends else means
    chosen = farthest_points(spots, min(config.anchors, len(spots)))
    anchors = _filled(spots[chosen], config.anchors)
    center = anchors.mean(0)
    normals = _outwards(means, normals, matter.fields, row, center)
    apart = torch.cdist(anchors, means)
    near = _filled(apart.topk(min(config.neighbors, len(means)), largest=False).indices.T, config.neighbors).T
    fixed = torch.zeros(len(points)) if part.fixed is None else part.fixed
    joint = item.joint if part.kind is PartKind.JOINT else None
    sizes = (anchors - center).square().sum(-1).mean().sqrt().clamp(min=1e-3)
    offsets = means[near] - anchors[:, None]
    limits = (0.0, 0.0) if joint is None else joint.limits
    return {
        "kinds": torch.tensor([float(part.kind is kind) for kind in KINDS]),
        "centers": center,
        "arms": anchors - center,
        "normals": normals[near[:, 0]],
        "free": 1 - _filled(fixed[chosen], config.anchors) if part.kind.bends else torch.ones(config.anchors),
        "near_offsets": offsets,
        "near_normals": normals[near],
        "near_facts": facts[near] - F.pad(sizes.log()[None], (0, FACTS - 1)),
        "sizes": sizes,
        "gaps": apart.amin(0).amax(),
        "axes": torch.zeros(3) if joint is None else torch.tensor(joint.axis),
        "origins": torch.zeros(3) if joint is None else torch.tensor(joint.origin) - center,
        "slides": torch.tensor(float(joint is not None and joint.kind == "prismatic")),
        "limits": torch.tensor(limits).clamp(-_NO_LIMIT, _NO_LIMIT),
    }


def _cloud(gaussians: Gaussians, points: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Means, thinnest axes and facts (q, 6) of the Gaussians; of the particles where there are none."""
    if not len(gaussians):
        facts = torch.tensor([-4.0, 0.0, 1.0, 0.5, 0.5, 0.5]).expand(len(points), FACTS)
        return points, F.normalize(points - points.mean(0), dim=-1), facts
    scales = gaussians.log_scales
    axes = rotation_from_quats(gaussians.quats)
    thin = scales.argmin(-1)
    normals = axes.gather(2, thin[:, None, None].expand(-1, 3, 1))[..., 0]
    color = rgb_from_sh0(gaussians.sh[:, 0]).clamp(0, 1)
    widest, thinness = scales.amax(-1), (scales.amin(-1) - scales.amax(-1)).clamp(min=-4)
    facts = torch.cat([torch.stack([widest, thinness, gaussians.opacities], -1), color], -1)
    return gaussians.means, normals, facts


def _outwards(means: Tensor, normals: Tensor, fields: Fields, row: int, center: Tensor) -> Tensor:
    """Normals turned to where the distance field grows, or away from the centre where there is none."""
    step = 0.004 * torch.tensor([[-1.0], [1.0]])
    ends = means + step[:, :, None] * normals
    inside, outside = (_field_at(fields, row, points) for points in ends)
    known = (inside < _FAR) & (outside < _FAR) & ((outside - inside).abs() > 1e-4)
    side = torch.where(known, outside - inside, ((means - center) * normals).sum(-1))
    return torch.where(side[:, None] < 0, -normals, normals)


def _field_at(fields: Fields, row: int, points: Tensor) -> Tensor:
    """[m] distances (q) of points (q, 3) in the frame of a part, from its grid."""
    count = fields.values.shape[-1]
    at = (points - fields.low[row]) / fields.spacing[row] * (2 / (count - 1)) - 1
    grid = at.flip(-1)[None, None, None]
    return F.grid_sample(
        fields.values[row][None, None], grid, align_corners=True, padding_mode="border"
    ).flatten()


def _filled(values: Tensor, count: int) -> Tensor:
    """The first `count` rows, repeated where there are fewer."""
    rows = torch.arange(count) % len(values)
    return values[rows]
