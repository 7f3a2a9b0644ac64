"""Mesh files (`.obj .stl .ply .glb .gltf`): read into a sound `Mesh`, and written with vertex colours."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..errors import FileFormatError, MissingDependency
from ..shape import Mesh, is_closed
from .atomic import replacing

logger = logging.getLogger(__name__)

SUFFIXES = (".obj", ".stl", ".ply", ".glb", ".gltf")


def load_mesh(path: Path, scale: float = 1.0) -> Mesh:
    """Read a mesh in the axes of its file: parts joined at their places, colours and textures per vertex.

    Vertices at the same place become one, with the mean of their colours: files repeat them along the seams
    of textures and, in STL, for every face. A mesh whose faces look inwards is turned inside out. That, and
    that a mesh is open and so encloses no volume of its own, is logged as a warning.

    Args:
        path: the file.
        scale: units of the result in one unit of the file, such as 0.001 for millimetres to metres.

    Raises:
        FileFormatError: no such file, an unknown suffix, broken, no faces in it, or numbers that are not
            finite.
        MissingDependency: trimesh is not installed.
        ValueError: `scale` is not positive.
    """
    path = Path(path)
    if not 0 < scale < float("inf"):
        raise ValueError(f"scale: expected a positive number, got {scale}")
    parts = [_part(each, path) for each in _meshes(path)]
    mesh = sound(_merged(parts, path, scale), str(path))
    if not is_closed(mesh):
        logger.warning("%s: the mesh is open: its volume is that of its convex parts, an upper bound", path)
    return mesh


def save_mesh(mesh: Mesh, path: Path) -> None:
    """Write a mesh, with vertex colours where the format has them; the file appears only when it is whole.

    Raises:
        ValueError: an unknown suffix, or a mesh without faces.
        MissingDependency: trimesh is not installed.
        GaussWorldError: the file system refuses.
    """
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES or suffix == ".gltf":
        wanted = ", ".join(each for each in SUFFIXES if each != ".gltf")
        raise ValueError(f"{path}: expected a suffix among {wanted}, got {path.suffix!r}")
    if not len(mesh.faces):
        raise ValueError(f"{path}: expected a mesh with faces, got none")
    made = _trimesh().Trimesh(mesh.vertices.numpy(), mesh.faces.numpy(), process=False)
    if mesh.colors is not None:
        made.visual.vertex_colors = _bytes(mesh)
    more: dict[str, Any] = {".glb": {"include_normals": True}, ".obj": {"include_texture": False}}
    data = made.export(file_type=suffix[1:], **more.get(suffix, {}))
    with replacing(path) as file:
        file.write(data if isinstance(data, bytes) else str(data).encode())


def sound(mesh: Mesh, name: str) -> Mesh:
    """The mesh with faces that look outwards, as far as it is closed; what was turned is logged.

    Args:
        mesh: any.
        name: what it is called in the log.
    """
    if not is_closed(mesh):
        mesh = _wound_alike(mesh)
    if is_closed(mesh) and mesh.volume < 0:
        logger.warning("%s: the mesh is inside out: its faces are turned", name)
        mesh = Mesh(mesh.vertices, mesh.faces[:, [0, 2, 1]], mesh.colors)
    return mesh


def _wound_alike(mesh: Mesh) -> Mesh:
    """Neighbouring faces look to the same side, where a closed mesh can be made of it; else as it was."""
    trimesh = _trimesh()
    made = trimesh.Trimesh(mesh.vertices.numpy(), mesh.faces.numpy(), process=False)
    if not made.is_watertight:
        return mesh
    trimesh.repair.fix_winding(made)
    turned = Mesh(mesh.vertices, torch.from_numpy(np.ascontiguousarray(made.faces, np.int32)), mesh.colors)
    return turned if is_closed(turned) else mesh


def _meshes(path: Path) -> list[Any]:
    """trimesh's meshes of a file, each moved to its place."""
    if path.suffix.lower() not in SUFFIXES:
        raise FileFormatError(
            f"{path}: expected a mesh file ({', '.join(SUFFIXES)}), got suffix {path.suffix!r}"
        )
    if not path.is_file():
        raise FileFormatError(f"{path}: expected a mesh file, got no such file")
    trimesh = _trimesh()
    try:
        # numpy warns of overflows in hostile numbers; they are refused by name afterwards.
        with np.errstate(all="ignore"):
            scene = trimesh.load_scene(path, process=False)
            parts = scene.dump(concatenate=False)
    except (Exception, RecursionError) as error:
        raise FileFormatError(
            f"{path}: expected a readable mesh, got a broken file ({error!r:.120})"
        ) from error
    meshes = [each for each in parts if isinstance(each, trimesh.Trimesh) and len(each.faces)]
    if not meshes:
        kinds = {type(each).__name__ for each in parts}
        got = "only points" if "PointCloud" in kinds else "none"
        raise FileFormatError(
            f"{path}: expected a mesh with faces, got {got}; a file of Gaussians is read by gaussworld.load"
        )
    return meshes


def _part(part: Any, path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Vertices, faces and colours in [0, 1] of one mesh of trimesh's."""
    vertices, faces = np.asarray(part.vertices, np.float64), np.asarray(part.faces, np.int64)
    bad = ~np.isfinite(vertices).all(axis=1)
    if bad.any():
        raise FileFormatError(
            f"{path}: expected finite numbers, got {vertices[bad][0].tolist()} in vertex {int(bad.argmax())};"
            " drop it in the program that made the file"
        )
    if len(faces) and not (faces.min() >= 0 and faces.max() < len(vertices)):
        raise FileFormatError(
            f"{path}: expected faces of {len(vertices)} vertices, got vertex {int(faces.max())}"
        )
    return vertices, faces, _colors(part)


def _colors(part: Any) -> np.ndarray | None:
    kind = part.visual.kind
    if kind is None:
        return None
    # A texture that is absent or cannot be read leaves the mesh itself sound.
    try:
        visual = part.visual.to_color() if kind == "texture" else part.visual
        colors = np.asarray(visual.vertex_colors, np.float64)[:, :3] / 255
    except Exception as error:
        logger.warning("the texture of a mesh could not be read (%s)", error)
        return None
    return colors if colors.shape == (len(part.vertices), 3) else None


def _merged(parts: list[Any], path: Path, scale: float) -> Mesh:
    """One mesh of several: the same place is the same vertex, and faces that are lines or points go."""
    starts = np.cumsum([0, *(len(vertices) for vertices, _, _ in parts)])
    vertices = np.concatenate([vertices for vertices, _, _ in parts]) * scale
    faces = np.concatenate([faces + start for (_, faces, _), start in zip(parts, starts)])
    colored = any(colors is not None for _, _, colors in parts)
    if np.abs(vertices).max() > 1e18:
        raise FileFormatError(f"{path}: expected coordinates below 1e18, got {np.abs(vertices).max():g}")
    # To float32 first, so that those are equal that are equal in the result.
    places, index = np.unique(vertices.astype(np.float32) + 0.0, axis=0, return_inverse=True)
    faces = index.reshape(-1)[faces].astype(np.int32)
    kept = faces[(faces != np.roll(faces, 1, axis=1)).all(axis=1)]
    if not len(kept):
        raise FileFormatError(f"{path}: expected a mesh with faces, got only faces without an area")
    used, renumbered = np.unique(kept, return_inverse=True)
    colors = None
    if colored:
        given = [np.full((len(v), 3), 0.7) if c is None else c for v, _, c in parts]
        sums, counts = np.zeros((len(places), 3)), np.bincount(index.reshape(-1), minlength=len(places))
        np.add.at(sums, index.reshape(-1), np.concatenate(given))
        colors = torch.from_numpy((sums / counts[:, None])[used].astype(np.float32))
    made = torch.from_numpy(renumbered.reshape(-1, 3).astype(np.int32))
    return Mesh(torch.from_numpy(places[used]), made, colors)


def _bytes(mesh: Mesh) -> np.ndarray:
    assert mesh.colors is not None
    rgb = (mesh.colors.detach().clamp(0, 1) * 255).round().to(torch.uint8).numpy()
    return np.concatenate([rgb, np.full((len(rgb), 1), 255, np.uint8)], axis=1)


def _trimesh() -> Any:
    try:
        import trimesh
    except ImportError as error:
        raise MissingDependency(
            "expected trimesh to read and write meshes, found none; run `pip install trimesh`"
        ) from error
    return trimesh
