"""Simulating a `Trial`: control steps of MuJoCo under a policy, and what is recorded of them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float

from gaussworld.pose import quats_from_rotation
from gaussworld.world_object import ObjectKind

from .assemble import model_of
from .flex.body import flex_velocities, flex_vertices, place_flex
from .flex.flex import Flex
from .flex.grip import between, grip, release
from .hands import Hand, pose7
from .mjcf import TIMESTEP, body_name, mujoco_module
from .motion import STEP
from .policies import Mover
from .scene import SceneObject
from .trial import Trial

SUBSTEPS = round(STEP / TIMESTEP)
_SETTLE = 0.4
"""[s] for which everything comes to rest before time 0."""

_LOOK = 5
"""Steps of MuJoCo from one look at what touches to the next: 10 ms."""
_CLOSED = 0.8
"""Grip from which a gripper holds ropes and cloths that are between its fingers, until it opens again."""


@dataclass(frozen=True, eq=False)
class Recorded:
    """What happened: t control steps between t + 1 moments of o objects, j joints and one tool."""

    object_poses: Float[np.ndarray, "u o 7"]
    """[m] and wxyz."""
    object_twists: Float[np.ndarray, "u o 6"]
    """[m/s] of the frame's origin and [rad/s], world axes."""
    joint_positions: Float[np.ndarray, "u j"]
    joint_rates: Float[np.ndarray, "u j"]
    tools: Float[np.ndarray, "u 5"]
    """x y z [m], yaw [rad], grip: as achieved."""
    commands: Float[np.ndarray, "t 5"]
    """The same as commanded, for the end of each step."""
    contacts: Bool[np.ndarray, "u o m"]
    """Objects, then the tool: touched in the step that ends there."""
    qpos: Float[np.ndarray, "u q"]
    """MuJoCo's positions, from which pictures are drawn."""
    vertices: Mapping[int, Float[np.ndarray, "u v 3"]]
    """[m] of what bends, by id."""


def simulate(trial: Trial, steps: int, model: Any = None) -> Recorded:
    """Let a trial happen.

    Args:
        trial: what to simulate.
        steps: control steps of 0.1 s.
        model: of the trial, not drawn; compiled here if None.

    Raises:
        MissingDependency: mujoco is not installed.
    """
    stage = _Stage(trial, model_of(trial) if model is None else model)
    stage.settle()
    rows, shapes, commands = [stage.moment()], [stage.vertices()], []
    last, mover = trial.hand, Mover(trial)
    for _ in range(steps):
        target = mover.next(stage.poses(), stage.positions(), shapes[-1])
        stage.step(last, target)
        rows.append(stage.moment())
        shapes.append(stage.vertices())
        commands.append(target)
        last = target
    poses, twists, positions, rates, tools, contacts, qpos = map(np.stack, zip(*rows))
    vertices = {flex.id: np.stack([shape[flex.id] for shape in shapes]) for flex in trial.flexes}
    return Recorded(poses, twists, positions, rates, tools, np.stack(commands), contacts, qpos, vertices)


class _Stage:
    """A trial in MuJoCo."""

    def __init__(self, trial: Trial, model: Any) -> None:
        self._mujoco = mujoco_module()
        self._trial, self._model = trial, model
        self._data = self._mujoco.MjData(model)
        objects = trial.scene.objects
        robot = list(trial.scene.of(ObjectKind.ROBOT))
        self._hand = Hand(model, robot)
        self._bodies = np.array([model.body(body_name(item)).id for item in objects])
        self._loose = [item for item in objects if item.kind is ObjectKind.RIGID]
        self._jointed = [item for item in objects if item.joint is not None]
        self._joints = [model.joint(_joint_name(item, robot)) for item in self._jointed]
        row = {body: i for i, body in enumerate(self._bodies)}
        # The vertices of what bends are bodies of their own, below one that has its name.
        roots = model.body_rootid[model.geom_bodyid]
        self._owner = np.array([row.get(b, row.get(r, -1)) for b, r in zip(model.geom_bodyid, roots)])
        self._bending = {
            flex.id: row[model.body(body_name(trial.scene[flex.id])).id] for flex in trial.flexes
        }
        self._flex_owner = np.array([*self._bending.values(), -1])
        self._holding, self._between = False, between(trial.tool)
        # MuJoCo's discrete integrator, which what bends needs, feels a target one substep later than others.
        self._ahead = len(trial.flexes) > 0
        self._robot = np.array([item.kind is ObjectKind.ROBOT for item in objects])
        self._touched = np.zeros((len(objects), len(objects)), dtype=bool)

    def settle(self) -> None:
        """Put everything where the trial starts, and let it come to rest around the waiting tool."""
        data, start = self._data, self._trial.start
        for item in self._loose:
            first = self._model.joint(f"{body_name(item)}_free").qposadr[0]
            pose = start.poses[item.id]
            quat = quats_from_rotation(torch.from_numpy(pose[:3, :3].copy())).numpy()
            data.qpos[first : first + 7] = [*pose[:3, 3], *quat]
        held = [
            (joint.qposadr[0], joint.dofadr[0], start.positions[item.id])
            for item, joint in zip(self._jointed, self._joints)
            if item.kind is not ObjectKind.ROBOT
        ]
        self._hand.put(data, self._trial.hand)
        for flex in self._trial.flexes:
            place_flex(self._model, data, flex)
        for place, _, position in held:
            data.qpos[place] = position
        for _ in range(round(_SETTLE / TIMESTEP)):
            self._mujoco.mj_step(self._model, data)
            for place, rate, position in held:
                data.qpos[place], data.qvel[rate] = position, 0.0
        data.time = 0.0
        self._mujoco.mj_forward(self._model, data)
        self._touch()

    def step(self, last: np.ndarray, target: np.ndarray) -> None:
        """One control step, the tool's target moving evenly from the last to the next."""
        rate = (target - last) / STEP
        if self._holding and target[4] < last[4] - 1e-9:
            self._let_go()
        shares = (np.arange(SUBSTEPS) + self._ahead)[:, None] / SUBSTEPS
        for i, controls in enumerate(self._hand.controls(last + (target - last) * shares, rate)):
            self._data.ctrl[:] = controls
            self._mujoco.mj_step(self._model, self._data)
            if i % _LOOK == _LOOK - 1:
                self._touch()
        self._mujoco.mj_forward(self._model, self._data)
        self._touch()
        if not self._holding and target[4] > _CLOSED:
            self._holding = any(
                [grip(self._model, self._data, flex, self._between) for flex in self._trial.flexes]
            )

    def _let_go(self) -> None:
        for flex in self._trial.flexes:
            release(self._model, self._data, flex)
        self._holding = False

    def _touch(self) -> None:
        """Remember what touches, and what is held."""
        contact = self._data.contact
        pairs = self._owner[contact.geom]
        if self._bending:
            pairs = np.where(contact.geom >= 0, pairs, self._flex_owner[contact.flex])
        pairs = pairs[(pairs >= 0).all(axis=1)]
        self._touched[pairs[:, 0], pairs[:, 1]] = True
        if self._holding:
            for row in self._bending.values():
                self._touched[row, self._robot] = True

    def poses(self) -> dict[int, np.ndarray]:
        """[m] `world_from_object` by id."""
        places, turns = self._data.xpos[self._bodies], self._data.xmat[self._bodies].reshape(-1, 3, 3)
        made = np.tile(np.eye(4), (len(places), 1, 1))
        made[:, :3, :3], made[:, :3, 3] = turns, places
        for flex in self._trial.flexes:
            made[self._bending[flex.id]] = self._flex_pose(flex)
        return {item.id: pose for item, pose in zip(self._trial.scene.objects, made)}

    def positions(self) -> dict[int, float]:
        """[rad] or [m] by id."""
        return {item.id: float(self._data.qpos[j.qposadr[0]]) for item, j in zip(self._jointed, self._joints)}

    def vertices(self) -> dict[int, np.ndarray]:
        """[m] of what bends, by id."""
        return {flex.id: flex_vertices(self._model, self._data, flex) for flex in self._trial.flexes}

    def _flex_pose(self, flex: Flex) -> np.ndarray:
        """[m] at the mean of its mass, turned as at the start."""
        pose = flex.pose.copy()
        pose[:3, 3] = flex.masses @ flex_vertices(self._model, self._data, flex) / flex.mass
        return pose

    def moment(self) -> tuple[np.ndarray, ...]:
        """All that is recorded of now; what touched since the last time is forgotten after."""
        data = self._data
        poses = np.concatenate([data.xpos[self._bodies], data.xquat[self._bodies]], axis=1)
        for flex in self._trial.flexes:
            pose = self._flex_pose(flex)
            quat = quats_from_rotation(torch.from_numpy(pose[:3, :3].copy())).numpy()
            poses[self._bending[flex.id]] = [*pose[:3, 3], *quat]
        positions = np.array([data.qpos[joint.qposadr[0]] for joint in self._joints])
        rates = np.array([data.qvel[joint.dofadr[0]] for joint in self._joints])
        touched = self._touched | self._touched.T
        tool = touched[:, self._robot].any(axis=1, keepdims=True)
        self._touched[:] = False
        contacts = np.concatenate([touched, tool], axis=1)
        return poses, self._twists(), positions, rates, self._hand.read(data), contacts, data.qpos.copy()

    def _twists(self) -> np.ndarray:
        """[m/s] and [rad/s] of every object's frame."""
        found, six = np.zeros((len(self._bodies), 6)), np.zeros(6)
        kind = self._mujoco.mjtObj.mjOBJ_XBODY
        for row, body in enumerate(self._bodies):
            self._mujoco.mj_objectVelocity(self._model, self._data, kind, body, six, 0)
            found[row, :3], found[row, 3:] = six[3:], six[:3]
        for flex in self._trial.flexes:
            speeds = flex_velocities(self._model, self._data, flex)
            found[self._bending[flex.id]] = [*(flex.masses @ speeds / flex.mass), 0.0, 0.0, 0.0]
        return found


def _joint_name(item: SceneObject, robot: list[SceneObject]) -> str:
    """MuJoCo's name of an object's joint."""
    if item.kind is ObjectKind.ROBOT:
        return f"hand_finger{[other.id for other in robot[1:]].index(item.id)}"
    return f"{body_name(item)}_joint"


def tool_poses(hands: Float[np.ndarray, "u 5"]) -> Float[np.ndarray, "u 7"]:
    """Position [m] and wxyz quaternion of each."""
    return np.stack([pose7(hand) for hand in hands])
