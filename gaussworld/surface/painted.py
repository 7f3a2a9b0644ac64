"""`Surface`: triangles with the colour of every point on them, from textures, corners or one paint."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ..shape import Mesh, joined

#: sRGB of what has no colour of its own.
GREY = (0.7, 0.7, 0.7)


@dataclass(frozen=True, eq=False)
class Paint:
    """A colour, or a picture times a colour."""

    color: tuple[float, float, float] = GREY
    """sRGB, range [0, 1]; a factor where there is a texture."""
    texture: Float[Tensor, "h w 3"] | None = None
    """sRGB, range [0, 1]; its first row is at v = 1, and it repeats outside of [0, 1]."""

    def at(self, uv: Float[Tensor, "m 2"]) -> Float[Tensor, "m 3"]:
        """Colours at texture coordinates, interpolated between the middles of texels."""
        color = uv.new_tensor(self.color)
        if self.texture is None:
            return color.expand(len(uv), 3)
        height, width, _ = self.texture.shape
        x, y = uv[:, 0] * width - 0.5, (1 - uv[:, 1]) * height - 0.5
        left, top = x.floor(), y.floor()
        right_share, low_share = (x - left)[:, None], (y - top)[:, None]
        columns = [(left.long() + i) % width for i in (0, 1)]
        rows = [(top.long() + i) % height for i in (0, 1)]
        upper, lower = (
            self.texture[row, columns[0]] * (1 - right_share) + self.texture[row, columns[1]] * right_share
            for row in rows
        )
        return (upper * (1 - low_share) + lower * low_share) * color


@dataclass(frozen=True, eq=False)
class Surface:
    """A mesh whose faces are painted."""

    mesh: Mesh
    """Its vertices are welded: the same place is one vertex. It has no colours; see `colored`."""
    paints: tuple[Paint, ...] = (Paint(),)
    face_paints: Int[Tensor, " f"] | None = None
    """Row of `paints` for each face; None is the first for all."""
    corner_colors: Float[Tensor, "f 3 3"] | None = None
    """sRGB, range [0, 1]: factors on the paints' colours."""
    corner_uv: Float[Tensor, "f 3 2"] | None = None
    """Texture coordinates of every face's corners."""

    def colors_at(self, faces: Int[Tensor, " m"], weights: Float[Tensor, "m 3"]) -> Float[Tensor, "m 3"]:
        """sRGB at points of faces.

        Args:
            faces: the face each point is on.
            weights: its barycentric coordinates.
        """
        colors = weights.new_ones(len(faces), 3)
        if self.corner_colors is not None:
            colors = (self.corner_colors[faces] * weights[..., None]).sum(1)
        uv = weights.new_zeros(len(faces), 2)
        if self.corner_uv is not None:
            uv = (self.corner_uv[faces] * weights[..., None]).sum(1)
        which = torch.zeros_like(faces) if self.face_paints is None else self.face_paints[faces]
        painted = torch.zeros_like(colors)
        for row, paint in enumerate(self.paints):
            mine = which == row
            painted[mine] = paint.at(uv[mine])
        return (colors * painted).clamp(0, 1)

    @cached_property
    def colored(self) -> Mesh:
        """The mesh with a colour per vertex, the mean of its faces' corners."""
        count = len(self.mesh.faces)
        corners = torch.zeros(len(self.mesh.vertices), 3)
        hits = torch.zeros(len(self.mesh.vertices))
        rows = torch.arange(count)
        for corner in range(3):
            weights = torch.eye(3)[corner].expand(count, 3)
            vertex = self.mesh.faces[:, corner].long()
            corners.index_add_(0, vertex, self.colors_at(rows, weights))
            hits.index_add_(0, vertex, torch.ones(count))
        return replace(self.mesh, colors=corners / hits.clamp(min=1)[:, None])

    def transformed(self, new_from_old: Float[Tensor, "4 4"], scale: float = 1.0) -> "Surface":
        """The surface with positions times `scale`, then moved rigidly."""
        return replace(self, mesh=self.mesh.transformed(new_from_old, scale))

    def stretched(self, factors: tuple[float, float, float]) -> "Surface":
        """The surface with its axes scaled one by one; a mirror image keeps its outside."""
        mesh = Mesh(self.mesh.vertices * torch.tensor(factors), self.mesh.faces)
        stretched = replace(self, mesh=mesh)
        return stretched.flipped() if factors[0] * factors[1] * factors[2] < 0 else stretched

    def flipped(self) -> "Surface":
        """The surface with every face looking to its other side."""
        swap = [0, 2, 1]
        return replace(
            self,
            mesh=replace(self.mesh, faces=self.mesh.faces[:, swap]),
            corner_colors=None if self.corner_colors is None else self.corner_colors[:, swap],
            corner_uv=None if self.corner_uv is None else self.corner_uv[:, swap],
        )

    def tinted(self, color: tuple[float, float, float]) -> "Surface":
        """The surface in one colour."""
        return Surface(self.mesh, (Paint(color),))

    @property
    def plain(self) -> bool:
        """Whether nobody said what colour it is."""
        bare = all(paint.color == GREY and paint.texture is None for paint in self.paints)
        return bare and self.corner_colors is None


def merged(surfaces: Sequence[Surface]) -> Surface:
    """Several surfaces as one.

    Raises:
        ValueError: none is given.
    """
    if len(surfaces) == 1:
        return surfaces[0]
    mesh = joined([replace(each.mesh, colors=None) for each in surfaces])
    starts = torch.tensor([0, *(len(each.paints) for each in surfaces)]).cumsum(0)
    face_paints, colors, uv = [], [], []
    for each, start in zip(surfaces, starts):
        count = len(each.mesh.faces)
        own = torch.zeros(count, dtype=torch.long) if each.face_paints is None else each.face_paints
        face_paints.append(own + start)
        colors.append(torch.ones(count, 3, 3) if each.corner_colors is None else each.corner_colors)
        uv.append(torch.zeros(count, 3, 2) if each.corner_uv is None else each.corner_uv)
    paints = tuple(paint for each in surfaces for paint in each.paints)
    return Surface(mesh, paints, torch.cat(face_paints), torch.cat(colors), torch.cat(uv))
