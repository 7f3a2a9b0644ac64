"""`matter_of`: a world as physics sees it - parts with particles, masses and edges, fields, ground."""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from gaussworld.state import State
from gaussworld.world import World
from gaussworld.world_object import BACKGROUND_ID, ObjectKind, WorldObject

from .bending import particles_of
from .fields import distance_field, grid, grid_points, surface_distance
from .geodesic import farthest_points
from .ground import ground_of
from .parts import Fields, Matter, Part, PartKind
from .solidity import Body

#: [m] what a field says of a part that has none.
FAR = 10.0
#: Most of a rigid part's particles that are corners of its hull, as a share of all.
_CORNERS = 0.5


@dataclass(frozen=True)
class MatterConfig:
    """How finely a world is sampled."""

    particles: int = 128
    """For each thing that moves, at most."""
    rope_particles: int = 64
    """For each rope, at most; balls that would overlap are fewer."""
    neighbors: int = 8
    """Edges from each particle of something that bends to its nearest."""
    field_size: int = 32
    """Grid points along each axis of a distance field."""
    field_margin: float = 0.04
    """[m] how far a distance field reaches beyond a surface."""
    ropes: tuple[int, ...] = ()
    """Ids of deformable objects that are ropes, whatever they look like."""
    cloths: tuple[int, ...] = ()
    """Ids of deformable objects that are cloths."""
    volumes: tuple[int, ...] = ()
    """Ids of deformable objects that are thick."""

    def __post_init__(self) -> None:
        for name, least in (("particles", 16), ("rope_particles", 8), ("neighbors", 1), ("field_size", 4)):
            if getattr(self, name) < least:
                raise ValueError(f"MatterConfig.{name}: expected at least {least}, got {getattr(self, name)}")
        if not self.field_margin > 0:
            raise ValueError(
                f"MatterConfig.field_margin: expected a positive length, got {self.field_margin}"
            )


@dataclass(frozen=True, eq=False)
class _Sampled:
    """A part whose rows are counted from 0, with its particles."""

    part: Part
    points: Float[Tensor, "p 3"]
    radii: Float[Tensor, " p"]
    masses: Float[Tensor, " p"]
    edges: Int[Tensor, "e 2"]


def matter_of(world: World, settings: MatterConfig | None = None) -> Matter:
    """Parts of everything but the background, robots and what is hidden, in the order of the world's ids.

    It depends on the world and the settings only. An object of a few Gaussians is taken for their hull; one
    of none that has no surface either is no part.

    Raises:
        UnknownScale: nobody knows the world's scale.
        ValueError: the unit is not one metre, +z is not up, or nothing can move.
    """
    settings = settings or MatterConfig()
    check_frame(world)
    bodies = [Body(item) for item in world.objects.values() if _is_matter(world, item)]
    bodies = [body for body in bodies if not body.empty]
    kinds = {body.item.id: _kind(body, settings) for body in bodies}
    movable = [body.item for body in bodies if kinds[body.item.id] is not PartKind.STATIC]
    if not movable:
        raise ValueError(
            f"expected a world with an object that can move, got {len(world.objects)} objects of which none"
            " can; `gaussworld world edit W set-kind` tells which do"
        )
    state = State.at_rest(world)
    ground, tables = ground_of(world, movable)
    sampled = [_sampled(body, kinds[body.item.id], state, settings) for body in bodies]
    fields = _fields(bodies, kinds, tables, settings)
    return _joined(state, sampled, fields, ground)


def tied(matter: Matter, object_id: int, points: Float[Tensor, "k 3"]) -> Matter:
    """The matter with the particles of a bending thing that are nearest to some points never moving.

    Args:
        matter: of the world.
        object_id: of the thing.
        points: [m] in the object's frame at rest, such as where a rope is tied.

    Raises:
        ValueError: there is no such thing, or it does not bend.
    """
    for row, part in enumerate(matter.parts):
        if part.object_id == object_id and part.kind.bends:
            held = torch.cdist(points.to(matter.rest), matter.rest[part.rows]).argmin(1)
            fixed = torch.zeros(part.stop - part.start) if part.fixed is None else part.fixed.clone()
            fixed[held] = 1.0
            parts = (*matter.parts[:row], replace(part, fixed=fixed), *matter.parts[row + 1 :])
            return replace(matter, parts=parts)
    bending = [part.object_id for part in matter.parts if part.kind.bends]
    raise ValueError(f"expected the id of something that bends, among {bending}, got {object_id}")


def check_frame(world: World) -> None:
    """Refuse a world that is not in metres with +z up.

    Raises:
        UnknownScale: nobody knows its scale.
        ValueError: its unit is not one metre, or +z is not up.
    """
    if abs(world.require_scale() - 1) > 1e-6:
        raise ValueError(
            f"expected a world in metres, got a unit of {world.metres_per_unit:g} m; use world.in_metres()"
        )
    if world.up is None or not world.up[2] > 1 - 1e-4:
        raise ValueError(
            f"expected a world whose up is +z, got up = {world.up}; `gaussworld world edit W set-up` turns it"
        )


def _is_matter(world: World, item: WorldObject) -> bool:
    chain = [item, *(world.objects[number] for number in world.ancestors(item))]
    robot = any(each.kind is ObjectKind.ROBOT for each in chain)
    return item.id != BACKGROUND_ID and not robot and not item.hidden


def _kind(body: Body, settings: MatterConfig) -> PartKind:
    item = body.item
    if item.kind is ObjectKind.DEFORMABLE:
        forced = {
            PartKind.ROPE: settings.ropes,
            PartKind.CLOTH: settings.cloths,
            PartKind.VOLUME: settings.volumes,
        }
        return next((kind for kind, ids in forced.items() if item.id in ids), None) or body.form()
    if item.kind is ObjectKind.ARTICULATED:
        return PartKind.JOINT
    return PartKind.RIGID if item.kind is ObjectKind.RIGID else PartKind.STATIC


def _sampled(body: Body, kind: PartKind, state: State, settings: MatterConfig) -> _Sampled:
    item, none = body.item, torch.zeros(0)
    row = state.object_ids.index(item.id)
    joint = state.joint_ids.index(item.id) if kind is PartKind.JOINT else None
    pairs = torch.zeros(0, 2, dtype=torch.int64)
    if kind is PartKind.STATIC:
        part = Part(item.id, row, kind, 0, 0, 0.0, torch.zeros(3), torch.zeros(3, 3))
        return _Sampled(part, torch.zeros(0, 3), none, none, pairs)
    if kind.bends:
        return _bent(body, kind, row, settings)
    mass, center, inertia = body.inertia()
    points = _surface_particles(body, settings.particles)
    part = Part(item.id, row, kind, 0, len(points), mass, center, inertia, joint)
    zeros = torch.zeros(len(points))
    return _Sampled(part, points, zeros, torch.full_like(zeros, mass / len(points)), pairs)


def _bent(body: Body, kind: PartKind, row: int, settings: MatterConfig) -> _Sampled:
    count = settings.rope_particles if kind is PartKind.ROPE else settings.particles
    bent = particles_of(body, kind, count, settings.neighbors)
    material = body.item.material
    mass = max(material.density * (material.volume or bent.volume), 1e-6)
    masses = bent.shares * mass
    center = bent.shares @ bent.points
    apart = (bent.points - center).double()
    spread = (apart.T * masses.double()) @ apart
    inertia = (torch.eye(3, dtype=torch.float64) * spread.trace() - spread).float()
    part = Part(body.item.id, row, kind, 0, len(bent.points), mass, center, inertia)
    return _Sampled(part, bent.points, bent.radii, masses, bent.edges)


def _surface_particles(body: Body, count: int) -> Float[Tensor, "p 3"]:
    """Corners of the convex hull, then the points of the surface that are farthest from all before."""
    corners = body.surface[:0] if body.hull is None else body.hull.vertices
    corners = corners[farthest_points(corners, max(4, int(_CORNERS * count)))] if len(corners) else corners
    points = torch.cat([corners, body.surface])
    return points[farthest_points(points, count, torch.arange(len(corners)) if len(corners) else None)]


def _fields(
    bodies: list[Body], kinds: dict[int, PartKind], tables: frozenset[int], settings: MatterConfig
) -> Fields:
    size = settings.field_size
    rows = [
        _far(size) if kinds[body.item.id].bends or body.item.id in tables else _field(body, settings)
        for body in bodies
    ]
    values, low, spacing = (torch.stack(column) for column in zip(*rows))
    return Fields(values, low, spacing)


def _far(size: int) -> tuple[Tensor, Tensor, Tensor]:
    return torch.full((size, size, size), FAR), torch.zeros(3), torch.ones(3)


def _field(body: Body, settings: MatterConfig) -> tuple[Tensor, Tensor, Tensor]:
    size, solid = settings.field_size, body.solid
    if solid is not None:
        low, spacing = grid(solid.vertices, size, settings.field_margin)
        return distance_field(solid, body.parts, low, spacing, size), low, spacing
    if body.item.shape is None or not body.meshed:
        return _far(size)
    # A sheet has no inside: it keeps things off by being there, which is the best that can be said.
    mesh = body.item.shape.mesh
    low, spacing = grid(mesh.vertices, size, settings.field_margin)
    apart = surface_distance(grid_points(low, spacing, size), mesh)
    return apart.reshape(size, size, size), low, spacing


def _joined(state: State, sampled: list[_Sampled], fields: Fields, ground: object) -> Matter:
    starts = torch.tensor([0] + [len(each.points) for each in sampled]).cumsum(0).tolist()
    parts = [
        replace(each.part, start=start, stop=start + len(each.points)) for each, start in zip(sampled, starts)
    ]
    owners = torch.repeat_interleave(
        torch.arange(len(sampled)), torch.tensor([len(each.points) for each in sampled])
    )
    return Matter(
        state.object_ids,
        state.joint_ids,
        tuple(parts),
        torch.cat([each.points for each in sampled]).float(),
        torch.cat([each.radii for each in sampled]).float(),
        torch.cat([each.masses for each in sampled]).float(),
        owners,
        torch.cat([each.edges + start for each, start in zip(sampled, starts)]),
        fields,
        ground,  # pyright: ignore
    )
