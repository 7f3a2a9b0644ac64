"""Rigid and jointed parts as one vector of speeds, with the mass matrix and contacts that act on it."""

from dataclasses import dataclass

import torch
from torch import Tensor

from gaussworld.pose import pose_from
from gaussworld.world import World

from ..matter.parts import Matter, PartKind
from .contact import Contact, Linearised, skew
from .motion import rotations as rotations_of
from .motion import turned
from .parameters import Parameters
from .settings import PriorConfig
from .tree import Branch, axis_twists, branches, place

#: [m/s, rad/s] iterations end when no speed changes by more.
SETTLED = 1e-5


@dataclass(frozen=True, eq=False)
class Motion:
    """Where r rigid parts and j joints are in B samples, and how fast they move."""

    centers: Tensor
    """(B, r, 3) [m] centres of mass."""
    turns: Tensor
    """(B, r, 4) quaternions wxyz."""
    twists: Tensor
    """(B, r, 6) velocity of the centre of mass, angular velocity."""
    joints: Tensor
    """(B, j)"""
    rates: Tensor
    """(B, j)"""
    rotations: Tensor
    """(B, r, 3, 3) of the turns."""


@dataclass(frozen=True, eq=False)
class Frame:
    """One part at one moment."""

    pose: Tensor
    """(B, 4, 4)"""
    center: Tensor
    """(B, 3) [m] centre of mass in the world."""
    spread: Tensor | None
    """(B, 6, d) twist about the centre that each speed gives; None where the speeds are the twist."""
    moves: bool = True

    def local(self, points: Tensor) -> Tensor:
        """Points (B, n, 3) of the world in the part's frame."""
        return (points - self.pose[:, None, :3, 3]) @ self.pose[:, :3, :3]

    def turn(self, vectors: Tensor) -> Tensor:
        """Vectors (B, n, 3) of the part's frame in the world's axes."""
        return vectors @ self.pose[:, :3, :3].transpose(-1, -2)

    def twist(self, speeds: Tensor) -> Tensor:
        """(B, 6) about the centre, for all speeds (B, d)."""
        return speeds if self.spread is None else (self.spread @ speeds[..., None])[..., 0]


@dataclass(frozen=True, eq=False)
class Bodies:
    """What stays the same about the parts with a pose."""

    matter: Matter
    tree: list[Branch]
    carriers: list[Branch]
    """The branches that are parts, or carry some."""
    rigid: tuple[int, ...]
    """Rows of the parts."""
    jointed: tuple[int, ...]
    """Rows of parts that a joint moves, itself or its carrier's."""
    standing: tuple[int, ...]
    """Rows of the parts that never move."""
    kinds: dict[int, str]
    """Joint row -> revolute or prismatic."""
    limits: Tensor
    """(2, j)"""
    moving_joints: tuple[int, ...]
    """Joint rows that contact moves; the others are fingers of robots."""
    offsets: Tensor
    """(r, 3) [m] centres of mass in the objects' frames."""
    masses: Tensor
    """(r) [kg]"""
    inertias: Tensor
    """(r, 3, 3) [kg m^2]"""
    inverses: Tensor
    """(r, 3, 3) of the inertias."""
    arms: tuple[Tensor, ...]
    """Of each part, its particles (n, 3) [m] from the centre of mass, in its object's axes."""
    reach: tuple[float, ...]
    """[m] of each part, from the centre of mass to its farthest particle."""

    @classmethod
    def of(cls, world: World, matter: Matter, tools: int) -> "Bodies":
        tree = branches(world, matter, tools)
        by_row = {branch.row: branch for branch in tree}
        rigid = tuple(row for row, _ in matter.of(PartKind.RIGID))
        others = [
            (row, by_row[part.row])
            for row, part in matter.of(PartKind.JOINT, PartKind.STATIC)
            if part.row in by_row
        ]
        joints = [world.objects[number].joint for number in matter.joint_ids]
        limits = matter.rest.new_tensor([joint.limits if joint else (0.0, 0.0) for joint in joints])
        parts = [matter.parts[row] for row in rigid]
        arms = tuple(matter.rest[part.rows] - part.center.to(matter.rest) for part in matter.parts)
        like = matter.rest
        solid = [_solid(part.inertia.to(like)) for part in parts]
        inertias = torch.stack(solid) if solid else like.new_zeros(0, 3, 3)
        return cls(
            matter, tree, _carriers(tree, [branch for _, branch in others]), rigid,
            tuple(row for row, branch in others if branch.chain),
            tuple(row for row, branch in others if not branch.chain),
            {row: joint.kind for row, joint in enumerate(joints) if joint},
            limits.reshape(-1, 2).T,
            tuple(sorted({row for branch in tree for row in branch.chain})),
            torch.stack([part.center.to(like) for part in parts]) if parts else like.new_zeros(0, 3),
            like.new_tensor([max(part.mass, 1e-4) for part in parts]),
            inertias,
            torch.linalg.inv(inertias),
            arms,
            tuple(float(arm.norm(dim=-1).max()) if len(arm) else 0.0 for arm in arms),
        )  # fmt: skip

    @property
    def size(self) -> int:
        """Number d of speeds."""
        return 6 * len(self.rigid) + len(self.moving_joints)

    def speeds(self, motion: Motion) -> Tensor:
        """(B, d) twists of the rigid parts, then rates of the joints."""
        rates = motion.rates[:, list(self.moving_joints)]
        return torch.cat([motion.twists.flatten(1), rates], -1)

    def frames(
        self, motion: Motion, bases: dict[int, Tensor] | None = None
    ) -> tuple[dict[int, Frame], dict[int, Tensor]]:
        """The parts by row, and the pose (B, 4, 4) of every object in a tree by row.

        Args:
            motion: of rigid parts and joints.
            bases: poses (B, 4, 4) of robots' bases; None leaves robots, which carry no part, out.
        """
        origins = motion.centers - (motion.rotations @ self.offsets[..., None])[..., 0]
        poses = pose_from(motion.rotations, origins)
        count, joints = len(motion.joints), len(self.kinds)
        free = {self.matter.parts[row].row: poses[:, k] for k, row in enumerate(self.rigid)}
        frames = {}
        eye = torch.eye(self.size).to(poses) if self.size > 6 else None
        for k, row in enumerate(self.rigid):
            spread = None if eye is None else eye[None, 6 * k : 6 * k + 6].expand(count, 6, self.size)
            frames[row] = Frame(poses[:, k], motion.centers[:, k], spread)
        tree = self.carriers if bases is None else self.tree
        if not tree:
            return frames, free
        placed = place(tree, free, motion.joints, bases or {})
        branch_of = {branch.row: branch for branch in tree}
        for row in (*self.jointed, *self.standing):
            part = self.matter.parts[row]
            pose = placed.poses[part.row]
            center = pose[:, :3, :3] @ part.center.to(pose) + pose[:, :3, 3]
            if row in self.standing:
                frames[row] = Frame(pose, center, None, moves=False)
                continue
            columns = axis_twists(placed, branch_of[part.row], center, joints, self.kinds)
            columns = columns[..., list(self.moving_joints)]
            pad = columns.new_zeros(count, 6, 6 * len(self.rigid))
            frames[row] = Frame(pose, center, torch.cat([pad, columns], -1))
        return frames, placed.poses

    def mass_matrix(self, motion: Motion, frames: dict[int, Frame], parameters: Parameters) -> Tensor:
        """(B, d, d)"""
        count, r = len(motion.joints), len(self.rigid)
        scale = parameters.mass
        matrix = self.offsets.new_zeros(count, self.size, self.size)
        inertias = self.world_inertias(motion.rotations)
        for k, row in enumerate(self.rigid):
            block = _spatial(self.masses[k], inertias[:, k]) * scale[:, row, None, None]
            if self.size == 6:
                return block
            matrix[:, 6 * k : 6 * k + 6, 6 * k : 6 * k + 6] = block
        for row in self.jointed:
            part, frame = self.matter.parts[row], frames[row]
            spread = frame.spread
            if spread is None or part.mass == 0:
                continue
            turn = frame.pose[:, :3, :3]
            inertia = turn @ part.inertia.to(turn) @ turn.transpose(-1, -2)
            block = _spatial(part.center.new_tensor(part.mass).to(turn), inertia)
            matrix = matrix + spread.transpose(-1, -2) @ (block * scale[:, row, None, None]) @ spread
        if self.moving_joints:
            floor = torch.zeros(self.size).to(matrix)
            floor[6 * r :] = 1e-5
            matrix = matrix + torch.diag(floor)
        return matrix

    def world_inertias(self, rotations: Tensor) -> Tensor:
        """(B, r, 3, 3) about the centres of mass in the world's axes."""
        return rotations @ self.inertias @ rotations.transpose(-1, -2)

    def fall(
        self, frames: dict[int, Frame], matrix: Tensor, parameters: Parameters, gravity: float
    ) -> Tensor:
        """(B, d) [m/s^2, rad/s^2] what gravity does to the speeds."""
        result = matrix.new_zeros(len(matrix), self.size)
        for k in range(len(self.rigid)):
            result[:, 6 * k + 2] = -gravity
        start = 6 * len(self.rigid)
        if not self.moving_joints:
            return result
        pull = matrix.new_zeros(len(matrix), self.size - start)
        for row in self.jointed:
            spread = frames[row].spread
            if spread is not None:
                weight = self.matter.parts[row].mass * gravity * parameters.mass[:, row, None]
                pull = pull - weight * spread[:, 2, start:]
        joints = torch.linalg.solve(matrix[:, start:, start:], pull[..., None])[..., 0]
        return torch.cat([result[:, :start], joints], -1)

    @property
    def sliding(self) -> Tensor:
        """(6) the speeds that friction on the ground slows."""
        return self.offsets.new_tensor([1.0, 1.0, 0.0, 0.0, 0.0, 1.0])

    def moved(self, motion: Motion, speeds: Tensor, touched: Tensor, h: float) -> Motion:
        """A time `h` [s] later at these speeds; angular momentum stays what it is.

        Args:
            motion: now.
            speeds: (B, d)
            touched: (B, r) what touches more than the ground.
            h: [s]
        """
        r = len(self.rigid)
        twists = speeds[:, : 6 * r].reshape(len(speeds), r, 6)
        free = (~touched).to(speeds)[..., None]
        joints, rates = self.joints_moved(motion, speeds, h)
        if not r:
            return Motion(motion.centers, motion.turns, motion.twists, joints, rates, motion.rotations)
        # What slides freely is slowed evenly over the time, so that it goes the mean of both speeds; what is
        # pushed goes as fast as what pushes it, at once.
        mean = twists + free * self.sliding * (motion.twists - twists) / 2
        old, spins = motion.rotations, (motion.rotations.transpose(-1, -2) @ twists[..., 3:, None])
        momentum = old @ (self.inertias @ spins)
        halfway = rotations_of(turned(motion.turns, mean[..., 3:] * (h / 2)))
        halfway = (halfway @ self._spins(halfway, momentum, spins))[..., 0] + mean[..., 3:] - twists[..., 3:]
        turns = turned(motion.turns, halfway * h)
        rotations = rotations_of(turns)
        after = (rotations @ self._spins(rotations, momentum, spins))[..., 0]
        centers = motion.centers + h * mean[..., :3]
        return Motion(centers, turns, torch.cat([twists[..., :3], after], -1), joints, rates, rotations)

    def joints_moved(self, motion: Motion, speeds: Tensor, h: float) -> tuple[Tensor, Tensor]:
        """Positions and rates (B, j) a time `h` [s] later at these speeds (B, d)."""
        if not self.moving_joints:
            return motion.joints, motion.rates
        rows = torch.tensor(self.moving_joints, device=speeds.device)
        own = speeds[:, 6 * len(self.rigid) :]
        return motion.joints.index_add(1, rows, h * own), motion.rates.index_copy(1, rows, own)

    def _spins(self, rotations: Tensor, momentum: Tensor, spins: Tensor) -> Tensor:
        """Angular velocity (B, r, 3, 1) in the body's axes, as a change, so that rounding does not add up."""
        lacking = rotations.transpose(-1, -2) @ momentum - self.inertias @ spins
        return spins + self.inverses @ lacking


def _carriers(tree: list[Branch], parts: list[Branch]) -> list[Branch]:
    """Some branches of a tree, and all that carry them."""
    by_row, needed = {branch.row: branch for branch in tree}, set[int]()
    for part in parts:
        row: int | None = part.row
        while row in by_row and row not in needed:
            needed.add(row)
            row = by_row[row].parent
    return [branch for branch in tree if branch.row in needed]


def _solid(inertia: Tensor) -> Tensor:
    """The inertia with no axis much lighter than the others, as thin things would have."""
    inertia = (inertia + inertia.T) / 2
    floor = 1e-3 * inertia.diagonal().sum().clamp(min=1e-9)
    lacking = (floor - torch.linalg.eigvalsh(inertia)[0]).clamp(min=0)
    return inertia + lacking * torch.eye(3).to(inertia)


def _spatial(mass: Tensor, inertia: Tensor) -> Tensor:
    """(B, 6, 6) of a body about its centre of mass."""
    top = (mass * torch.eye(3).to(inertia)).expand(len(inertia), 3, 3)
    zero = torch.zeros_like(inertia)
    return torch.cat([torch.cat([top, zero], -1), torch.cat([zero, inertia], -1)], -2)


def relative(a: Frame, b: Frame | None) -> Tensor | None:
    """(B, 6, d) from speeds to the twist of a towards b about a's centre; None where it is the speeds."""
    if b is None or not b.moves:
        return a.spread
    assert a.spread is not None and b.spread is not None
    apart = skew(a.center - b.center)
    top = b.spread[:, :3] - apart @ b.spread[:, 3:]
    return a.spread - torch.cat([top, b.spread[:, 3:]], -2)


def solve(
    matrix: Tensor,
    start: Tensor,
    guess: Tensor,
    contacts: list[tuple[Contact, Tensor | None]],
    extras: "Extras | None",
    config: PriorConfig,
) -> tuple[Tensor, list[Linearised]]:
    """Speeds (B, d) after the contacts' impulses: implicit in all of them at once.

    Each iteration is one step of Newton's method on the normal forces, and of the fixed point on the
    direction of friction. Friction's bound stays as it is until that has settled: with the pressures of
    unfinished iterations, whose sum may exceed the weight by far, things would stop too early. The model is
    the lagged one of Castro et al. 2023, "A theory of irrotational contact fields", with some rounds.

    Args:
        matrix: (B, d, d) masses.
        start: (B, d) speeds without contacts.
        guess: (B, d) speeds near the answer: those of the last substep.
        contacts: with the map from speeds to their twist.
        extras: what acts on the speeds themselves.
        config: how often at most, and when friction holds.
    """
    ready = [
        (Linearised(contact, config.stick_speed, _mapped(spread, guess), _mapped(spread, start)), spread)
        for contact, spread in contacts
    ]
    speeds = guess
    if not ready and extras is None:
        return start, []
    for turn in range(config.rounds):
        for iteration in range(config.iterations):
            before, speeds = speeds, _iterated(matrix, start, speeds, ready, extras)
            # The very first knows only what would be met without contact: it cannot tell that all is said.
            if turn + iteration and bool(((speeds - before).detach().abs() < SETTLED).all()):
                break
        if turn + 1 < config.rounds:
            for contact, spread in ready:
                contact.rebound(_mapped(spread, speeds))
    return speeds, [linearised for linearised, _ in ready]


def _iterated(
    matrix: Tensor,
    start: Tensor,
    speeds: Tensor,
    ready: list[tuple[Linearised, Tensor | None]],
    extras: "Extras | None",
) -> Tensor:
    """Speeds (B, d) with all impulses linearised at speeds near by."""
    total, force = matrix, torch.zeros_like(start)
    for contact, spread in ready:
        block, vector = contact.system(_mapped(spread, speeds))
        if spread is not None:
            back = spread.transpose(-1, -2)
            block, vector = back @ block @ spread, (back @ vector[..., None])[..., 0]
        total = total + block
        force = force + vector - (block @ start[..., None])[..., 0]
    if extras is not None:
        diagonal, vector = extras.system(speeds)
        total = total + torch.diag_embed(diagonal)
        force = force + vector - diagonal * start
    # Towards the start, so that without contact nothing changes to the last bit.
    return start + torch.linalg.solve(total, force[..., None])[..., 0]


def _mapped(spread: Tensor | None, speeds: Tensor) -> Tensor:
    return speeds if spread is None else (spread @ speeds[..., None])[..., 0]


@dataclass(frozen=True, eq=False)
class Extras:
    """Damping, dry friction and limits of the joints among the d speeds."""

    damping: Tensor
    """(B, d) impulse over speed."""
    dry: Tensor
    """(B, d) largest impulse of friction."""
    low: Tensor
    """(B, d) lowest speed that keeps the limits."""
    high: Tensor
    stiffness: Tensor
    """(B, d) impulse over speed, of a limit."""
    stick: float

    def system(self, speeds: Tensor) -> tuple[Tensor, Tensor]:
        """Diagonal and vector (B, d): the impulse is vector - diagonal * speed."""
        diagonal = self.damping + self.dry * (speeds.square() + self.stick**2).rsqrt()
        under, over = self.stiffness * (speeds < self.low), self.stiffness * (speeds > self.high)
        vector = under * self.low.clamp(min=-1e6) + over * self.high.clamp(max=1e6)
        return diagonal + under + over, vector
