"""glTF 2.0 with KHR_gaussian_splatting (`.glb`, `.gltf`): a node for each object, our facts in its extras."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ..errors import FileFormatError
from ..gaussians import Gaussians
from ..object_record import record_of
from ..pose import pose7_from_pose, pose_from, pose_from_pose7
from ..world import World
from .framing import Framing
from .glb import Document, listed
from .glb import write as write_container
from .gltf_mesh import EXTENSION, Packed, count_of, gaussians_of
from .linear import shown
from .scene_nodes import (
    OURS,
    Frame,
    Node,
    facts_of,
    frame_from,
    local_poses,
    nothing,
    turned_up,
    world_from_nodes,
)
from .scene_nodes import world_of as world_of_gaussians

VISIBILITY = "KHR_node_visibility"
#: Required extensions that change nothing of what is read here, besides all of materials and textures.
_KNOWN = {EXTENSION, VISIBILITY, "KHR_mesh_quantization"}
_OF_SURFACES = ("KHR_materials_", "KHR_texture_", "KHR_lights_", "EXT_texture_")
#: A file repeats one mesh as often as it likes; so many Gaussians may come of it however small the file is.
_ALWAYS_ALLOWED = 4_000_000
_MOST_NODES = 100_000
_MOVING = {"matrix", "translation", "rotation", "scale"}
_Y_UP = (0.0, 1.0, 0.0)


def read(path: Path) -> Gaussians:
    """What is shown, each with its object's id: in our files in the world's frame, else in glTF's.

    Raises:
        FileFormatError: as `read_world`.
    """
    return read_world(path).posed().shown()


def read_framing(path: Path) -> Framing:
    """What our facts say of the world's frame; of other files +y and one metre, which are glTF's own.

    Raises:
        FileFormatError: not a glTF file, or its nodes are no tree.
    """
    document = Document(path)
    return _frame(list(_tree(document)), path).framing


def read_world(path: Path) -> World:
    """One object for each node that has Gaussians; kinds, joints and materials come back from our own files.

    "Ellipse Kernel" and "Attributes" of the specification are followed; draft files with logarithms of
    scales are recognised by their negative numbers. Colours of `lin_rec709_display` are encoded as sRGB: the
    mean colour exactly, its change with direction to first order.

    Raises:
        FileFormatError: not glTF, no Gaussians in it, compressed, another kernel or colour space, data that
            is out of its buffer, not finite or out of range, or a node that shears or mirrors.
    """
    document = Document(path)
    _check_required(document)
    tree = list(_tree(document))
    frame = _frame(tree, path)
    _check_amount(document, tree)
    return world_from_nodes(_nodes(document, tree), frame, path)


def write(gaussians: Gaussians, path: Path, framing: Framing) -> None:
    """Write the Gaussians that are not deleted, one node for each object id, all at the origin.

    Raises:
        ValueError: as `write_world`.
    """
    _write(world_of_gaussians(gaussians, framing), facts_of(framing), path)


def write_world(world: World, path: Path) -> None:
    """Write a world: below a root that turns it +y up and makes its unit one metre, a node for each object.

    Hidden objects are there and marked invisible (KHR_node_visibility). Cameras and Gaussians that are
    deleted or hidden one by one are not written.

    Raises:
        ValueError: a number is not finite, a scale beyond float32, or more than the container holds.
        GaussWorldError: the file system refuses.
    """
    framing = Framing(None, world.up, world.metres_per_unit)
    _write(world, facts_of(framing, world.world_from_source), path)


def _write(world: World, facts: dict[str, Any], path: Path) -> None:
    nodes, packed = _nodes_of(world, facts), Packed()
    for place, item in enumerate(world.objects.values(), start=1):
        if len(gaussians := shown(item.gaussians)):
            holder = _hidden_part(nodes, nodes[place]) if item.hidden else nodes[place]
            holder["mesh"] = packed.add(gaussians, item.name, path)
    used = {EXTENSION: bool(packed.meshes), VISIBILITY: len(nodes) > 1 + len(world.objects)}
    document = {
        "asset": {"version": "2.0", "generator": "GaussWorld"},
        "extensionsUsed": [name for name, there in used.items() if there],
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": nodes,
        **packed.lists(),
    }
    write_container({key: value for key, value in document.items() if value != []}, packed.parts, path)


def _nodes_of(world: World, facts: dict[str, Any]) -> list[dict[str, Any]]:
    """The root, and a node for each object in their order, each listed by its parent."""
    root = pose_from(turned_up(world.up, _Y_UP), torch.zeros(3, dtype=torch.float64))
    nodes: list[dict[str, Any]] = [{"name": "world", **_placed(root), "extras": {OURS: facts}}]
    if world.metres_per_unit is not None:
        nodes[0]["scale"] = [world.metres_per_unit] * 3
    local, places = local_poses(world), {number: i for i, number in enumerate(world.objects, start=1)}
    for number, item in world.objects.items():
        nodes.append({"name": item.name, **_placed(local[number]), "extras": {OURS: record_of(item)}})
    for number, item in world.objects.items():
        above = 0 if item.parent is None else places[item.parent]
        nodes[above].setdefault("children", []).append(places[number])
    return nodes


def _hidden_part(nodes: list[dict[str, Any]], holder: dict[str, Any]) -> dict[str, Any]:
    """A node of its own for Gaussians that are not seen: what is mounted on their object may well be."""
    part = {"name": f"{holder['name']} (hidden)", "extensions": {VISIBILITY: {"visible": False}}}
    part["extras"] = {OURS: {"part": True}}
    holder.setdefault("children", []).append(len(nodes))
    nodes.append(part)
    return part


def _placed(pose: Float[Tensor, "4 4"]) -> dict[str, Any]:
    """A rigid pose as the translation and rotation (xyzw) of a node; identities are left out."""
    x, y, z, w, i, j, k = pose7_from_pose(pose).tolist()
    placed = {} if x == y == z == 0 else {"translation": [x, y, z]}
    return placed if w == 1 else placed | {"rotation": [i, j, k, w]}


class _Place:
    """A node of the file on the way through its tree."""

    def __init__(self, index: int, stated: dict[str, Any], matrix: Tensor, above: "_Place | None") -> None:
        self.index, self.stated, self.matrix, self.above = index, stated, matrix, above
        extras = stated.get("extras")
        ours = extras.get(OURS) if isinstance(extras, dict) else None
        self.ours: dict[str, Any] = ours if isinstance(ours, dict) else {}
        extensions = stated.get("extensions")
        seen = extensions.get(VISIBILITY) if isinstance(extensions, dict) else None
        hidden = isinstance(seen, dict) and seen.get("visible") is False
        self.hidden: bool = hidden or (above is not None and above.hidden)

    @property
    def name(self) -> str:
        name = self.stated.get("name")
        return name if isinstance(name, str) else ""


def _tree(document: Document) -> Iterator[_Place]:
    """The nodes of the file's scene, parents first, with their matrices in it."""
    path, seen = document.path, set[int]()
    eye = torch.eye(4, dtype=torch.float64)
    waiting: list[tuple[Any, _Place | None]] = [(index, None) for index in reversed(_roots(document))]
    while waiting:
        index, above = waiting.pop()
        stated = document.entry("nodes", index, "the scene's tree")
        if index in seen:
            raise FileFormatError(
                f"{path}: expected a tree of nodes, got node {index} twice, in a cycle or below two parents"
            )
        seen.add(index)
        if len(seen) > _MOST_NODES:
            raise FileFormatError(f"{path}: expected at most {_MOST_NODES} nodes, got more")
        matrix = (eye if above is None else above.matrix) @ _matrix(stated, f"{path}: node {index}")
        place = _Place(index, stated, matrix, above)
        yield place
        waiting += [(child, place) for child in reversed(listed(stated, "children", path))]


def _roots(document: Document) -> list[Any]:
    if scenes := listed(document.json, "scenes", document.path):
        scene = document.entry("scenes", document.json.get("scene", 0), "the file")
        assert scenes
        return listed(scene, "nodes", document.path)
    nodes = listed(document.json, "nodes", document.path)
    below = {
        str(c) for node in nodes if isinstance(node, dict) for c in listed(node, "children", document.path)
    }
    return [index for index in range(len(nodes)) if str(index) not in below]


def _matrix(stated: Mapping[str, Any], where: str) -> Float[Tensor, "4 4"]:
    """glTF 2.0, "Transformations": a matrix by columns, or translation, rotation (xyzw) and scale."""
    if not _MOVING & stated.keys():
        return torch.eye(4, dtype=torch.float64)
    if "matrix" in stated:
        return _numbers(stated, "matrix", [], 16, where).reshape(4, 4).T.contiguous()
    translation = _numbers(stated, "translation", [0, 0, 0], 3, where)
    i, j, k, w = _numbers(stated, "rotation", [0, 0, 0, 1], 4, where).tolist()
    if not any((i, j, k, w)):
        raise FileFormatError(f"{where}: expected a rotation, got a quaternion of zeros")
    pose = pose_from_pose7(torch.cat([translation, torch.tensor([w, i, j, k], dtype=torch.float64)]))
    return pose @ torch.diag(torch.cat([_numbers(stated, "scale", [1, 1, 1], 3, where), pose.new_ones(1)]))


def _numbers(stated: Mapping[str, Any], name: str, default: list[int], count: int, where: str) -> Tensor:
    values = stated.get(name, default)
    numbers = isinstance(values, list) and all(
        isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e38
        for value in values
    )
    if not numbers or len(values) != count:
        raise FileFormatError(f"{where}: expected {name} as {count} finite numbers, got {values!r:.60}")
    return torch.tensor(values, dtype=torch.float64)


def _frame(tree: list[_Place], path: Path) -> Frame:
    for place in tree:
        if "version" in place.ours:
            return frame_from(place.ours, place.matrix, f"{path}: node {place.index}")
    return Frame(Framing(None, _Y_UP, 1.0))


def _check_required(document: Document) -> None:
    for name in map(str, listed(document.json, "extensionsRequired", document.path)):
        if name in _KNOWN or name.startswith(_OF_SURFACES):
            continue
        advice = "export it without"
        if "gaussian" in name or "spz" in name:
            advice = "unpack it with the program that made it, or export .spz or .ply instead"
        raise FileFormatError(
            f"{document.path}: expected a glTF that needs nothing but {', '.join(sorted(_KNOWN))}, got"
            f" {name!r:.60}; {advice}"
        )


def _check_amount(document: Document, tree: list[_Place]) -> None:
    """Refuse a small file that becomes large by repeating a mesh, or by reading the same bytes many times."""
    total, counts = 0, dict[int, int]()
    for place in tree:
        if (mesh := place.stated.get("mesh")) is None:
            continue
        document.entry("meshes", mesh, f"node {place.index}")
        if mesh not in counts:
            counts[mesh] = count_of(document, mesh)
        total += counts[mesh]
    # A Gaussian takes at least 12 bytes for its position; SH and the rest make it five to twenty times that.
    most = max(_ALWAYS_ALLOWED, document.stored_bytes // 12)
    if total > most:
        raise FileFormatError(
            f"{document.path}: expected at most {most} Gaussians of {document.stored_bytes} bytes of data,"
            f" got {total}"
        )


def _nodes(document: Document, tree: list[_Place]) -> list[Node]:
    """What has Gaussians or a record of ours, in the order in which the file lists its nodes."""
    meshes: dict[int, Gaussians | None] = {}
    gaussians: dict[int, Gaussians] = {}
    for place in tree:
        if (mesh := place.stated.get("mesh")) is None:
            continue
        if mesh not in meshes:
            meshes[mesh] = gaussians_of(document, mesh)
        if (found := meshes[mesh]) is not None:
            part = place.ours.get("part") is True and place.above is not None
            gaussians[place.above.index if part and place.above else place.index] = found
    kept = [place for place in tree if "id" in place.ours or place.index in gaussians]
    kept.sort(key=lambda place: place.index)
    if not kept and not any("version" in place.ours for place in tree):
        there = len(listed(document.json, "meshes", document.path))
        raise FileFormatError(
            f"{document.path}: expected Gaussians ({EXTENSION}), got a glTF file of {there} meshes without"
            " any; sample points on their surfaces and build some with Gaussians.from_activated"
        )
    above = _holders(tree, {place.index: row for row, place in enumerate(kept)})
    return [
        Node(
            _name(document, place),
            place.matrix,
            gaussians[place.index] if place.index in gaussians else nothing(),
            above[place.index],
            place.ours if "id" in place.ours else None,
            place.hidden,
        )
        for place in kept
    ]


def _holders(tree: list[_Place], rows: Mapping[int, int]) -> dict[int, int | None]:
    """By node index, the row of the next node above that has one; the tree lists parents first."""
    holders: dict[int, int | None] = {}
    for place in tree:
        if place.above is None:
            holders[place.index] = None
        else:
            holders[place.index] = rows.get(place.above.index, holders[place.above.index])
    return holders


def _name(document: Document, place: _Place) -> str:
    """A node's own name, else its mesh's."""
    if not place.name and place.stated.get("mesh") is not None:
        name = document.entry("meshes", place.stated["mesh"], "a node").get("name")
        return name if isinstance(name, str) else ""
    return place.name
