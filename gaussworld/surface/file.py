"""Mesh files with their textures, materials and colours as one `Surface`."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..errors import FileFormatError, MissingDependency
from ..io import mesh_file
from ..shape import Mesh, is_closed
from .painted import GREY, Paint, Surface, merged

logger = logging.getLogger(__name__)

SUFFIXES = (*mesh_file.SUFFIXES, ".dae")


def load_surface(path: Path | str, scale: float = 1.0) -> Surface:
    """Read a mesh in the axes of its file, with textures, materials, face and vertex colours.

    A closed mesh whose faces look inwards is turned inside out, and that is logged.

    Args:
        path: an .obj, .stl, .ply, .glb, .gltf, or .dae where pycollada is installed.
        scale: units of the result in one unit of the file.

    Raises:
        FileFormatError: no such file, an unknown suffix, broken, no faces in it, or numbers that are not
            finite.
        MissingDependency: a .dae without pycollada.
        ValueError: `scale` is not positive.
    """
    path = Path(path)
    if not 0 < scale < float("inf"):
        raise ValueError(f"scale: expected a positive number, got {scale}")
    surface = merged([_painted(part, path) for part in _parts(path)])
    surface = _outwards(_welded(surface, path, scale), path)
    return surface


def _parts(path: Path) -> list[Any]:
    """trimesh's meshes of a file, each moved to its place."""
    if path.suffix.lower() not in SUFFIXES:
        raise FileFormatError(
            f"{path}: expected a mesh file ({', '.join(SUFFIXES)}), got suffix {path.suffix!r}"
        )
    if not path.is_file():
        raise FileFormatError(f"{path}: expected a mesh file, got no such file")
    import trimesh

    if path.suffix.lower() == ".dae":
        try:
            import collada  # noqa: F401  # pyright: ignore
        except ImportError as error:
            raise MissingDependency(
                f"{path}: expected pycollada to read .dae, found none; run `pip install pycollada`, or"
                " convert the mesh to .obj or .glb"
            ) from error
    try:
        # numpy warns of overflows in hostile numbers; they are refused by name afterwards.
        with np.errstate(all="ignore"):
            parts = trimesh.load_scene(path, process=False).dump(concatenate=False)
    except (Exception, RecursionError) as error:
        raise FileFormatError(
            f"{path}: expected a readable mesh, got a broken file ({error!r:.120})"
        ) from error
    meshes = [each for each in parts if isinstance(each, trimesh.Trimesh) and len(each.faces)]
    if not meshes:
        got = "only points or lines" if len(parts) else "none"
        raise FileFormatError(
            f"{path}: expected a mesh with faces, got {got}; a file of Gaussians needs no from-mesh"
        )
    return meshes


def _painted(part: Any, path: Path) -> Surface:
    vertices, faces = np.asarray(part.vertices, np.float64), np.asarray(part.faces, np.int64)
    if not np.isfinite(vertices).all() or np.abs(vertices).max() > 1e18:
        raise FileFormatError(f"{path}: expected finite coordinates below 1e18, got others; mend the mesh")
    if not (faces.min() >= 0 and faces.max() < len(vertices)):
        raise FileFormatError(
            f"{path}: expected faces of {len(vertices)} vertices, got vertex {int(faces.max())}"
        )
    mesh = Mesh(torch.from_numpy(vertices.astype(np.float32)), torch.from_numpy(faces.astype(np.int32)))
    kind = part.visual.kind
    if kind == "texture":
        return _textured(mesh, part.visual, faces, path)
    if kind in ("vertex", "face"):
        colors = np.asarray(part.visual.vertex_colors if kind == "vertex" else part.visual.face_colors)
        colors = torch.from_numpy(colors[:, :3].astype(np.float32) / 255)
        corners = colors[torch.from_numpy(faces)] if kind == "vertex" else colors[:, None].expand(-1, 3, 3)
        return Surface(mesh, (Paint((1.0, 1.0, 1.0)),), corner_colors=corners.contiguous())
    return Surface(mesh)


def _textured(mesh: Mesh, visual: Any, faces: np.ndarray, path: Path) -> Surface:
    material = visual.material
    parts = getattr(material, "materials", None)
    paints = tuple(_paint(each, path) for each in parts or [material])
    rows = getattr(visual, "face_materials", None)
    face_paints = torch.as_tensor(np.asarray(rows), dtype=torch.long) if parts and rows is not None else None
    uv = getattr(visual, "uv", None)
    corner_uv = None
    if uv is not None and len(uv) == len(mesh.vertices) and np.isfinite(uv).all():
        corner_uv = torch.from_numpy(np.asarray(uv, np.float32)[:, :2][faces])
    elif any(paint.texture is not None for paint in paints):
        logger.warning("%s: a texture without coordinates on the mesh is left out", path)
        paints = tuple(Paint(paint.color) for paint in paints)
    return Surface(mesh, paints, face_paints, _corner_colors(visual, faces, mesh), corner_uv)


def _corner_colors(visual: Any, faces: np.ndarray, mesh: Mesh) -> torch.Tensor | None:
    """Vertex colours that a glTF has beside its texture."""
    given = getattr(visual, "vertex_attributes", {}).get("color")
    if given is None or len(given) != len(mesh.vertices):
        return None
    colors = np.asarray(given)
    scale = 255 if colors.dtype == np.uint8 else 65535 if colors.dtype == np.uint16 else 1
    return torch.from_numpy((colors[:, :3] / scale).astype(np.float32)[faces])


def _paint(material: Any, path: Path) -> Paint:
    """A material's colour and texture: of a glTF the base colour, of an .obj Kd and map_Kd."""
    image = getattr(material, "baseColorTexture", None)
    factor = getattr(material, "baseColorFactor", None)
    if image is None and factor is None:
        image, factor = getattr(material, "image", None), getattr(material, "diffuse", None)
    texture = None
    if image is not None:
        try:
            texture = torch.from_numpy(np.asarray(image.convert("RGB"), np.float32) / 255)
        except Exception as error:
            logger.warning("%s: a texture could not be read (%s) and is left out", path, error)
    white = (1.0, 1.0, 1.0) if texture is not None else GREY
    return Paint(_color(factor) or white, texture)


def _color(factor: Any) -> tuple[float, float, float] | None:
    if factor is None:
        return None
    values = np.asarray(factor)
    rgb = values[:3].astype(np.float64) / (255 if values.dtype.kind in "ui" else 1)
    r, g, b = (float(min(max(value, 0.0), 1.0)) for value in rgb)
    return r, g, b


def _welded(surface: Surface, path: Path, scale: float) -> Surface:
    """The same place is the same vertex, and faces that are lines or points go."""
    vertices = surface.mesh.vertices.double().mul(scale).float().numpy() + 0.0
    places, index = np.unique(vertices, axis=0, return_inverse=True)
    faces = index.reshape(-1)[surface.mesh.faces.numpy()]
    kept = torch.from_numpy((faces != np.roll(faces, 1, axis=1)).all(axis=1))
    if not bool(kept.any()):
        raise FileFormatError(f"{path}: expected a mesh with faces, got only faces without an area")
    mesh = Mesh(torch.from_numpy(places), torch.from_numpy(faces.astype(np.int32))[kept])

    def of_kept(values: torch.Tensor | None) -> torch.Tensor | None:
        return None if values is None else values[kept]

    return Surface(
        mesh,
        surface.paints,
        of_kept(surface.face_paints),
        of_kept(surface.corner_colors),
        of_kept(surface.corner_uv),
    )


def _outwards(surface: Surface, path: Path) -> Surface:
    if is_closed(surface.mesh) and surface.mesh.volume < 0:
        logger.warning("%s: the mesh is inside out: its faces are turned", path)
        return surface.flipped()
    return surface
