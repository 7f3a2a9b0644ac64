"""Edits: everything that can be done to a world, as data; each makes a new world, and a `Change` leads back.

`world, change = edit.do(edit.Move((3,), (0.1, 0.0, 0.0)), world)`, and `change.undo(world)` is what it was.
"""

from dataclasses import replace
from typing import ClassVar, Protocol, runtime_checkable

from ..errors import EditError
from ..world import World
from .change import Change, ColumnChange, ObjectChange, between, touched
from .facts import Rename, Reparent, SetJoint, SetKind, SetMaterial, SetShape, SetSupport
from .fill import FillHole
from .objects import Add, Delete, Duplicate, Merge, Move, Place, Rotate, Scale
from .parts import Crop, Erase, Grade, Hide, Lock, Recolour, Restore, Separate, Split
from .robot import AddMesh, AddRobot, SetJoints
from .rows import Rows
from .segment import Segment
from .target import Box, Polygon, Sphere, Target
from .whole import RemoveFloaters, SetScale, SetUp, Simplify

__all__ = [
    "EDITS",
    "Add",
    "AddMesh",
    "AddRobot",
    "Box",
    "Change",
    "ColumnChange",
    "Crop",
    "Delete",
    "Duplicate",
    "Edit",
    "Erase",
    "FillHole",
    "Grade",
    "Hide",
    "Lock",
    "Merge",
    "Move",
    "ObjectChange",
    "Place",
    "Polygon",
    "Recolour",
    "RemoveFloaters",
    "Rename",
    "Reparent",
    "Restore",
    "Rotate",
    "Rows",
    "Scale",
    "Segment",
    "Separate",
    "SetJoint",
    "SetJoints",
    "SetKind",
    "SetMaterial",
    "SetScale",
    "SetShape",
    "SetSupport",
    "SetUp",
    "Simplify",
    "Sphere",
    "Split",
    "Target",
    "applied",
    "between",
    "do",
    "touched",
]


@runtime_checkable
class Edit(Protocol):
    """One thing that can be done to a world: a frozen dataclass of plain values."""

    name: ClassVar[str]
    """What it is called in histories and in JSON."""

    def apply(self, world: World) -> World:
        """The world after it; the given one is left as it is.

        Raises:
            ValueError: it cannot be done; the message says why.
        """
        ...


#: Every edit, by name.
EDITS: dict[str, type[Edit]] = {
    each.name: each
    for each in (
        Move, Rotate, Place, Scale, Duplicate, Delete, Rename, SetKind, SetJoint, SetMaterial, SetShape,
        SetSupport, Reparent, Add, AddMesh, AddRobot, SetJoints, Segment, Merge, Hide, Lock, Erase, Restore,
        FillHole, Recolour, Grade, Split, Separate, Crop, SetUp, SetScale, RemoveFloaters, Simplify,
    )
}  # fmt: skip


def applied(edit: Edit, world: World) -> World:
    """The world after an edit; it names no stored revision any more.

    Raises:
        EditError: it cannot be done.
    """
    try:
        return replace(edit.apply(world), revision=None)
    except (ValueError, OverflowError) as error:
        raise EditError(f"{edit.name}: {error}") from error


def do(edit: Edit, world: World) -> tuple[World, Change]:
    """The world after an edit, and the way back and forth between the two.

    Raises:
        EditError: it cannot be done.
    """
    after = applied(edit, world)
    return after, between(edit.name, world, after)
