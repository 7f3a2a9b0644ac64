"""`Mesh` and `Shape`: the surface of an object, and the convex parts that simulators collide it with."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from .pose import transform_points


@dataclass(frozen=True, eq=False)
class Mesh:
    """Triangles, counter-clockwise seen from outside."""

    vertices: Float[Tensor, "v 3"]
    """[m, or the source's unit]"""
    faces: Int[Tensor, "f 3"]
    """Rows of `vertices`, int32."""
    colors: Float[Tensor, "v 3"] | None = None
    """sRGB of each vertex, range [0, 1]."""

    def __post_init__(self) -> None:
        if self.vertices.ndim != 2 or self.vertices.shape[1] != 3:
            raise ValueError(f"Mesh.vertices: expected shape (v, 3), got {tuple(self.vertices.shape)}")
        if self.faces.ndim != 2 or self.faces.shape[1] != 3:
            raise ValueError(f"Mesh.faces: expected shape (f, 3), got {tuple(self.faces.shape)}")
        object.__setattr__(self, "faces", self.faces.to(torch.int32))
        count = len(self.vertices)
        if len(self.faces) and not (0 <= int(self.faces.min()) and int(self.faces.max()) < count):
            raise ValueError(f"Mesh.faces: expected rows of {count} vertices, got {int(self.faces.max())}")
        if not bool(torch.isfinite(self.vertices).all()):
            raise ValueError("Mesh.vertices: expected finite numbers, got NaN or infinity")
        if self.colors is not None and self.colors.shape != self.vertices.shape:
            got = tuple(self.colors.shape)
            raise ValueError(f"Mesh.colors: expected shape {tuple(self.vertices.shape)}, got {got}")

    def transformed(self, new_from_old: Float[Tensor, "4 4"], scale: float = 1.0) -> "Mesh":
        """The mesh with positions times `scale`, then moved rigidly."""
        return replace(self, vertices=transform_points(new_from_old.to(self.vertices), self.vertices * scale))

    @property
    def triangles(self) -> Float[Tensor, "f 3 3"]:
        """The corners of every face."""
        return self.vertices[self.faces.long()]

    @property
    def area(self) -> float:
        """[m^2, or the unit squared]"""
        a, b, c = self.triangles.double().unbind(1)
        return float(torch.linalg.cross(b - a, c - a).norm(dim=1).sum() / 2)

    @property
    def volume(self) -> float:
        """[m^3, or the unit cubed] signed: positive for a closed mesh whose faces look outwards.

        The sum of the tetrahedra that the faces span with the origin (Zhang and Chen 2001, "Efficient feature
        extraction for 2D/3D objects in mesh representation").
        """
        a, b, c = self.triangles.double().unbind(1)
        return float((a * torch.linalg.cross(b, c)).sum() / 6)

    @property
    def center_of_mass(self) -> Float[Tensor, "3"]:
        """[m, or the unit] of the enclosed volume, evenly filled; of the vertices where it encloses none."""
        a, b, c = self.triangles.double().unbind(1)
        weights = (a * torch.linalg.cross(b, c)).sum(1)
        if not abs(float(weights.sum())) > 0:
            return self.vertices.mean(0)
        return ((weights[:, None] * (a + b + c)).sum(0) / (4 * weights.sum())).to(self.vertices)


@dataclass(frozen=True, eq=False)
class Shape:
    """What an object collides and is drawn with outside of splatting, in the object's own frame."""

    mesh: Mesh
    """The surface."""
    parts: tuple[Mesh, ...] = ()
    """Closed convex meshes whose union stands for the object in a simulator."""

    def transformed(self, new_from_old: Float[Tensor, "4 4"], scale: float = 1.0) -> "Shape":
        """The shape with positions times `scale`, then moved rigidly."""
        moved = tuple(part.transformed(new_from_old, scale) for part in self.parts)
        return Shape(self.mesh.transformed(new_from_old, scale), moved)

    @property
    def volume(self) -> float:
        """[m^3, or the unit cubed] of the surface if it is closed, else of the parts; 0 without."""
        return 0.0 if self._solid is None else self._solid.volume

    @property
    def center_of_mass(self) -> Float[Tensor, "3"]:
        """[m, or the unit] of what `volume` is the volume of, evenly filled; else the mean vertex."""
        return self.mesh.vertices.mean(0) if self._solid is None else self._solid.center_of_mass

    @property
    def _solid(self) -> Mesh | None:
        if is_closed(self.mesh):
            return self.mesh
        return joined(self.parts) if self.parts else None


def is_closed(mesh: Mesh) -> bool:
    """Whether every edge is shared by two faces that run along it in opposite directions."""
    faces = mesh.faces.long()
    if not len(faces):
        return False
    edges = torch.cat([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    count = len(mesh.vertices)
    there, back = edges[:, 0] * count + edges[:, 1], edges[:, 1] * count + edges[:, 0]
    there, repeats = there.unique(return_counts=True)
    return bool((repeats == 1).all()) and bool(torch.equal(there, back.unique()))


def joined(meshes: Sequence[Mesh]) -> Mesh:
    """Several meshes as one; colours are kept where all have them.

    Raises:
        ValueError: none is given.
    """
    if not meshes:
        raise ValueError("expected at least one mesh, got none")
    starts = torch.tensor([0] + [len(mesh.vertices) for mesh in meshes]).cumsum(0)
    faces = torch.cat([mesh.faces + int(start) for mesh, start in zip(meshes, starts)])
    colors = [mesh.colors for mesh in meshes if mesh.colors is not None]
    kept = torch.cat(colors) if len(colors) == len(meshes) else None
    return Mesh(torch.cat([mesh.vertices for mesh in meshes]), faces, kept)
