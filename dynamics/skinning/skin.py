"""`Skin`: Gaussians and points that follow a state, rigidly with an object or bending with its particles."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from gaussworld.gaussians import HIDDEN, LOCKED, Gaussians, cat
from gaussworld.pose import (
    invert_pose,
    invert_quats,
    multiply_quats,
    normalize_quats,
    pose_from_pose7,
    quats_from_rotation,
    rotation_from_quats,
    transform_points,
)
from gaussworld.sh import evaluate_sh, rotate_sh
from gaussworld.state import State
from gaussworld.world import World
from gaussworld.world_object import WorldObject

from ..matter.parts import Matter, Part
from .binding import Binding, stretched
from .compiled import CompiledSkin, fits, seen_colors
from .deformation import Deformation, deformation_of
from .turned_color import turn_colors


@dataclass(frozen=True, eq=False)
class _Bend:
    """How one part bends."""

    part: Part
    deformation: Deformation
    binding: Binding
    """Of its Gaussians."""
    scales: Float[Tensor, "n 3"]
    """[m] of its Gaussians at rest."""
    compiled: CompiledSkin

    def particles(self, state: State) -> tuple[Tensor, Tensor, Tensor]:
        """Positions, gradients and turns at the part's particles, as `Binding.blended` takes them."""
        positions = state.particle_positions[..., self.part.start : self.part.stop, :]
        return positions, *self.deformation(positions)


@dataclass(frozen=True, eq=False)
class _Piece:
    """One object's rows of the skin."""

    number: int
    row: int
    """Of the state's objects."""
    rows: slice
    bend: _Bend | None


@dataclass(frozen=True, eq=False)
class Posed:
    """All Gaussians of a world at one moment; colours are still those at rest."""

    rest: Gaussians
    """In their objects' frames."""
    means: Float[Tensor, "n 3"]
    """[m] world frame."""
    quats: Float[Tensor, "n 4"]
    log_scales: Float[Tensor, "n 3"]
    turns: tuple[tuple[slice, Float[Tensor, "... 4"]], ...]
    """Unit quaternions by which rows turned from rest to the world: one for all of them, or one for each."""

    def gaussians(self) -> Gaussians:
        """The Gaussians with their spherical harmonics turned, which takes longer than all the rest."""
        parts = []
        for rows, turn in self.turns:
            sh = self.rest.sh[rows]
            parts.append(
                rotate_sh(sh, rotation_from_quats(turn)) if turn.ndim == 1 else turn_colors(sh, turn)
            )
        return replace(self.unturned(), sh=torch.cat(parts) if parts else self.rest.sh)

    def unturned(self) -> Gaussians:
        """The Gaussians with spherical harmonics as at rest: to be drawn with `colors`."""
        return replace(self.rest, means=self.means, quats=self.quats, log_scales=self.log_scales)

    def colors(self, center: Float[Tensor, "3"]) -> Float[Tensor, "n 3"]:
        """What each Gaussian shows to a camera at `center`: `render(posed.unturned(), camera, colors=...)`.

        The direction of view is turned back instead of the spherical harmonics, which is exact and quick.
        """
        if fits(self.means):
            each = [t.expand(r.stop - r.start, 4) if t.ndim == 1 else t for r, t in self.turns]
            turns = torch.cat([self.rest.quats[:0], *each])
            return seen_colors(self.means, turns, self.rest.sh, center)
        directions = [
            rotated_back(turn, self.means[rows] - center.to(self.means)) for rows, turn in self.turns
        ]
        seen = torch.cat(directions) if directions else self.means
        return evaluate_sh(self.rest.sh, seen).clamp(min=0)


class Skin:
    """The Gaussians of a world, bound to its matter once.

    Objects that bend hang on their particles; all others follow the poses of the state exactly.
    """

    def __init__(self, matter: Matter, rest: Gaussians, pieces: Sequence[_Piece], world: World) -> None:
        self._matter, self._pieces, self._world = matter, tuple(pieces), world
        self.rest = rest
        """All Gaussians in their objects' frames, in the order of `World.posed`."""
        self._quats = normalize_quats(rest.quats)

    @classmethod
    def bind(cls, matter: Matter, world: World) -> "Skin":
        """Bind a world's Gaussians to the matter that was made of it.

        Raises:
            ValueError: the matter is of other objects.
        """
        if matter.object_ids != tuple(world.objects):
            raise ValueError(
                f"expected matter of this world's objects {tuple(world.objects)}, got {matter.object_ids}"
            )
        bending = {part.object_id: part for part in matter.parts if part.kind.bends}
        items = list(world.objects.values())
        shown = [_marked(item) for item in items]
        pieces, start = [], 0
        for row, (item, gaussians) in enumerate(zip(items, shown)):
            part = bending.get(item.id)
            bend = None if part is None else _bend(matter, part, item, gaussians)
            pieces.append(_Piece(item.id, row, slice(start, start + len(gaussians)), bend))
            start += len(gaussians)
        return cls(matter, cat(shown).detach() if shown else world.posed(), pieces, world)

    def gaussians(self, state: State) -> Gaussians:
        """All Gaussians in the world frame as the state has them, in the order of `World.posed`.

        Differentiable towards the state, but for the colours of what moves rigidly.

        Raises:
            ValueError: the state is a batch, or of other objects or particles.
        """
        return self.posed(state).gaussians()

    def posed(self, state: State) -> Posed:
        """The same without turning colours: what a renderer needs, and much quicker."""
        self._check(state)
        if state.batch_shape:
            raise ValueError(f"expected one state, got a batch of shape {state.batch_shape}; index it first")
        rest, columns, turns = self.rest, ([], [], []), []
        state = state.to(rest.device)
        for piece in self._pieces:
            means, quats, log_scales, turn = self._moved(piece, state)
            for column, value in zip(columns, (means, quats, log_scales)):
                column.append(value)
            turns.append((piece.rows, turn))
        if not turns:
            return Posed(rest, rest.means, rest.quats, rest.log_scales, ())
        means, quats, log_scales = (torch.cat(column) for column in columns)
        return Posed(rest, means, quats, log_scales, tuple(turns))

    def _moved(self, piece: _Piece, state: State) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Means, quaternions and log scales of an object's Gaussians, and how they turned."""
        rows = piece.rows
        means, quats, log_scales = self.rest.means[rows], self._quats[rows], self.rest.log_scales[rows]
        bend = piece.bend
        if bend is not None:
            particles = bend.particles(state)
            if fits(particles[0]):
                return bend.compiled(*particles)
            means, gradients, turn = bend.binding.blended(*particles)
            found, sizes = stretched(quats.to(means), bend.scales.to(means), gradients, turn)
            return means, found, sizes, turn
        pose = state.object_poses[piece.row]
        turn = normalize_quats(pose[3:])
        moved = means.to(pose) @ rotation_from_quats(turn).T + pose[:3]
        return moved, quats.to(pose) @ _times(turn).T, log_scales.to(pose), turn

    def shapes(self, states: State) -> dict[int, Iterator[Gaussians]]:
        """Of each object that bends, its Gaussians in the object's frame at each of a sequence of states.

        What `gaussworld.io.usd_rollout.write_rollout` takes: colours stay as at rest, and quaternions keep
        their sign from state to state, so that players may interpolate.

        Raises:
            ValueError: the states are no sequence, or of other objects or particles.
        """
        self._check(states)
        if len(states.batch_shape) != 1:
            raise ValueError(f"expected a sequence of states, got a batch of shape {states.batch_shape}")
        return {
            piece.number: self._steps(piece, piece.bend, states)
            for piece in self._pieces
            if piece.bend is not None
        }

    def _steps(self, piece: _Piece, bend: _Bend, states: State) -> Iterator[Gaussians]:
        rest, before = self.rest.select(piece.rows), None
        for step in range(len(states)):
            state = states[step].detach()
            means, quats, log_scales, _ = self._moved(piece, state)
            pose = pose_from_pose7(state.object_poses[piece.row])
            back = invert_quats(quats_from_rotation(pose[:3, :3]))
            quats = multiply_quats(back.expand_as(quats), quats)
            before = self._quats[piece.rows].to(quats) if before is None else before
            before = torch.where((quats * before).sum(1, keepdim=True) < 0, -quats, quats)
            moved = transform_points(invert_pose(pose), means)
            yield replace(rest, means=moved, quats=before, log_scales=log_scales)

    def points(
        self, points: Float[Tensor, "q 3"], object_ids: Int[Tensor, " q"]
    ) -> Callable[[State], Float[Tensor, "*b q 3"]]:
        """Bind points, such as tracks, and give the function that tells where they are in a state or a batch.

        Differentiable towards the state.

        Args:
            points: [m] in the frames of their objects, where these rest.
            object_ids: the object of each.

        Raises:
            ValueError: there is no such object.
        """
        groups: list[tuple[_Piece, Tensor, Binding | None]] = []
        known = {piece.number: piece for piece in self._pieces}
        for number in object_ids.unique().tolist():
            if number not in known:
                raise ValueError(f"object_ids: expected ids among {sorted(known)}, got {number}")
            piece, rows = known[number], (object_ids == number).nonzero()[:, 0]
            binding = None if piece.bend is None else self._bound(piece.bend.part, points[rows])
            groups.append((piece, rows, binding))
        order = torch.cat([rows for _, rows, _ in groups]).argsort() if groups else torch.zeros(0).long()

        def where(state: State) -> Tensor:
            self._check(state)
            device, state = state.object_poses.device, state.to(self.rest.device)
            found = []
            for piece, rows, binding in groups:
                if piece.bend is None or binding is None:
                    pose = pose_from_pose7(state.object_poses[..., piece.row, :])
                    here = points[rows].to(pose).expand(*state.batch_shape, -1, -1)
                    found.append(transform_points(pose, here))
                else:
                    found.append(binding.blended(*piece.bend.particles(state))[0])
            empty = state.object_poses.new_zeros(*state.batch_shape, 0, 3)
            return torch.cat([empty, *found], -2).index_select(-2, order).to(device)

        return where

    def _bound(self, part: Part, points: Tensor) -> Binding:
        return Binding.of(points, self._matter.rest[part.rows], _own_edges(self._matter, part))

    def _check(self, state: State) -> None:
        wanted, got = len(self._matter.rest), state.particle_positions.shape[-2]
        if state.object_ids != self._matter.object_ids:
            raise ValueError(
                f"expected a state of the objects {self._matter.object_ids}, got {state.object_ids}"
            )
        if got != wanted and self._matter.bending:
            raise ValueError(f"expected a state of {wanted} particles, got {got}; they must be this matter's")


def rotated_back(quats: Float[Tensor, "*m 4"], vectors: Float[Tensor, "n 3"]) -> Float[Tensor, "n 3"]:
    """Vectors turned by the inverse of one unit quaternion, or each by that of its own."""
    if quats.ndim == 1:
        return vectors @ rotation_from_quats(quats)
    axis = -quats[:, 1:]
    twice = 2 * torch.linalg.cross(axis, vectors)
    return vectors + quats[:, :1] * twice + torch.linalg.cross(axis, twice)


def _times(quat: Tensor) -> Float[Tensor, "4 4"]:
    """The matrix that multiplies quaternions from the left by one."""
    w, x, y, z = quat.unbind(-1)
    rows = [w, -x, -y, -z, x, w, -z, y, y, z, w, -x, z, -y, x, w]
    return torch.stack(rows).reshape(4, 4)


def _marked(item: WorldObject) -> Gaussians:
    """An object's Gaussians in its frame, with ids and flags as `World.posed` has them."""
    gaussians = item.gaussians
    flags = gaussians.flags | (HIDDEN * item.hidden | LOCKED * item.locked)
    return replace(gaussians, object_ids=torch.full_like(gaussians.object_ids, item.id), flags=flags)


def _own_edges(matter: Matter, part: Part) -> Int[Tensor, "e 2"]:
    edges = matter.edges
    return edges[(edges[:, 0] >= part.start) & (edges[:, 0] < part.stop)] - part.start


def _bend(matter: Matter, part: Part, item: WorldObject, gaussians: Gaussians) -> _Bend:
    rest, edges = matter.rest[part.rows], _own_edges(matter, part)
    start = item.world_from_object[:3, :3].to(rest)
    deformation = deformation_of(rest, edges, part.kind, start)
    binding = Binding.of(gaussians.means, rest, edges)
    return _Bend(part, deformation, binding, gaussians.scales.detach(), CompiledSkin.of(binding, gaussians))
