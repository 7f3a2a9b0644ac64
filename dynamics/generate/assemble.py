"""A `Trial` as a MuJoCo model: primitive colliders, friction of every pair, joints, and a driven tool."""

import math
from collections.abc import Iterator
from itertools import product
from typing import Any

import numpy as np

from gaussworld.shape import Mesh
from gaussworld.world_object import Joint, ObjectKind

from .flex.body import add_flex
from .flex.grip import add_grips
from .hands import add_hand
from .mjcf import (
    COLLIDING,
    add_lamps,
    add_painted,
    add_room,
    body_name,
    empty_spec,
    mujoco_module,
    pose7_of,
    weigh,
)
from .scene import SceneObject
from .trial import JointFeel, Trial

#: Coulomb coefficient of the floor below the table.
FLOOR_FRICTION = 0.6
_SPIN = 0.0015
"""[m] torsional friction of one point of contact."""
_STIFF = (0.01, 1.0)
"""[s] time constant and damping ratio of contacts."""


def model_of(trial: Trial, drawn: bool = False) -> Any:
    """MuJoCo's model; drawn or not, the same numbers say where everything is.

    Two things that touch have the geometric mean of their Coulomb coefficients; what bends has that with the
    table towards all. What never moves does not
    meet what never moves, and what has a joint does not meet what it is mounted on.

    Args:
        trial: what to simulate.
        drawn: with painted surfaces, lamps and a room; only pictures need them.

    Raises:
        MissingDependency: mujoco is not installed.
    """
    spec = empty_spec()
    for item in trial.scene.objects:
        if item.kind not in (ObjectKind.ROBOT, ObjectKind.DEFORMABLE):
            _add_body(spec, trial, item, drawn)
    tool = [item for item in trial.scene.objects if item.kind is ObjectKind.ROBOT]
    add_hand(spec, tool, trial.tool, drawn)
    _add_floor(spec, trial)
    _add_pairs(spec, trial)
    for flex in trial.flexes:
        # One coefficient holds for all that a flex touches, and it is the table that it touches most.
        add_flex(spec, flex, math.sqrt(flex.friction * trial.scene.objects[0].friction))
        add_grips(spec, flex, body_name(tool[0]))
    if drawn:
        add_room(spec, trial.scene)
        add_lamps(spec, trial.scene)
    return spec.compile()


def _add_body(spec: Any, trial: Trial, item: SceneObject, drawn: bool) -> None:
    body = spec.worldbody.add_body(name=body_name(item))
    if item.kind is ObjectKind.RIGID:
        body.add_freejoint(name=f"{body_name(item)}_free")
    else:
        pose = pose7_of(trial.start.poses[item.id])
        body.pos, body.quat = pose[:3], pose[3:]
    if item.joint is not None:
        _add_joint(body, item, item.joint, trial.feel[item.id])
    weigh(body, item)
    for i, part in enumerate(item.form.shape.parts):
        _add_collider(spec, body, f"{body_name(item)}_part{i}", part)
    if drawn:
        for i, piece in enumerate(item.form.pieces):
            add_painted(spec, body, f"{body_name(item)}_skin{i}", piece, item.look(i))


def _add_joint(body: Any, item: SceneObject, joint: Joint, feel: JointFeel) -> None:
    mujoco = mujoco_module()
    hinge = joint.kind == "revolute"
    body.add_joint(
        name=f"{body_name(item)}_joint",
        type=mujoco.mjtJoint.mjJNT_HINGE if hinge else mujoco.mjtJoint.mjJNT_SLIDE,
        axis=joint.axis,
        pos=joint.origin,
        limited=mujoco.mjtLimited.mjLIMITED_TRUE,
        range=joint.limits,
        damping=[feel.damping, 0.0, 0.0],
        frictionloss=feel.friction,
    )


def _add_collider(spec: Any, body: Any, name: str, part: Mesh) -> None:
    """A convex part as the primitive that it is, else as a mesh: primitives touch in more points."""
    mujoco = mujoco_module()
    points = part.vertices.double().numpy()
    low, high = points.min(0), points.max(0)
    middle, half = (low + high) / 2, (high - low) / 2
    common = {"name": name, "group": COLLIDING, "contype": 0, "conaffinity": 0, "mass": 0}
    if is_box(points):
        body.add_geom(type=mujoco.mjtGeom.mjGEOM_BOX, size=half, pos=middle, **common)
    elif is_cylinder(points):
        size = [half[:2].mean(), half[2], 0.0]
        body.add_geom(type=mujoco.mjtGeom.mjGEOM_CYLINDER, size=size, pos=middle, **common)
    else:
        spec.add_mesh(
            name=name,
            uservert=points.ravel(),
            userface=part.faces.numpy().ravel(),
            inertia=mujoco.mjtMeshInertia.mjMESH_INERTIA_CONVEX,
        )
        body.add_geom(type=mujoco.mjtGeom.mjGEOM_MESH, meshname=name, **common)


def is_box(points: np.ndarray) -> bool:
    """Whether the vertices of a convex mesh are the eight corners of a box along the axes."""
    low, high = points.min(0), points.max(0)
    at_end = np.isclose(points, low, atol=1e-6) | np.isclose(points, high, atol=1e-6)
    return len(points) == 8 and bool(at_end.all())


def is_cylinder(points: np.ndarray) -> bool:
    """Whether the vertices of a convex mesh are two rings of many corners about an axis along z."""
    low, high = points.min(0), points.max(0)
    away = np.linalg.norm(points[:, :2] - (low + high)[:2] / 2, axis=1)
    rim, axis = away > 0.98 * away.max(), away < 1e-6
    level = np.isclose(points[:, 2], low[2], atol=1e-6) | np.isclose(points[:, 2], high[2], atol=1e-6)
    return int(rim.sum()) >= 48 and bool((level & (rim | axis)).all())


def _add_floor(spec: Any, trial: Trial) -> None:
    spec.worldbody.add_geom(
        name="ground",
        type=mujoco_module().mjtGeom.mjGEOM_PLANE,
        size=[0.0, 0.0, 1.0],
        pos=[0.0, 0.0, -trial.scene.room[1]],
        group=COLLIDING,
        contype=0,
        conaffinity=0,
    )


def _add_pairs(spec: Any, trial: Trial) -> None:
    """A contact pair for all colliders of things that can meet, with its own friction."""
    names = {body_name(item): item for item in trial.scene.objects}
    colliders: dict[int, list[str]] = {}
    for body in spec.bodies:
        if body.name in names:
            found = [geom.name for geom in body.geoms if geom.group == COLLIDING]
            colliders[names[body.name].id] = found
    for a, b in _meeting(trial):
        mu = math.sqrt(friction_of(trial, a) * friction_of(trial, b))
        for one, other in product(colliders[a.id], colliders[b.id]):
            _add_pair(spec, one, other, mu)
    for item in trial.scene.of(ObjectKind.RIGID):
        for name in colliders[item.id]:
            _add_pair(spec, name, "ground", math.sqrt(FLOOR_FRICTION * item.friction))


def friction_of(trial: Trial, item: SceneObject) -> float:
    """Coulomb coefficient; all bodies of a tool have the tool's."""
    return trial.tool.friction if item.kind is ObjectKind.ROBOT else item.friction


def _meeting(trial: Trial) -> Iterator[tuple[SceneObject, SceneObject]]:
    still, loose = ObjectKind.STATIC, ObjectKind.RIGID
    for i, a in enumerate(trial.scene.objects):
        for b in trial.scene.objects[i + 1 :]:
            kinds = {a.kind, b.kind}
            if kinds == {still} or kinds == {ObjectKind.ROBOT} or ObjectKind.DEFORMABLE in kinds:
                continue
            if loose in kinds or ObjectKind.ROBOT in kinds:
                yield a, b


def _add_pair(spec: Any, one: str, other: str, friction: float) -> None:
    spec.add_pair(
        geomname1=one,
        geomname2=other,
        condim=4,
        friction=[friction, friction, _SPIN, 0.0001, 0.0001],
        solref=list(_STIFF),
    )
