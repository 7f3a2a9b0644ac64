"""`World`: the static model - objects with poses, joints, materials and Gaussians, its scale and up axis."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Literal, Protocol, get_args, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from .camera import Camera
from .errors import UnknownScale
from .gaussians import Gaussians, cat
from .pose import check_rigid, invert_pose, pose_from, rotation_from_rotvec

Vector = tuple[float, float, float]
Source = Literal["default", "measured", "identified", "user"]
#: The object that everything not yet segmented belongs to.
BACKGROUND_ID = 0


class ObjectKind(Enum):
    """How an object may move."""

    STATIC = "STATIC"
    """Never."""
    RIGID = "RIGID"
    """Freely, with six degrees of freedom."""
    ARTICULATED = "ARTICULATED"
    """Along its joint only."""
    DEFORMABLE = "DEFORMABLE"
    """Freely, changing its shape: rope, cloth, soft bodies."""
    ROBOT = "ROBOT"
    """As the actions command it; a link has a joint, a base has none."""


@dataclass(frozen=True)
class Joint:
    """The one degree of freedom of an object towards its parent, or towards the world.

    Axis and origin are in the object's own frame, so that they hold wherever the object is moved.
    """

    kind: Literal["revolute", "prismatic"]
    axis: Vector
    """Unit direction of the axis."""
    origin: Vector = (0.0, 0.0, 0.0)
    """[m] a point on the axis; only revolute joints care."""
    limits: tuple[float, float] = (-math.inf, math.inf)
    """[rad] or [m] lowest and highest position."""
    position: float = 0.0
    """[rad] or [m] the position at which the object has its `world_from_object`."""

    def __post_init__(self) -> None:
        if self.kind not in ("revolute", "prismatic"):
            raise ValueError(f"Joint.kind: expected revolute or prismatic, got {self.kind!r}")
        if not abs(math.hypot(*self.axis) - 1) < 1e-3:
            raise ValueError(f"Joint.axis: expected a direction of length 1, got {self.axis}")
        low, high = self.limits
        if not low <= high:
            raise ValueError(f"Joint.limits: expected lowest <= highest, got {low} and {high}")

    def motion(self, position: Float[Tensor, "*b"]) -> Float[Tensor, "*b 4 4"]:
        """From where the object stands to where it is at `position` [rad or m].

        Its pose there is `world_from_object @ motion(position)`, as long as its parent rests. Differentiable.
        """
        travel = (position - self.position)[..., None] * position.new_tensor(self.axis)
        eye = torch.eye(3).to(position)
        if self.kind == "prismatic":
            return pose_from(eye.expand(*position.shape, 3, 3), travel)
        rotation, origin = rotation_from_rotvec(travel), position.new_tensor(self.origin)
        return pose_from(rotation, (eye - rotation) @ origin)

    def scaled(self, scale: float) -> "Joint":
        """The same joint of an object that is `scale` times as large."""
        x, y, z = (value * scale for value in self.origin)
        if self.kind == "revolute":
            return replace(self, origin=(x, y, z))
        low, high = (value * scale for value in self.limits)
        return replace(self, origin=(x, y, z), limits=(low, high), position=self.position * scale)


#: Field of `Material` -> lowest and highest value.
_MATERIAL_RANGES = {
    "density": (0.0, math.inf),
    "friction": (0.0, math.inf),
    "restitution": (0.0, 1.0),
    "stiffness": (0.0, math.inf),
    "damping": (0.0, math.inf),
}


@dataclass(frozen=True)
class Material:
    """What an object is made of; `sources` tells which numbers somebody knows and which are only defaults."""

    density: float = 500.0
    """[kg/m^3]"""
    friction: float = 0.5
    """Coulomb coefficient."""
    restitution: float = 0.0
    """Share of the closing speed that a bounce gives back, range [0, 1]."""
    stiffness: float = 1e5
    """[Pa] Young's modulus; only deformable objects care."""
    damping: float = 1.0
    """[1/s] rate at which motion inside a deformable object, or along a joint, dies out."""
    sources: Mapping[str, Source] = field(default_factory=dict)
    """Where a number is from, by field; completed with "default"."""

    def __post_init__(self) -> None:
        if unknown := set(self.sources) - set(_MATERIAL_RANGES):
            wanted, got = ", ".join(_MATERIAL_RANGES), ", ".join(sorted(unknown))
            raise ValueError(f"Material.sources: expected keys among {wanted}, got {got}")
        if bad := set(self.sources.values()) - set(get_args(Source)):
            wanted, got = ", ".join(get_args(Source)), ", ".join(map(str, bad))
            raise ValueError(f"Material.sources: expected values among {wanted}, got {got}")
        for name, (low, high) in _MATERIAL_RANGES.items():
            value, positive = getattr(self, name), name in ("density", "stiffness")
            if not low <= value <= high or not math.isfinite(value) or (positive and value == 0):
                wanted = "a positive finite value" if positive else f"a finite value in [{low:g}, {high:g}]"
                raise ValueError(f"Material.{name}: expected {wanted}, got {value}")
        object.__setattr__(
            self, "sources", {name: "default" for name in _MATERIAL_RANGES} | dict(self.sources)
        )

    def with_values(self, source: Source, **values: float) -> "Material":
        """New numbers together with where they are from, as in `with_values("measured", friction=0.3)`."""
        return replace(self, **values, sources={**self.sources, **dict.fromkeys(values, source)})  # pyright: ignore


@dataclass(frozen=True, eq=False)
class WorldObject:
    """One thing: Gaussians in its own rest frame, and where that frame is."""

    id: int
    """At least 0; 0 is the background."""
    name: str
    gaussians: Gaussians
    kind: ObjectKind = ObjectKind.STATIC
    world_from_object: Float[Tensor, "4 4"] = field(default_factory=lambda: torch.eye(4))
    """[m] rigid pose; moving the object changes this and nothing else."""
    parent: int | None = None
    """Id of the object it is mounted on; `World.moved` carries it along."""
    joint: Joint | None = None
    material: Material = field(default_factory=Material)

    def __post_init__(self) -> None:
        if not 0 <= self.id < 2**31:
            raise ValueError(f"WorldObject.id: expected 0 to 2^31 - 1, got {self.id}")
        if tuple(self.world_from_object.shape) != (4, 4):
            got = tuple(self.world_from_object.shape)
            raise ValueError(f"WorldObject.world_from_object: expected shape (4, 4), got {got}")
        check_rigid(self.world_from_object, "WorldObject.world_from_object")
        if self.joint is None and self.kind is ObjectKind.ARTICULATED:
            raise ValueError(
                f"object {self.id} ({self.name}): expected a joint, because its kind is ARTICULATED"
            )
        if self.joint is not None and self.kind not in (ObjectKind.ARTICULATED, ObjectKind.ROBOT):
            raise ValueError(
                f"object {self.id} ({self.name}): expected kind ARTICULATED or ROBOT, because it has a joint,"
                f" got {self.kind.value}"
            )

    def posed(self, world_from_object: Float[Tensor, "4 4"] | None = None) -> Gaussians:
        """Its Gaussians in the world frame, at this pose or its own, with `object_ids` filled."""
        pose = self.world_from_object if world_from_object is None else world_from_object
        ids = torch.full_like(self.gaussians.object_ids, self.id)
        return replace(self.gaussians.transformed(pose), object_ids=ids)


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
    """By id, in the order in which `posed` lists them."""
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
        object.__setattr__(self, "objects", dict(self.objects))
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
            self._find(number)
        if not self.objects:
            return Gaussians(*(torch.zeros(0, *shape) for shape in ((3,), (4,), (3,), (), (1, 3))))
        return cat([item.posed(poses.get(number)) for number, item in self.objects.items()])

    def with_object(self, item: WorldObject) -> "World":
        """This world with `item` added, or put in the place of the object with the same id."""
        return replace(self, objects={**self.objects, item.id: item})

    def without_object(self, object_id: int) -> "World":
        """This world without one object.

        Raises:
            ValueError: there is no such object, or others are mounted on it.
        """
        self._find(object_id)
        if mounted := [number for number, item in self.objects.items() if item.parent == object_id]:
            raise ValueError(
                f"object {object_id}: expected nothing mounted on it, got {mounted}; remove those first"
            )
        return replace(self, objects={k: v for k, v in self.objects.items() if k != object_id})

    def moved(self, object_id: int, world_from_object: Float[Tensor, "4 4"]) -> "World":
        """This world with one object at another pose; what is mounted on it comes along.

        Raises:
            ValueError: there is no such object, or the pose is not rigid.
        """
        old = self._find(object_id).world_from_object
        motion = world_from_object.to(old) @ invert_pose(old)
        carried = {
            number: replace(
                item, world_from_object=motion.to(item.world_from_object) @ item.world_from_object
            )
            for number, item in self.objects.items()
            if object_id in self._ancestors(item)
        }
        carried[object_id] = replace(self.objects[object_id], world_from_object=world_from_object.to(old))
        return replace(self, objects={**self.objects, **carried})

    def require_scale(self) -> float:
        """Metres per unit.

        Raises:
            UnknownScale: nobody has told yet.
        """
        if self.metres_per_unit is None:
            raise UnknownScale(
                "expected a world of known scale, got metres_per_unit = None; measure one distance in it and"
                " set it with `dataclasses.replace(world, metres_per_unit=...)`"
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

    def _find(self, object_id: int) -> WorldObject:
        if object_id not in self.objects:
            known = ", ".join(f"{number} ({item.name})" for number, item in self.objects.items()) or "none"
            raise ValueError(
                f"expected the id of an object of this world, got {object_id}; there are {known}"
            )
        return self.objects[object_id]

    def _ancestors(self, item: WorldObject) -> list[int]:
        chain: list[int] = []
        while item.parent is not None and item.parent not in chain:
            chain.append(item.parent)
            item = self._find(item.parent)
        return chain

    def _check_ancestry(self, item: WorldObject) -> None:
        if item.id in self._ancestors(item):
            raise ValueError(
                f"object {item.id} ({item.name}): expected a tree of parents, got a cycle through it"
            )


def _moved(pose: Tensor, new_from_old: Tensor, scale: float) -> Tensor:
    scaled = pose_from(pose[:3, :3], pose[:3, 3] * scale)
    return new_from_old.to(pose) @ scaled


def _reframed(item: WorldObject, new_from_old: Tensor, scale: float) -> WorldObject:
    pose = _moved(item.world_from_object, new_from_old, scale)
    if scale == 1:
        return replace(item, world_from_object=pose)
    joint = item.joint and item.joint.scaled(scale)
    return replace(
        item, world_from_object=pose, gaussians=item.gaussians.transformed(torch.eye(4), scale), joint=joint
    )
