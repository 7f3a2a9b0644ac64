"""What physics programs ask of a world: bodies with names, masses, inertias, joints and mesh files."""

import logging
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from ..errors import EditError
from ..hull import convex_hull
from ..pose import invert_pose, pose_from, rotation_from_rotvec
from ..shape import Mesh, Shape, is_closed, joined
from ..world import World
from ..world_object import BACKGROUND_ID, ObjectKind, WorldObject
from .mesh_file import save_mesh

logger = logging.getLogger(__name__)

#: Folder of the mesh files, beside the file that names them.
MESHES = "meshes"
#: A part thinner than this [m] gives simulators no volume to collide with.
_THINNEST = 1e-5
#: [kg], [kg m^2] of a frame without geometry: light beside real links, but not so light that solvers suffer.
_EMPTY_MASS, _EMPTY_INERTIA = 1e-3, 1e-6


@dataclass(frozen=True, eq=False)
class Body:
    """One object of a world in metres, as a rigid body."""

    item: WorldObject
    name: str
    """Of letters, digits and underscores, and no other body's."""
    parent: int | None
    """Id of the body it is mounted on."""
    shape: Shape | None
    """In its own frame [m]; None for a frame without geometry, such as a robot's `tool0`."""
    mass: float
    """[kg]"""
    center: Float[Tensor, "3"]
    """[m] centre of mass in its own frame."""
    inertia: Float[Tensor, "3 3"]
    """[kg m^2] about the centre of mass, along the axes of its own frame."""
    visual: str | None
    """Path of the surface's file, relative to the folder."""
    parts: tuple[str, ...]
    """Paths of the convex parts' files."""

    @property
    def color(self) -> tuple[float, float, float]:
        """The mean colour of its surface, sRGB, range [0, 1]."""
        mesh = None if self.shape is None else self.shape.mesh
        if mesh is None or mesh.colors is None:
            return (0.7, 0.7, 0.7)
        r, g, b = mesh.colors.double().mean(0).clamp(0, 1).tolist()
        return (r, g, b)


def upright(world: World) -> World:
    """The world in metres with +z up; one whose up direction is unknown keeps its axes, which is logged.

    Raises:
        UnknownScale: the scale is unknown.
    """
    metric = world.in_metres()
    if metric.up is None:
        logger.warning("the world's up direction is unknown: +z is taken; gaussworld world edit W set-up")
        return metric
    up, z = torch.tensor(metric.up, dtype=torch.float64), torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64)
    axis, cosine = torch.linalg.cross(up, z), float(up @ z)
    if cosine > 1 - 1e-9:
        return metric
    if cosine < -1 + 1e-9:
        axis = torch.tensor([1.0, 0.0, 0.0], dtype=torch.float64)
    angle = torch.atan2(torch.linalg.cross(up, z).norm(), up @ z)
    turn = rotation_from_rotvec(axis / axis.norm() * angle).float()
    return metric.reframed(pose_from(turn, torch.zeros(3)))


def bodies_of(world: World, folder: Path) -> dict[int, Body]:
    """The bodies of a world in metres, by id; their meshes are written to `folder/meshes`.

    Hidden objects are left out, and the background unless it has a shape. What has neither Gaussians nor a
    shape becomes a body without geometry if it belongs to a robot or carries something, else it is left out.
    A loose object without convex parts collides with its hull.

    Raises:
        EditError: an object has no shape, but Gaussians.
        GaussWorldError: the file system refuses.
    """
    items = [item for item in world.objects.values() if not item.hidden]
    items = [item for item in items if item.shape is not None or item.id != BACKGROUND_ID]
    carriers = {item.parent for item in items}
    items = [i for i in items if not _empty(i) or i.kind is ObjectKind.ROBOT or i.id in carriers]
    if bare := [item.name for item in items if not _surfaced(item) and not _empty(item)]:
        names = ", ".join(bare[:6]) + (", ..." if len(bare) > 6 else "")
        raise EditError(
            f"expected objects with shapes, got {len(bare)} without ({names}); run `gaussworld mesh` on the"
            " world first"
        )
    if not any(map(_surfaced, items)):
        raise EditError("expected at least one object with a shape, got none; run `gaussworld objects` first")
    solids = [_solids(item) for item in items]
    names = unique_names(item.name for item in items)
    parts = [f"{name}_part{i}" for name, solid in zip(names, solids) for i in range(len(solid))]
    # Of one set: another object may be called as a part is, and its file must not take the part's place.
    free = iter(unique_names([*names, *parts])[len(names) :])
    ids = {item.id for item in items}
    return {
        item.id: _body(item, name, [(next(free), part) for part in solid], ids, folder)
        for item, name, solid in zip(items, names, solids)
    }


def unique_names(names: Iterable[str]) -> list[str]:
    """Names that XML files, USD and ROS accept: letters, digits and underscores, no two alike.

    Nor do two differ in upper and lower case alone, which files of some systems would not tell apart.
    """
    found: list[str] = []
    taken: set[str] = set()
    for name in names:
        plain = re.sub(r"[^A-Za-z0-9_]+", "_", name).strip("_") or "object"
        plain = f"object_{plain}" if plain[0].isdigit() or plain == "world" else plain
        candidate, number = plain, 2
        while candidate.casefold() in taken:
            candidate, number = f"{plain}_{number}", number + 1
        found.append(candidate)
        taken.add(candidate.casefold())
    return found


def inertia_of(mesh: Mesh) -> tuple[float, Float[Tensor, "3"], Float[Tensor, "3 3"]]:
    """Volume, centroid and inertia about it, for a density of 1, of a closed mesh.

    Sums over the tetrahedra that the faces span with the origin; their second moments are those of Tonon
    2004, "Explicit exact formulas for the 3-D tetrahedron inertia tensor".
    """
    triangles = mesh.triangles.double()
    shift = triangles.reshape(-1, 3).mean(0)
    a, b, c = (triangles - shift).unbind(1)
    sixfold = (a * torch.linalg.cross(b, c)).sum(1)
    volume = float(sixfold.sum()) / 6
    total = a + b + c
    center = (sixfold[:, None] * total).sum(0) / 24 / volume
    corners = torch.stack([a, b, c], 1)
    # The integral of x x^T over a tetrahedron with one corner at the origin, times 120 / sixfold.
    second = torch.einsum("fki,fkj->fij", corners, corners) + total[:, :, None] * total[:, None, :]
    moments = (sixfold[:, None, None] * second).sum(0) / 120 - volume * torch.outer(center, center)
    inertia = torch.eye(3, dtype=torch.float64) * moments.trace() - moments
    return volume, center + shift, inertia


def parent_from(body: Body, bodies: dict[int, Body]) -> Float[Tensor, "4 4"]:
    """The pose of a body in the frame of what it is mounted on, or in the world's, in double precision."""
    pose = body.item.world_from_object.double()
    if body.parent is None:
        return pose
    return invert_pose(bodies[body.parent].item.world_from_object.double()) @ pose


def children_of(bodies: dict[int, Body], parent: int | None) -> list[Body]:
    """Bodies mounted on one, or on nothing."""
    return [body for body in bodies.values() if body.parent == parent]


def moves_freely(body: Body) -> bool:
    """Whether a body has six degrees of freedom: loose, and mounted on nothing that is exported with it."""
    return _loose(body.item) and body.parent is None


def _loose(item: WorldObject) -> bool:
    """Deformable objects count as rigid here."""
    return item.kind in (ObjectKind.RIGID, ObjectKind.DEFORMABLE)


def _surfaced(item: WorldObject) -> bool:
    return item.shape is not None and len(item.shape.mesh.faces) > 0


def _empty(item: WorldObject) -> bool:
    """Whether it is a frame only, with nothing to see or touch."""
    return not len(item.gaussians) and not _surfaced(item)


def _solids(item: WorldObject) -> list[Mesh]:
    """The convex parts that simulators can collide with; the hull of a loose object without parts."""
    if item.shape is None or not _surfaced(item):
        return []
    parts = item.shape.parts
    if not parts and _loose(item) and (hull := convex_hull(item.shape.mesh)) is not None:
        parts = (hull,)
    return [part for part in parts if _thick(part)]


def _body(item: WorldObject, name: str, solids: list[tuple[str, Mesh]], ids: set[int], folder: Path) -> Body:
    """The body of an object; `solids` are its colliders with their names."""
    parent = item.parent if item.parent in ids else None
    if item.shape is None or not _surfaced(item):
        inertia = torch.eye(3, dtype=torch.float64) * _EMPTY_INERTIA
        center = torch.zeros(3, dtype=torch.float64)
        return Body(item, name, parent, None, _EMPTY_MASS, center, inertia, None, ())
    shape = replace(item.shape, parts=tuple(part for _, part in solids))
    mass, center, inertia = _mass(item, shape)
    visual = f"{MESHES}/{name}.obj"
    save_mesh(shape.mesh, folder / visual)
    parts = tuple(f"{MESHES}/{stem}.obj" for stem, _ in solids)
    for (_, part), path in zip(solids, parts):
        save_mesh(part, folder / path)
    return Body(item, name, parent, shape, mass, center, inertia, visual, parts)


def _mass(item: WorldObject, shape: Shape) -> tuple[float, Tensor, Tensor]:
    """[kg] mass, [m] its centre, [kg m^2] inertia: of the material where it says so, else of the shape."""
    closed = is_closed(shape.mesh) and shape.mesh.volume > 0 and _thick(shape.mesh)
    solid = shape.mesh if closed else joined(shape.parts) if shape.parts else None
    material = item.material
    volume, center, inertia = _ball(shape.mesh) if solid is None else inertia_of(solid)
    known = volume if material.volume is None else material.volume
    mass = max(material.density * known, 1e-6)
    inertia = inertia * (mass / volume)
    if material.center_of_mass is not None:
        center = torch.tensor(material.center_of_mass, dtype=torch.float64)
    return mass, center, inertia


def _ball(mesh: Mesh) -> tuple[float, Tensor, Tensor]:
    """A ball in the middle of something that encloses nothing, such as a sheet."""
    middle = mesh.vertices.double().mean(0)
    radius = max(1e-3, float((mesh.vertices.double() - middle).norm(dim=1).mean()) / 2)
    volume = 4 / 3 * torch.pi * radius**3
    return volume, middle, torch.eye(3, dtype=torch.float64) * 0.4 * volume * radius**2


def _thick(part: Mesh) -> bool:
    spans = torch.linalg.svdvals(part.vertices.double() - part.vertices.double().mean(0))
    return len(part.vertices) >= 4 and float(spans[-1]) / len(part.vertices) ** 0.5 > _THINNEST
