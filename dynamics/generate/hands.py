"""`Hand`: a tool on sliding joints with strong actuators, so that it touches things as a robot does."""

import math
from typing import Any

import numpy as np
from jaxtyping import Float
from torch import Tensor

from ..tool import Tool
from .mjcf import COLLIDING, add_painted, body_name, mujoco_module
from .scene import SceneObject

_AXES = {"x": (1.0, 0.0, 0.0), "y": (0.0, 1.0, 0.0), "z": (0.0, 0.0, 1.0)}
_MASS, _INERTIA, _FINGER_MASS = 1.0, 0.004, 0.12
"""[kg], [kg m^2] and [kg]: of the wrist, and of each finger."""
_STIFFNESS = 200.0
"""[1/s] natural frequency of the position control, which is critically damped."""
_FORCE, _TORQUE = 250.0, 20.0
"""[N] and [N m] that the wrist can exert."""
PINCH = 25.0
"""[N] that each finger can exert."""


def add_hand(spec: Any, items: list[SceneObject], tool: Tool, drawn: bool) -> None:
    """Put a tool into a scene: a base that slides along x, y, z and turns about z, and its fingers.

    Its geoms are the tool's own boxes; the rounding of boxes with corners is left out.

    Args:
        spec: MuJoCo's description of the scene.
        items: the tool's bodies, its base first.
        tool: the boxes.
        drawn: with painted surfaces.
    """
    mujoco = mujoco_module()
    base = spec.worldbody.add_body(name=body_name(items[0]), gravcomp=1.0)
    _weigh(base, _MASS, _INERTIA)
    for name, axis in _AXES.items():
        base.add_joint(name=f"hand_{name}", type=mujoco.mjtJoint.mjJNT_SLIDE, axis=axis)
        _drive(spec, f"hand_{name}", _MASS + _FINGER_MASS * (len(items) - 1), _FORCE)
    base.add_joint(name="hand_yaw", type=mujoco.mjtJoint.mjJNT_HINGE, axis=_AXES["z"])
    _drive(spec, "hand_yaw", 2 * _INERTIA, _TORQUE)
    bodies = [base]
    for i, item in enumerate(items[1:]):
        assert item.joint is not None
        finger = base.add_body(name=body_name(item), gravcomp=1.0)
        _weigh(finger, _FINGER_MASS, 1e-4)
        finger.add_joint(
            name=f"hand_finger{i}", type=mujoco.mjtJoint.mjJNT_SLIDE, axis=item.joint.axis, damping=1.0
        )
        _drive(spec, f"hand_finger{i}", _FINGER_MASS, PINCH)
        bodies.append(finger)
    for row in range(len(tool.radii)):
        shift = tool.travel[row]
        sides = [float(shift @ shift.new_tensor(item.joint.axis)) for item in items[1:] if item.joint]
        # A finger's frame is where it is when the tool is closed.
        body = bodies[1 + int(np.argmin(sides))] if bool((shift != 0).any()) else base
        _add_box(body, f"hand_box{row}", tool, row, tool.centers[row] + shift)
    if drawn:
        for item, body in zip(items, bodies):
            for i, piece in enumerate(item.form.pieces):
                add_painted(spec, body, f"{body_name(item)}_skin{i}", piece, item.look(i))


def _weigh(body: Any, mass: float, inertia: float) -> None:
    body.explicitinertial, body.mass, body.inertia = True, mass, [inertia] * 3


def _drive(spec: Any, joint: str, mass: float, force: float) -> None:
    """Two actuators: towards a position, and towards its rate, so that it does not lag while it moves."""
    mujoco = mujoco_module()
    stiffness, damping = mass * _STIFFNESS**2, 2 * mass * _STIFFNESS
    for name, set_to, gain in (("at", "set_to_position", stiffness), ("rate", "set_to_velocity", damping)):
        actuator = spec.add_actuator(name=f"{joint}_{name}", target=joint)
        actuator.trntype = mujoco.mjtTrn.mjTRN_JOINT
        getattr(actuator, set_to)(gain)
    spec.joint(joint).actfrclimited = mujoco.mjtLimited.mjLIMITED_TRUE
    spec.joint(joint).actfrcrange = [-force, force]


def _add_box(body: Any, name: str, tool: Tool, row: int, center: Tensor) -> None:
    mujoco = mujoco_module()
    half, radius = tool.halves[row].tolist(), float(tool.radii[row])
    if max(half[:2]) == 0:
        kind, size = mujoco.mjtGeom.mjGEOM_CAPSULE, [radius, half[2], 0.0]
    else:
        kind, size = mujoco.mjtGeom.mjGEOM_BOX, [value + radius for value in half]
    body.add_geom(
        name=name,
        type=kind,
        size=size,
        pos=center.tolist(),
        group=COLLIDING,
        contype=0,
        conaffinity=0,
        mass=0,
    )


class Hand:
    """Where a tool of a compiled model is, and where it shall go: x y z [m], yaw [rad], grip."""

    def __init__(self, model: Any, items: list[SceneObject]) -> None:
        names = ["hand_x", "hand_y", "hand_z", "hand_yaw"]
        names += [f"hand_finger{i}" for i in range(len(items) - 1)]
        self._qpos = np.array([model.joint(name).qposadr[0] for name in names])
        self._at = np.array([model.actuator(f"{name}_at").id for name in names])
        self._rate = np.array([model.actuator(f"{name}_rate").id for name in names])
        self._open = np.array([item.joint.limits[1] for item in items[1:] if item.joint])
        """[m] each finger at grip 0."""

    def put(self, data: Any, hand: Float[np.ndarray, "5"]) -> None:
        """Be there at once, at rest."""
        data.qpos[self._qpos] = self._joints(hand)
        data.ctrl[:] = self.controls(hand[None], np.zeros(5))[0]

    def controls(
        self, hands: Float[np.ndarray, "n 5"], rate: Float[np.ndarray, "5"]
    ) -> Float[np.ndarray, "n u"]:
        """What to give to the actuators, to be at each place in turn and pass with that rate [1/s]."""
        given = np.zeros((len(hands), len(self._at) + len(self._rate)))
        given[:, self._at] = self._joints(hands)
        given[:, self._rate] = np.concatenate([rate[:4], -rate[4] * self._open])
        return given

    def read(self, data: Any) -> Float[np.ndarray, "5"]:
        """Where it is."""
        found = data.qpos[self._qpos]
        grip = 0.0
        if len(self._open):
            grip = float(np.clip(1 - (found[4:] / self._open).mean(), 0.0, 1.0))
        return np.append(found[:4], grip)

    def _joints(self, hand: np.ndarray) -> np.ndarray:
        return np.concatenate([hand[..., :4], (1 - hand[..., 4:]) * self._open], axis=-1)


def pose7(hand: Float[np.ndarray, "5"]) -> Float[np.ndarray, "7"]:
    """Position [m] and wxyz quaternion of a tool that stands upright."""
    half = float(hand[3]) / 2
    return np.array([*hand[:3], math.cos(half), 0.0, 0.0, math.sin(half)])
