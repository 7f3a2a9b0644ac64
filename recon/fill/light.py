"""Light that stays where it is: found from how the sides of things differ, and kept when they turn."""

import math
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from gaussworld.gaussians import Gaussians
from gaussworld.log import drain
from gaussworld.pose import invert_pose
from gaussworld.sh import sh_basis
from gaussworld.world import World

from ..objects.seen import Seen, look

_ROUNDS, _SHADES = 30, 4
#: Gaussians that make up fewer pixels than this tell nothing about the light.
_FEWEST_PIXELS = 1.0
#: No side of a thing is darker than this share of the mean, nor is it relit by more than this factor.
_DARKEST, _MOST = 0.1, 3.0
#: Relative errors of brightness above this are shadows and texture rather than noise.
_ODD = 0.15
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


def light_of(gaussians: Gaussians, seen: Seen) -> Light:
    """The light that explains best why like colours of an object are brighter on one side than on another.

    Args:
        gaussians: in the world frame, with `object_ids`.
        seen: of them, from `recon.objects.seen.look`.
    """
    told = (seen.weights > _FEWEST_PIXELS) & (seen.normals.norm(dim=1) > 0.5)
    told &= gaussians.opacities > 0.1
    dark = torch.zeros(9)
    dark[0] = 1 / _Y0
    if int(told.sum()) < 100:
        return Light(dark)
    rgb, ids = gaussians.rgb[told], gaussians.object_ids[told]
    # A table makes up most pixels and has one normal: nothing may count without bound.
    weights = seen.weights[told].clamp(max=20)
    shades = _shades(rgb, ids)
    return Light(_fitted(rgb.mean(1), sh_basis(seen.normals[told], 2), weights, shades, dark))


def _fitted(y: Tensor, basis: Tensor, weights: Tensor, shades: Tensor, light: Tensor) -> Float[Tensor, "9"]:
    """Light and the shades' own brightness by turns, by reweighted least squares."""
    start = light
    for _ in range(_ROUNDS):
        own = _medians(y / (basis @ light).clamp(min=_DARKEST), weights, shades).clamp(min=0.03)
        wanted = y / own[shades]
        trust = weights / (1 + ((wanted - basis @ light) / _ODD) ** 2)
        normal = basis.T @ (trust[:, None] * basis) + _RIDGE * trust.sum() * torch.eye(9)
        light = torch.linalg.solve(normal, basis.T @ (trust * wanted) + _RIDGE * trust.sum() * start)
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


def relit(
    gaussians: Gaussians,
    normals: Float[Tensor, "n 3"],
    light: Light,
    turn: Float[Tensor, "3 3"],
) -> Gaussians:
    """Gaussians as they look after a turn under a light that did not turn; they are not turned themselves.

    Args:
        gaussians: as they look now.
        normals: their surface's in the world frame, before the turn; zero leaves one as it is.
        light: of the world.
        turn: rotation in the world.
    """
    factor = (light.brightness(normals @ turn.T) / light.brightness(normals)).clamp(1 / _MOST, _MOST)
    factor = torch.where(normals.norm(dim=1) > 0.5, factor, 1.0)
    sh = gaussians.sh * factor[:, None, None]
    # What is seen is 0.5 plus the harmonics.
    sh[:, 0] += ((factor - 1) * 0.5 / _Y0)[:, None]
    return replace(gaussians, sh=sh)


def moved_in_light(world: World, poses: dict[int, Float[Tensor, "4 4"]], light: Light | None = None) -> World:
    """The world with objects at other poses, shaded by the light that fell on them where they were.

    Args:
        world: with cameras, from which its surfaces are looked at.
        poses: world_from_object by id.
        light: of the world; default: found from how it looks.
    """
    gaussians = world.posed()
    there = _shown(gaussians)
    seen = drain(look(gaussians.select(there), world.cameras)).result
    light = light or light_of(gaussians.select(there), seen)
    normals = torch.zeros(len(gaussians), 3)
    normals[there] = seen.normals
    own = dict(zip(world.objects, normals.split([len(item.gaussians) for item in world.objects.values()])))
    for number, pose in poses.items():
        item = world.find(number)
        turn = (pose.to(item.world_from_object) @ invert_pose(item.world_from_object))[:3, :3]
        lit = relit(item.posed(), smoothed_normals(item.posed(), own[number]), light, turn)
        sh = lit.transformed(invert_pose(item.world_from_object)).sh
        changed = replace(item, gaussians=replace(item.gaussians, sh=sh))
        world = world.with_object(changed).moved(number, pose)
    return world


def smoothed_normals(gaussians: Gaussians, normals: Float[Tensor, "n 3"]) -> Float[Tensor, "n 3"]:
    """Normals where there are some; elsewhere those of the nearest Gaussian that has one."""
    from gaussworld.neighbors import nearest

    known = normals.norm(dim=1) > 0.5
    if bool(known.all()) or not bool(known.any()):
        return normals
    rows = nearest(gaussians.means[known], 1, gaussians.means[~known])[1][:, 0]
    filled = normals.clone()
    filled[~known] = normals[known][rows]
    return filled


def _shown(gaussians: Gaussians) -> Bool[Tensor, " n"]:
    from gaussworld.gaussians import DELETED, HIDDEN

    return (gaussians.flags & (DELETED | HIDDEN)) == 0
