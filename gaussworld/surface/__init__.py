"""Surfaces with paint: mesh files and primitive solids, from which Gaussians are made."""

from .file import load_surface
from .painted import Paint, Surface
from .solids import box, cylinder, plane, sphere

__all__ = ["Paint", "Surface", "box", "cylinder", "load_surface", "plane", "sphere"]
