"""Worlds as trees of named nodes, the way glTF and USD keep them: poses, parents and facts, out and back."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ..errors import FileFormatError
from ..gaussians import DELETED, Gaussians
from ..object_record import numbers_from, object_from_record, pose_from_numbers
from ..pose import invert_pose, pose7_from_pose, pose_from, pose_from_pose7
from ..shape import Shape
from ..world import World
from ..world_object import BACKGROUND_ID, ObjectKind, Vector, WorldObject
from .framing import Framing
from .json_object import blaming

#: Key under which our facts stand in glTF's extras and USD's customData.
OURS = "gaussworld"
#: Version of those facts.
VERSION = 1
#: Node and record agree when they differ by less: a tool that stores float32 poses has not moved anything.
SAME = 1e-5
#: How many objects may be mounted one on another.
DEEPEST = 500
#: How unequal the lengths of a matrix' columns may be and still be one scale.
UNIFORM = 1e-4


@dataclass(frozen=True, eq=False)
class Node:
    """One thing of a file that holds Gaussians, or one of our objects without any."""

    name: str
    scene_from_node: Float[Tensor, "4 4"]
    """float64, any affine matrix: product of all matrices from the root down."""
    gaussians: Gaussians
    parent: int | None = None
    """Which of the nodes it hangs below."""
    record: Mapping[str, Any] | None = None
    """What `record_of` said of it, when the file is ours."""
    hidden: bool = False
    """Whether the file says so; of nodes with a record, that says."""
    shape: Shape | None = None
    """In the node's frame."""


@dataclass(frozen=True, eq=False)
class Frame:
    """The facts of a world that are not its objects', and where its frame is in the file."""

    framing: Framing = field(default_factory=Framing)
    """The world's; a program's file states its format's."""
    world_from_source: Float[Tensor, "4 4"] = field(default_factory=lambda: torch.eye(4))
    scene_from_world: Float[Tensor, "4 4"] = field(default_factory=lambda: torch.eye(4, dtype=torch.float64))


def facts_of(framing: Framing, world_from_source: Float[Tensor, "4 4"] | None = None) -> dict[str, Any]:
    """The facts of a world that are not its objects', as JSON; `frame_from` gives them back exactly."""
    facts: dict[str, Any] = {"version": VERSION, "frame": framing.frame, "up": framing.up}
    facts["metres_per_unit"] = framing.metres_per_unit
    if world_from_source is not None and not torch.equal(world_from_source.cpu(), torch.eye(4)):
        facts["world_from_source"] = numbers_from(world_from_source[:3])
    return {key: value for key, value in facts.items() if value is not None}


def frame_from(facts: Mapping[str, Any], scene_from_world: Float[Tensor, "4 4"], where: str) -> Frame:
    """What `facts_of` stated.

    Raises:
        FileFormatError: another version, or a fact of the wrong type or out of range.
    """
    if facts.get("version") != VERSION:
        raise FileFormatError(
            f"{where}: expected facts of version {VERSION}, got {facts.get('version')!r:.40};"
            " install a newer gaussworld"
        )
    with blaming(where):
        up, unit, source = (facts.get(key) for key in ("up", "metres_per_unit", "world_from_source"))
        name = None if facts.get("frame") is None else str(facts["frame"])
        framing = Framing(name, None if up is None else tuple(up), None if unit is None else float(unit))
        matrix = torch.eye(4) if source is None else pose_from_numbers(source)
        return Frame(framing, matrix, scene_from_world)


def record_from_text(text: Any, where: str) -> dict[str, Any]:
    """A JSON object that is kept as text.

    Raises:
        FileFormatError: it is none.
    """
    try:
        record = json.loads(text)
    except (ValueError, TypeError, RecursionError) as error:
        raise FileFormatError(f"{where}: expected our facts as JSON, got: {error!s:.80}") from error
    if not isinstance(record, dict):
        raise FileFormatError(f"{where}: expected our facts as a JSON object, got {text!r:.60}")
    return record


def local_poses(
    world: World, poses: Mapping[int, Float[Tensor, "4 4"]] | None = None
) -> dict[int, Float[Tensor, "4 4"]]:
    """By object id, in float64: `parent_from_object`, or `world_from_object` of those without a parent.

    Args:
        world: whose objects.
        poses: where they are, instead of where the world has them.
    """
    stated = {number: item.world_from_object for number, item in world.objects.items()} | dict(poses or {})
    rigid = {number: _rigid(pose) for number, pose in stated.items()}
    return {
        number: pose if (up := world.objects[number].parent) is None else invert_pose(rigid[up]) @ pose
        for number, pose in rigid.items()
    }


def turned_up(up: Sequence[float] | None, to: Sequence[float]) -> Float[Tensor, "3 3"]:
    """The shortest rotation (float64) that takes `up`, +z where nobody knows, to the direction `to`."""
    a = torch.nn.functional.normalize(torch.tensor(up or (0.0, 0.0, 1.0), dtype=torch.float64), dim=0)
    b = torch.tensor(to, dtype=torch.float64)
    cosine = float(a @ b)
    if cosine < -1 + 1e-9:
        # Half a turn, about whichever axis lies across.
        across = torch.nn.functional.one_hot(a.abs().argmin(), 3).double()
        across = torch.nn.functional.normalize(across - (across @ a) * a, dim=0)
        return 2 * torch.outer(across, across) - torch.eye(3, dtype=torch.float64)
    x, y, z = torch.linalg.cross(a, b).tolist()
    skew = torch.tensor([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]], dtype=torch.float64)
    return torch.eye(3, dtype=torch.float64) + skew + skew @ skew / (1 + cosine)


def world_of(gaussians: Gaussians, framing: Framing) -> World:
    """Gaussians as objects that all stand at the origin, so that not one bit of them is rounded.

    Raises:
        ValueError: an object id is negative.
    """
    kept = gaussians.select((gaussians.flags & DELETED) == 0)
    kept = replace(kept, flags=torch.zeros_like(kept.flags))
    objects = {}
    for number in kept.object_ids.unique().tolist():
        name, kind = f"object {number}", ObjectKind.RIGID
        if number == BACKGROUND_ID:
            name, kind = "background", ObjectKind.STATIC
        objects[number] = WorldObject(number, name, kept.select(kept.object_ids == number), kind)
    return World(objects, metres_per_unit=framing.metres_per_unit, up=_unit(framing.up))


def world_from_nodes(nodes: Sequence[Node], frame: Frame, path: Path) -> World:
    """The world that a file holds.

    Nodes with a record become what it says, where it says unless somebody has moved the node since.
    Others become rigid objects named after their nodes; one that is alone in its file is a background. The
    parent is the next node above.

    Raises:
        FileFormatError: a record is malformed, or a matrix shears, mirrors or scales unequally.
    """
    ids, objects = _ids(nodes), {}
    _check_depth(nodes, path)
    _split(frame.scene_from_world, f"{path}: the world's node")
    world_from_scene = torch.linalg.inv(frame.scene_from_world)
    for node, number in zip(nodes, ids):
        where = f"{path}: node {node.name!r:.60}"
        pose, scale = _split(world_from_scene @ node.scene_from_node, where)
        parent = None if node.parent is None else ids[node.parent]
        with blaming(where):
            if node.record is None:
                item = _foreign(node, number, pose, alone=len(nodes) == 1)
            else:
                item = _ours(node, node.record, number, pose)
            objects[number] = replace(_scaled(item, scale), parent=parent)
    with blaming(str(path)):
        framing, source = frame.framing, frame.world_from_source
        return World(objects, (), framing.metres_per_unit, _unit(framing.up), source)


def _ids(nodes: Sequence[Node]) -> list[int]:
    """The recorded ids; the second of two equal ones (a copy that another tool made) and others get new."""
    stated = [None if node.record is None else node.record.get("id") for node in nodes]
    known = [number for number in stated if isinstance(number, int) and not isinstance(number, bool)]
    following, taken = max(known, default=BACKGROUND_ID) + 1, set()
    ids = []
    for node, number in zip(nodes, stated):
        if len(nodes) == 1 and node.record is None:
            number = BACKGROUND_ID
        elif number not in known or number in taken:
            number, following = following, following + 1
        assert isinstance(number, int)
        taken.add(number)
        ids.append(number)
    return ids


def _check_depth(nodes: Sequence[Node], path: Path) -> None:
    for node in nodes:
        above, depth = node, 0
        while above.parent is not None:
            above, depth = nodes[above.parent], depth + 1
            if depth > DEEPEST:
                raise FileFormatError(f"{path}: expected objects mounted at most {DEEPEST} deep, got more")


def nothing() -> Gaussians:
    """No Gaussians at all: what an object has that only carries others."""
    return Gaussians(*(torch.zeros(0, *shape) for shape in ((3,), (4,), (3,), (), (1, 3))))


def _foreign(node: Node, number: int, pose: Tensor, alone: bool) -> WorldObject:
    kind, default = (ObjectKind.STATIC, "background") if alone else (ObjectKind.RIGID, f"object {number}")
    name = node.name or default
    return WorldObject(number, name, node.gaussians, kind, pose.float(), hidden=node.hidden)


def _ours(node: Node, record: Mapping[str, Any], number: int, pose: Tensor) -> WorldObject:
    item = object_from_record({**record, "id": number}, node.gaussians, node.shape)
    off = (_rigid(item.world_from_object) - pose).abs()
    reach = max(1.0, float(pose[:3, 3].abs().max()))
    moved = float(off[:3, :3].max()) > SAME or float(off[:3, 3].max()) > SAME * reach
    return replace(item, world_from_object=pose.float(), supported_by=None) if moved else item


def _scaled(item: WorldObject, scale: float) -> WorldObject:
    """An object whose node was scaled by somebody."""
    if abs(scale - 1) < SAME:
        return item
    gaussians = item.gaussians.transformed(torch.eye(4), scale)
    return replace(
        item,
        gaussians=gaussians,
        joint=item.joint and item.joint.scaled(scale),
        shape=item.shape and item.shape.transformed(torch.eye(4), scale),
        material=item.material.scaled(scale),
        supported_by=None,
    )


def _split(matrix: Float[Tensor, "4 4"], where: str) -> tuple[Float[Tensor, "4 4"], float]:
    """A matrix as a rigid pose after a scale."""
    lengths = matrix[:3, :3].norm(dim=0)
    if not bool(torch.isfinite(matrix).all()) or not float(lengths.min()) > 0:
        raise FileFormatError(f"{where}: expected a finite matrix that can be inverted, got {_rows(matrix)}")
    rotation = matrix[:3, :3] / lengths
    error = float((rotation @ rotation.T - torch.eye(3).to(rotation)).abs().max())
    if float(lengths.max() / lengths.min()) - 1 > UNIFORM or error > 1e-3:
        raise FileFormatError(
            f"{where}: expected a rotation, a translation and one scale for all axes, got {_rows(matrix)};"
            " apply the unequal scale in the program that made it"
        )
    if float(torch.linalg.det(rotation)) < 0:
        raise FileFormatError(f"{where}: expected no mirror image, got {_rows(matrix)}; flip one axis back")
    return _rigid(pose_from(rotation, matrix[:3, 3])), float(lengths.mean())


def _rows(matrix: Tensor) -> str:
    return "; ".join(" ".join(f"{value:.4g}" for value in row) for row in matrix[:3].tolist())


def _rigid(pose: Float[Tensor, "4 4"]) -> Float[Tensor, "4 4"]:
    """The pose in float64 with a rotation that is one to all digits, as quaternions in files make it."""
    return pose_from_pose7(pose7_from_pose(pose.detach().cpu().double()))


def _unit(up: Vector | None) -> Vector | None:
    if up is None or abs(math.hypot(*up) - 1) < 1e-6:
        return up
    x, y, z = (value / math.hypot(*up) for value in up)
    return x, y, z
