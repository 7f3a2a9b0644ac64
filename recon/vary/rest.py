"""Whether things rest where they are: a second in MuJoCo, on the planes they stand on."""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from gaussworld.errors import MissingDependency
from gaussworld.pose import pose7_from_pose, pose_from

from .hulls import object_corners
from .scene import Scene
from .table import Surface

#: [s] how long things are watched, and the step.
_SECONDS, _STEP = 1.0, 0.002
_GRAVITY = 9.81


@dataclass(frozen=True)
class Drift:
    """How far a thing moved by itself."""

    millimetres: float
    degrees: float

    def within(self, millimetres: float, degrees: float) -> bool:
        """Whether it stayed where it was."""
        return self.millimetres <= millimetres and self.degrees <= degrees


@dataclass(frozen=True)
class Rest:
    """What a simulation found."""

    drifts: Mapping[int, Drift]
    """By object."""
    poses: Mapping[int, Float[Tensor, "4 4"]]
    """Of the objects at the end, in the world; float64."""
    overlap: float
    """[mm] how deep things that may move reached into each other at the start; 0 where they did not touch."""


def can_simulate(scene: Scene) -> bool:
    """Whether MuJoCo is installed, and the scale is known, without which gravity means nothing."""
    return find_spec("mujoco") is not None and scene.world.metres_per_unit is not None


def settle(scene: Scene, motions: Mapping[int, Float[Tensor, "4 4"]], seconds: float = _SECONDS) -> Rest:
    """Let everything that can be moved stand for a while, and tell how far it went.

    The surfaces are slabs whose upper faces are the planes that were found in the world. Parts are convex and
    filled evenly; friction and density are those of the objects' materials.

    Args:
        scene: what there is.
        motions: group index -> the motion of the world's frame that puts it where it is tried.
        seconds: how long.

    Raises:
        MissingDependency: MuJoCo is not installed.
        UnknownScale: nobody has told the scale.
    """
    mujoco = _mujoco()
    metre, spec = scene.world.require_scale(), mujoco.MjSpec()
    up = torch.tensor(scene.world.up, dtype=torch.float64)
    spec.option.gravity = (-_GRAVITY * up).tolist()
    spec.option.timestep = _STEP
    spec.option.integrator = mujoco.mjtIntegrator.mjINT_IMPLICITFAST
    for surface in scene.surfaces:
        _add_slab(mujoco, spec, surface, metre)
    poses = _poses(scene, motions)
    for number, pose in poses.items():
        _add_body(mujoco, spec, scene, number, pose, metre)
    model = spec.compile()
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    overlap = _overlap(model, data)
    names = {number: model.body(f"object {number}").id for number in poses}
    start = {
        n: (torch.tensor(data.xpos[b].copy()), torch.tensor(data.xmat[b].copy())) for n, b in names.items()
    }
    mujoco.mj_step(model, data, round(seconds / _STEP))
    ends = {n: _pose(data, b, metre) for n, b in names.items()}
    return Rest({n: _drift(data, b, *start[n]) for n, b in names.items()}, ends, overlap)


def _poses(scene: Scene, motions: Mapping[int, Tensor]) -> dict[int, Tensor]:
    """World poses of all members of groups; what is mounted on them is left out: it adds no contact below."""
    found = {}
    for index, group in enumerate(scene.groups):
        # What is not moved is where the world has it.
        motion = motions[index].double() @ group.settled if index in motions else None
        for number in group.members:
            pose = scene.world.objects[number].world_from_object.double()
            found[number] = pose if motion is None else motion @ pose
    return found


def _add_slab(mujoco: Any, spec: Any, surface: Surface, metre: float) -> None:
    size = torch.tensor(surface.there.shape) * surface.cell
    thick = 0.02
    middle = torch.cat([surface.corner + size / 2, torch.zeros(1, dtype=torch.float64)])
    pose = surface.world_from_plane.clone()
    pose[:3, 3] = metre * (pose[:3, :3] @ middle + pose[:3, 3]) - thick * pose[:3, 2]
    pose7 = pose7_from_pose(pose).tolist()
    spec.worldbody.add_geom(
        type=mujoco.mjtGeom.mjGEOM_BOX,
        size=[*(size * metre / 2 + 0.02).tolist(), thick],
        pos=pose7[:3],
        quat=pose7[3:],
        friction=[0.0, 0.005, 0.0001],
        contype=1,
        conaffinity=2,
    )


def _add_body(mujoco: Any, spec: Any, scene: Scene, number: int, pose: Tensor, metre: float) -> None:
    item = scene.world.objects[number]
    pose7 = pose7_from_pose(pose).tolist()
    place = [value * metre for value in pose7[:3]]
    body = spec.worldbody.add_body(name=f"object {number}", pos=place, quat=pose7[3:])
    body.add_freejoint()
    for part, points in enumerate(object_corners(item, scene.world.up)):
        name = f"object {number} part {part}"
        spec.add_mesh(name=name, uservert=(points.double() * metre).flatten().tolist())
        body.add_geom(
            type=mujoco.mjtGeom.mjGEOM_MESH,
            meshname=name,
            density=item.material.density,
            friction=[item.material.friction, 0.005, 0.001],
            # With rolling friction, or the facets of a ball roll on for ever.
            condim=6,
            # Things meet surfaces and each other; surfaces do not meet.
            contype=2,
            conaffinity=3,
        )


def _pose(data: Any, body: int, metre: float) -> Tensor:
    turn, place = torch.tensor(data.xmat[body].copy()).reshape(3, 3), torch.tensor(data.xpos[body].copy())
    return pose_from(turn, place / metre)


def _overlap(model: Any, data: Any) -> float:
    """[mm] the deepest contact between two things."""
    deepest = 0.0
    for contact in data.contact[: data.ncon]:
        a, b = (int(model.geom_bodyid[geom]) for geom in contact.geom)
        if a and b:
            deepest = min(deepest, float(contact.dist))
    return 1000 * abs(deepest)


def _drift(data: Any, body: int, place: Tensor, turn: Tensor) -> Drift:
    moved = float((torch.tensor(data.xpos[body]) - place).norm())
    now, before = torch.tensor(data.xmat[body]).reshape(3, 3), turn.reshape(3, 3)
    cosine = (float((now @ before.T).trace()) - 1) / 2
    angle = torch.rad2deg(torch.tensor(min(1.0, max(-1.0, cosine))).acos())
    return Drift(1000 * moved, float(angle))


def _mujoco() -> Any:
    try:
        return import_module("mujoco")
    except ImportError as error:
        raise MissingDependency(
            "expected MuJoCo to let things settle, found none; run `pip install 'gaussworld[sim]'`"
        ) from error
