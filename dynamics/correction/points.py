"""Correction by points: objects are brought to the surface that was observed, robustly."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from gaussworld.gaussians import Gaussians
from gaussworld.neighbors import nearest
from gaussworld.pose import (
    pose_from,
    pose_from_pose7,
    rotation_from_quats,
    rotation_from_rotvec,
    rotvec_from_rotation,
    transform_points,
)
from gaussworld.state import State
from gaussworld.world import World
from gaussworld.world_object import ObjectKind, WorldObject

from ..matter.parts import Matter, PartKind
from ..prediction.props import tool_box_poses, tool_objects
from ..prediction.stage import Posed
from ..tool import Tool
from .correct import CorrectConfig, Corrected, PointView, free_objects, moved_objects, moved_particles

#: Weight of the distance along a surface, where the distance across it has 1: keeps flat things from sliding.
_ALONG = 0.1
#: Fewest points that move an object.
_FEWEST = 12
#: Rounds of smoothing of a bending thing's shift over its edges.
_SMOOTH = 4


@dataclass(frozen=True, eq=False)
class _Surface:
    """Points of one object in its own frame."""

    points: Float[Tensor, "m 3"]
    normals: Float[Tensor, "m 3"]
    rows: Int[Tensor, " m"]
    """Of its Gaussians, or of the faces of its mesh."""


class PointCorrection:
    """Pulls states of one world to observed points.

    Rigid objects move by iterated closest points (Besl and McKay 1992) with point-to-plane distances (Chen
    and Medioni 1991), Geman-McClure weights, and the predicted pose as a prior; what is on a joint, along it;
    what bends, by shifts of its particles that are smooth over its edges.
    """

    def __init__(
        self,
        world: World,
        tools: Sequence[Tool] = (),
        matter: Matter | None = None,
        posed: Posed | None = None,
        config: CorrectConfig | None = None,
    ) -> None:
        """Sample the surfaces.

        Args:
            world: in metres.
            tools: what is seen of them is no object.
            matter: whose particles the states have; needed where something bends.
            posed: gives the Gaussians of a state, bent where things bend.
            config: how far to pull.
        """
        self.world, self.matter, self.config = world, matter, config or CorrectConfig()
        self._posed = posed or world.posed
        generator = torch.Generator().manual_seed(self.config.seed)
        state = State.at_rest(world)
        self._rigid, self._jointed, self._bending = free_objects(world, state)
        count = self.config.points
        self._surfaces = {
            number: _surface_of(world.objects[number], count, generator)
            for number in (*self._rigid, *self._jointed, *self._bending)
        }
        still = [item for number, item in world.objects.items() if number not in self._surfaces]
        points, normals = [torch.zeros(0, 3)], [torch.zeros(0, 3)]
        for item in still:
            if len(item.gaussians) and not item.hidden:
                surface, pose = _surface_of(item, 4 * count, generator), item.world_from_object
                points.append(transform_points(pose, surface.points))
                normals.append(surface.normals @ pose[:3, :3].T)
        self._still, self._still_normals = torch.cat(points), torch.cat(normals)
        self._tools, self._props = tuple(tools), tool_objects(tools, 1) if tools else []
        self._generator = generator

    def correct(self, state: State, view: PointView) -> Corrected:
        """The state pulled to the points; what is not seen stays as it is.

        Args:
            state: unbatched, as it was predicted.
            view: what is observed.
        """
        view = self._relevant(state, view)
        predicted = dict(zip(state.object_ids, pose_from_pose7(state.object_poses)))
        start, seen = state, dict[int, int]()
        for round in range(self.config.rounds):
            matched = self._matched(state, view, round)
            seen = {number: int(rows.sum()) for number, (rows, _) in matched.items()}
            state = self._round(state, view, matched, predicted)
        moved = (state.object_poses[:, :3] - start.object_poses[:, :3]).norm(dim=-1).tolist()
        known = {number: count for number, count in seen.items() if count >= _FEWEST}
        return Corrected(state, {n: d for n, d in zip(state.object_ids, moved) if n in known}, known)

    def _relevant(self, state: State, view: PointView) -> PointView:
        """Points that may be of what can move: near to it, and not nearer to what cannot, or to a tool."""
        keep = torch.randperm(len(view.points), generator=self._generator)
        if view.objects is None and len(view.points):
            points, _, _ = self._world_points(state)
            near = _distance(points, view.points) < self.config.gate
            # Thin things lie so near to what is below them that less must do to tell them apart.
            margin = self.config.tolerance * (0.4 if self._bending else 1.0)
            near[near.clone()] = self._clearance(state, view.points[near]) > margin
            keep = keep[near[keep]]
        elif view.objects is not None:
            keep = keep[torch.isin(view.objects, torch.tensor(list(self._surfaces)))[keep]]
        keep = keep[: self.config.points * max(1, len(self._surfaces))]
        chosen = [value if value is None else value[keep] for value in (view.objects, view.rest)]
        return PointView(view.points[keep], *chosen)

    def _clearance(self, state: State, seen: Float[Tensor, "m 3"]) -> Float[Tensor, " m"]:
        """[m] how far points are from the surface of what cannot move, or of a tool."""
        points, normals = [self._still], [self._still_normals]
        if self._props:
            poses = pose_from_pose7(tool_box_poses(self._tools, state.tool_poses, state.grip))
            for item, pose in zip(self._props, poses):
                points.append(transform_points(pose, item.gaussians.means))
                normals.append(_normals(item.gaussians) @ pose[:3, :3].T)
        every = torch.cat(points)
        if not len(every) or not len(seen):
            return torch.full((len(seen),), float("inf"))
        apart, rows = nearest(every, 1, seen)
        # Across the surface, next to it: its points are too far apart for the plain distance.
        across = ((seen - every[rows[:, 0]]) * torch.cat(normals)[rows[:, 0]]).sum(1).abs()
        return torch.where(apart[:, 0] < self.config.gate, across, apart[:, 0])

    def _world_points(self, state: State) -> tuple[Tensor, Tensor, Int[Tensor, " m"]]:
        """Points and normals of all that can move, and of which object each is."""
        poses = dict(zip(state.object_ids, pose_from_pose7(state.object_poses)))
        points, normals, owners = [], [], []
        bent = self._posed(state) if self._bending else None
        for number, surface in self._surfaces.items():
            if bent is not None and number in self._bending:
                mine = bent.select(bent.object_ids == number)
                points.append(mine.means.detach()[surface.rows])
                normals.append(_normals(mine.detach())[surface.rows])
            else:
                points.append(transform_points(poses[number], surface.points))
                normals.append(surface.normals @ poses[number][:3, :3].T)
            owners.append(torch.full((len(surface.points),), number))
        if not points:
            return torch.zeros(0, 3), torch.zeros(0, 3), torch.zeros(0, dtype=torch.long)
        return torch.cat(points), torch.cat(normals), torch.cat(owners)

    def _matched(self, state: State, view: PointView, round: int) -> dict[int, tuple[Tensor, "_Pairs"]]:
        """For each object which observed points are of it, and where on it they are."""
        points, normals, owners = self._world_points(state)
        # What is far is matched at first only: later it is more likely something else.
        share = 1 - 0.7 * round / max(1, self.config.rounds - 1)
        gate = self.config.gate * share
        found: dict[int, tuple[Tensor, _Pairs]] = {}
        if not len(view.points) or not len(points):
            return found
        if view.objects is None:
            apart, rows = nearest(points, 1, view.points)
            rows, near = rows[:, 0], apart[:, 0] < gate
            for number in self._surfaces:
                mine = near & (owners[rows] == number)
                found[number] = mine, _Pairs(points[rows[mine]], normals[rows[mine]], rows[mine])
            return found
        for number in self._surfaces:
            mine = view.objects == number
            own = (owners == number).nonzero()[:, 0]
            if not bool(mine.any()) or not len(own):
                continue
            if view.rest is not None and number not in self._bending:
                pose = pose_from_pose7(state.object_poses[state.object_ids.index(number)])
                found[number] = mine, _Pairs(transform_points(pose, view.rest[mine]), None, None)
                continue
            _, rows = nearest(points[own], 1, view.points[mine])
            rows = own[rows[:, 0]]
            found[number] = mine, _Pairs(points[rows], normals[rows], rows)
        return found

    def _round(
        self,
        state: State,
        view: PointView,
        matched: dict[int, tuple[Tensor, "_Pairs"]],
        predicted: dict[int, Tensor],
    ) -> State:
        poses, joints = dict[int, Tensor](), dict[int, Tensor]()
        now = dict(zip(state.object_ids, pose_from_pose7(state.object_poses)))
        bent = state.particle_positions
        for number, (mine, pairs) in matched.items():
            if int(mine.sum()) < _FEWEST:
                continue
            seen = view.points[mine]
            if number in self._rigid:
                poses[number] = self._rigid_step(now[number], predicted[number], pairs, seen)
            elif number in self._jointed:
                joints[number] = self._joint_step(state, number, now[number], pairs, seen)
            elif self.matter is not None:
                bent = self._bent(state, number, bent, pairs, seen)
        if bent is not state.particle_positions and self.matter is not None:
            state = moved_particles(state, bent, self.matter)
        return moved_objects(self.world, state, poses, joints, self.matter)

    def _rigid_step(
        self, pose: Tensor, predicted: Tensor, pairs: "_Pairs", seen: Tensor
    ) -> Float[Tensor, "4 4"]:
        """One step of Gauss and Newton about the middle of what is matched."""
        center = pairs.points.mean(0).double()
        lever, residual, weights = self._weighed(pairs, seen, center)
        turns = -_skew(lever)
        jacobian = torch.cat([torch.eye(3).double().expand(len(lever), 3, 3), turns], 2)
        matrix, vector = _normal_equations(jacobian, residual, weights)
        # How far it is from where it was predicted, at the same middle.
        motion = pose.double() @ torch.linalg.inv(predicted.double())
        turned = rotvec_from_rotation(motion[:3, :3].float()).double()
        before = torch.linalg.inv(motion) @ torch.cat([center, center.new_ones(1)])
        far = torch.cat([center - before[:3], turned])
        doubt = torch.tensor([self.config.place_doubt] * 3 + [self.config.turn_doubt] * 3).double()
        # Neighbouring points err together: a hundred of them tell as much as these count.
        matrix = matrix + torch.diag(self._independent(len(seen)) / doubt**2)
        vector = vector - self._independent(len(seen)) / doubt**2 * far
        twist = torch.linalg.solve(matrix, vector)
        rotation = rotation_from_rotvec(twist[3:])
        step = pose_from(rotation, center + twist[:3] - rotation @ center)
        return (step @ pose.double()).float()

    def _independent(self, count: int) -> float:
        return max(1.0, count / 100)

    def _weighed(self, pairs: "_Pairs", seen: Tensor, center: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Levers (m, 3), residuals (m, 3) and weight matrices (m, 3, 3) of matched points."""
        residual = (seen - pairs.points).double()
        sigma = self.config.tolerance
        if pairs.normals is None:
            across, along = residual.norm(dim=1), 1.0
            weights = torch.eye(3).double().expand(len(seen), 3, 3)
        else:
            normals = pairs.normals.double()
            across, along = (residual * normals).sum(1), _ALONG
            flat = normals[:, :, None] * normals[:, None, :]
            weights = flat + along**2 * (torch.eye(3).double() - flat)
        robust = 1 / (1 + (across / (3 * sigma)) ** 2) ** 2
        return pairs.points.double() - center, residual, weights * robust[:, None, None] / sigma**2

    def _joint_step(self, state: State, number: int, pose: Tensor, pairs: "_Pairs", seen: Tensor) -> Tensor:
        """The same along the one axis there is."""
        joint = self.world.objects[number].joint
        assert joint is not None
        axis = (pose[:3, :3] @ pose.new_tensor(joint.axis)).double()
        origin = (pose[:3, :3] @ pose.new_tensor(joint.origin) + pose[:3, 3]).double()
        lever, residual, weights = self._weighed(pairs, seen, origin)
        column = axis.expand_as(lever)
        if joint.kind == "revolute":
            column = torch.linalg.cross(column, lever)
        matrix, vector = _normal_equations(column[:, :, None], residual, weights)
        before = state.joint_positions[state.joint_ids.index(number)]
        step = (vector / matrix[0].clamp(min=1e-9)).float()[0]
        return (before + step).clamp(*joint.limits)

    def _bent(self, state: State, number: int, positions: Tensor, pairs: "_Pairs", seen: Tensor) -> Tensor:
        """Particles shifted by what is seen next to each, evened out over the edges."""
        assert self.matter is not None and pairs.rows is not None
        part = next(part for _, part in self.matter.of(*_BENDING) if part.object_id == number)
        own = positions[part.rows]
        _, to = nearest(own, 1, pairs.points)
        residual = seen - pairs.points
        robust = 1 / (1 + (residual.norm(dim=1) / (self.config.gate / 2)) ** 2) ** 2
        total = torch.zeros(len(own)).index_add_(0, to[:, 0], robust)
        shift = torch.zeros(len(own), 3).index_add_(0, to[:, 0], robust[:, None] * residual)
        trust = total / (total + 1)
        own_shift = shift / total.clamp(min=1e-6)[:, None]
        inside = (self.matter.edges[:, 0] >= part.start) & (self.matter.edges[:, 0] < part.stop)
        edges = self.matter.edges[inside] - part.start
        smooth = _evened(own_shift * trust[:, None], trust, edges)
        return torch.cat([positions[: part.start], own + 0.7 * smooth, positions[part.stop :]])


@dataclass(frozen=True, eq=False)
class _Pairs:
    """Points of an object that observed points are matched to."""

    points: Float[Tensor, "m 3"]
    normals: Float[Tensor, "m 3"] | None
    """None where it is known which point each is."""
    rows: Int[Tensor, " m"] | None


_BENDING = (PartKind.ROPE, PartKind.CLOTH, PartKind.VOLUME)


def _evened(shift: Tensor, trust: Tensor, edges: Int[Tensor, "e 2"]) -> Tensor:
    """Shifts of particles that are not seen come from their neighbours."""
    now = shift
    both = torch.cat([edges, edges.flip(1)])
    degree = torch.zeros(len(shift)).index_add_(0, both[:, 0], torch.ones(len(both))).clamp(min=1)
    for _ in range(_SMOOTH):
        mean = torch.zeros_like(now).index_add_(0, both[:, 0], now[both[:, 1]]) / degree[:, None]
        now = trust[:, None] * 0.6 * shift + (1 - 0.6 * trust[:, None]) * mean
    return now


def _surface_of(item: WorldObject, count: int, generator: torch.Generator) -> _Surface:
    """Points of its mesh; of its Gaussians where it has none, or bends as these do."""
    if item.shape is None or item.kind is ObjectKind.DEFORMABLE or not item.shape.mesh.area > 0:
        return _sampled(item.gaussians, count, generator)
    corners = item.shape.mesh.triangles
    across = torch.linalg.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    rows = torch.multinomial(across.norm(dim=1), count, replacement=True, generator=generator)
    # Even in a triangle: the square root of a uniform number (Osada et al. 2002, "Shape distributions").
    a, b = torch.rand(2, count, 1, generator=generator)
    weights = torch.stack([1 - a.sqrt(), a.sqrt() * (1 - b), a.sqrt() * b], 1)
    return _Surface(
        (corners[rows] * weights).sum(1), torch.nn.functional.normalize(across[rows], dim=1), rows
    )


def _sampled(gaussians: Gaussians, count: int, generator: torch.Generator) -> _Surface:
    rows = (gaussians.opacities > 0.3).nonzero()[:, 0]
    rows = torch.arange(len(gaussians)) if not len(rows) else rows
    rows = rows[torch.randperm(len(rows), generator=generator)[:count]]
    return _Surface(gaussians.means.detach()[rows], _normals(gaussians.detach())[rows], rows)


def _normals(gaussians: Gaussians) -> Float[Tensor, "n 3"]:
    """The shortest axis of each."""
    axis = gaussians.log_scales.argmin(dim=1)
    turn = rotation_from_quats(gaussians.quats)
    return turn.gather(2, axis[:, None, None].expand(-1, 3, 1))[..., 0]


def _distance(points: Float[Tensor, "m 3"], queries: Float[Tensor, "q 3"]) -> Float[Tensor, " q"]:
    if not len(points):
        return torch.full((len(queries),), float("inf"))
    return nearest(points, 1, queries)[0][:, 0]


def _normal_equations(jacobian: Tensor, residual: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    weighted = jacobian.transpose(1, 2) @ weights
    return (weighted @ jacobian).sum(0), (weighted @ residual[:, :, None]).sum(0)[:, 0]


def _skew(vectors: Float[Tensor, "m 3"]) -> Float[Tensor, "m 3 3"]:
    x, y, z = vectors.unbind(1)
    o = torch.zeros_like(x)
    return torch.stack([o, -z, y, z, o, -x, -y, x, o], 1).reshape(-1, 3, 3)
