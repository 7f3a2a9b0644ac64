"""`Matter`: what a world is made of for physics - parts, their particles, edges, distance fields, ground."""

from collections.abc import Iterator
from dataclasses import dataclass, fields, is_dataclass, replace
from enum import Enum
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor


class PartKind(Enum):
    """How a part moves."""

    STATIC = "STATIC"
    """Never; it only stands in the way."""
    RIGID = "RIGID"
    """Freely with exactly six degrees of freedom."""
    JOINT = "JOINT"
    """Along the one axis of its object's joint."""
    ROPE = "ROPE"
    """Freely, thin in two directions."""
    CLOTH = "CLOTH"
    """Freely, thin in one direction."""
    VOLUME = "VOLUME"
    """Freely, thick."""

    @property
    def bends(self) -> bool:
        """Whether the particles, and not a pose, say where it is."""
        return self in (PartKind.ROPE, PartKind.CLOTH, PartKind.VOLUME)


@dataclass(frozen=True, eq=False)
class Part:
    """One object that physics knows: how it moves, which particles are its own, and its inertia."""

    object_id: int
    row: int
    """Of `State.object_ids`."""
    kind: PartKind
    start: int
    """Its particles are rows start to stop of the matter's."""
    stop: int
    mass: float
    """[kg] 0 for what does not move."""
    center: Float[Tensor, "3"]
    """[m] centre of mass in the object's frame."""
    inertia: Float[Tensor, "3 3"]
    """[kg m^2] about the centre of mass, in the object's axes."""
    joint_row: int | None = None
    """Of `State.joint_ids`, for a part on a joint."""
    fixed: Float[Tensor, " q"] | None = None
    """For particles that cannot move, such as a rope's tied end: 1, else 0; None if all are free."""

    @property
    def rows(self) -> slice:
        """Of the matter's particles."""
        return slice(self.start, self.stop)


@dataclass(frozen=True, eq=False)
class Fields:
    """Signed distances to the surfaces of the m parts on grids in their objects' frames, for contact.

    The grids have one size, so that all parts are looked up at once.
    """

    values: Float[Tensor, "m r r r"]
    """[m] negative inside, at grid point (x, y, z); large and positive everywhere for a part that bends."""
    low: Float[Tensor, "m 3"]
    """[m] grid point (0, 0, 0)."""
    spacing: Float[Tensor, "m 3"]
    """[m] between grid points."""


@dataclass(frozen=True, eq=False)
class Ground:
    """Level patches that things rest on, highest first; the last one has no edge."""

    heights: Float[Tensor, " g"]
    """[m] z of each patch."""
    outlines: tuple[Float[Tensor, "k 2"], ...]
    """[m] convex outline, counter-clockwise, of each patch but the last."""
    frictions: Float[Tensor, " g"]
    """Coulomb coefficient of each patch; with that of a thing on it, the geometric mean counts."""


@dataclass(frozen=True, eq=False)
class Matter:
    """What does not change while a world moves: p particles of m parts, e edges, fields and ground.

    A rigid part's particles are points of its surface, corners first, that meet ground and others; a bending
    part's particles are balls that carry its mass.
    """

    object_ids: tuple[int, ...]
    """As in the states."""
    joint_ids: tuple[int, ...]
    """As in the states."""
    parts: tuple[Part, ...]
    rest: Float[Tensor, "p 3"]
    """[m] particles in the rest frame of their object."""
    radii: Float[Tensor, " p"]
    """[m] of the particles as balls; 0 for points of a rigid surface."""
    masses: Float[Tensor, " p"]
    """[kg]"""
    owners: Int[Tensor, " p"]
    """Row of `parts`."""
    edges: Int[Tensor, "e 2"]
    """Pairs of particles of one part that are neighbours in the rest shape, each pair once."""
    fields: Fields
    ground: Ground

    def of(self, *kinds: PartKind) -> Iterator[tuple[int, Part]]:
        """The parts of the given kinds with their rows, in order."""
        return ((row, part) for row, part in enumerate(self.parts) if part.kind in kinds)

    @property
    def bending(self) -> bool:
        """Whether any part bends."""
        return any(part.kind.bends for part in self.parts)

    def to(self, device: torch.device | str) -> "Matter":
        """The same matter on a device."""
        return _to(self, device)


def _to(value: Any, device: torch.device | str) -> Any:
    if isinstance(value, Tensor):
        return value.to(device)
    if isinstance(value, tuple):
        return tuple(_to(item, device) for item in value)
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{f.name: _to(getattr(value, f.name), device) for f in fields(value)})
    return value
