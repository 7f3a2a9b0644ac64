"""What rests on what: contacts of undersides with upper surfaces, and the edits that write them down."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from .edit import Edit, SetMaterial, SetSupport
from .gaussians import DELETED, HIDDEN
from .pose import look_at, transform_points
from .shape import Mesh, joined
from .substances import physical
from .world import World
from .world_object import BACKGROUND_ID, Material, ObjectKind, WorldObject

#: How far apart surfaces in contact may be found, as a part of the upper object's diagonal, and [m] at least
#: and at most: a mesh is exact to some millimetres, the edge of a segmented cloud of Gaussians is not.
_SHAPE_GAP, _SHAPE_RANGE = 0.03, (0.002, 0.012)
_CLOUD_GAP, _CLOUD_RANGE = 0.09, (0.006, 0.02)
#: Share of a cloud's height that may be hidden from cameras at its foot.
_HIDDEN = 0.25
#: Cells across a cloud's longer side; samples of a mesh's underside.
_CELLS, _SAMPLES = 12, 400
#: So many cells around what stands somewhere are looked at for what it stands on.
_RINGS = 4
#: Share of the cells or samples that must touch, and their least number.
_SHARE, _LEAST = 0.01, 3
#: Cosine beyond which a face looks up or down rather than sideways.
_LEVEL = 0.2
_FAINT, _MOST_POINTS = 0.2, 40_000


@dataclass(frozen=True, eq=False)
class _Body:
    """An object in a frame whose third axis points up."""

    item: WorldObject
    cloud: Float[Tensor, "n 3"]
    """Where its Gaussians are, without those far above or below the rest; vertices where there are none."""
    mesh: Mesh | None
    """Its surface and its parts."""

    @property
    def points(self) -> Tensor:
        return self.cloud if self.mesh is None else self.mesh.vertices

    def tolerance(self, metres_per_unit: float | None) -> float:
        """[unit] gap that counts as contact below this body."""
        size = self.points.amax(0) - self.points.amin(0)
        gap, (least, most) = _SHAPE_GAP * float(size.norm()), _SHAPE_RANGE
        if self.mesh is None:
            # What overhangs hides where it touches.
            gap, (least, most) = max(_CLOUD_GAP * float(size.norm()), _HIDDEN * float(size[2])), _CLOUD_RANGE
        if metres_per_unit is None:
            return gap
        return min(max(gap, least / metres_per_unit), most / metres_per_unit)


def supports(world: World) -> dict[int, tuple[int, ...]]:
    """For every object that could rest on something, the ids of what it rests on; () for what hangs.

    Contact is an underside within a small distance above or below an upper surface, by shapes where objects
    have them, else by their Gaussians. What is mounted on something, moves along a joint, is part of a robot,
    is hidden, or is the background has no entry; robots and what is hidden hold nothing up, the background
    does.

    Raises:
        ValueError: nobody knows which way is up.
    """
    if world.up is None:
        raise ValueError("expected a world that knows where up is, got none; edit.SetUp sets it")
    level = _level(world.up)
    there = [item for item in world.objects.values() if not item.hidden]
    bodies = [body for item in there if (body := _body(item, level)) is not None]
    pairs = {
        (upper.item.id, lower.item.id)
        for upper in bodies
        if _may_rest(upper.item)
        for lower in bodies
        if _may_support(world, lower.item, upper.item) and _touches(upper, lower, world.metres_per_unit)
    }
    height = {body.item.id: float(body.points[:, 2].mean()) for body in bodies}
    # Noise can make two things rest on each other: the higher one is the upper one.
    kept = {(a, b) for a, b in pairs if (b, a) not in pairs or (height[a], a) > (height[b], b)}
    # What nobody segmented is everywhere; it holds things up where nothing else does.
    firm = {a for a, b in kept if b != BACKGROUND_ID}
    kept = {(a, b) for a, b in kept if b != BACKGROUND_ID or a not in firm}
    return {
        body.item.id: tuple(sorted(b for a, b in kept if a == body.item.id))
        for body in bodies
        if _may_rest(body.item)
    }


def physical_edits(world: World, categories: Mapping[int, str] | None = None) -> list[Edit]:
    """Edits that write down what shapes and categories tell: volumes, densities, friction, supports.

    Locked objects are left alone, and so are numbers that somebody measured, identified or set. Supports are
    left out where nobody knows which way is up.

    Args:
        world: as it is; the edits are for it, in this order.
        categories: as for `substances.physical`.

    Raises:
        ValueError: no such object or category.
    """
    edits: list[Edit] = []
    for number, material in physical(world, categories).items():
        if not world.objects[number].locked:
            edits += _differences(number, world.objects[number].material, material)
    if world.up is None:
        return edits
    for number, below in supports(world).items():
        item = world.objects[number]
        if item.supported_by != below and not item.locked:
            edits.append(SetSupport((number,), below))
    return edits


def _differences(number: int, old: Material, new: Material) -> list[Edit]:
    """One edit for each source that told something new."""
    edits: list[Edit] = []
    for source in ("shape", "category"):
        values = {
            name: getattr(new, name)
            for name, origin in new.sources.items()
            if origin == source and (old.sources[name], getattr(old, name)) != (source, getattr(new, name))
        }
        center = values.pop("center_of_mass", None)
        category = new.category if source == "category" and new.category != old.category else None
        if values or center is not None or category is not None:
            edits.append(SetMaterial((number,), values, category, center, source))
    return edits


def _level(up: tuple[float, float, float]) -> Float[Tensor, "4 4"]:
    """From the world to a frame with the same origin whose third axis is up; the identity for +z."""
    pose = torch.eye(4)
    if up != (0.0, 0.0, 1.0):
        direction = torch.nn.functional.normalize(torch.tensor(up), dim=0)
        hint = torch.eye(3)[int(direction.abs().argmin())]
        pose[:3, :3] = look_at(torch.zeros(3), direction, hint)[:3, :3].T
    return pose


def _body(item: WorldObject, level: Tensor) -> _Body | None:
    pose = level.to(item.world_from_object) @ item.world_from_object
    mesh = None
    if item.shape is not None and len(item.shape.mesh.faces) + len(item.shape.parts):
        mesh = joined([outward(each) for each in (item.shape.mesh, *item.shape.parts)]).transformed(pose)
    gaussians = item.gaussians
    rows = ((gaussians.flags & (DELETED | HIDDEN)) == 0) & (gaussians.opacities.detach() > _FAINT)
    cloud = transform_points(pose, gaussians.means.detach()[rows])
    if len(cloud) > _MOST_POINTS:
        cloud = cloud[torch.linspace(0, len(cloud) - 1, _MOST_POINTS).long()]
    if len(cloud) >= 20:
        height = cloud[:, 2].sort().values
        low, high = height[len(height) // 100], height[-1 - len(height) // 100]
        cloud = cloud[(cloud[:, 2] >= low) & (cloud[:, 2] <= high)]
    return None if mesh is None and len(cloud) < _LEAST else _Body(item, cloud, mesh)


def outward(mesh: Mesh) -> Mesh:
    """The mesh, turned inside out where it encloses a negative volume."""
    return Mesh(mesh.vertices, mesh.faces.flip(1), mesh.colors) if mesh.volume < 0 else mesh


def _may_rest(item: WorldObject) -> bool:
    joined_on = item.parent is not None or item.kind in (ObjectKind.ROBOT, ObjectKind.ARTICULATED)
    return item.id != BACKGROUND_ID and not joined_on


def _may_support(world: World, lower: WorldObject, upper: WorldObject) -> bool:
    if lower.id == upper.id or lower.kind is ObjectKind.ROBOT:
        return False
    return upper.id not in world.ancestors(lower)


def _touches(upper: _Body, lower: _Body, metres_per_unit: float | None) -> bool:
    tolerance = upper.tolerance(metres_per_unit)
    if lower.mesh is None or upper.mesh is None:
        tolerance = max(tolerance, _Body(upper.item, upper.points, None).tolerance(metres_per_unit))
    low, high = upper.points.amin(0), upper.points.amax(0)
    over = (lower.points.amin(0) <= high + tolerance) & (lower.points.amax(0) >= low - tolerance)
    if not bool(over.all()):
        return False
    if upper.mesh is not None and lower.mesh is not None:
        if _enough(_on_mesh(underside(upper.mesh), lower.mesh, tolerance)):
            return True
        # Scanned from above, a table has a hole where something stands: look around it.
        whole = lower.item.shape is not None and bool(lower.item.shape.parts)
        return not whole and _on_cloud(upper, lower, tolerance)
    return _on_cloud(upper, lower, tolerance)


def _enough(touching: Bool[Tensor, " m"]) -> bool:
    return int(touching.sum()) >= max(_LEAST, _SHARE * len(touching))


def underside(mesh: Mesh, samples: int = _SAMPLES) -> Float[Tensor, "m 3"]:
    """Points spread over the faces that look down, half of them over the lowest ones; third axis up."""
    corners = mesh.triangles
    normals = torch.linalg.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    area = normals.norm(dim=-1)
    down = normals[:, 2] < -_LEVEL * area
    low, high = float(mesh.vertices[:, 2].amin()), float(mesh.vertices[:, 2].amax())
    lowest = down & (corners[:, :, 2].amax(1) <= low + 0.1 * (high - low))
    found = [
        spread_points(corners[rows], area[rows], samples // 2) for rows in (down, lowest) if bool(rows.any())
    ]
    # A mesh without an underside, scanned from above, still has a rim.
    rim = mesh.vertices[mesh.vertices[:, 2] <= low + 0.05 * (high - low)]
    step = max(1, len(rim) // (samples // 4))
    return torch.cat([*found, rim[::step]])


def spread_points(
    corners: Float[Tensor, "f 3 3"], area: Float[Tensor, " f"], count: int
) -> Float[Tensor, "m 3"]:
    """Points on triangles, evenly by area; the same every time (R2 sequence of M. Roberts, 2018).

    Args:
        corners: of the triangles.
        area: of each, or anything proportional to it.
        count: how many.
    """
    steps = torch.arange(count, dtype=torch.float64)
    at = torch.cumsum(area.double(), 0)
    face = torch.searchsorted(at, (steps + 0.5) / count * at[-1]).clamp(max=len(area) - 1)
    u, v = ((0.5 + steps * 0.7548776662466927) % 1).float(), ((0.5 + steps * 0.5698402909980532) % 1).float()
    u, v = torch.where(u + v > 1, 1 - u, u), torch.where(u + v > 1, 1 - v, v)
    a, b, c = corners[face].unbind(1)
    return a + u[:, None] * (b - a) + v[:, None] * (c - a)


def _on_mesh(points: Float[Tensor, "m 3"], mesh: Mesh, tolerance: float) -> Bool[Tensor, " m"]:
    """Which points have a face that looks up within `tolerance` above or below them."""
    corners = mesh.triangles
    low, high = points.amin(0)[:2], points.amax(0)[:2]
    near = ((corners[:, :, :2].amax(1) >= low) & (corners[:, :, :2].amin(1) <= high)).all(1)
    a, b, c = corners[near].unbind(1)
    normals = torch.linalg.cross(b - a, c - a)
    upward = normals[:, 2] > _LEVEL * normals.norm(dim=-1)
    a, b, c, twice = a[upward], b[upward], c[upward], normals[upward, 2]
    touching = torch.zeros(len(points), dtype=torch.bool)
    for start in range(0, len(points), 64):
        p = points[start : start + 64, None]
        u = _turn(b - p, c - p) / twice
        v = _turn(c - p, a - p) / twice
        w = 1 - u - v
        height = u * a[:, 2] + v * b[:, 2] + w * c[:, 2]
        inside = (u >= -1e-6) & (v >= -1e-6) & (w >= -1e-6)
        touching[start : start + 64] = (inside & ((height - p[..., 2]).abs() <= tolerance)).any(1)
    return touching


def _turn(a: Tensor, b: Tensor) -> Tensor:
    """The third component of a cross product."""
    return a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0]


def _on_cloud(upper: _Body, lower: _Body, tolerance: float) -> bool:
    """Whether columns of the upper cloud end where the lower one is, without running beside it."""
    low, high = upper.points.amin(0), upper.points.amax(0)
    cell = float((high - low)[:2].amax()) / _CELLS or 1.0
    size = ((high - low)[:2] / cell).long() + 1 + 2 * _RINGS
    floor, ceiling = _columns(upper, low, cell, size)
    # Where nobody looked from below, a column begins with the top: only low ones are an underside.
    occupied = floor <= low[2] + max(tolerance, 0.3 * float(high[2] - low[2]))
    points = lower.cloud if lower.mesh is None else _surface(lower.mesh, low, high, cell)
    at = ((points[:, :2] - low[:2]) / cell).floor().long() + _RINGS
    reached = ((at >= -_RINGS) & (at < size + _RINGS)).all(1)
    at, height = at[reached], points[reached, 2]
    level = (height - low[2]).abs() <= 2 * tolerance
    around = _around(points[reached][level], (low + high) / 2)
    touching, beside = torch.zeros_like(floor), torch.zeros_like(floor)
    # Where something stands nobody saw what is below: what is around it stands in, the nearest first.
    for ring in range(1, 1 + (_RINGS if around else 1)):
        unknown = (touching + beside == 0).float()
        for shift in _ring(ring):
            x, y = (at + shift).unbind(1)
            inside = (x >= 0) & (y >= 0) & (x < size[0]) & (y < size[1])
            x, y, h = x[inside], y[inside], height[inside]
            near = ((h - floor[x, y]).abs() <= tolerance).float()
            touching.index_put_((x, y), near * unknown[x, y], accumulate=True)
            between = (h > floor[x, y] + tolerance) & (h < ceiling[x, y])
            beside.index_put_((x, y), between * unknown[x, y], accumulate=True)
    # A wall beside it has more points higher up than at the bottom; strays are few.
    return _enough((touching > 2 * beside)[occupied])


def _ring(radius: int) -> Tensor:
    """Steps to the cells at this distance; for 1 the cell itself as well."""
    step = torch.arange(-radius, radius + 1)
    steps = torch.cartesian_prod(step, step)
    return steps if radius == 1 else steps[steps.abs().amax(1) == radius]


def _around(points: Tensor, middle: Tensor) -> bool:
    """Whether points lie on nearly all sides of a place."""
    offset = points[:, :2] - middle[:2]
    sector = (torch.atan2(offset[:, 1], offset[:, 0]) / (math.pi / 4)).floor().long()
    return len(sector.unique()) >= 7


def _columns(body: _Body, low: Tensor, cell: float, size: Tensor) -> tuple[Tensor, Tensor]:
    """Lowest point in every cell, and the highest in it and about it; infinite where there is none."""
    points = body.cloud if body.mesh is None else torch.cat([underside(body.mesh), body.mesh.vertices])
    at = ((points[:, :2] - low[:2]) / cell).floor().long() + _RINGS
    flat, count = at[:, 0] * int(size[1]) + at[:, 1], int(size[0] * size[1])
    shape = (int(size[0]), int(size[1]))
    floor = torch.full((count,), math.inf).scatter_reduce(0, flat, points[:, 2], "amin")
    ceiling = torch.full((count,), -math.inf).scatter_reduce(0, flat, points[:, 2], "amax")
    # Neighbours tell how high it is where few points happen to be.
    ceiling = torch.nn.functional.max_pool2d(ceiling.reshape(1, *shape), 3, 1, 1)[0]
    return floor.reshape(shape), ceiling


def _surface(mesh: Mesh, low: Tensor, high: Tensor, cell: float) -> Float[Tensor, "m 3"]:
    """Points of a mesh around a box, as dense as its cells."""
    corners = mesh.triangles
    reach = (_RINGS + 1) * cell
    near = ((corners.amax(1) >= low - reach) & (corners.amin(1) <= high + reach))[:, :2].all(1)
    corners = corners[near]
    if not len(corners):
        return mesh.vertices[:0]
    area = torch.linalg.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]).norm(dim=-1) / 2
    return spread_points(corners, area, min(_MOST_POINTS, max(100, int(8 * float(area.sum()) / cell**2))))
