"""`NewtonSolver`: the same seam answered by Newton's XPBD, a second implementation to check ours against."""

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gaussworld.errors import MissingDependency
from gaussworld.hull import convex_hull
from gaussworld.pose import (
    pose7_from_pose,
    pose_from_pose7,
    rotation_from_quats,
    slerp_quats,
    transform_points,
    wxyz_from_xyzw,
    xyzw_from_wxyz,
)
from gaussworld.shape import Mesh
from gaussworld.state import State
from gaussworld.world import World

from ..matter.parts import Ground, Matter, Part, PartKind
from ..tool import Tool
from .parameters import Parameters
from .settings import PriorConfig

#: Substeps of a control step of 0.1 s. Newton's friction loses half a substep of motion, so ours are short.
_SUBSTEPS_PER_SECOND, _ITERATIONS = 500, 8
#: [m] how thick a patch of ground is below its top, and how near things are before contacts are looked for.
_THICK, _GAP = 0.05, 0.005
#: Warp's level of messages from which it is quiet about its work.
_WARNINGS = 30
_UNIT = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)
_KNOWN = (PartKind.RIGID, PartKind.STATIC, PartKind.ROPE)


class NewtonSolver:
    """One world's physics in Newton on a CPU: rigid parts, things that stand, and ropes of springs.

    Samples are computed one after another and no gradients flow. Grippers close, but nothing is held by more
    than friction; ropes resist stretching only.

    Raises:
        MissingDependency: Newton is not installed.
        ValueError: the world has parts on joints, cloths or volumes, or several guesses of parameters.
    """

    def __init__(
        self,
        world: World,
        matter: Matter,
        tools: tuple[Tool, ...],
        parameters: Parameters,
        config: PriorConfig,
    ) -> None:
        self._newton, self._warp = _packages()
        parameters = parameters.rows()
        _check(world, matter, parameters)
        self.matter, self.tools, self.config = matter, tools, config
        self._rigid = [row for row, part in enumerate(matter.parts) if part.kind is PartKind.RIGID]
        self._ropes = [part for part in matter.parts if part.kind is PartKind.ROPE]
        builder = self._newton.ModelBuilder(gravity=(0.0, 0.0, -config.gravity))
        builder.rigid_gap = _GAP
        self._friction = _Frictions(matter, parameters)
        self._add_ground(builder, matter.ground)
        for row, part in enumerate(matter.parts):
            self._add_part(builder, world, row, part, parameters)
        self._hands = self._add_tools(builder, parameters)
        self._add_ropes(builder, parameters)
        model = builder.finalize(device="cpu")
        # Neighbours along a rope are nearer than their radii: as balls they would push each other apart.
        model.particle_max_radius, model.particle_grid = 0.0, None
        self._run = _Run(self._newton, self._warp, model)

    def step(self, state: State, tool_poses: Tensor, grip: Tensor | None, dt: float) -> State:
        """The state `dt` [s] later, for a state with one batch axis.

        Args:
            state: at the start.
            tool_poses: (B, a, 7) at the end.
            grip: (B, a) at the end; None leaves it.
            dt: [s]
        """
        closed = state.grip if grip is None else grip
        flat = state.detach()
        samples = [
            self._one(flat[k], tool_poses[k].detach(), closed[k].detach(), dt) for k in range(len(flat))
        ]
        poses, twists, positions, velocities = (torch.stack(values) for values in zip(*samples))
        positions, velocities = self._carried(positions, velocities, poses, twists)
        return replace(
            state,
            object_poses=poses,
            object_twists=twists,
            particle_positions=positions,
            particle_velocities=velocities,
            tool_poses=tool_poses,
            grip=closed,
            time=state.time + dt,
        )

    def _one(self, state: State, target: Tensor, grip: Tensor, dt: float) -> tuple[Tensor, ...]:
        """Poses, twists, and particles of one sample."""
        run, bodies = self._run, len(self._rigid)
        rows = [self.matter.parts[row].row for row in self._rigid]
        run.poses[:bodies] = _newton_poses(state.object_poses[rows])
        run.twists[:bodies] = _central(state, rows, self._centers(), 1.0)
        particles = self._rope_rows()
        run.particles[:] = state.particle_positions[particles].numpy()
        run.speeds[:] = state.particle_velocities[particles].numpy()
        count = max(1, round(dt * _SUBSTEPS_PER_SECOND))
        before = self._hand_poses(state.tool_poses, state.grip)
        for substep in range(1, count + 1):
            share = substep / count
            at = self._hand_poses(
                _between(state.tool_poses, target, share), state.grip + share * (grip - state.grip)
            )
            run.place(bodies, at, before, dt / count)
            before = at
            run.substep(dt / count)
        return self._taken(state, rows, particles)

    def _taken(self, state: State, rows: list[int], particles: list[int]) -> tuple[Tensor, ...]:
        run, bodies = self._run, len(self._rigid)
        poses, twists = state.object_poses.clone(), state.object_twists.clone()
        moved = torch.from_numpy(run.poses[:bodies].copy()).to(poses)
        poses[rows] = torch.cat([moved[:, :3], wxyz_from_xyzw(moved[:, 3:])], 1)
        twists[rows] = torch.from_numpy(run.twists[:bodies].copy()).to(twists)
        after = replace(state, object_poses=poses, object_twists=twists)
        twists[rows] = torch.from_numpy(_central(after, rows, self._centers(), -1.0)).to(twists)
        positions, velocities = state.particle_positions.clone(), state.particle_velocities.clone()
        positions[particles] = torch.from_numpy(run.particles.copy()).to(positions)
        velocities[particles] = torch.from_numpy(run.speeds.copy()).to(velocities)
        for part in self._ropes:
            weights = self.matter.masses[part.rows, None] / self.matter.masses[part.rows].sum()
            poses[part.row, :3] += (
                weights * (positions[part.rows] - state.particle_positions[part.rows])
            ).sum(0)
            twists[part.row, :3] = (weights * velocities[part.rows]).sum(0)
        return poses, twists, positions, velocities

    def _carried(
        self, positions: Tensor, velocities: Tensor, poses: Tensor, twists: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Particles of what has a pose, where the poses (B, o, 7) and twists (B, o, 6) say."""
        positions, velocities = positions.clone(), velocities.clone()
        for part in self.matter.parts:
            if part.kind.bends:
                continue
            rest = self.matter.rest[part.rows].expand(len(poses), -1, 3)
            points = transform_points(pose_from_pose7(poses[:, part.row]), rest)
            arms = points - poses[:, None, part.row, :3]
            turning = twists[:, None, part.row, 3:].expand_as(arms)
            positions[:, part.rows] = points
            velocities[:, part.rows] = twists[:, None, part.row, :3] + torch.linalg.cross(turning, arms)
        return positions, velocities

    def _centers(self) -> Tensor:
        """(r, 3) [m] of mass, in the frames of the rigid parts."""
        centers = [self.matter.parts[row].center for row in self._rigid]
        return torch.stack(centers) if centers else self.matter.rest.new_zeros(0, 3)

    def _rope_rows(self) -> list[int]:
        return [row for part in self._ropes for row in range(part.start, part.stop)]

    def _hand_poses(self, poses: Tensor, grip: Tensor) -> np.ndarray:
        """(h, 7) of all boxes of all tools, as Newton wants them."""
        if not self._hands:
            return np.zeros((0, 7), np.float32)
        placed = []
        for row, tool in enumerate(self.tools):
            world_from_tool = pose_from_pose7(poses[row])
            centers = transform_points(world_from_tool, tool.boxes(grip[row]))
            placed.append(torch.cat([centers, poses[row, 3:].expand(len(centers), 4)], 1))
        return _newton_poses(torch.cat(placed))

    def _add_ground(self, builder: Any, ground: Ground) -> None:
        wp = self._warp
        for row, height in enumerate(ground.heights.tolist()):
            config = self._material(builder, self._friction.of_ground(row))
            if row >= len(ground.outlines):
                builder.add_shape_plane(plane=(0.0, 0.0, 1.0, -height), width=0.0, length=0.0, cfg=config)
                continue
            outline = ground.outlines[row]
            top = torch.cat([outline, outline.new_full((len(outline), 1), height)], 1)
            below = top - top.new_tensor([0.0, 0.0, _THICK])
            mesh = self._hull(torch.cat([top, below]))
            builder.add_shape_convex_hull(-1, xform=wp.transform_identity(), mesh=mesh, cfg=config)

    def _add_part(self, builder: Any, world: World, row: int, part: Part, parameters: Parameters) -> None:
        if part.kind.bends:
            return
        wp, item = self._warp, world.objects[part.object_id]
        pose = _newton_poses(pose7_from_pose(item.world_from_object)[None])[0]
        body, place = -1, wp.transform(*pose.tolist())
        if part.kind is PartKind.RIGID:
            factor = float(parameters.mass[0, row])
            body = builder.add_body(
                xform=place,
                com=wp.vec3(*part.center.tolist()),
                inertia=wp.mat33(*(part.inertia * factor).flatten().tolist()),
                mass=part.mass * factor,
                lock_inertia=True,
            )
            place = wp.transform_identity()
        if item.shape is None:
            hulls: list[Tensor] = [self.matter.rest[part.rows]]
        else:
            hulls = [mesh.vertices for mesh in item.shape.parts or (item.shape.mesh,)]
        for points in hulls:
            config = self._material(builder, self._friction.of_part(row))
            builder.add_shape_convex_hull(body, xform=place, mesh=self._hull(points), cfg=config)

    def _add_tools(self, builder: Any, parameters: Parameters) -> int:
        """A body that is moved by hand for each box of each tool; how many there are."""
        shapes: list[int] = []
        for row, tool in enumerate(self.tools):
            config = self._material(builder, self._friction.of_tool(float(parameters.tool_friction[0, row])))
            config.has_particle_collision = False
            for half, radius in zip(tool.halves.tolist(), tool.radii.tolist()):
                # What has no mass counts as part of the world; that of a kinematic body is not used.
                body = builder.add_body(
                    mass=1.0, inertia=self._warp.mat33(*_UNIT), lock_inertia=True, is_kinematic=True
                )
                shapes.append(_rounded(builder, body, half, radius, config))
        still = [shape for shape in range(builder.shape_count) if builder.shape_body[shape] < 0]
        for number, shape in enumerate(shapes):
            for other in (*shapes[:number], *still):
                builder.add_shape_collision_filter_pair(other, shape)
        return len(shapes)

    def _add_ropes(self, builder: Any, parameters: Parameters) -> None:
        """Springs between neighbours along a rope, as stiff as a rod of its thickness."""
        rows = {part.start: row for row, part in enumerate(self.matter.parts)}
        for part in self._ropes:
            first, points = builder.particle_count, self.matter.rest[part.rows]
            tied = part.fixed if part.fixed is not None else torch.zeros(len(points))
            masses = (self.matter.masses[part.rows] * (tied == 0)).tolist()
            for point, mass, radius in zip(points.tolist(), masses, self.matter.radii[part.rows].tolist()):
                builder.add_particle(point, (0.0, 0.0, 0.0), mass, radius=radius)
            row = rows[part.start]
            young, density = float(parameters.stiffness[0, row]), float(parameters.density[0, row])
            lengths = (points[1:] - points[:-1]).norm(dim=1).tolist()
            # Of the rod that has this mass: only stiffness over density counts.
            section = part.mass / (density * sum(lengths))
            for i, length in enumerate(lengths):
                builder.add_spring(first + i, first + i + 1, young * section / length, 0.0, 0.0)

    def _material(self, builder: Any, friction: float) -> Any:
        config = self._newton.ModelBuilder.ShapeConfig
        return config(mu=friction, mu_torsional=0.0, mu_rolling=0.0, density=0.0, gap=_GAP)

    def _hull(self, points: Tensor) -> Any:
        mesh = convex_hull(Mesh(points, torch.zeros(0, 3, dtype=torch.int32)))
        if mesh is None:
            raise ValueError(
                f"NewtonSolver: expected a part with a volume, got {len(points)} points in a plane"
            )
        faces = mesh.faces.numpy().astype(np.int32).ravel()
        return self._newton.Mesh(mesh.vertices.numpy().astype(np.float32), faces, compute_inertia=False)


class _Frictions:
    """Newton takes the mean of two coefficients and we the geometric mean: numbers whose mean is ours.

    Exact between things and the ground; between things, and with tools, where things are alike.
    """

    def __init__(self, matter: Matter, parameters: Parameters) -> None:
        self._things = parameters.friction[0]
        moving = [row for row, part in enumerate(matter.parts) if part.kind is not PartKind.STATIC]
        self._mean = float(self._things[moving].mean()) if moving else 0.5
        self._ground = matter.ground.frictions

    def of_ground(self, row: int) -> float:
        return self.of_tool(float(self._ground[row]))

    def of_tool(self, friction: float) -> float:
        return 2 * (self._mean * friction) ** 0.5 - self._mean

    def of_part(self, row: int) -> float:
        ground = float(self._ground[0])
        return 2 * (float(self._things[row]) * ground) ** 0.5 - self.of_tool(ground)


class _Run:
    """A model with its two states; arrays on a CPU share memory with numpy."""

    def __init__(self, newton: Any, warp: Any, model: Any) -> None:
        self._warp = warp
        self._solver = newton.solvers.SolverXPBD(model, iterations=_ITERATIONS)
        self._model, self._states = model, (model.state(), model.state())
        self._pipeline = newton.CollisionPipeline(model)
        self._contacts, self._control = self._pipeline.contacts(), model.control()
        self._graphs: dict[float, Any] = {}
        state = self._states[0]
        self.poses = _shared(state.body_q, 7)
        self.twists = _shared(state.body_qd, 6)
        self.particles = _shared(state.particle_q, 3)
        self.speeds = _shared(state.particle_qd, 3)

    def place(self, first: int, at: np.ndarray, before: np.ndarray, dt: float) -> None:
        """Put the tools, which are the bodies from `first` on, where they are at the end of a substep."""
        if len(at):
            self.poses[first:] = at
            self.twists[first:, :3] = (at[:, :3] - before[:, :3]) / dt

    def substep(self, dt: float) -> None:
        """One step; it is recorded once and then replayed, without Python's part."""
        key = round(dt, 9)
        if key not in self._graphs:
            kept = [array.copy() for array in (self.poses, self.twists, self.particles, self.speeds)]
            with self._warp.ScopedCapture(device="cpu") as capture:
                self._compute(dt)
            self._graphs[key] = capture.graph
            for array, value in zip((self.poses, self.twists, self.particles, self.speeds), kept):
                array[:] = value
        self._warp.capture_launch(self._graphs[key])

    def _compute(self, dt: float) -> None:
        now, after = self._states
        now.clear_forces()
        self._pipeline.collide(now, self._contacts)
        self._solver.step(now, after, self._control, self._contacts, dt)
        now.assign(after)


def _packages() -> tuple[Any, Any]:
    try:
        import warp  # pyright: ignore[reportMissingImports]

        # Before Newton starts it: else every kernel that is loaded is announced on the standard output.
        warp.config.log_level = max(warp.config.log_level, _WARNINGS)
        import newton  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise MissingDependency(
            "expected Newton for a second opinion on physics, found none;"
            " run `pip install 'gaussworld[newton]'`"
        ) from error
    return newton, warp


def _check(world: World, matter: Matter, parameters: Parameters) -> None:
    for part in matter.parts:
        if part.kind not in _KNOWN:
            known = ", ".join(kind.value for kind in _KNOWN)
            raise ValueError(
                f"NewtonSolver: expected parts that are {known}, got object {part.object_id}, which is"
                f" {part.kind.value}; use the default solver"
            )
    if matter.joint_ids:
        raise ValueError(f"NewtonSolver: expected a world without joints, got {len(matter.joint_ids)}")
    if len(parameters.friction) != 1:
        raise ValueError(f"NewtonSolver: expected one guess of parameters, got {len(parameters.friction)}")


def _shared(array: Any, width: int) -> np.ndarray:
    return np.zeros((0, width), np.float32) if array is None else array.numpy().reshape(-1, width)


def _newton_poses(poses: Tensor) -> np.ndarray:
    """Rows x y z, x y z w."""
    return torch.cat([poses[:, :3], xyzw_from_wxyz(poses[:, 3:])], 1).float().numpy()


def _central(state: State, rows: list[int], centers: Tensor, sign: float) -> np.ndarray:
    """Twists of objects with the velocity moved from the origin to the centre of mass (1) or back (-1)."""
    twists = state.object_twists[rows]
    arms = (rotation_from_quats(state.object_poses[rows, 3:]) @ centers.to(twists)[..., None])[..., 0]
    linear = twists[:, :3] + sign * torch.linalg.cross(twists[:, 3:], arms)
    return torch.cat([linear, twists[:, 3:]], 1).numpy()


def _between(start: Tensor, end: Tensor, share: float) -> Tensor:
    """Tool poses (a, 7) on the way; rotations turn evenly."""
    turned = slerp_quats(start[:, 3:], end[:, 3:], share)
    return torch.cat([start[:, :3] + share * (end[:, :3] - start[:, :3]), turned], 1)


def _rounded(builder: Any, body: int, half: list[float], radius: float, config: Any) -> int:
    """A rounded box: a ball or an upright capsule exactly, others with sharp corners."""
    x, y, z = half
    if x == y == 0:
        if z == 0:
            return builder.add_shape_sphere(body, radius=radius, cfg=config)
        return builder.add_shape_capsule(body, radius=radius, half_height=z, cfg=config)
    return builder.add_shape_box(body, hx=x + radius, hy=y + radius, hz=z + radius, cfg=config)
