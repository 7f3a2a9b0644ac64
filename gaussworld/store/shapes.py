"""The shapes of objects as chunks and back: a node that lists the arrays of the surface and of all parts."""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from ..errors import StoreError
from ..shape import Mesh, Shape
from .columns import ROWS, Column

#: Array of a shape -> type and columns; parts lie one behind the other, `part_ends` tells where each ends.
_ARRAYS = {
    "vertices": ("f4", (3,)),
    "faces": ("i4", (3,)),
    "colors": ("f4", (3,)),
    "part_vertices": ("f4", (3,)),
    "part_faces": ("i4", (3,)),
    "part_ends": ("i4", (2,)),
}


def shape_node(shape: Shape, put_arrays: Callable[[Sequence[memoryview]], list[str]]) -> dict[str, Any]:
    """Write the arrays of a shape; gives the node that lists them: array -> rows and chunks."""
    node = {}
    for name, array in _arrays(shape).items():
        kind, _ = _ARRAYS[name]
        rows = array.detach().to("cpu", torch.float32 if kind == "f4" else torch.int32).contiguous()
        pieces: list[Any] = [memoryview(part.numpy()) for part in rows.split(ROWS)]  # pyright: ignore
        hashes = put_arrays([piece.cast("B") for piece in pieces]) if len(rows) else []
        node[name] = [len(rows), hashes]
    return node


def shape_from_node(node: dict[str, Any], array: Callable[[Column, int], Tensor]) -> Shape:
    """The shape whose arrays a node lists.

    Raises:
        ValueError: the node or an array is not one of a shape.
    """
    if not isinstance(node, dict) or not set(node) <= set(_ARRAYS):
        raise ValueError(f"expected the arrays of a shape, got {str(node)[:80]}")
    found = {}
    for name, (count, chunks) in node.items():
        kind, tail = _ARRAYS[name]
        empty = torch.zeros(0, *tail, dtype=torch.float32 if kind == "f4" else torch.int32)
        found[name] = array(Column(kind, tail, tuple(chunks)), count) if count else empty
    mesh = Mesh(found["vertices"], found["faces"], found.get("colors"))
    ends = [[0, 0], *found["part_ends"].tolist()]
    vertices, faces = found["part_vertices"], found["part_faces"]
    if ends != sorted(ends) or ends[-1] != [len(vertices), len(faces)]:
        raise ValueError("expected parts that follow one another, got damage")
    return Shape(mesh, tuple(Mesh(vertices[a:c], faces[b:d]) for (a, b), (c, d) in pairwise(ends)))


def shape_chunks(link: str, node: Callable[[str], Any]) -> list[str]:
    """The hashes that a shape needs: of its node and of its arrays."""
    try:
        return [link, *(name for _, chunks in node(link).values() for name in chunks)]
    except StoreError:
        # What a node that cannot be read names, nobody can tell.
        return [link]


def _arrays(shape: Shape) -> dict[str, Tensor]:
    ends = [[len(part.vertices), len(part.faces)] for part in shape.parts]
    none = shape.mesh.vertices[:0]
    arrays = {
        "vertices": shape.mesh.vertices,
        "faces": shape.mesh.faces,
        "part_vertices": torch.cat([none, *(part.vertices for part in shape.parts)]),
        "part_faces": torch.cat([shape.mesh.faces[:0], *(part.faces for part in shape.parts)]),
        "part_ends": torch.tensor(ends, dtype=torch.int32).reshape(-1, 2).cumsum(0),
    }
    return arrays if shape.mesh.colors is None else arrays | {"colors": shape.mesh.colors}
