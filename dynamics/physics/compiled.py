"""The compiled contacts of a substep; `touch.py`, `contact.py`, `bodies.py` are its twin with gradients."""

from collections.abc import Iterator, Sequence
from ctypes import byref
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from gaussworld.render import kernels

from .bodies import SETTLED, Extras, Frame, Motion
from .touch import Near, Surroundings, ToolMotion

_GROUND, _TOOLS, _PART = range(3)


@dataclass(frozen=True, eq=False)
class CompiledContacts:
    """What the kernel reads of a world; all of it float32 on the CPU."""

    around: Surroundings
    world: kernels.ContactWorld
    kept: tuple[Tensor, ...]
    """Memory that the world points to."""
    arms: tuple[Tensor, ...]
    """Of each part, its particles (n, 3)."""

    @classmethod
    def of(cls, around: Surroundings) -> "CompiledContacts":
        bodies, given, config = around.bodies, around.parameters, around.config
        parts, fields, ground = bodies.matter.parts, around.fields, around.ground
        guesses = max(len(value) for value in (given.mass, given.friction, given.tool_friction, given.patch))
        masses = given.mass.new_tensor([max(part.mass, 1e-3) for part in parts]) * given.mass
        planes = [torch.cat([inward, offsets[:, None]], -1) for inward, offsets in ground.planes]
        starts = torch.tensor([0, *(len(plane) for plane in planes)]).cumsum(0).int()
        columns = (
            fields.volumes.movedim(1, -1), fields.low, fields.high, masses.expand(guesses, -1),
            given.friction.expand(guesses, -1), given.tool_friction.expand(guesses, -1),
            given.patch.expand(guesses), ground.heights, ground.frictions, starts,
            torch.cat([*planes, ground.heights.new_zeros(0, 3)]), around.tools.radii, around.tools.tools,
        )  # fmt: skip
        kept = tuple(column.detach().contiguous() for column in columns)
        world = kernels.ContactWorld(
            *(column.data_ptr() for column in kept), len(parts), guesses, given.tool_friction.shape[-1],
            len(ground.heights), fields.volumes.shape[-1], len(around.tools.radii), ground.depth, ground.sunk,
            config.contact_stiffness, config.stick_speed, config.recovery_speed, SETTLED,
            config.iterations, config.rounds,
        )  # fmt: skip
        return cls(around, world, kept, tuple(arm.contiguous() for arm in bodies.arms))

    def __call__(
        self,
        matrix: Tensor,
        start: Tensor,
        guess: Tensor,
        frames: dict[int, Frame],
        tools: ToolMotion,
        near: Near,
        pairs: Sequence[tuple[int, int]],
        shares: dict[int, Tensor],
        extras: Extras | None,
        h: float,
    ) -> tuple[Tensor, Tensor]:
        """Speeds (B, d) after the contacts' impulses, and which rigid parts (B, r) more than ground touches.

        Args:
            matrix: (B, d, d) masses.
            start: (B, d) speeds without contacts.
            guess: (B, d) speeds near the answer.
            frames: the parts that have a pose.
            tools: the tools' points.
            near: which points may touch.
            pairs: parts that may touch each other.
            shares: (B, k) of the tools' points towards a part: 0 where they do not push it.
            extras: what acts on the speeds themselves.
            h: [s]

        Raises:
            RuntimeError: the kernel failed.
        """
        bodies = self.around.bodies
        kept = [matrix.contiguous(), start.contiguous(), guess.contiguous()]
        kept += [tools.points.contiguous(), tools.speeds.contiguous()]
        pointers = [value.data_ptr() for value in kept]
        more = None
        if extras is not None:
            columns = (extras.damping, extras.dry, extras.low, extras.high, extras.stiffness)
            more = torch.stack([column.expand_as(start) for column in columns])
        held = {row: share.contiguous() for row, share in shares.items()}
        masks = [{row: mask.contiguous() for row, mask in each.items()} for each in (near.ground, near.tools)]
        placed = (kernels.ContactFrame * max(len(self.arms), 1))()
        for row, frame in frames.items():
            kept += self._fill(placed[row], row, frame)
        lists = list(self._lists(masks[0], masks[1], pairs, held, frames))
        speeds = torch.empty_like(kept[1])
        touched = torch.zeros(len(start), len(bodies.rigid), dtype=torch.bool)
        step = kernels.ContactStep(
            len(start), *pointers, placed, (kernels.ContactList * max(len(lists), 1))(*lists),
            None if more is None else more.data_ptr(), speeds.data_ptr(), touched.data_ptr(),
            bodies.size, len(lists), len(bodies.rigid), h,
        )  # fmt: skip
        kernels.check(kernels.library().gw_contacts(byref(self.world), byref(step)))
        return speeds, touched

    def moved(self, motion: Motion, speeds: Tensor, touched: Tensor, h: float) -> Motion:
        """As `Bodies.moved`."""
        bodies = self.around.bodies
        joints, rates = bodies.joints_moved(motion, speeds, h)
        if not bodies.rigid:
            return replace(motion, joints=joints, rates=rates)
        given = (motion.centers, motion.turns, motion.twists, motion.rotations, speeds, touched,
                 bodies.inertias, bodies.inverses)  # fmt: skip
        given = [value.contiguous() for value in given]
        made = [torch.empty_like(value) for value in given[:4]]
        pointers = [value.data_ptr() for value in (*given, *made)]
        step = kernels.FlightStep(len(speeds), *pointers, len(bodies.rigid), bodies.size, h)
        kernels.check(kernels.library().gw_flight(byref(step)))
        centers, turns, twists, rotations = made
        return Motion(centers, turns, twists, joints, rates, rotations)

    def _fill(self, place: kernels.ContactFrame, row: int, frame: Frame) -> list[Tensor]:
        """Describe a part; what is returned must live as long as the description."""
        rigid = self.around.bodies.rigid
        kept = [frame.pose.contiguous(), frame.center.contiguous()]
        place.pose, place.center = (value.data_ptr() for value in kept)
        place.arms, place.count = self.arms[row].data_ptr(), len(self.arms[row])
        place.slot = rigid.index(row) if row in rigid else -1
        place.first = 6 * place.slot if row in rigid else -1
        if row not in rigid and frame.spread is not None:
            kept.append(frame.spread.contiguous())
            place.spread = kept[-1].data_ptr()
        return kept

    def _lists(
        self,
        ground: dict[int, Tensor],
        tools: dict[int, Tensor],
        pairs: Sequence[tuple[int, int]],
        shares: dict[int, Tensor],
        frames: dict[int, Frame],
    ) -> Iterator[kernels.ContactList]:
        for row, mask in ground.items():
            yield kernels.ContactList(mask.data_ptr(), None, mask.shape[1], _GROUND, row, -1, 0)
        for row, mask in tools.items():
            share = shares[row].data_ptr() if row in shares else None
            yield kernels.ContactList(mask.data_ptr(), share, mask.shape[1], _TOOLS, row, -1, 0)
        for row, other in pairs:
            count = len(self.arms[row])
            yield kernels.ContactList(None, None, count, _PART, row, other, frames[other].moves)


def fits(around: Surroundings, *given: Tensor) -> bool:
    """Whether the kernel can answer: it is compiled, all is float32 on the CPU, nobody wants gradients."""
    own = around.parameters
    values = (*given, own.friction, own.mass, own.tool_friction, own.patch, own.damping, own.joint_friction)
    if torch.is_grad_enabled() and any(value.requires_grad for value in values):
        return False
    plain = all(value.device.type == "cpu" and value.dtype == torch.float32 for value in values)
    return plain and kernels.available()
