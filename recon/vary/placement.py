"""Random places for things: on their surfaces, turned about the upright, clear of each other and the rest."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from gaussworld.pose import invert_pose, pose_from, rotation_from_rotvec

from .hulls import Hull, gap, hull_of
from .scene import Group, Scene
from .settings import VaryConfig
from .table import Surface

#: Tries to place one group before it is all begun again, and how often that is.
_TRIES, _STARTS = 150, 6
#: So many points inside a hull are something; fewer are strays.
_FEW = 5
#: How high above the plane, as a part of a group's height, its footprint reaches.
_SOLE = 0.04
#: Faces to lie on at most.
_FACES = 6


@dataclass(frozen=True, eq=False)
class Stand:
    """A way for a group to stand on its surface, in the frame of the plane, its middle over the origin."""

    plane_from_world: Float[Tensor, "4 4"]
    """Takes the group from where it is now to that place."""
    footprint: Float[Tensor, "k 2"]
    """What touches the plane, or almost."""


@dataclass(frozen=True, eq=False)
class Arrangement:
    """Where groups go."""

    motions: Mapping[int, Float[Tensor, "4 4"]]
    """Index of a group -> the motion in the world's frame that puts it there; float64."""
    stuck: tuple[int, ...]
    """Groups that found no room: they stay where they are."""


def arrange(
    scene: Scene,
    config: VaryConfig,
    generator: torch.Generator,
    *,
    keep: Mapping[int, Float[Tensor, "4 4"]] | None = None,
    lying: Mapping[int, Sequence[Float[Tensor, "3 3"]]] | None = None,
) -> Arrangement:
    """Draw places until nothing overlaps (rejection sampling), the widest groups first.

    Args:
        scene: what can be moved.
        config: how far, how close.
        generator: of the randomness.
        keep: motions of groups that are in place already.
        lying: rotations of the world's axes that put a group on another of its faces, by its index.
    """
    best: Arrangement | None = None
    for _ in range(_STARTS):
        found = _once(scene, config, generator, dict(keep or {}), lying or {})
        if best is None or len(found.stuck) < len(best.stuck):
            best = found
        if not best.stuck:
            break
    assert best is not None
    return best


def _once(
    scene: Scene,
    config: VaryConfig,
    generator: torch.Generator,
    motions: dict[int, Tensor],
    lying: Mapping[int, Sequence[Tensor]],
) -> Arrangement:
    todo = [i for i in range(len(scene.groups)) if i not in motions]
    todo.sort(key=lambda i: -_width(scene.groups[i]))
    stuck: list[int] = []
    placed = {i: _moved(scene.groups[i], motion) for i, motion in motions.items()}
    for number, i in enumerate(todo):
        # What found no room stays, and is in the way of those after it.
        later = [scene.groups[j].hulls for j in stuck]
        motion = _place(scene, i, config, generator, [*placed.values(), *later], lying.get(i, ()))
        if motion is None:
            stuck.append(i)
            if _blocked(scene, scene.groups[i], scene.groups[i].hulls, [*placed.values()], 0.0):
                # Its own place is taken: this start is lost.
                return Arrangement(motions, tuple(todo[number:]))
            continue
        motions[i], placed[i] = motion, _moved(scene.groups[i], motion)
    return Arrangement(motions, tuple(stuck))


def _place(
    scene: Scene,
    index: int,
    config: VaryConfig,
    generator: torch.Generator,
    others: Sequence[Sequence[Hull]],
    lying: Sequence[Tensor],
) -> Tensor | None:
    group = scene.groups[index]
    surface = scene.surfaces[group.surface].inset(config.clearance * scene.unit)
    if not bool(surface.there.any()):
        return None
    stands = [stand(scene, group)]
    home = _home(surface, stands[0])
    if lying and float(torch.rand((), generator=generator)) < config.lying:
        stands = [stand(scene, group, turn) for turn in lying]
    # Without a scale the reach is in the world's unit.
    reach = math.inf if config.reach is None else config.reach / (scene.world.metres_per_unit or 1.0)
    for _ in range(_TRIES):
        way = stands[int(torch.randint(len(stands), (), generator=generator))]
        angle = math.radians(config.turn_deg) * (2 * float(torch.rand((), generator=generator)) - 1)
        spot = surface.pick(generator)
        if float((spot - home).norm()) > reach:
            continue
        turned = _spun(angle, spot)
        if not surface.carries(way.footprint @ turned[:2, :2].T + spot):
            continue
        motion = surface.world_from_plane @ turned @ way.plane_from_world
        if not _blocked(scene, group, _moved(group, motion), others, config.clearance * scene.unit):
            return motion
    return None


def stand(scene: Scene, group: Group, turn: Float[Tensor, "3 3"] | None = None) -> Stand:
    """How a group stands, as now or turned: its lowest point in the plane, its footprint's middle at 0."""
    surface = scene.surfaces[group.surface]
    start = torch.eye(4, dtype=torch.float64)
    if turn is not None:
        start[:3, :3] = turn.double()
    points = torch.cat([hull.vertices for hull in group.hulls]) @ start[:3, :3].T
    flat = surface.flat(points)
    low, high = float(flat[:, 2].min()), float(flat[:, 2].max())
    foot = flat[flat[:, 2] <= low + max(_SOLE * (high - low), 0.002 * scene.unit), :2]
    middle = (foot.amin(0) + foot.amax(0)) / 2
    drop = torch.eye(4, dtype=torch.float64)
    drop[:3, 3] = -torch.cat([middle, torch.tensor([low], dtype=torch.float64)])
    return Stand(drop @ invert_pose(surface.world_from_plane) @ start, foot - middle)


def as_it_stands(scene: Scene) -> dict[int, Float[Tensor, "4 4"]]:
    """Motions that leave every group where it is, but put its lowest point onto the plane."""
    motions = {}
    for index, group in enumerate(scene.groups):
        surface, way = scene.surfaces[group.surface], stand(scene, group)
        motions[index] = surface.world_from_plane @ _spun(0.0, _home(surface, way)) @ way.plane_from_world
    return motions


def _home(surface: Surface, way: Stand) -> Tensor:
    """Where in the plane the middle of an unturned group's footprint is now."""
    return invert_pose(way.plane_from_world @ surface.world_from_plane)[:2, 3]


def _spun(angle: float, spot: Tensor) -> Tensor:
    turn = rotation_from_rotvec(torch.tensor([0.0, 0.0, angle], dtype=torch.float64))
    return pose_from(turn, torch.cat([spot, torch.zeros(1, dtype=torch.float64)]))


def _moved(group: Group, motion: Tensor) -> list[Hull]:
    return [hull.moved(motion) for hull in group.hulls]


def _width(group: Group) -> float:
    points = torch.cat([hull.vertices for hull in group.hulls])
    return float((points.amax(0) - points.amin(0)).norm())


def _blocked(
    scene: Scene, group: Group, hulls: Sequence[Hull], others: Sequence[Sequence[Hull]], clearance: float
) -> bool:
    """Whether hulls come closer than `clearance` to other groups or to what stays."""
    if any(gap(hulls, other) < clearance for other in others):
        return True
    walls = scene.walls[group.surface]
    if walls and gap(hulls, walls) < clearance:
        return True
    clutter = scene.clutter[group.surface]
    if not len(clutter):
        return False
    points = torch.cat([hull.vertices for hull in hulls])
    near = clutter[((clutter >= points.amin(0) - clearance) & (clutter <= points.amax(0) + clearance)).all(1)]
    return len(near) >= _FEW and any(int(hull.holds(near, clearance).sum()) >= _FEW for hull in hulls)


def lying_turns(
    hulls: Sequence[Hull], center: Float[Tensor, "3"], up: Float[Tensor, "3"]
) -> list[Float[Tensor, "3 3"]]:
    """Rotations that put a thing on another of its faces on which it rests, the widest first.

    It rests on a face of its hull if its centre of mass is over that face, and not near the edge.

    Args:
        hulls: of the thing, in the world.
        center: of mass, in the world.
        up: unit direction against gravity.
    """
    points, up = torch.cat([hull.vertices for hull in hulls]), up.double()
    whole, size = hull_of(points), float((points.amax(0) - points.amin(0)).norm())
    found: list[tuple[float, Tensor]] = []
    for normal in whole.normals:
        height = whole.vertices @ normal
        face = whole.vertices[height >= height.max() - 0.01 * size]
        # The face it stands on now is not another one.
        if float(normal @ up) < -0.98 or len(face) < 3:
            continue
        turn = _level(-up).T @ _level(normal)
        area = _held(_level(normal), face, center.double(), 0.06 * size)
        if area > 0.05 * size * size and not any(float((turn @ each.T).trace()) > 2.97 for _, each in found):
            found.append((area, turn))
    return [turn for _, turn in sorted(found, key=lambda pair: -pair[0])[:_FACES]]


def _held(level: Tensor, face: Tensor, center: Tensor, margin: float) -> float:
    """Area of a face if it holds a centre of mass above it by a margin, else 0."""
    from scipy.spatial import ConvexHull, QhullError

    flat = (face @ level.T)[:, :2]
    try:
        outline = ConvexHull(flat.numpy())
    except QhullError:
        return 0.0
    lines = torch.from_numpy(outline.equations.copy())
    inside = lines[:, :2] @ (level @ center)[:2] + lines[:, 2]
    return float(outline.volume) if float(inside.max()) < -margin else 0.0


def _level(axis: Tensor) -> Tensor:
    """A rotation that takes `axis` to +z."""
    other = torch.eye(3, dtype=torch.float64)[int(axis.abs().argmin())]
    x = torch.nn.functional.normalize(torch.linalg.cross(other, axis), dim=0)
    return torch.stack([x, torch.linalg.cross(axis, x), axis])
