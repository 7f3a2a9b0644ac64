"""`Change`: the difference between two worlds as data, which leads from either to the other, bit for bit."""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from jaxtyping import Int, Shaped
from torch import Tensor

from ..gaussians import Gaussians
from ..world import World
from ..world_object import WorldObject
from .rows import Rows, ranges_of

_FACTS = tuple(field.name for field in fields(WorldObject) if field.name not in ("id", "gaussians"))
_COLUMNS = tuple(field.name for field in fields(Gaussians))
_WORLD = ("cameras", "metres_per_unit", "up", "world_from_source")


@dataclass(frozen=True, eq=False)
class ColumnChange:
    """Some rows of one array: what they were and what they became."""

    ranges: Int[Tensor, "m 2"]
    old: Shaped[Tensor, "r ..."]
    new: Shaped[Tensor, "r ..."]

    def put(self, column: Tensor, values: Tensor) -> Tensor:
        """The column with `values` in these rows."""
        changed = column.clone()
        changed[Rows({0: self.ranges}).mask(0, len(column))] = values
        return changed


@dataclass(frozen=True, eq=False)
class ObjectChange:
    """What became of one object."""

    id: int
    facts: Mapping[str, tuple[Any, Any]]
    """Field -> old and new value."""
    columns: Mapping[str, ColumnChange]
    """Array of its Gaussians -> the rows that differ; empty when `whole` is given."""
    whole: tuple[Gaussians, Gaussians] | None = None
    """Its Gaussians before and after, where their number changed."""

    def on(self, item: WorldObject, new: bool) -> WorldObject:
        """The object with its new values, or its old ones."""
        values: dict[str, Any] = {name: pair[new] for name, pair in self.facts.items()}
        if self.whole is not None:
            values["gaussians"] = self.whole[new]
        elif self.columns:
            columns = {
                name: change.put(getattr(item.gaussians, name), change.new if new else change.old)
                for name, change in self.columns.items()
            }
            values["gaussians"] = replace(item.gaussians, **columns)
        return replace(item, **values)


@dataclass(frozen=True, eq=False)
class Change:
    """What an edit did. `redo` and `undo` need nothing but a world in the one state or the other."""

    name: str
    changed: tuple[ObjectChange, ...]
    added: tuple[WorldObject, ...]
    removed: tuple[WorldObject, ...]
    world: Mapping[str, tuple[Any, Any]]
    """Field of `World` -> old and new value."""

    def redo(self, world: World) -> World:
        """From the world before to the world after."""
        return self._on(world, new=True)

    def undo(self, world: World) -> World:
        """From the world after to the world before."""
        return self._on(world, new=False)

    def _on(self, world: World, new: bool) -> World:
        objects = dict(world.objects)
        gone, come = (self.removed, self.added) if new else (self.added, self.removed)
        for item in gone:
            del objects[item.id]
        objects |= {item.id: item for item in come}
        objects |= {each.id: each.on(objects[each.id], new) for each in self.changed}
        return replace(world, objects=objects, **{name: pair[new] for name, pair in self.world.items()})


def between(name: str, before: World, after: World) -> Change:
    """The change from one world to another; what both share as the same object is not looked at."""
    return Change(
        name=name,
        changed=tuple(
            _object_change(before.objects[number], item)
            for number, item in after.objects.items()
            if number in before.objects and before.objects[number] is not item
        ),
        added=tuple(item for number, item in after.objects.items() if number not in before.objects),
        removed=tuple(item for number, item in before.objects.items() if number not in after.objects),
        world={
            field: (getattr(before, field), getattr(after, field))
            for field in _WORLD
            if not _same(getattr(before, field), getattr(after, field))
        },
    )


def touched(before: World, after: World) -> dict[int, frozenset[str]]:
    """Which fields and arrays of which objects differ, judged by identity alone: an instant at any size.

    An object that came or went has the one entry "added" or "removed".
    """
    found = {number: frozenset({"removed"}) for number in before.objects if number not in after.objects}
    for number, item in after.objects.items():
        old = before.objects.get(number)
        if old is None:
            found[number] = frozenset({"added"})
        elif old is not item:
            names = {name for name in _FACTS if not _same(getattr(old, name), getattr(item, name))}
            if old.gaussians is not item.gaussians:
                columns = [(getattr(old.gaussians, n), getattr(item.gaussians, n), n) for n in _COLUMNS]
                names |= {name for a, b, name in columns if a is not b and name != "object_ids"}
            found[number] = frozenset(names)
    return found


def _object_change(old: WorldObject, new: WorldObject) -> ObjectChange:
    facts = {
        name: (getattr(old, name), getattr(new, name))
        for name in _FACTS
        if not _same(getattr(old, name), getattr(new, name))
    }
    a, b = old.gaussians, new.gaussians
    if len(a) != len(b) or a.sh.shape != b.sh.shape:
        return ObjectChange(old.id, facts, {}, (a, b))
    columns = {name: _column_change(getattr(a, name), getattr(b, name)) for name in _COLUMNS}
    return ObjectChange(old.id, facts, {name: change for name, change in columns.items() if change})


def _column_change(a: Tensor, b: Tensor) -> ColumnChange | None:
    if a is b or not len(a):
        return None
    differs = (bits(a) != bits(b)).reshape(len(a), -1).any(dim=1)
    if not bool(differs.any()):
        return None
    return ColumnChange(ranges_of(differs), a[differs], b[differs])


def bits(values: Tensor) -> Tensor:
    """The same memory as whole numbers: -0 differs from 0, and NaN equals itself."""
    values = values.detach()
    return values.contiguous().view(torch.int32) if values.dtype == torch.float32 else values


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        return a is b or (a.shape == b.shape and a.dtype == b.dtype and torch.equal(bits(a), bits(b)))
    return a is b or (not isinstance(a, tuple) and a == b) or (isinstance(a, tuple) and _same_tuple(a, b))


def _same_tuple(a: tuple[Any, ...], b: Any) -> bool:
    """Cameras compare by identity, numbers by value."""
    return isinstance(b, tuple) and len(a) == len(b) and all(x is y or x == y for x, y in zip(a, b))
