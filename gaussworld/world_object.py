"""`WorldObject`: one thing in a world - its kind, pose, joint, material and Gaussians."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from .gaussians import HIDDEN, LOCKED, Gaussians
from .pose import check_rigid, pose_from, rotation_from_rotvec
from .shape import Shape

Vector = tuple[float, float, float]
Source = Literal["default", "category", "shape", "measured", "identified", "user"]
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
    "volume": (0.0, math.inf),
}
#: Facts of `Material` that have a source: the numbers, and the point.
_SOURCED = (*_MATERIAL_RANGES, "center_of_mass")


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
    volume: float | None = None
    """[m^3, or the world's unit cubed] None while nobody knows."""
    center_of_mass: Vector | None = None
    """[m, or the world's unit] in the object's own frame; None while nobody knows."""
    category: str = ""
    """What it is made of in a word, such as "wood"; empty while nobody knows. See `gaussworld.substances`."""
    sources: Mapping[str, Source] = field(default_factory=dict)
    """Where a number is from, by field; completed with "default"."""

    def __post_init__(self) -> None:
        if unknown := set(self.sources) - set(_SOURCED):
            wanted, got = ", ".join(_SOURCED), ", ".join(sorted(unknown))
            raise ValueError(f"Material.sources: expected keys among {wanted}, got {got}")
        if bad := set(self.sources.values()) - set(get_args(Source)):
            wanted, got = ", ".join(get_args(Source)), ", ".join(map(str, bad))
            raise ValueError(f"Material.sources: expected values among {wanted}, got {got}")
        for name, (low, high) in _MATERIAL_RANGES.items():
            value: float | None = getattr(self, name)
            if value is None and name == "volume":
                continue
            positive = name in ("density", "stiffness", "volume")
            if (
                value is None
                or not low <= value <= high
                or not math.isfinite(value)
                or (positive and value == 0)
            ):
                wanted = "a positive finite value" if positive else f"a finite value in [{low:g}, {high:g}]"
                raise ValueError(f"Material.{name}: expected {wanted}, got {value}")
        if self.center_of_mass is not None and not all(map(math.isfinite, self.center_of_mass)):
            raise ValueError(f"Material.center_of_mass: expected finite numbers, got {self.center_of_mass}")
        object.__setattr__(self, "sources", {name: "default" for name in _SOURCED} | dict(self.sources))

    @property
    def mass(self) -> float | None:
        """[kg] density times volume, where that is known and in cubic metres."""
        return None if self.volume is None else self.density * self.volume

    def scaled(self, scale: float) -> "Material":
        """The material of an object that is `scale` times as large, or measured in another unit."""
        volume, center = self.volume, self.center_of_mass
        if center is not None:
            x, y, z = (value * scale for value in center)
            center = (x, y, z)
        return replace(self, volume=None if volume is None else volume * scale**3, center_of_mass=center)

    def without_form(self) -> "Material":
        """The material of an object whose form changed: what was worked out from the old one is forgotten."""
        known = {name for name, source in self.sources.items() if source != "shape"}
        gone = [name for name in ("volume", "center_of_mass") if name not in known]
        if not gone:
            return self
        return replace(
            self, **dict.fromkeys(gone), sources={n: s for n, s in self.sources.items() if n in known}
        )

    def with_values(self, source: Source, **values: float | Vector) -> "Material":
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
    hidden: bool = False
    """Not drawn, nor exported."""
    locked: bool = False
    """Not selected by pointing, and refused by edits, but for those that unlock, hide or rename it, and those
    that turn or scale the whole world."""
    shape: Shape | None = None
    """Its surface and convex parts, in its own frame; None until made, and after its form changed."""
    supported_by: tuple[int, ...] | None = None
    """Ids of what it rests on; None while nobody knows, and after it moved."""

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

    def __repr__(self) -> str:
        x, y, z = (f"{value:.4g}" for value in self.world_from_object[:3, 3].tolist())
        count = f"{len(self.gaussians):,} Gaussians"
        return f"WorldObject({self.id} {self.name!r}, {self.kind.value}, {count}, at {x} {y} {z})"

    def reshaped(self, gaussians: Gaussians) -> "WorldObject":
        """The object with other Gaussians that have another form: its shape is not known any more."""
        return replace(self, gaussians=gaussians, shape=None, material=self.material.without_form())

    def posed(self, world_from_object: Float[Tensor, "4 4"] | None = None) -> Gaussians:
        """Its Gaussians in the world frame, at this pose or its own, with `object_ids` filled.

        The flags of a hidden or locked object say so for each of its Gaussians.
        """
        pose = self.world_from_object if world_from_object is None else world_from_object
        ids = torch.full_like(self.gaussians.object_ids, self.id)
        flags = self.gaussians.flags | (HIDDEN * self.hidden | LOCKED * self.locked)
        return replace(self.gaussians.transformed(pose), object_ids=ids, flags=flags)
