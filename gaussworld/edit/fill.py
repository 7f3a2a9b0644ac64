"""The edit that makes whole what an object stands on, stood on, or what an eraser cut into."""

import math
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from ..gaussians import Gaussians, cat
from ..holes import close_underside, fill_hole, outline_points
from ..pose import invert_pose, transform_points
from ..world import World
from ..world_object import WorldObject
from .objects import found, posed_at, unlocked, vector
from .parts import erased
from .target import Box, Sphere

#: Points along each axis that stand for a volume.
_STEPS = 24


@dataclass(frozen=True)
class FillHole:
    """Fill what objects hide of a surface they stand on, because they are to move, or what lies in a volume.

    Their shadows on the surface go too.
    """

    name: ClassVar[str] = "fill-hole"
    object_id: int
    """What the hole is in: the table."""
    objects: tuple[int, ...] = ()
    """What stands there."""
    inside: Box | Sphere | None = None
    """Where the hole is if nothing stands there."""
    undersides: bool = True
    """Give the objects a lid where they touch the surface too, for when they tip over."""
    seed: int = 0
    """Chooses the samples that the surface is found by."""

    def apply(self, world: World) -> World:
        (surface,) = unlocked(world, (self.object_id,))
        if not self.objects and self.inside is None:
            raise ValueError("expected objects that stand there, or a volume, got neither")
        free = unlocked if self.undersides else found
        standing = free(world, self.objects) if self.objects else []
        if self.object_id in self.objects:
            raise ValueError(f"objects: expected others than the surface's own {self.object_id}")
        generator = torch.Generator().manual_seed(self.seed)
        below = _shown(surface)
        for item in standing:
            above = outline_points(_shown(item))
            surface = _filled(world, surface, item, above, generator)
            if self.undersides:
                world = world.with_object(_closed(item, below, generator))
        if self.inside is not None:
            surface = _filled(world, surface, None, _points(self.inside), generator)
        return world.with_object(surface)


def _filled(
    world: World,
    surface: WorldObject,
    standing: WorldObject | None,
    above: Float[Tensor, "m 3"],
    generator: torch.Generator,
) -> WorldObject:
    place = "the volume" if standing is None else f"object {standing.id} ({standing.name})"
    if not len(above):
        raise ValueError(f"{place}: expected Gaussians that can be seen, got none")
    gone = {surface.id} if standing is None else {surface.id, standing.id}
    others = [outline_points(_shown(item)) for item in world.objects.values() if item.id not in gone]
    points = torch.cat(others) if others else torch.zeros(0, 3)
    one_sided = standing is not None
    filling = fill_hole(surface.posed(), above, points, generator, one_sided=one_sided)
    if filling is None:
        raise ValueError(
            f"expected a surface of object {surface.id} ({surface.name}) that carries {place} or crosses it,"
            " got none"
        )
    return _with(surface, erased(surface, filling.gone).gaussians, filling.new)


def _closed(item: WorldObject, below: Gaussians, generator: torch.Generator) -> WorldObject:
    lid = close_underside(item.posed(), below, generator)
    return item if lid is None else _with(item, erased(item, lid.gone).gaussians, lid.new)


def _with(item: WorldObject, kept: Gaussians, new: Gaussians) -> WorldObject:
    """The form stays what it was: what is filled was never one of the object's own holes."""
    ids = torch.full_like(new.object_ids, item.id)
    own = replace(new, object_ids=ids).transformed(invert_pose(item.world_from_object))
    return replace(item, gaussians=cat([kept, own]))


def _shown(item: WorldObject) -> Gaussians:
    return item.posed().shown()


def _points(volume: Box | Sphere) -> Float[Tensor, "m 3"]:
    """A lattice of points of a volume in the world."""
    step = (torch.arange(_STEPS) + 0.5) / _STEPS - 0.5
    if isinstance(volume, Sphere):
        vector(volume.center, "inside.center")
    lengths = (volume.radius,) if isinstance(volume, Sphere) else volume.size
    if not all(0 < length < math.inf for length in lengths):
        what = "a positive radius" if isinstance(volume, Sphere) else "positive lengths"
        raise ValueError(f"inside: expected {what}, got {', '.join(f'{length:g}' for length in lengths)}")
    lattice = torch.cartesian_prod(step, step, step)
    if isinstance(volume, Sphere):
        lattice = lattice[lattice.norm(dim=1) <= 0.5]
        return torch.tensor(volume.center) + 2 * volume.radius * lattice
    return transform_points(posed_at(volume.pose), lattice * torch.tensor(volume.size))
