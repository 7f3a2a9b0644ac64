"""Surfaces as objects of a world: Gaussians, shape, pose and what is known of the material."""

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from ..gaussians import Gaussians
from ..hull import convex_hull
from ..pose import pose_from
from ..shape import Shape, is_closed, joined
from ..world_object import Joint, Material, ObjectKind, WorldObject
from .discs import discs
from .layout import Layout
from .painted import Surface
from .shading import shaded

logger = logging.getLogger(__name__)

#: [m] length of a unit, by name.
UNITS = {"m": 1.0, "cm": 0.01, "mm": 0.001, "inch": 0.0254, "ft": 0.3048}
#: Suffixes of files that say nothing of their unit; glTF and URDF are in metres.
UNITLESS = (".obj", ".stl", ".ply", ".dae")
#: A rotation from y up to z up.
Z_UP_FROM_Y_UP = pose_from(torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.0, -1.0], [0.0, 1.0, 0.0]]), torch.zeros(3))
#: Fewest Gaussians that an object is made of.
FEWEST = 50
#: A hull with so many times the volume of its mesh is worth a word.
_ROOMY = 1.25
#: Most Gaussians that are made at once.
MOST = 20_000_000


@dataclass(frozen=True, eq=False)
class Thing:
    """A surface that is to become an object."""

    name: str
    surface: Surface | None
    """In the object's own frame; None for a link without geometry."""
    world_from_object: Float[Tensor, "4 4"] = field(default_factory=lambda: torch.eye(4))
    kind: ObjectKind = ObjectKind.RIGID
    shape: Shape | None = None
    mass: float | None = None
    """[kg]"""
    center_of_mass: tuple[float, float, float] | None = None
    parent: int | None = None
    """Row of the thing it is mounted on."""
    joint: Joint | None = None


@dataclass(frozen=True)
class Detail:
    """How many Gaussians things get, and how they are lit."""

    gaussians: int = 100_000
    """For all things together, shared by the square root of their areas."""
    spacing: float | None = None
    """[unit of the surfaces] Mean distance between Gaussians; in place of their number."""
    shade: bool = False
    """Bake the light of a lamp above into the colours; else they are those of the surface."""

    def counts(self, areas: Sequence[float]) -> list[int]:
        """Gaussians for things of these areas.

        Raises:
            ValueError: fewer than 1 Gaussian, a spacing not above 0, or one with more than 20 million.
        """
        if self.spacing is None:
            if not 1 <= self.gaussians <= MOST:
                raise ValueError(f"gaussians: expected 1 to {MOST:,}, got {self.gaussians:,}")
            roots = [math.sqrt(area) for area in areas]
            total = sum(roots) or 1.0
            return [min(max(round(self.gaussians * root / total), FEWEST), self.gaussians) for root in roots]
        if not 0 < self.spacing < math.inf:
            raise ValueError(f"spacing: expected a positive length, got {self.spacing:g}")
        counts = [max(area / self.spacing**2, FEWEST) for area in areas]
        if sum(counts) > MOST:
            raise ValueError(
                f"spacing: expected at most {MOST:,} Gaussians, got {sum(counts):.3g}; take a larger"
                f" one than {self.spacing:g}"
            )
        return [round(count) for count in counts]


def objects_of(things: Sequence[Thing], detail: Detail, first_id: int = 1) -> list[WorldObject]:
    """The things as objects, with ids from `first_id` on.

    Raises:
        ValueError: as `Detail.counts`, or a surface without an area.
    """
    solid = [row for row, thing in enumerate(things) if thing.surface is not None]
    areas = [things[row].surface.mesh.area for row in solid]  # pyright: ignore[reportOptionalMemberAccess]
    counts = dict(zip(solid, detail.counts(areas)))
    return [
        _object(thing, counts.get(row, 0), detail, first_id, first_id + row)
        for row, thing in enumerate(things)
    ]


def layout_things(layout: Layout) -> list[Thing]:
    """What a layout lists, with shapes; solids are their own convex parts. z is up."""
    turn = Z_UP_FROM_Y_UP if layout.up == "y" else torch.eye(4)
    return [
        Thing(
            each.name,
            each.surface,
            turn @ each.world_from_object,
            each.kind,
            Shape(each.surface.colored, (each.surface.mesh,) if each.convex else ()),
            each.mass,
        )
        for each in layout.things
    ]


def mesh_thing(
    path: Path, surface: Surface, name: str = "", kind: ObjectKind = ObjectKind.RIGID, up: str | None = None
) -> Thing:
    """A mesh, turned so that z is up, with its hull as its one convex part.

    An open mesh that never moves gets none: it is often a floor or the inside of a room, which its hull would
    fill.

    Args:
        path: the file, whose stem is the name if none is given.
        surface: what is in it.
        name: of the object.
        kind: how it may move.
        up: "y" or "z": the file's own axis; default: y for glTF, z for others.
    """
    axis = up or ("y" if path.suffix.lower() in (".glb", ".gltf") else "z")
    if axis not in ("y", "z"):
        raise ValueError(f'up: expected "y" or "z", got {axis!r}')
    if axis == "y":
        surface = surface.transformed(Z_UP_FROM_Y_UP)
    mesh, name = surface.colored, name or path.stem
    fills = kind is ObjectKind.STATIC and not is_closed(mesh)
    hull = None if fills else convex_hull(mesh)
    if hull is not None and is_closed(mesh) and hull.volume > _ROOMY * mesh.volume:
        logger.warning(
            "%s: it collides as its convex hull, which fills its hollows (%.2g times its volume);"
            " `gaussworld mesh` makes closer parts",
            name,
            hull.volume / max(mesh.volume, 1e-30),
        )
    return Thing(name, surface, kind=kind, shape=Shape(mesh, () if hull is None else (hull,)))


def material_of(thing: Thing) -> Material:
    """Mass, volume and centre of mass, as far as the file and the shape tell."""
    material = Material()
    volume = 0.0 if thing.shape is None else _volume(thing.shape)
    if thing.shape is not None and thing.mass and not volume > 0:
        # Without a volume there is no density, and so the mass that somebody stated would be lost.
        hull = convex_hull(thing.shape.mesh)
        volume = 0.0 if hull is None else hull.volume
    if volume > 0:
        material = material.with_values("shape", volume=volume)
        if thing.mass is not None and thing.mass > 0:
            material = material.with_values("user", density=thing.mass / volume)
    if thing.center_of_mass is not None:
        material = material.with_values("user", center_of_mass=thing.center_of_mass)
    return material


def _volume(shape: Shape) -> float:
    """Of the surface if it is closed and faces outwards, else of the parts; 0 where nothing is enclosed."""
    if is_closed(shape.mesh) and shape.mesh.volume > 0:
        return shape.mesh.volume
    return joined(shape.parts).volume if shape.parts else 0.0


def _object(thing: Thing, count: int, detail: Detail, first_id: int, number: int) -> WorldObject:
    if thing.surface is None:
        gaussians = Gaussians(*(torch.zeros(0, *shape) for shape in ((3,), (4,), (3,), (), (1, 3))))
    else:
        gaussians = discs(thing.surface, count)
    item = WorldObject(
        number,
        thing.name,
        gaussians,
        thing.kind,
        thing.world_from_object,
        None if thing.parent is None else first_id + thing.parent,
        thing.joint,
        material_of(thing),
        shape=thing.shape,
    )
    return lit(item) if detail.shade else item


def lit(item: WorldObject) -> WorldObject:
    """The object with the light of a lamp above baked into its colours, as it stands now."""
    return replace(item, gaussians=shaded(item.gaussians, item.world_from_object))
