"""Which contacts there can be at one moment: parts with the ground, with tools and with each other."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from ..matter.parts import PartKind
from ..tool import Tool
from .bodies import Bodies, Frame, Motion
from .contact import Contact
from .lookup import FieldLookup, GroundLookup
from .motion import ToolPoints
from .parameters import Parameters
from .settings import PriorConfig

#: [m] added to the way that things can go in a control step; and how high the lowest point of what stands is.
_MARGIN, _STANDING = 0.015, 0.005


@dataclass(frozen=True, eq=False)
class ToolMotion:
    """The tools' points over one substep of h seconds."""

    points: Tensor
    """(B, k, 3) [m] at its start."""
    speeds: Tensor
    """(B, k, 3) [m/s]"""


@dataclass(frozen=True, eq=False)
class Near:
    """Which points have to be asked in a control step, by the part they may touch or belong to."""

    ground: dict[int, Tensor]
    """(B, n) of the part's particles."""
    tools: dict[int, Tensor]
    """(B, k) of the tools' points."""


def somewhere(masks: dict[int, Tensor]) -> Iterator[tuple[int, Tensor]]:
    """The rows that (B, n) masks say in any sample, where there are any."""
    for row, mask in masks.items():
        rows = torch.nonzero(mask.any(0))[:, 0]
        if len(rows):
            yield row, rows


@dataclass(frozen=True, eq=False)
class Surroundings:
    """Everything that contact asks, but for where things are."""

    bodies: Bodies
    fields: FieldLookup
    ground: GroundLookup
    tools: ToolPoints
    shapes: tuple[Tool, ...]
    """The tools themselves."""
    parameters: Parameters
    """With one batch axis."""
    config: PriorConfig

    def mass(self, row: int) -> Tensor:
        """(B, 1) [kg] of a part."""
        part = self.bodies.matter.parts[row]
        return max(part.mass, 1e-3) * self.parameters.mass[:, row, None]

    def near(self, frames: dict[int, Frame], motion: Motion, points: Tensor, dt: float) -> Near:
        """What can come to touch within a control step.

        Args:
            frames: where the parts are.
            motion: the same, with speeds.
            points: (s + 1, B, k, 3) [m] the tools' points at the ends of the substeps.
            dt: [s]
        """
        bodies, ground, tools = self.bodies, {}, {}
        twists = motion.twists.detach()
        speed = twists[..., :3].norm(dim=-1) + twists[..., 3:].norm(dim=-1) * twists.new_tensor(
            [bodies.reach[row] for row in bodies.rigid]
        )
        way = (points[-1] - points[0]).detach().norm(dim=-1)
        # What a tool may tip.
        pushed = way.amax(-1) if way.shape[-1] else 0.0
        for k, row in enumerate(bodies.rigid):
            frame = frames[row]
            center = frame.center.detach()
            height, _ = self.ground(frame.turn(bodies.arms[row]).detach() + center[:, None], center[:, 2])
            # What stands on others, or on nothing, may fall.
            falls = (height.amin(-1) > _STANDING) * (0.5 * self.config.gravity * dt**2)
            bound = _MARGIN + speed[:, k] * dt + falls + pushed
            ground[row] = height < bound[:, None]
        moves = {row: speed[:, k] * dt for k, row in enumerate(bodies.rigid)}
        for row in (*bodies.rigid, *bodies.jointed):
            if not points.shape[-2]:
                break
            distance, _ = self.fields(row, frames[row].local(points[0]).detach())
            bound = way + moves.get(row, self.mass(row) * 0 + _MARGIN).reshape(-1, 1) + 2 * _MARGIN
            tools[row] = distance - self.tools.radii < bound
        return Near(ground, tools)

    def on_ground(self, row: int, frame: Frame, rows_near: Tensor, h: float) -> Contact:
        """A rigid part's points on the ground."""
        arms = frame.turn(self.bodies.arms[row].index_select(0, rows_near))
        height, friction = self.ground(arms + frame.center[:, None], frame.center[:, 2])
        o = torch.zeros_like(height)
        rows = torch.stack([o, o, o + 1, arms[..., 1], -arms[..., 0], o], -1)
        patch = self.parameters.patch
        spread = torch.stack([patch, patch, torch.ones_like(patch)], -1)
        mixed = (self.parameters.friction[:, row, None] * friction + 1e-12).sqrt()
        stiffness = 0.1 * self.config.contact_stiffness * self.mass(row)
        return Contact(
            row, None, arms * spread[:, None], rows, self._speed(height, h), stiffness, mixed, level=True
        )

    def on_tools(
        self, row: int, frame: Frame, tools: ToolMotion, near: Tensor, h: float, share: Tensor | None
    ) -> Contact:
        """The tools' points on a part's surface."""
        points, speeds = tools.points.index_select(1, near), tools.speeds.index_select(1, near)
        local = frame.local(points)
        distance, normal = self.fields(row, local)
        # From the tool towards the part.
        normal = -frame.turn(normal)
        arms = points + normal * distance[..., None] - frame.center[:, None]
        owners = self.tools.tools.index_select(0, near)
        mixed = self.parameters.friction[:, row, None] * self.parameters.tool_friction[:, owners]
        gap = distance - self.tools.radii.index_select(0, near)
        if share is not None:
            share = share.index_select(1, near)
        mixed = (mixed + 1e-12).sqrt()
        return self._contact(row, None, arms, normal, gap, h, mixed, speeds, share, self.mass(row))

    def on_part(self, row: int, frame: Frame, other: int, of: Frame, h: float) -> Contact:
        """A rigid part's points on another part's surface."""
        arms = frame.turn(self.bodies.arms[row])
        distance, normal = self.fields(other, of.local(arms + frame.center[:, None]))
        friction = self.parameters.friction
        mixed = (friction[:, row, None] * friction[:, other, None] + 1e-12).sqrt()
        mass = self.mass(row)
        if of.moves:
            mass = mass * self.mass(other) / (mass + self.mass(other))
        return self._contact(
            row, other if of.moves else None, arms, of.turn(normal), distance, h, mixed, None, None, mass
        )

    def _contact(
        self,
        row: int,
        other: int | None,
        arms: Tensor,
        normal: Tensor,
        gap: Tensor,
        h: float,
        friction: Tensor,
        drift: Tensor | None,
        share: Tensor | None,
        mass: Tensor,
    ) -> Contact:
        rows = torch.cat([normal, torch.linalg.cross(arms, normal)], -1)
        stiffness = self.config.contact_stiffness * mass
        return Contact(row, other, arms, rows, self._speed(gap, h), stiffness, friction, drift, share=share)

    def _speed(self, gap: Tensor, h: float) -> Tensor:
        return (gap / -h).clamp(max=self.config.recovery_speed)

    def pairs(self, frames: dict[int, Frame], margin: float) -> list[tuple[int, int]]:
        """Rows of parts (points of the first, surface of the second) that may meet within `margin` [m]."""
        parts, result = self.bodies.matter.parts, []
        for row in self.bodies.rigid:
            for other, frame in frames.items():
                if other == row:
                    continue
                near, _ = self.fields(other, frame.local(frames[row].center[:, None]))
                if bool((near < self.bodies.reach[row] + margin).any()):
                    result.append((row, other))
                    if parts[other].kind is PartKind.STATIC:
                        continue
                    if other not in self.bodies.rigid:
                        result.append((other, row))
        return result
