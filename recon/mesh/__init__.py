"""Geometry of a world: depth fused into meshes, closed surfaces of objects, and their convex parts."""

from .shapes import MeshSettings, scene_mesh, shapes

__all__ = ["MeshSettings", "scene_mesh", "shapes"]
