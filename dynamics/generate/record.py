"""What an episode is remembered by: its card and arrays, from a `Trial` and what happened in it."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float

from gaussworld.io.mesh_file import save_mesh
from gaussworld.pose import invert_pose, pose_from_pose7, rotation_from_quats, transform_points
from gaussworld.shape import Mesh
from gaussworld.world_object import ObjectKind

from ..episodes import FRAME, SPEC
from ..tool import tool_record
from .assemble import FLOOR_FRICTION
from .flex.flex import Flex
from .flex.mesh import flex_mesh
from .mjcf import TIMESTEP
from .motion import STEP
from .scene import SceneObject
from .simulate import Recorded, tool_poses
from .trial import Trial, stream
from .truth import mesh_name, write_ply

#: Points of each rigid or jointed thing whose tracks are recorded.
TRACKED = 256
_PARTS = {
    ObjectKind.STATIC: "STATIC",
    ObjectKind.RIGID: "RIGID",
    ObjectKind.ARTICULATED: "JOINT",
    ObjectKind.ROBOT: "ROBOT",
    ObjectKind.DEFORMABLE: "VOLUME",
}


def card_of(trial: Trial, recorded: Recorded, split: str) -> dict[str, Any]:
    """The facts of an episode as plain values; see docs/episodes.md."""
    spec = asdict(SPEC)
    positions = dict(zip(joint_ids(trial), recorded.joint_positions[0].tolist()))
    return {
        "family": trial.family,
        "seed": trial.seed,
        "split": split,
        "policy": trial.policy,
        "frame": FRAME,
        "rate_hz": SPEC.rate_hz,
        "steps": len(recorded.commands),
        "action_spec": spec,
        "tools": [tool_record(trial.tool)],
        "objects": [_object(trial, item, positions) for item in trial.scene.objects],
        "cameras": [],
        "ground": _ground(trial),
        "physics": _physics(trial),
    }


def arrays_of(trial: Trial, recorded: Recorded) -> dict[str, np.ndarray]:
    """Everything that has a number for each moment, and the points that are followed."""
    count = len(recorded.commands)
    owners, rest, points = _tracks(trial, recorded)
    return {
        "time": np.arange(count + 1) * STEP,
        "tool_poses": tool_poses(recorded.tools)[:, None],
        "grip": recorded.tools[:, 4:],
        "action_tools": tool_poses(recorded.commands)[:, None],
        "action_grip": recorded.commands[:, 4:].clip(0.0, 1.0),
        "object_poses": recorded.object_poses,
        "object_twists": recorded.object_twists,
        "joint_positions": recorded.joint_positions,
        "joint_rates": recorded.joint_rates,
        "object_ids": np.array([item.id for item in trial.scene.objects]),
        "joint_ids": np.array(joint_ids(trial), dtype=np.int64),
        "point_objects": owners,
        "point_rest": rest,
        "points": points,
        "contacts": recorded.contacts,
    }


def joint_ids(trial: Trial) -> list[int]:
    """Ids of what has a joint, in the order of the objects."""
    return [item.id for item in trial.scene.objects if item.joint is not None]


def write_surfaces(trial: Trial, recorded: Recorded, folder: Path) -> None:
    """Write surfaces and convex parts of everything, in its own frame [m]; of what bends, at time 0."""
    for flex in trial.flexes:
        local = _in_frame(trial, recorded, flex)
        save_mesh(flex_mesh(flex, local), folder / mesh_name(trial.scene[flex.id]))
    for item in trial.scene.objects:
        if item.kind is ObjectKind.DEFORMABLE:
            continue
        write_ply(item.form.shape.mesh, folder / mesh_name(item))
        for name, part in zip(_part_names(item), item.form.shape.parts):
            write_ply(part, folder / name)


def _in_frame(trial: Trial, recorded: Recorded, flex: Flex) -> np.ndarray:
    """[m] vertices at time 0 in the object's frame."""
    row = [item.id for item in trial.scene.objects].index(flex.id)
    pose = pose_from_pose7(torch.from_numpy(recorded.object_poses[0, row].copy()))
    return transform_points(invert_pose(pose), torch.from_numpy(recorded.vertices[flex.id][0].copy())).numpy()


def _part_names(item: SceneObject) -> list[str]:
    if item.kind is ObjectKind.DEFORMABLE:
        return []
    stem = mesh_name(item).removesuffix(".ply")
    return [f"{stem}_part{i}.ply" for i in range(len(item.form.shape.parts))]


def _object(trial: Trial, item: SceneObject, positions: Mapping[int, float]) -> dict[str, Any]:
    feel = trial.feel.get(item.id)
    joint = None
    if item.joint is not None:
        joint = {**asdict(item.joint), "position": positions[item.id]}
    bent = _bending(trial, item)
    return {
        "id": item.id,
        "name": item.name,
        "kind": item.kind.name,
        "part": _PARTS[item.kind],
        "category": item.category,
        "mass": item.mass,
        "volume": item.volume,
        "friction": item.friction,
        "parent": item.parent,
        "joint": joint,
        "joint_damping": None if feel is None else feel.damping,
        "joint_friction": None if feel is None else feel.friction,
        "mesh": mesh_name(item),
        "parts": _part_names(item),
        "color": np.mean([look.colors[0] for look in item.looks], axis=0).round(4).tolist(),
        "stiffness": None,
        "damping": None,
        "fixed": [],
        **bent,
    }


def _bending(trial: Trial, item: SceneObject) -> dict[str, Any]:
    """What is true of a rope, a cloth or a block only."""
    for flex in trial.flexes:
        if flex.id == item.id:
            return {
                "part": {"rope": "ROPE", "cloth": "CLOTH", "soft": "VOLUME"}[flex.kind],
                "category": {"rope": "rope", "cloth": "fabric", "soft": "foam"}[flex.kind],
                "mass": flex.mass,
                "volume": flex.volume,
                "stiffness": flex.young,
                "damping": flex.damping,
                "fixed": list(flex.tied),
                "poisson": flex.poisson,
                "radius": flex.radius,
                "size": list(flex.size),
                "counts": list(flex.counts),
                "point_masses": flex.masses.tolist(),
            }
    return {}


def _ground(trial: Trial) -> dict[str, Any]:
    x, y = (size / 2 for size in trial.scene.table)
    top = [[-x, -y], [x, -y], [x, y], [-x, y]]
    return {
        "heights": [0.0, -trial.scene.room[1]],
        "outlines": [top],
        "frictions": [trial.scene.objects[0].friction, FLOOR_FRICTION],
    }


def _physics(trial: Trial) -> dict[str, Any]:
    return {
        "engine": "mujoco",
        "timestep": TIMESTEP,
        "gravity": [0.0, 0.0, -9.81],
        "friction": "two things that touch have the geometric mean of their coefficients",
        "front": None if trial.front is None else asdict(trial.front),
        "lamps": [asdict(lamp) for lamp in trial.scene.lamps],
        "ambient": trial.scene.ambient,
    }


def _tracks(trial: Trial, recorded: Recorded) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Owners, places in the objects' frames, and places in the world at each moment [m]."""
    owners, rests, paths = [np.zeros(0, dtype=np.int64)], [np.zeros((0, 3))], []
    moments = len(recorded.object_poses)
    paths.append(np.zeros((moments, 0, 3)))
    for row, item in enumerate(trial.scene.objects):
        if item.id in recorded.vertices:
            rests.append(_in_frame(trial, recorded, _flex(trial, item.id)))
            owners.append(np.full(len(rests[-1]), item.id))
            paths.append(recorded.vertices[item.id])
        if item.kind not in (ObjectKind.RIGID, ObjectKind.ARTICULATED):
            continue
        rest = surface_points(item.form.shape.mesh, TRACKED, stream(trial.seed, 3, item.id))
        poses = recorded.object_poses[:, row]
        turns = rotation_from_quats(torch.from_numpy(poses[:, 3:].copy())).numpy()
        owners.append(np.full(len(rest), item.id))
        rests.append(rest)
        paths.append(np.einsum("uij,qj->uqi", turns, rest) + poses[:, None, :3])
    return np.concatenate(owners), np.concatenate(rests), np.concatenate(paths, axis=1)


def _flex(trial: Trial, id: int) -> Flex:
    return next(flex for flex in trial.flexes if flex.id == id)


def surface_points(mesh: Mesh, count: int, random: np.random.Generator) -> Float[np.ndarray, "q 3"]:
    """[m] points spread evenly by area: one at random in each of `count` shares of it."""
    corners = mesh.triangles.double().numpy()
    a, b, c = corners.transpose(1, 0, 2)
    areas = np.linalg.norm(np.cross(b - a, c - a), axis=1)
    shares = (np.arange(count) + random.random(count)) / count
    face = np.searchsorted(np.cumsum(areas) / areas.sum(), shares).clip(max=len(areas) - 1)
    u, v = np.sqrt(random.random(count)), random.random(count)
    weights = np.stack([1 - u, u * (1 - v), u * v], axis=1)
    return np.einsum("qk,qki->qi", weights, corners[face])
