"""`Segment`: objects made of ids for every Gaussian, as a segmentation finds them."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import ClassVar

import torch
from jaxtyping import Int, UInt8
from torch import Tensor

from ..gaussians import Gaussians, cat
from ..pose import invert_pose
from ..world import World, unsupported
from ..world_object import BACKGROUND_ID, ObjectKind, WorldObject
from .objects import as_shown, checked_name, new_name, without


@dataclass(frozen=True, eq=False)
class Segment:
    """Say which object every Gaussian belongs to; only for programs, since a list of ids is no JSON."""

    name: ClassVar[str] = "segment"
    ids: Int[Tensor, " n"]
    """For each row of `World.posed()`: an object of this world, or a new one."""
    confidences: UInt8[Tensor, " n"] | None = None
    """How sure these are, 255 for certain; default: as before."""
    names: Mapping[int, str] = field(default_factory=dict)
    """Of new objects, by id; default: "object 3"."""
    kinds: Mapping[int, ObjectKind] = field(default_factory=dict)
    """Of objects, by id; default for new ones: rigid."""

    def apply(self, world: World) -> World:
        total = sum(len(item.gaussians) for item in world.objects.values())
        for name in ("ids", "confidences"):
            if (values := getattr(self, name)) is not None and len(values) != total:
                raise ValueError(f"{name}: expected one for each of {total} Gaussians, got {len(values)}")
        if total and int(self.ids.min()) < 0:
            raise ValueError(
                f"ids: expected 0 for the background and more for objects, got {int(self.ids.min())}"
            )
        parts = self._parts(world)
        # What never had Gaussians, such as the root link of a robot, has lost none.
        emptied = {n for n, item in world.objects.items() if len(item.gaussians) and n not in parts}
        before = world
        for number, pieces in parts.items():
            world = world.with_object(self._filled(world, number, pieces))
        if BACKGROUND_ID in world.objects and BACKGROUND_ID not in parts:
            background = world.objects[BACKGROUND_ID]
            world = world.with_object(background.reshaped(background.gaussians.select(slice(0, 0))))
        world = without(world, emptied - {BACKGROUND_ID})
        changed = {
            n
            for n, item in world.objects.items()
            if n not in before.objects or len(item.gaussians) != len(before.objects[n].gaussians)
        }
        return replace(world, objects=unsupported(world.objects, changed))

    def _parts(self, world: World) -> dict[int, list[tuple[WorldObject, Gaussians]]]:
        """For every id its Gaussians, with the object they are from, whose frame they are in."""
        parts: dict[int, list[tuple[WorldObject, Gaussians]]] = {}
        start = 0
        for item in world.objects.values():
            rows = slice(start, start := start + len(item.gaussians))
            ids = self.ids[rows].to(torch.int32)
            if item.locked and bool((ids != item.id).any()):
                raise ValueError(
                    f"expected locked objects to keep theirs, got {item.id} ({item.name}); unlock it"
                )
            gaussians = item.gaussians
            if self.confidences is not None and not item.locked:
                gaussians = replace(gaussians, id_confidences=self.confidences[rows])
            for number in ids.unique().tolist():
                mask = ids == number
                kept = gaussians if bool(mask.all()) else gaussians.select(mask)
                kept = kept if number == item.id else as_shown(replace(item, gaussians=kept))
                parts.setdefault(number, []).append((item, kept))
        return dict(sorted(parts.items()))

    def _filled(self, world: World, number: int, pieces: list[tuple[WorldObject, Gaussians]]) -> WorldObject:
        old = world.objects.get(number)
        if old is None:
            return self._new(world, number, pieces)
        same = len(pieces) == 1 and pieces[0][0].id == number and len(pieces[0][1]) == len(old.gaussians)
        if same and old.locked:
            return old
        if same:
            item = replace(old, gaussians=pieces[0][1])
        elif old.locked:
            raise _locked(old)
        else:
            own = invert_pose(old.world_from_object)
            item = old.reshaped(
                cat(
                    [
                        part if source.id == number else part.transformed(own @ source.world_from_object)
                        for source, part in pieces
                    ]
                )
            )
        kind = self.kinds.get(number, item.kind)
        joint = item.joint if kind in (ObjectKind.ARTICULATED, ObjectKind.ROBOT) else None
        return item if kind is item.kind else replace(item, kind=kind, joint=joint)

    def _new(self, world: World, number: int, pieces: list[tuple[WorldObject, Gaussians]]) -> WorldObject:
        gaussians = cat([part.transformed(source.world_from_object) for source, part in pieces])
        if number == BACKGROUND_ID:
            kind = self.kinds.get(number, ObjectKind.STATIC)
            return WorldObject(number, new_name(world, "background"), gaussians, kind)
        pose = torch.eye(4)
        # The middle of its extent, which few Gaussians on one side do not pull away.
        pose[:3, 3] = (gaussians.means.amin(0) + gaussians.means.amax(0)) / 2
        name = new_name(world, checked_name(self.names.get(number, f"object {number}")))
        kind = self.kinds.get(number, ObjectKind.RIGID)
        return WorldObject(number, name, gaussians.transformed(invert_pose(pose)), kind, pose)


def _locked(item: WorldObject) -> ValueError:
    return ValueError(f"expected locked objects to keep theirs, got {item.id} ({item.name}); unlock it")
