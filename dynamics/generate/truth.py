"""What is true of a simulated state: truth.json, and the meshes it names."""

from pathlib import Path
from typing import Any

import numpy as np

from gaussworld.io.atomic import replacing
from gaussworld.shape import Mesh
from gaussworld.world_object import ObjectKind

from .scene import SceneObject, SceneState, SimScene


def truth(scene: SimScene, state: SceneState, rests_on: dict[int, tuple[int, ...]], seed: int) -> dict:
    """The content of truth.json: metres, kilograms, radians, +z up, poses as `world_from_object`."""
    objects = [_entry(scene, state, item, rests_on) for item in scene.objects]
    return {"up": [0, 0, 1], "metres_per_unit": 1, "seed": seed, "objects": objects}


def mesh_name(item: SceneObject) -> str:
    """Where an object's mesh lies beside truth.json."""
    return f"meshes/{item.id:02d}_{item.name.replace(' ', '_')}.ply"


def write_meshes(scene: SimScene, folder: Path) -> None:
    """Write every object's closed surface in its own frame [m]."""
    for item in scene.objects:
        write_ply(item.form.shape.mesh, folder / mesh_name(item))


def _entry(
    scene: SimScene, state: SceneState, item: SceneObject, rests_on: dict[int, tuple[int, ...]]
) -> dict[str, Any]:
    loose = item.kind is ObjectKind.RIGID
    return {
        "id": item.id,
        "name": item.name,
        "kind": item.kind.name,
        "mesh": mesh_name(item),
        "world_from_object": state.pose(item).tolist(),
        "category": item.category,
        "mass": item.mass,
        "volume": item.volume,
        "friction": item.friction,
        "parent": item.parent,
        "joint": _joint(item, state),
        "supported_by": list(rests_on.get(item.id, ())) if loose else [],
    }


def _joint(item: SceneObject, state: SceneState) -> dict[str, Any] | None:
    if item.joint is None:
        return None
    return {
        "kind": item.joint.kind,
        "axis": list(item.joint.axis),
        "origin": list(item.joint.origin),
        "limits": list(item.joint.limits),
        "position": state.positions.get(item.id, 0.0),
    }


def write_ply(mesh: Mesh, path: Path) -> None:
    """A binary PLY of vertices and triangles."""
    header = (
        "ply\nformat binary_little_endian 1.0\n"
        f"element vertex {len(mesh.vertices)}\n"
        "property float x\nproperty float y\nproperty float z\n"
        f"element face {len(mesh.faces)}\nproperty list uchar int vertex_indices\nend_header\n"
    )
    rows = np.zeros(len(mesh.faces), dtype=[("count", "u1"), ("corners", "<i4", 3)])
    rows["count"], rows["corners"] = 3, mesh.faces.numpy()
    with replacing(path) as file:
        file.write(header.encode() + mesh.vertices.numpy().astype("<f4").tobytes() + rows.tobytes())
