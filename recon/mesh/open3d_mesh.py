"""`Mesh` to open3d and back, and the clean-up that open3d does well: parts, decimation."""

from typing import Any

import numpy as np
import torch

from gaussworld.errors import MissingDependency
from gaussworld.shape import Mesh, is_closed


def from_open3d(made: Any) -> Mesh:
    """The mesh of open3d's tensor TriangleMesh."""
    if "positions" not in made.vertex or "indices" not in made.triangle:
        return Mesh(torch.zeros(0, 3), torch.zeros(0, 3, dtype=torch.int32))
    vertices = np.array(made.vertex["positions"].numpy(), np.float32)
    faces = np.array(made.triangle["indices"].numpy(), np.int32).reshape(-1, 3)
    colors = None
    if "colors" in made.vertex:
        colors = torch.from_numpy(np.array(made.vertex["colors"].numpy(), np.float32)).clamp(0, 1)
    return Mesh(torch.from_numpy(vertices), torch.from_numpy(faces), colors)


def to_open3d(mesh: Mesh) -> Any:
    """open3d's tensor TriangleMesh of a mesh."""
    core = open3d().core
    made = open3d().t.geometry.TriangleMesh(
        core.Tensor(np.ascontiguousarray(mesh.vertices.float().numpy())),
        core.Tensor(np.ascontiguousarray(mesh.faces.to(torch.int64).numpy())),
    )
    if mesh.colors is not None:
        made.vertex["colors"] = core.Tensor(np.ascontiguousarray(mesh.colors.float().numpy()))
    return made


def decimated(mesh: Mesh, faces: int) -> Mesh:
    """At most about so many faces, by quadric errors (Garland and Heckbert 1997); closed stays closed.

    Colours are lost: they are looked up afterwards.
    """
    if len(mesh.faces) <= faces:
        return mesh
    closed = is_closed(mesh)
    legacy = to_open3d(Mesh(mesh.vertices, mesh.faces)).to_legacy()
    # Half the way, where all of it would tear a closed surface.
    for share in (1, 2, 4):
        simple = legacy.simplify_quadric_decimation(min(len(mesh.faces), share * faces))
        made = from_open3d(open3d().t.geometry.TriangleMesh.from_legacy(simple))
        if len(made.faces) and (not closed or (is_closed(made) and made.volume > 0)):
            return made
    return mesh


def parts(mesh: Mesh, share: float = 0.02) -> list[Mesh]:
    """Its connected parts, largest first, without those of less than a share of the largest one's area."""
    if not len(mesh.faces):
        return []
    label, areas = _clusters(mesh)
    order = np.argsort(-areas, kind="stable")
    return [rows_of(mesh, label == int(i)) for i in order if areas[i] >= share * areas[order[0]]]


def cleaned(mesh: Mesh, share: float) -> Mesh:
    """Without connected parts that have less than this share of the largest part's area."""
    if not len(mesh.faces):
        return mesh
    label, areas = _clusters(mesh)
    return rows_of(mesh, torch.from_numpy(areas >= share * areas.max())[label])


def _clusters(mesh: Mesh) -> tuple[torch.Tensor, np.ndarray]:
    """The connected part of each face, and the parts' areas."""
    legacy = to_open3d(Mesh(mesh.vertices, mesh.faces)).to_legacy()
    labels, _, areas = legacy.cluster_connected_triangles()
    return torch.from_numpy(np.array(labels, np.int64)), np.array(areas)


def rows_of(mesh: Mesh, kept: torch.Tensor) -> Mesh:
    """Some of a mesh's faces, with the vertices that they use."""
    faces = mesh.faces[kept].long()
    used, renumbered = faces.unique(return_inverse=True)
    colors = None if mesh.colors is None else mesh.colors[used]
    return Mesh(mesh.vertices[used], renumbered.reshape(-1, 3).to(torch.int32), colors)


def open3d() -> Any:
    """The package, at use.

    Raises:
        MissingDependency: it or a system library of its is missing.
    """
    try:
        import open3d
    except ImportError as error:
        raise MissingDependency(
            "expected open3d for work on meshes, found none; run `pip install open3d`"
        ) from error
    except OSError as error:
        raise MissingDependency(
            f"open3d could not load a system library ({error}); run `apt-get install libusb-1.0-0 libgl1`"
        ) from error
    return open3d
