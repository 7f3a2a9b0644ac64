"""`SimScene` and `SceneState`: what a simulated scene is made of, and where everything is at one moment."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Float

from gaussworld.world_object import Joint, ObjectKind

from .forms import Form
from .textures import Look


@dataclass(frozen=True)
class Substance:
    """What something is made of."""

    density: float
    """[kg/m^3]"""
    friction: tuple[float, float]
    """Lowest and highest Coulomb coefficient."""


SUBSTANCES: dict[str, Substance] = {
    "wood": Substance(650.0, (0.35, 0.6)),
    "plastic": Substance(1050.0, (0.25, 0.45)),
    "ceramic": Substance(2300.0, (0.3, 0.5)),
    "rubber": Substance(1150.0, (0.7, 1.0)),
    "cardboard": Substance(200.0, (0.35, 0.55)),
    "metal": Substance(7800.0, (0.25, 0.4)),
    "foam": Substance(60.0, (0.5, 0.8)),
}


@dataclass(frozen=True, eq=False)
class SceneObject:
    """One thing of a scene, in its own frame."""

    id: int
    """At least 1; 0 is the background."""
    name: str
    kind: ObjectKind
    form: Form
    looks: tuple[Look, ...]
    """One for all pieces of the form, or one for each."""
    category: str
    """What it is made of, one of `SUBSTANCES`."""
    friction: float
    """Coulomb coefficient."""
    parent: int | None = None
    """Id of what its joint is mounted on."""
    joint: Joint | None = None
    """In the object's frame, at position 0."""
    home: Float[np.ndarray, "4 4"] | None = None
    """[m] `world_from_object` of what has its place in the scene; None for what is put somewhere."""
    density: float | None = None
    """[kg/m^3] None is that of its substance."""

    def __post_init__(self) -> None:
        if self.id < 1:
            raise ValueError(f"SceneObject.id: expected at least 1, got {self.id}")
        if len(self.looks) not in (1, len(self.form.pieces)):
            wanted = f"1 or {len(self.form.pieces)}"
            raise ValueError(f"SceneObject.looks: expected {wanted} for {self.name}, got {len(self.looks)}")
        if self.category not in SUBSTANCES:
            wanted = ", ".join(SUBSTANCES)
            raise ValueError(f"SceneObject.category: expected one of {wanted}, got {self.category!r}")

    @property
    def volume(self) -> float:
        """[m^3]"""
        return self.form.shape.mesh.volume

    @property
    def mass(self) -> float:
        """[kg] density times volume."""
        density = SUBSTANCES[self.category].density if self.density is None else self.density
        return density * self.volume

    @property
    def radius(self) -> float:
        """[m] of the sphere about its origin that holds it."""
        return float(np.linalg.norm(self.form.points(), axis=1).max())

    def look(self, piece: int) -> Look:
        """How a piece is painted."""
        return self.looks[piece if len(self.looks) > 1 else 0]


@dataclass(frozen=True)
class Lamp:
    """A light that stays where it is, so that every camera sees the same shading."""

    position: tuple[float, float, float]
    """[m]"""
    target: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """[m] a point it shines at."""
    strength: float = 0.6
    """Share of a white surface's colour that it gives where it shines straight on it."""
    shadow: bool = False


@dataclass(frozen=True, eq=False)
class SimScene:
    """Everything that does not change while a scene moves."""

    objects: tuple[SceneObject, ...]
    lamps: tuple[Lamp, ...]
    ambient: float = 0.40
    """Share of a surface's colour that it has without any lamp."""
    table: tuple[float, float] = (0.8, 0.8)
    """[m] size of the table's top, which lies at z = 0 with its middle at the origin."""
    room: tuple[float, float] = (2.3, 0.72)
    """[m] from the middle to the walls, and from the table's top down to the floor."""
    seed: int = 0
    """Of the paint of floor and walls."""

    def __post_init__(self) -> None:
        ids = [item.id for item in self.objects]
        if len(set(ids)) != len(ids):
            raise ValueError(f"SimScene.objects: expected ids that differ, got {ids}")
        if bad := [item.name for item in self.objects if item.parent not in (None, *ids)]:
            raise ValueError(f"SimScene.objects: expected parents among {ids}, but not so for {bad}")

    def __getitem__(self, id: int) -> SceneObject:
        return next(item for item in self.objects if item.id == id)

    def of(self, *kinds: ObjectKind) -> Iterator[SceneObject]:
        """The objects of the given kinds, in order."""
        return (item for item in self.objects if item.kind in kinds)


@dataclass(frozen=True, eq=False)
class SceneState:
    """Where everything is at one moment."""

    poses: Mapping[int, Float[np.ndarray, "4 4"]]
    """[m] `world_from_object` by id; of objects with a joint: the pose at position 0."""
    positions: Mapping[int, float] = field(default_factory=dict)
    """[rad] or [m] of the joints, by id."""

    def pose(self, item: SceneObject) -> Float[np.ndarray, "4 4"]:
        """Where an object is, its joint included."""
        if item.joint is None:
            return self.poses[item.id]
        return self.poses[item.id] @ joint_motion(item.joint, self.positions.get(item.id, 0.0))


def joint_motion(joint: Joint, position: float) -> Float[np.ndarray, "4 4"]:
    """From where the object stands at position 0 to where it is at `position` [rad or m]."""
    return joint.motion(torch.tensor(position, dtype=torch.float64)).numpy()


def upright(x: float, y: float, z: float, yaw: float = 0.0) -> Float[np.ndarray, "4 4"]:
    """A pose at a place [m], turned by `yaw` [rad] about z."""
    c, s = math.cos(yaw), math.sin(yaw)
    return np.array([[c, -s, 0.0, x], [s, c, 0.0, y], [0.0, 0.0, 1.0, z], [0.0, 0.0, 0.0, 1.0]])
