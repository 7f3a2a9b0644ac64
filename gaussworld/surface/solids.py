"""Solids of layouts and URDFs as surfaces: boxes, cylinders, spheres, planes; centred on the origin."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from ..shape import Mesh
from ..world_object import Vector
from .painted import Surface

#: Corners of the polygons that stand for circles.
_AROUND = 64


def box(size: Vector) -> Surface:
    """A box of these edge lengths along x, y and z."""
    corners = torch.cartesian_prod(*(torch.tensor([-0.5, 0.5]),) * 3) * torch.tensor(size)
    faces = [[0, 1, 3], [0, 3, 2], [4, 6, 7], [4, 7, 5], [0, 4, 5], [0, 5, 1],
             [2, 3, 7], [2, 7, 6], [0, 2, 6], [0, 6, 4], [1, 5, 7], [1, 7, 3]]  # fmt: skip
    return Surface(Mesh(corners, torch.tensor(faces)))


def plane(width: float, depth: float) -> Surface:
    """A rectangle in the xy plane that looks up."""
    corners = torch.tensor([[-1.0, -1.0, 0.0], [1.0, -1.0, 0.0], [1.0, 1.0, 0.0], [-1.0, 1.0, 0.0]]) / 2
    return Surface(Mesh(corners * torch.tensor([width, depth, 1.0]), torch.tensor([[0, 1, 2], [0, 2, 3]])))


def cylinder(radius: float, length: float) -> Surface:
    """An upright cylinder; its axis is z."""
    ring = _ring(radius)
    low, high = (torch.cat([ring, torch.full((_AROUND, 1), z)], 1) for z in (-length / 2, length / 2))
    ends = torch.tensor([[0.0, 0.0, -length / 2], [0.0, 0.0, length / 2]])
    i = torch.arange(_AROUND)
    j, bottom, top = (i + 1) % _AROUND, torch.full_like(i, 2 * _AROUND), torch.full_like(i, 2 * _AROUND + 1)
    faces = torch.cat(
        [
            torch.stack([i, j, j + _AROUND], 1),
            torch.stack([i, j + _AROUND, i + _AROUND], 1),
            torch.stack([bottom, j, i], 1),
            torch.stack([top, i + _AROUND, j + _AROUND], 1),
        ]
    )
    return Surface(Mesh(torch.cat([low, high, ends]), faces))


def sphere(radius: float) -> Surface:
    """A sphere of circles of latitude, finer than anything that is made of it."""
    rows = _AROUND // 2
    angles = torch.arange(1, rows) * (math.pi / rows)
    ring = _ring(1.0)
    bands = torch.cat(
        [angles.sin()[:, None, None] * ring, angles.cos()[:, None, None].expand(-1, _AROUND, 1)], 2
    )
    poles = torch.tensor([[0.0, 0.0, 1.0], [0.0, 0.0, -1.0]])
    vertices = torch.cat([bands.reshape(-1, 3), poles]) * radius
    i = torch.arange(_AROUND)
    j, north, last = (i + 1) % _AROUND, (rows - 1) * _AROUND, (rows - 2) * _AROUND
    faces = [torch.stack([torch.full_like(i, north), i, j], 1)]
    for row in range(rows - 2):
        a, b, c, d = i + row * _AROUND, j + row * _AROUND, i + (row + 1) * _AROUND, j + (row + 1) * _AROUND
        faces += [torch.stack([a, c, d], 1), torch.stack([a, d, b], 1)]
    faces.append(torch.stack([torch.full_like(i, north + 1), j + last, i + last], 1))
    return Surface(Mesh(vertices, torch.cat(faces)))


def _ring(radius: float) -> Float[Tensor, "a 2"]:
    angles = torch.arange(_AROUND) * (2 * math.pi / _AROUND)
    return radius * torch.stack([angles.cos(), angles.sin()], 1)
