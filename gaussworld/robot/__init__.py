"""Robots: a URDF as a tree of links with geometry, and where joint values put them."""

from .geometry import posed_meshes
from .model import Link, LinkJoint, Mimic, Piece, Robot
from .urdf import load_robot

__all__ = ["Link", "LinkJoint", "Mimic", "Piece", "Robot", "load_robot", "posed_meshes"]
