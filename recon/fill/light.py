"""Light that stays where it is: found from how the sides of things differ, and kept when they turn."""

import math
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from gaussworld.gaussians import DELETED, HIDDEN, Gaussians
from gaussworld.holes import GUESSED
from gaussworld.log import drain
from gaussworld.neighbors import nearest
from gaussworld.pose import invert_pose, rotation_from_quats
from gaussworld.sh import sh_basis
from gaussworld.world import World
from gaussworld.world_object import BACKGROUND_ID, ObjectKind

from ..objects.seen import Seen, look

_ROUNDS, _SHADES = 80, 4
#: Gaussians that make up fewer pixels than this tell nothing about the light.
_FEWEST_PIXELS = 3.0
#: No side of a thing is darker than this share of the mean, nor is it relit by more than this factor.
_DARKEST, _MOST = 0.1, 3.0
#: Relative errors of brightness above this are shadows and texture rather than noise: at first, and at last.
_ODD = (1.0, 0.25)
#: So many seen Gaussians say how bright one was made that nobody saw.
_NEAR = 24
#: Nothing is blacker than this.
_BLACK = 0.03
_RIDGE = 2e-4
_Y0 = 0.5 / math.sqrt(math.pi)


@dataclass(frozen=True, eq=False)
class Light:
    """How bright a matt white surface is that faces a direction: spherical harmonics up to degree 2.

    Nine numbers are enough for matt things whatever shines on them (Ramamoorthi and Hanrahan 2001, "An
    efficient representation for irradiance environment maps"). The mean over what was looked at is 1.
    """

    coefficients: Float[Tensor, "9"]

    def brightness(self, normals: Float[Tensor, "n 3"]) -> Float[Tensor, " n"]:
        """Of surfaces with these unit normals in the world frame."""
        return (sh_basis(normals, 2) @ self.coefficients).clamp(min=_DARKEST)


def light_of(gaussians: Gaussians, seen: Seen, rows: Bool[Tensor, " n"] | None = None) -> Light:
    """The light that explains best why like colours of an object are brighter on one side than on another.

    Args:
        gaussians: in the world frame, with `object_ids`.
        seen: of them, from `recon.objects.seen.look`.
        rows: those to judge by, of things of one material each; default: all but the background.
    """
    told = (seen.weights > _FEWEST_PIXELS) & (seen.normals.norm(dim=1) > 0.5)
    told &= (gaussians.opacities > 0.1) & (gaussians.object_ids != BACKGROUND_ID if rows is None else rows)
    dark = torch.zeros(9)
    dark[0] = 1 / _Y0
    if int(told.sum()) < 100:
        return Light(dark)
    rgb, ids = gaussians.rgb[told], gaussians.object_ids[told]
    # A table makes up most pixels and has one normal: nothing may count without bound.
    weights = seen.weights[told].clamp(max=20)
    shades = _shades(rgb, ids)
    return Light(_fitted(rgb.mean(1), sh_basis(seen.normals[told], 2), weights, shades, dark))


def _fitted(y: Tensor, basis: Tensor, weights: Tensor, shades: Tensor, start: Tensor) -> Float[Tensor, "9"]:
    """Light and the shades' own brightness by turns, by least squares that trusts outliers less and less."""
    light, own = start, _medians(y, weights, shades).clamp(min=_BLACK)
    for i in range(_ROUNDS):
        odd = _ODD[0] * (_ODD[1] / _ODD[0]) ** (i / (_ROUNDS - 1))
        there = (basis @ light).clamp(min=_DARKEST)
        trust = weights / (1 + ((y / own[shades] - there) / odd) ** 2)
        above, below = (own.new_zeros(len(own)).index_add_(0, shades, trust * v * there) for v in (y, there))
        own = (above / below.clamp(min=1e-9)).clamp(min=_BLACK)
        ridge = _RIDGE * trust.sum()
        normal = basis.T @ (trust[:, None] * basis) + ridge * torch.eye(9)
        light = torch.linalg.solve(normal, basis.T @ (trust * y / own[shades]) + ridge * start)
        light = light * weights.sum() / ((basis @ light) * weights).sum().clamp(min=1e-6)
    return light


def _shades(rgb: Tensor, ids: Tensor) -> Int[Tensor, " m"]:
    """Gaussians of one object and of like hue: k-means of the chromaticity."""
    shades, hue = torch.zeros_like(ids, dtype=torch.int64), rgb / rgb.sum(1, keepdim=True).clamp(min=0.05)
    for count, number in enumerate(ids.unique().tolist()):
        rows = (ids == number).nonzero()[:, 0]
        middles = hue[rows][torch.linspace(0, len(rows) - 1, _SHADES).long()]
        nearest = torch.zeros_like(rows)
        for _ in range(10):
            nearest = torch.cdist(hue[rows], middles).argmin(1)
            for k in nearest.unique().tolist():
                middles[k] = hue[rows][nearest == k].mean(0)
        shades[rows] = count * _SHADES + nearest
    return shades.unique(return_inverse=True)[1]


def _medians(values: Tensor, weights: Tensor, shades: Tensor) -> Float[Tensor, " k"]:
    """Weighted median of each shade."""
    found = []
    for k in range(int(shades.max()) + 1):
        rows = (shades == k).nonzero()[:, 0]
        rows = rows[values[rows].argsort()]
        summed = weights[rows].cumsum(0)
        found.append(values[rows[int((summed < summed[-1] / 2).sum())]])
    return torch.stack(found)


def relit(gaussians: Gaussians, factor: Float[Tensor, " n"]) -> Gaussians:
    """Gaussians that send back so many times the light that they do now."""
    factor = factor.clamp(1 / _MOST, _MOST)
    sh = gaussians.sh * factor[:, None, None]
    # What is seen is 0.5 plus the harmonics.
    sh[:, 0] += ((factor - 1) * 0.5 / _Y0)[:, None]
    return replace(gaussians, sh=sh)


def turned_brightness(
    gaussians: Gaussians, normals: Float[Tensor, "n 3"], light: Light, turn: Float[Tensor, "3 3"]
) -> Float[Tensor, " n"]:
    """How many times as much light falls on each Gaussian of a thing that turns.

    What nobody saw was coloured after what was seen near it, and looks away from the thing's middle.

    Args:
        gaussians: of one thing, in the world frame.
        normals: of its surface, before the turn; zero where nobody saw it.
        light: of the world.
        turn: rotation in the world.
    """
    known = normals.norm(dim=1) > 0.5
    if not bool(known.any()):
        return torch.ones(len(gaussians))
    before, facing = light.brightness(normals), normals.clone()
    if not bool(known.all()):
        hidden = gaussians.select(~known)
        count = min(_NEAR, int(known.sum()))
        rows = nearest(gaussians.means[known], count, hidden.means)[1]
        before[~known] = before[known][rows].median(1).values
        axes = rotation_from_quats(hidden.quats)
        thin = axes.gather(2, hidden.log_scales.argmin(1)[:, None, None].expand(-1, 3, 1))[..., 0]
        outward = ((hidden.means - gaussians.means[known].mean(0)) * thin).sum(1, keepdim=True)
        facing[~known] = torch.where(outward < 0, -thin, thin)
    return light.brightness(facing @ turn.T) / before


def moved_in_light(world: World, poses: dict[int, Float[Tensor, "4 4"]], light: Light | None = None) -> World:
    """The world with objects at other poses, shaded by the light that fell on them where they were.

    Args:
        world: with cameras, from which its surfaces are looked at.
        poses: world_from_object by id.
        light: of the world; default: found from how it looks.
    """
    gaussians = world.posed()
    there = _shown(gaussians)
    shown = gaussians.select(there)
    seen = drain(look(shown, world.cameras)).result
    light = light or light_of(shown, seen, _movable(world, shown))
    normals = torch.zeros(len(gaussians), 3)
    # What barely shines through was not seen.
    sure = (seen.weights > _FEWEST_PIXELS) & (shown.id_confidences != GUESSED)
    normals[there] = torch.where(sure[:, None], seen.normals, 0.0)
    own = dict(zip(world.objects, normals.split([len(item.gaussians) for item in world.objects.values()])))
    for number, pose in poses.items():
        item = world.find(number)
        turn = (pose.to(item.world_from_object) @ invert_pose(item.world_from_object))[:3, :3]
        posed = item.posed()
        lit = relit(posed, turned_brightness(posed, own[number], light, turn))
        sh = lit.transformed(invert_pose(item.world_from_object)).sh
        changed = replace(item, gaussians=replace(item.gaussians, sh=sh))
        world = world.with_object(changed).moved(number, pose)
    return world


def _movable(world: World, gaussians: Gaussians) -> Bool[Tensor, " n"] | None:
    """Rows of things that may move, if there are enough: rooms and tables are made of too much."""
    loose = [item.id for item in world.objects.values() if item.kind is ObjectKind.RIGID]
    rows = torch.isin(gaussians.object_ids, torch.tensor(loose, dtype=gaussians.object_ids.dtype))
    return rows if int(rows.sum()) > 500 else None


def _shown(gaussians: Gaussians) -> Bool[Tensor, " n"]:
    return (gaussians.flags & (DELETED | HIDDEN)) == 0
