"""Edits of some Gaussians: their colour and flags, and cutting objects apart."""

import math
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ..gaussians import DELETED, HIDDEN, LOCKED, Gaussians, cat
from ..pose import invert_pose
from ..selection import components
from ..sh import rgb_from_sh0, sh0_from_rgb
from ..world import World
from ..world_object import BACKGROUND_ID, ObjectKind, Vector, WorldObject
from .objects import as_shown, checked_name, found, new_name, unlocked, without
from .target import Target, Volume

#: Rec. 709 weights of red, green and blue in what the eye takes for brightness.
_LUMA = (0.2126, 0.7152, 0.0722)
_BLACK = 0.01


@dataclass(frozen=True)
class Hide:
    """Do not draw or export objects or Gaussians, or do so again."""

    name: ClassVar[str] = "hide"
    target: Target
    hidden: bool = True

    def apply(self, world: World) -> World:
        return _flagged(world, self.target, "hidden", HIDDEN, self.hidden)


@dataclass(frozen=True)
class Lock:
    """Protect objects from edits, and Gaussians from being selected and changed, or no longer.

    Edits of a whole object take its locked Gaussians along; those of the world's frame take everything.
    """

    name: ClassVar[str] = "lock"
    target: Target
    locked: bool = True

    def apply(self, world: World) -> World:
        return _flagged(world, self.target, "locked", LOCKED, self.locked)


@dataclass(frozen=True)
class Erase:
    """Delete Gaussians: they are kept, marked as deleted."""

    name: ClassVar[str] = "erase"
    target: Target

    def apply(self, world: World) -> World:
        for item, mask in self.target.free(world):
            world = world.with_object(item.reshaped(erased(item, mask).gaussians))
        return world


@dataclass(frozen=True)
class Restore:
    """Bring back all deleted Gaussians of objects."""

    name: ClassVar[str] = "restore"
    objects: tuple[int, ...]

    def apply(self, world: World) -> World:
        for item in unlocked(world, self.objects):
            flags = item.gaussians.flags & ~torch.tensor(DELETED, dtype=torch.uint8)
            if torch.equal(flags, item.gaussians.flags):
                continue
            world = world.with_object(item.reshaped(replace(item.gaussians, flags=flags)))
        return world


@dataclass(frozen=True)
class Recolour:
    """Give Gaussians a colour."""

    name: ClassVar[str] = "recolour"
    target: Target
    rgb: Vector
    """Range [0, 1]."""
    amount: float = 1.0
    """How far from the old colour to the new one, range [0, 1]."""
    keep_shading: bool = True
    """Keep what is darker and lighter than the rest; else all become the same."""

    def apply(self, world: World) -> World:
        if not all(0 <= value <= 1 for value in self.rgb) or not 0 <= self.amount <= 1:
            raise ValueError(f"expected rgb and amount within [0, 1], got {self.rgb} and {self.amount:g}")
        for item, mask in self.target.free(world):
            gaussians = item.gaussians
            sh = _of(gaussians.sh, mask)
            new = torch.tensor(self.rgb).expand(len(sh), 3)
            if self.keep_shading and len(sh):
                luma = (rgb_from_sh0(sh[:, 0]).clamp(0, 1) * torch.tensor(_LUMA)).sum(1)
                # What is black all over has no shading to keep.
                if float(luma.mean()) > _BLACK:
                    new = (new * (luma / luma.mean())[:, None]).clamp(0, 1)
            mixed = sh * (1 - self.amount)
            mixed[:, 0] += self.amount * sh0_from_rgb(new)
            world = world.with_object(replace(item, gaussians=_with_sh(gaussians, mask, mixed)))
        return world


@dataclass(frozen=True)
class Grade:
    """Correct colours: an affine map of red, green and blue, which acts on spherical harmonics exactly."""

    name: ClassVar[str] = "grade"
    target: Target
    exposure: float = 0.0
    """[stops] each doubles the light."""
    brightness: float = 0.0
    """Added to every channel, range [-1, 1]."""
    contrast: float = 1.0
    """Stretch about middle grey, 0 to 4."""
    saturation: float = 1.0
    """0 is grey, 1 as it is, up to 4."""
    temperature: float = 0.0
    """From blue (-1) to yellow (1)."""
    tint: float = 0.0
    """From green (-1) to magenta (1)."""

    def apply(self, world: World) -> World:
        matrix, offset = self.affine()
        for item, mask in self.target.free(world):
            sh = _of(item.gaussians.sh, mask) @ matrix.T
            # An SH colour is 0.5 + sum: what the map does to the 0.5 belongs to the constant band.
            sh[:, 0] += sh0_from_rgb(matrix @ torch.full((3,), 0.5) + offset)
            world = world.with_object(replace(item, gaussians=_with_sh(item.gaussians, mask, sh)))
        return world

    def affine(self) -> tuple[Float[Tensor, "3 3"], Float[Tensor, "3"]]:
        """The map `rgb -> matrix @ rgb + offset`: white balance, exposure, saturation, contrast, brightness.

        Raises:
            ValueError: a setting is out of range.
        """
        ranges = {
            "exposure": (-8, 8), "brightness": (-1, 1), "contrast": (0, 4),
            "saturation": (0, 4), "temperature": (-1, 1), "tint": (-1, 1),
        }  # fmt: skip
        for name, (low, high) in ranges.items():
            if not low <= (value := getattr(self, name)) <= high:
                raise ValueError(f"{name}: expected {low} to {high}, got {value:g}")
        warm, pink = 0.3 * self.temperature, 0.3 * self.tint
        gains = torch.tensor([1 + warm + pink / 2, 1 - pink, 1 - warm + pink / 2]) * 2.0**self.exposure
        grey = torch.tensor(_LUMA).expand(3, 3)
        saturated = grey + self.saturation * (torch.eye(3) - grey)
        matrix = self.contrast * saturated @ torch.diag(gains)
        return matrix, torch.full((3,), 0.5 * (1 - self.contrast) + self.brightness)


@dataclass(frozen=True)
class Split:
    """Make a new object of some Gaussians, of one object or of several."""

    name: ClassVar[str] = "split"
    target: Target
    new_name: str
    kind: ObjectKind = ObjectKind.RIGID

    def apply(self, world: World) -> World:
        name, parts, emptied = new_name(world, checked_name(self.new_name)), [], set[int]()
        number = world.next_id
        for item, mask in self.target.free(world):
            parts.append(as_shown(item).select(mask).transformed(item.world_from_object))
            rest = item.gaussians.select(~mask)
            world = world.with_object(item.reshaped(rest))
            if not len(rest) and item.id != BACKGROUND_ID:
                emptied.add(item.id)
        if not sum(map(len, parts)):
            raise ValueError("target: expected at least one Gaussian, got none")
        return without(world.with_object(_centred(number, name, cat(parts), self.kind)), emptied)


@dataclass(frozen=True)
class Separate:
    """Make an object of every piece of one that touches no other piece; the largest stays the object."""

    name: ClassVar[str] = "separate"
    object_id: int
    distance: float | None = None
    """[m, or the world's unit] pieces farther apart than this are separate; default: from their spacing."""
    at_least: int = 50
    """Gaussians in a piece; smaller ones stay with the largest."""

    def apply(self, world: World) -> World:
        (item,) = unlocked(world, (self.object_id,))
        if self.at_least < 1 or not (self.distance is None or 0 < self.distance < math.inf):
            raise ValueError(
                f"expected a positive distance and count, got {self.distance} and {self.at_least}"
            )
        labels = components(item.gaussians, self.distance)
        sizes = torch.bincount(labels[labels >= 0])
        pieces = [piece for piece in sizes.argsort(descending=True, stable=True).tolist()[1:]]
        pieces = [piece for piece in pieces if int(sizes[piece]) >= self.at_least]
        if not pieces:
            wanted = f"pieces of {self.at_least} Gaussians that do not touch"
            raise ValueError(f"object {item.id} ({item.name}): expected {wanted}, got none")
        taken = torch.zeros(len(labels), dtype=torch.bool)
        for piece in pieces:
            mask = labels == piece
            taken |= mask
            part = item.gaussians.select(mask).transformed(item.world_from_object)
            kind = ObjectKind.RIGID if item.id == BACKGROUND_ID else item.kind
            kind = ObjectKind.RIGID if kind is ObjectKind.ARTICULATED else kind
            world = world.with_object(_centred(world.next_id, new_name(world, item.name), part, kind))
        return world.with_object(item.reshaped(item.gaussians.select(~taken)))


@dataclass(frozen=True)
class Crop:
    """Delete the Gaussians outside a volume, or inside it; what is hidden or locked stays."""

    name: ClassVar[str] = "crop"
    volume: Volume
    keep: Literal["inside", "outside"] = "inside"
    objects: tuple[int, ...] = ()
    """Default: all."""

    def apply(self, world: World) -> World:
        for item in found(world, self.objects) if self.objects else list(world.objects.values()):
            if item.hidden or item.locked or not len(item.gaussians):
                continue
            free = (item.gaussians.flags & (DELETED | HIDDEN | LOCKED)) == 0
            inside = self.volume.holds(item.posed())
            gone = free & (inside if self.keep == "outside" else ~inside)
            if bool(gone.any()):
                world = world.with_object(item.reshaped(erased(item, gone).gaussians))
        return world


def erased(item: WorldObject, mask: Bool[Tensor, " n"]) -> WorldObject:
    """An object with some Gaussians marked as deleted."""
    flags = item.gaussians.flags | (mask.to(torch.uint8) * DELETED)
    return replace(item, gaussians=replace(item.gaussians, flags=flags))


def _flagged(world: World, target: Target, fact: str, bit: int, on: bool) -> World:
    """Objects that are meant as a whole get a fact, the rows of others a bit."""
    for item, mask in target.masks(world):
        if item.id in target.objects:
            world = world.with_object(replace(item, **{fact: on}))
            continue
        bits = mask.to(torch.uint8) * bit
        flags = item.gaussians.flags | bits if on else item.gaussians.flags & ~bits
        world = world.with_object(replace(item, gaussians=replace(item.gaussians, flags=flags)))
    return world


def _with_sh(gaussians: Gaussians, mask: Tensor, values: Tensor) -> Gaussians:
    if len(values) == len(gaussians):
        return replace(gaussians, sh=values)
    sh = gaussians.sh.clone()
    sh[mask] = values
    return replace(gaussians, sh=sh)


def _of(sh: Tensor, mask: Tensor) -> Tensor:
    """The rows of a mask; of all of them, no copy."""
    return sh if bool(mask.all()) else sh[mask]


def _centred(number: int, name: str, part: Gaussians, kind: ObjectKind) -> WorldObject:
    """An object of Gaussians in the world frame, its own frame at their middle."""
    pose = torch.eye(4)
    pose[:3, 3] = part.means.mean(0)
    return WorldObject(number, name, part.transformed(invert_pose(pose)), kind, pose)
