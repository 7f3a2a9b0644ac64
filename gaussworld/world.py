"""`World`: the static model - objects, cameras, the scale and the up axis."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from .camera import Camera
from .errors import UnknownScale
from .gaussians import Gaussians, cat
from .pose import invert_pose, pose_from
from .world_object import BACKGROUND_ID, ObjectKind, Vector, WorldObject


@runtime_checkable
class Placement(Protocol):
    """Where objects are at one moment: what `World.posed` asks of a `State`."""

    def world_from_objects(self) -> Mapping[int, Float[Tensor, "4 4"]]:
        """Object id -> pose."""
        ...


@dataclass(frozen=True, eq=False)
class World:
    """Everything that exists and does not change by itself."""

    objects: Mapping[int, WorldObject] = field(default_factory=dict)
    """By id, ascending, which is the order in which `posed` lists them."""
    cameras: tuple[Camera, ...] = ()
    metres_per_unit: float | None = None
    """How long one unit of this world's coordinates is [m]; None while nobody knows, 1 after `in_metres`."""
    up: Vector | None = None
    """Unit direction against gravity in the world frame; None while nobody knows, (0, 0, 1) once aligned."""
    world_from_source: Float[Tensor, "4 4"] = field(default_factory=lambda: torch.eye(4))
    """The similarity from the frame the input came in: the way back for exports."""
    revision: str | None = None
    """Name of the stored revision this is; None for a world that is not stored."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "objects", dict(sorted(self.objects.items())))
        for key, item in self.objects.items():
            if key != item.id:
                raise ValueError(
                    f"World.objects: expected every key to be its object's id, got {key} for {item.id}"
                )
            self._check_ancestry(item)
        if self.metres_per_unit is not None and not 0 < self.metres_per_unit < math.inf:
            raise ValueError(
                f"World.metres_per_unit: expected a positive length or None, got {self.metres_per_unit}"
            )
        if self.up is not None and not abs(math.hypot(*self.up) - 1) < 1e-3:
            raise ValueError(f"World.up: expected a direction of length 1 or None, got {self.up}")
        if tuple(self.world_from_source.shape) != (4, 4):
            raise ValueError(
                f"World.world_from_source: expected shape (4, 4), got {tuple(self.world_from_source.shape)}"
            )

    @classmethod
    def from_gaussians(
        cls,
        gaussians: Gaussians,
        *,
        cameras: Sequence[Camera] = (),
        metres_per_unit: float | None = None,
        up: Vector | None = None,
    ) -> "World":
        """Split Gaussians in the world frame by their `object_ids`.

        The background (id 0) is static and keeps the world's frame; every other object is rigid, with a frame
        at the mean of its Gaussians and the world's axes.
        """
        objects = {}
        for number in gaussians.object_ids.unique().tolist():
            part, pose = gaussians.select(gaussians.object_ids == number), torch.eye(4).to(gaussians.means)
            if number == BACKGROUND_ID:
                objects[number] = WorldObject(number, "background", part, ObjectKind.STATIC, pose)
                continue
            pose[:3, 3] = part.means.detach().mean(dim=0)
            rest = part.transformed(invert_pose(pose))
            objects[number] = WorldObject(number, f"object {number}", rest, ObjectKind.RIGID, pose)
        return cls(objects, tuple(cameras), metres_per_unit, up)

    @classmethod
    def open(cls, path: Path | str, revision: str | int | None = None) -> "World":
        """Read a stored world; its Gaussians are mapped from the disk, and nothing is ever written there.

        Changes go through a `Session`.

        Args:
            path: the world's folder.
            revision: a branch, a tag or a revision's number; default: the branch that is checked out.

        Raises:
            StoreError: no world there, a newer format, or damage.
            ConfigError: no such revision.
        """
        from .store import Store

        with Store(path, read_only=True) as store:
            number = store.branch().revision if revision is None else store.resolve(str(revision))
            return store.read(number).world

    def save(self, path: Path | str) -> "World":
        """Store this world in a new folder, as its first revision; gives the stored one.

        Raises:
            StoreError: something is there already, or the file system refuses.
        """
        from .store import Store

        with Store.create(path, self) as store:
            return store.read(store.branch().revision).world

    @property
    def next_id(self) -> int:
        """The lowest id above all in use, and above the background's."""
        return max(self.objects, default=BACKGROUND_ID) + 1

    def posed(self, state: Placement | None = None) -> Gaussians:
        """All Gaussians in the world frame, object after object, with `object_ids` filled.

        Objects stand where `state` has them; those it does not mention, and all without a state, stand where
        the world has them. Deformable objects move rigidly here: the dynamics' skinning bends them.

        Raises:
            ValueError: the state is a batch, or knows an object that this world has not.
        """
        poses = {} if state is None else state.world_from_objects()
        for number in poses:
            self.find(number)
        if not self.objects:
            return Gaussians(*(torch.zeros(0, *shape) for shape in ((3,), (4,), (3,), (), (1, 3))))
        return cat([item.posed(poses.get(number)) for number, item in self.objects.items()])

    def shown(self, state: Placement | None = None) -> Gaussians:
        """As `posed`, without what is deleted or hidden: what is drawn and exported."""
        return self.posed(state).shown()

    def __repr__(self) -> str:
        names = ", ".join(item.name for item in list(self.objects.values())[:8])
        more = ", ..." if len(self.objects) > 8 else ""
        return (
            f"World({len(self.objects)} objects: {names}{more}; {len(self.cameras)} cameras,"
            f" metres_per_unit={self.metres_per_unit}, up={self.up}, revision={self.revision})"
        )

    def with_object(self, item: WorldObject) -> "World":
        """This world with `item` added, or put in the place of the object with the same id."""
        return replace(self, objects={**self.objects, item.id: item})

    def without_object(self, object_id: int) -> "World":
        """This world without one object.

        Raises:
            ValueError: there is no such object, or others are mounted on it.
        """
        self.find(object_id)
        if mounted := [number for number, item in self.objects.items() if item.parent == object_id]:
            raise ValueError(
                f"object {object_id}: expected nothing mounted on it, got {mounted}; remove those first"
            )
        kept = {number: item for number, item in self.objects.items() if number != object_id}
        return replace(self, objects=unsupported(kept, {object_id}))

    def moved(self, object_id: int, world_from_object: Float[Tensor, "4 4"]) -> "World":
        """This world with one object at another pose; what is mounted on it comes along.

        Raises:
            ValueError: there is no such object, or the pose is not rigid.
        """
        old = self.find(object_id).world_from_object
        motion = world_from_object.to(old) @ invert_pose(old)
        carried = {
            number: replace(
                item, world_from_object=motion.to(item.world_from_object) @ item.world_from_object
            )
            for number, item in self.objects.items()
            if object_id in self.ancestors(item)
        }
        carried[object_id] = replace(self.objects[object_id], world_from_object=world_from_object.to(old))
        return replace(self, objects=unsupported({**self.objects, **carried}, set(carried)))

    def require_scale(self) -> float:
        """Metres per unit.

        Raises:
            UnknownScale: nobody has told yet.
        """
        if self.metres_per_unit is None:
            raise UnknownScale(
                "expected a world of known scale, got metres_per_unit = None; measure a distance in it and"
                " set it: edit.SetScale, or `gaussworld world edit W set-scale` with"
                """ '{"a": [x, y, z], "b": [x, y, z], "metres": 0.5}'"""
            )
        return self.metres_per_unit

    def in_metres(self) -> "World":
        """The same world with one metre as its unit; what physics works on.

        Raises:
            UnknownScale: the scale is unknown.
        """
        return self.reframed(torch.eye(4), self.require_scale())

    def reframed(self, new_from_old: Float[Tensor, "4 4"], scale: float = 1.0) -> "World":
        """The same things in another world frame: positions times `scale`, then the rigid `new_from_old`.

        Objects and cameras move; `metres_per_unit`, `up` and `world_from_source` follow. Gaussians live in
        their objects' frames and change by the scale only.
        """
        objects = {number: _reframed(item, new_from_old, scale) for number, item in self.objects.items()}
        cameras = tuple(
            replace(camera, world_from_camera=_moved(camera.world_from_camera, new_from_old, scale))
            for camera in self.cameras
        )
        source = self.world_from_source
        stretch = torch.diag(source.new_tensor([scale, scale, scale, 1.0]))
        return replace(
            self,
            objects=objects,
            cameras=cameras,
            metres_per_unit=None if self.metres_per_unit is None else self.metres_per_unit / scale,
            up=self.up and tuple((new_from_old[:3, :3].double() @ torch.tensor(self.up).double()).tolist()),
            world_from_source=new_from_old.to(source) @ stretch @ source,
        )

    def find(self, which: int | str) -> WorldObject:
        """The object of an id or a name.

        Raises:
            ValueError: there is none, or several of this name; the message lists those there are.
        """
        if isinstance(which, int) and which in self.objects:
            return self.objects[which]
        named = [item for item in self.objects.values() if item.name == which]
        if len(named) == 1:
            return named[0]
        names = [f"{number} ({item.name})" for number, item in self.objects.items()]
        known = ", ".join(names[:20]) + (", ..." if len(names) > 20 else "") or "none"
        wanted = "a name" if isinstance(which, str) else "the id"
        raise ValueError(f"expected {wanted} of an object of this world, got {which!r}; there are {known}")

    def ancestors(self, item: WorldObject) -> list[int]:
        """Ids of what an object is mounted on, its parent first."""
        chain: list[int] = []
        while item.parent is not None and item.parent not in chain:
            chain.append(item.parent)
            item = self.find(item.parent)
        return chain

    def _check_ancestry(self, item: WorldObject) -> None:
        if item.id in self.ancestors(item):
            raise ValueError(
                f"object {item.id} ({item.name}): expected a tree of parents, got a cycle through it"
            )


def unsupported(objects: Mapping[int, WorldObject], touched: set[int]) -> dict[int, WorldObject]:
    """Objects of which those that were moved or went, or rest on such, have forgotten what they rest on.

    What moved together with all that it rests on still rests there.
    """

    def forgets(item: WorldObject) -> bool:
        below = set(item.supported_by or ())
        together = bool(below) and below <= touched
        return not together if item.id in touched else bool(below & touched)

    return {
        number: replace(item, supported_by=None) if item.supported_by is not None and forgets(item) else item
        for number, item in objects.items()
    }


def _moved(pose: Tensor, new_from_old: Tensor, scale: float) -> Tensor:
    scaled = pose_from(pose[:3, :3], pose[:3, 3] * scale)
    return new_from_old.to(pose) @ scaled


def _reframed(item: WorldObject, new_from_old: Tensor, scale: float) -> WorldObject:
    pose = _moved(item.world_from_object, new_from_old, scale)
    if scale == 1:
        return replace(item, world_from_object=pose)
    return replace(
        item,
        world_from_object=pose,
        gaussians=item.gaussians.transformed(torch.eye(4), scale),
        joint=item.joint and item.joint.scaled(scale),
        shape=item.shape and item.shape.transformed(torch.eye(4), scale),
        material=item.material.scaled(scale),
    )
