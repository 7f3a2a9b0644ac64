"""A world as chunks and back: a tree of small JSON nodes over the raw arrays of each object's Gaussians.

A revision names the root. The root holds the world's own facts and the top of a radix tree over object ids,
16 to a node, so that changing one object rewrites one path of it. An object's node holds its facts and its
block, which lists for every array the chunks of `ROWS` rows each; a long block is a node of its own.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..camera import Camera
from ..camera_record import camera_from_record, camera_record
from ..gaussians import Gaussians
from ..object_record import numbers_from, object_from_record, record_of
from ..world import World
from ..world_object import WorldObject
from .columns import ROWS, Column
from .shapes import shape_chunks, shape_from_node, shape_node

FANOUT = 16
_DIGITS = frozenset("0123456789abcdef")
_MOST_OBJECTS = 1_000_000
#: More chunks than this are listed in a node of their own, which moving the object need not write again.
_INLINE_CHUNKS = 8
#: Arrays of a block. Ids are not stored: an object's Gaussians are its own.
_FLOATS = ("means", "quats", "log_scales", "opacity_logits", "sh")
#: Bytes, left out where all are zero.
_BYTES = ("flags", "id_confidences")

#: Takes the bytes of a node, gives its hash.
PutNode = Callable[[bytes], str]
#: Takes the pieces of arrays, gives their hashes in order.
PutArrays = Callable[[Sequence[memoryview]], list[str]]


class Block(NamedTuple):
    """The arrays of one object's Gaussians."""

    size: int
    columns: Mapping[str, Column]

    def node(self) -> dict[str, Any]:
        columns = {k: [c.dtype, list(c.tail), list(c.chunks)] for k, c in self.columns.items()}
        return {"count": self.size, "columns": columns}

    @classmethod
    def from_node(cls, node: Mapping[str, Any]) -> "Block":
        columns = {
            name: Column(dtype, tuple(tail), tuple(chunks))
            for name, (dtype, tail, chunks) in node["columns"].items()
        }
        return cls(node["count"], columns)


class StoredObject(NamedTuple):
    """An object and what it is stored as."""

    item: WorldObject
    node: str
    block: Block
    block_link: Any
    """What the object's node says: the block itself, or the hash of its node."""
    shape_link: str | None = None
    """Hash of the node of its shape."""


@dataclass(frozen=True, eq=False)
class StoredWorld:
    """A world and the names of what it is stored as: what the next revision is written against."""

    world: World
    root: str = ""
    objects: Mapping[int, StoredObject] = field(default_factory=dict)
    cameras: str | None = None


def encoded(world: World, base: StoredWorld, put: PutNode, put_arrays: PutArrays) -> StoredWorld:
    """Write what differs from `base`; what is the same tensor, Gaussians or object is not even looked at."""
    blocks = _blocks(world, base, put_arrays)
    objects = {}
    for number, item in world.objects.items():
        old = base.objects.get(number)
        if old is not None and old.item is item and old.node:
            objects[number] = old
            continue
        block = blocks[number]
        link = old.block_link if old is not None and old.block is block else _link(block, put)
        shape = _shape_link(item, old, put, put_arrays)
        linked = {"gaussians": link} if shape is None else {"gaussians": link, "shape": shape}
        node = put(_json(record_of(item) | linked))
        objects[number] = StoredObject(item, node, block, link, shape)
    cameras = base.cameras
    if world.cameras is not base.world.cameras:
        cameras = put(_json([camera_record(c) for c in world.cameras])) if world.cameras else None
    root = {
        "up": world.up,
        "metres_per_unit": world.metres_per_unit,
        "world_from_source": numbers_from(world.world_from_source),
        "cameras": cameras,
        "objects": _tree({number: stored.node for number, stored in objects.items()}, put),
    }
    return StoredWorld(world, put(_json(root)), objects, cameras)


def _link(block: Block, put: PutNode) -> Any:
    """A block of few chunks lies in its object's node, which is one node less to read."""
    node = block.node()
    few = sum(len(column.chunks) for column in block.columns.values()) <= _INLINE_CHUNKS
    return node if few else put(_json(node))


def _shape_link(
    item: WorldObject, old: StoredObject | None, put: PutNode, put_arrays: PutArrays
) -> str | None:
    if item.shape is None:
        return None
    if old is not None and old.item.shape is item.shape and old.shape_link is not None:
        return old.shape_link
    return put(_json(shape_node(item.shape, put_arrays)))


def needed_by(record: Mapping[str, Any], node: Callable[[str], Any]) -> list[str]:
    """The hashes that an object's node names: of its block if that is a node, of its shape, and of arrays."""
    link = record["gaussians"]
    chunks = [name for column in block_of(link, node).columns.values() for name in column.chunks]
    own = [link, *chunks] if isinstance(link, str) else chunks
    return own if record.get("shape") is None else own + shape_chunks(record["shape"], node)


def block_of(link: Any, node: Callable[[str], Any]) -> Block:
    """The block that an object's node holds or names."""
    return Block.from_node(node(link) if isinstance(link, str) else link)


def _blocks(world: World, base: StoredWorld, put_arrays: PutArrays) -> dict[int, Block]:
    """The block of every object that is not the base's, all new pieces written in one go."""
    plans: dict[int, tuple[int, dict[str, Any]]] = {}
    known: dict[int, Block] = {}
    pieces: list[memoryview] = []
    for number, item in world.objects.items():
        old = base.objects.get(number)
        if old is not None and old.item.gaussians is item.gaussians:
            known[number] = old.block
            continue
        plans[number] = len(item.gaussians), _planned(item.gaussians, old, pieces)
    hashes = put_arrays(pieces)
    for number, (count, plan) in plans.items():
        columns = {
            name: Column(dtype, tail, tuple(hashes[c] if isinstance(c, int) else c for c in chunks))
            for name, (dtype, tail, chunks) in plan.items()
        }
        known[number] = Block(count, columns)
    return known


def _planned(gaussians: Gaussians, old: StoredObject | None, pieces: list[memoryview]) -> dict[str, Any]:
    """For every array its type, shape, and for each chunk the hash it has or the index of a new piece."""
    plan: dict[str, Any] = {}
    for name in (*_FLOATS, *_BYTES):
        tensor: Tensor = getattr(gaussians, name)
        if name in _BYTES and not bool(tensor.any()):
            continue
        before: Tensor | None = None if old is None else getattr(old.item.gaussians, name)
        column = None if old is None else old.block.columns.get(name)
        if before is tensor and column is not None:
            plan[name] = column.dtype, column.tail, column.chunks
            continue
        comparable = before is not None and column is not None and before.shape == tensor.shape
        rows = tensor.detach().to("cpu", torch.uint8 if name in _BYTES else torch.float32).contiguous()
        chunks: list[str | int] = []
        for index, start in enumerate(range(0, len(rows), ROWS)):
            part = rows[start : start + ROWS]
            if comparable and column is not None and _same(part, before[start : start + ROWS]):  # pyright: ignore
                chunks.append(column.chunks[index])
            else:
                chunks.append(len(pieces))
                pieces.append(memoryview(part.numpy()).cast("B"))  # pyright: ignore[reportArgumentType]
        plan[name] = "u1" if name in _BYTES else "f4", tuple(rows.shape[1:]), tuple(chunks)
    return plan


def _same(a: Tensor, b: Tensor) -> bool:
    """Bit for bit: -0 is not 0 here, and NaN is itself."""
    integer = torch.uint8 if a.dtype == torch.uint8 else torch.int32
    b = b.detach().to(a).contiguous()
    return torch.equal(a.view(integer), b.view(integer))


def _tree(hashes: Mapping[int, str], put: PutNode) -> list[Any]:
    """The top node of the radix tree: its height, and children by digit."""
    level: dict[int, str] = dict(hashes)
    height = 0
    while level and max(level) >= FANOUT:
        parents: dict[int, dict[str, str]] = {}
        for number, name in level.items():
            parents.setdefault(number // FANOUT, {})[f"{number % FANOUT:x}"] = name
        level = {number: put(_json(children)) for number, children in parents.items()}
        height += 1
    return [height, {f"{number:x}": name for number, name in level.items()}]


def walk(
    top: Sequence[Any], node: Callable[[str], Any], seen: Callable[[str], None] | None = None
) -> Iterator[tuple[int, str]]:
    """Ids and node hashes of all objects below the top of a tree, ascending.

    Args:
        top: what the root holds.
        node: gives the node of a hash.
        seen: told the hash of every inner node.
    """

    visited = 0

    def below(prefix: int, children: Any, height: int) -> Iterator[tuple[int, str]]:
        nonlocal visited
        if not isinstance(children, dict) or not 1 <= len(children) <= FANOUT or not set(children) <= _DIGITS:
            raise ValueError(f"expected a node of 1 to {FANOUT} children, got {str(children)[:80]}")
        for digit in sorted(children):
            # A forged tree can be small and yet have no end.
            visited += 1
            if visited > _MOST_OBJECTS:
                raise ValueError(f"expected at most {_MOST_OBJECTS} objects, got more")
            number, name = prefix * FANOUT + int(digit, 16), children[digit]
            if height == 0:
                yield number, name
                continue
            if seen is not None:
                seen(name)
            yield from below(number, node(name), height - 1)

    height, children = top
    if not isinstance(height, int) or not 0 <= height <= 7:
        raise ValueError(f"expected a tree of at most 8 levels, got {height!r:.40}")
    if children or height:
        yield from below(0, children, height)


def decoded(
    root_hash: str,
    node: Callable[[str], Any],
    array: Callable[[Column, int], Tensor],
    near: StoredWorld | None = None,
    broken: Callable[[int, str, Exception], None] | None = None,
) -> StoredWorld:
    """The world of a root; objects that `near` has too are the same ones, not read again.

    Args:
        root_hash: of the root's node.
        node: gives the node of a hash.
        array: gives the tensor of a column of so many rows.
        near: a world read or written before.
        broken: told id, node hash and error of an object that cannot be read, which is then left out; without
            it the error is raised.
    """
    root = node(root_hash)
    known = {} if near is None else {stored.node: stored for stored in near.objects.values()}
    objects: dict[int, StoredObject] = {}
    for number, name in walk(root["objects"], node):
        try:
            like = None if near is None else near.objects.get(number)
            objects[number] = known.get(name) or _stored_object(name, node, array, like)
        except Exception as error:
            if broken is None:
                raise
            broken(number, name, error)
            # A shape can be made again: without it the object may be whole.
            with suppress(Exception):
                objects[number] = _stored_object(name, node, array, None, with_shape=False)
    objects = _without_lost_parents(objects)
    same_cameras = near is not None and near.cameras == root["cameras"]
    cameras = near.world.cameras if near is not None and same_cameras else _cameras(root["cameras"], node)
    world = World(
        objects={number: stored.item for number, stored in objects.items()},
        cameras=cameras,
        metres_per_unit=root["metres_per_unit"],
        up=None if root["up"] is None else tuple(root["up"]),
        world_from_source=_unless_same(_matrix(root["world_from_source"]), near),
    )
    return StoredWorld(world, root_hash, objects, root["cameras"])


def _stored_object(
    name: str,
    node: Callable[[str], Any],
    array: Callable[[Column, int], Tensor],
    like: StoredObject | None,
    with_shape: bool = True,
) -> StoredObject:
    record = node(name)
    if not with_shape:
        if record.pop("shape", None) is None:
            raise ValueError("expected an object with a shape to leave out, got one without")
        # No node is stored for this variant: the next revision writes one.
        name = ""
    block, link = block_of(record["gaussians"], node), record.get("shape")
    shape = None if like is None or link is None or like.shape_link != link else like.item.shape
    if link is not None and shape is None:
        shape = shape_from_node(node(link), array)
    if like is not None and like.block == block:
        # The same Gaussians elsewhere: whoever compares sees that only a fact changed.
        item = object_from_record(record, like.item.gaussians, shape)
        return StoredObject(item, name, like.block, like.block_link, link)
    tensors = {key: array(column, block.size) for key, column in block.columns.items()}
    ids = torch.full((1,), record["id"], dtype=torch.int32).expand(block.size)
    for key in _BYTES:
        if key not in tensors:
            tensors[key] = _no_bytes(block.size)
    gaussians = Gaussians(**tensors, object_ids=ids)
    item = object_from_record(record, gaussians, shape)
    return StoredObject(item, name, block, record["gaussians"], link)


@lru_cache(maxsize=256)
def _no_bytes(count: int) -> Tensor:
    """Zeros that objects of a size share; a quarter of the time to open a world goes into making tensors."""
    return torch.zeros(1, dtype=torch.uint8).expand(count)


def _without_lost_parents(objects: dict[int, StoredObject]) -> dict[int, StoredObject]:
    """Objects whose parent could not be read stand alone."""
    return {
        number: stored
        if stored.item.parent is None or stored.item.parent in objects
        # No node is stored for this variant: the next revision writes one.
        else stored._replace(item=replace(stored.item, parent=None), node="")
        for number, stored in objects.items()
    }


def _cameras(name: str | None, node: Callable[[str], Any]) -> tuple[Camera, ...]:
    return () if name is None else tuple(camera_from_record(record) for record in node(name))


def _unless_same(matrix: Tensor, near: StoredWorld | None) -> Tensor:
    same = near is not None and torch.equal(matrix, near.world.world_from_source)
    return near.world.world_from_source if near is not None and same else matrix


def _matrix(numbers: Sequence[float]) -> Tensor:
    return torch.tensor(numbers, dtype=torch.float64).float().reshape(4, 4)


def _json(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":"), allow_nan=False).encode()
