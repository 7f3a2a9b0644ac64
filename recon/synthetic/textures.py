"""The things on the synthetic tabletop: mesh primitives with a colour for every point of their surface."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from gaussworld.errors import MissingDependency
from gaussworld.pose import pose_from, rotation_from_rotvec

Texture = Callable[[Float[Tensor, "m 3"]], Float[Tensor, "m 3"]]

TABLE_RADIUS = 0.42
"""[m]"""


@dataclass(frozen=True, eq=False)
class Part:
    """A rigid textured mesh."""

    name: str
    vertices: Float[Tensor, "v 3"]
    """[m] in the part's own frame."""
    faces: Int[Tensor, "f 3"]
    texture: Texture
    """Colour in [0, 1] of points [m] in the part's own frame."""
    world_from_part: Float[Tensor, "4 4"]
    """[m] pose on the table; z = 0 is the table's top."""
    smooth: bool = False
    """Shade with interpolated vertex normals instead of flat faces."""

    def corner_normals(self) -> Float[Tensor, "f 3 3"]:
        """Unit normals at the corners of each triangle, in the part's own frame."""
        corners = self.vertices[self.faces]
        faces = torch.linalg.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        if self.smooth:
            # The cross product's length is twice the area: large triangles count more at a vertex.
            at_vertex = torch.zeros_like(self.vertices)
            at_vertex.index_add_(0, self.faces.flatten(), faces.repeat_interleave(3, dim=0))
            normals = at_vertex[self.faces]
        else:
            normals = faces[:, None].expand(-1, 3, 3)
        return torch.nn.functional.normalize(normals, dim=-1)


def tabletop_parts(generator: torch.Generator) -> tuple[Part, ...]:
    """A round wooden table with a book, a plaid box, a mug, a ball, a doughnut on a plate and a cone.

    Raises:
        MissingDependency: trimesh is not installed.
    """
    make = _trimesh().creation
    yaw = (torch.rand(6, generator=generator) * 2 * math.pi).tolist()
    wood = wooden(generator)
    book, plate, mug = (
        _at(0.17, 0.11, 0.0, 0.4 + 0.2 * yaw[0]),
        _at(-0.15, -0.17, 0.0, 0.0),
        _at(-0.15, 0.17, 0.0, yaw[1]),
    )
    parts = [
        _part("table", make.cylinder(TABLE_RADIUS, 0.03, sections=128), wood, _at(0.0, 0.0, -0.015)),
        _part("book", make.box((0.25, 0.18, 0.03)), book_cover, book @ _at(0.0, 0.0, 0.015)),
        _part("box", make.box((0.12, 0.1, 0.09)), plaid, book @ _at(0.01, 0.0, 0.075, yaw[2])),
        _part("mug", make.annulus(0.04, 0.046, 0.1, sections=96), mug_stripes, mug @ _at(0.0, 0.0, 0.05)),
        _part(
            "handle",
            _half(make.torus(0.03, 0.007, 48, 16)),
            plain(0.96, 0.94, 0.88),
            mug @ _handle(),
            smooth=True,
        ),
        _part(
            "coffee",
            make.cylinder(0.041, 0.07, sections=64),
            plain(0.24, 0.13, 0.07),
            mug @ _at(0.0, 0.0, 0.036),
        ),
        _part("plate", make.cylinder(0.105, 0.012, sections=96), plate_rim, plate @ _at(0.0, 0.0, 0.006)),
        _part(
            "doughnut",
            make.torus(0.055, 0.026, 96, 48),
            icing(generator),
            plate @ _at(0.0, 0.0, 0.036, yaw[3]),
            smooth=True,
        ),
        _part("ball", make.icosphere(4, 0.065), beach_ball, _tilted_ball(yaw[4]), smooth=True),
        _part("foot", make.box((0.13, 0.13, 0.012)), plain(0.16, 0.17, 0.2), _at(0.19, -0.19, 0.006, yaw[5])),
        _part("cone", make.cone(0.05, 0.16, sections=96), cone_bands, _at(0.19, -0.19, 0.012, yaw[5])),
    ]
    return tuple(parts)


def _part(name: str, mesh, texture: Texture, world_from_part: Tensor, smooth: bool = False) -> Part:
    vertices = torch.tensor(mesh.vertices, dtype=torch.float32)
    return Part(name, vertices, torch.tensor(mesh.faces), texture, world_from_part, smooth)


def _half(mesh):
    """The faces of a mesh at x > 0, so that a handle does not reach through the wall of its mug."""
    mesh.update_faces(mesh.triangles_center[:, 0] > 0)
    return mesh


def _at(x: float, y: float, z: float, yaw: float = 0.0) -> Tensor:
    return pose_from(rotation_from_rotvec(torch.tensor([0.0, 0.0, yaw])), torch.tensor([x, y, z]))


def _handle() -> Tensor:
    """The half torus upright, its hole along y, its ends inside the mug's wall."""
    return pose_from(
        rotation_from_rotvec(torch.tensor([math.pi / 2, 0.0, 0.0])), torch.tensor([0.0435, 0.0, 0.05])
    )


def _tilted_ball(yaw: float) -> Tensor:
    return _at(0.0, -0.02, 0.065, yaw) @ pose_from(
        rotation_from_rotvec(torch.tensor([0.6, 0.3, 0.0])), torch.zeros(3)
    )


def plain(r: float, g: float, b: float) -> Texture:
    """One colour everywhere."""
    return lambda points: torch.tensor([r, g, b]).expand(len(points), 3)


def mix(a: Tensor, b: Tensor, share: Float[Tensor, " m"]) -> Float[Tensor, "m 3"]:
    """From colour `a` at share 0 to colour `b` at share 1."""
    share = share.clamp(0, 1)[:, None]
    return a * (1 - share) + b * share


def wooden(generator: torch.Generator) -> Texture:
    """Planks with grain on the table's top and rim, looked up in a picture painted once."""
    picture = _wood_picture(generator)

    def texture(points: Tensor) -> Tensor:
        grid = (points[:, :2] / (TABLE_RADIUS * 1.01))[None, None]
        looked_up = torch.nn.functional.grid_sample(picture, grid, align_corners=False)
        return looked_up[0, :, 0].T

    return texture


def _wood_picture(generator: torch.Generator, size: int = 768, planks: int = 7) -> Float[Tensor, "1 3 s s"]:
    plank = (torch.arange(size) * planks) // size
    across = (torch.arange(size) * planks / size) % 1.0
    tone = torch.rand(planks, generator=generator)[plank]
    drift = _noise((planks * 2, 6), size, generator)
    grain = _noise((160, 7), size, generator) * 0.6 + _noise((60, 4), size, generator) * 0.4
    rings = 0.5 + 0.5 * torch.sin(18 * drift + 14 * across[:, None] + 6 * tone[:, None])
    share = 0.40 * tone[:, None] + 0.30 * rings + 0.45 * (grain - 0.5)
    light, dark = torch.tensor([0.86, 0.64, 0.40]), torch.tensor([0.47, 0.27, 0.13])
    picture = mix(light, dark, share.flatten()).reshape(size, size, 3)
    gap = (torch.minimum(across, 1 - across) < 0.02)[:, None, None]
    return torch.where(gap, picture * 0.5, picture).permute(2, 0, 1)[None]


def _noise(cells: tuple[int, int], size: int, generator: torch.Generator) -> Float[Tensor, "s s"]:
    """Smooth noise in [0, 1]: random values on a coarse grid, interpolated."""
    coarse = torch.rand(1, 1, *cells, generator=generator)
    smooth = torch.nn.functional.interpolate(coarse, (size, size), mode="bicubic", align_corners=False)
    return smooth[0, 0].clamp(0, 1)


def plaid(points: Float[Tensor, "m 3"]) -> Float[Tensor, "m 3"]:
    """A red tartan: bands along each axis that darken one another, with thin yellow lines."""
    cloth = torch.tensor([0.78, 0.12, 0.13]).expand(len(points), 3)
    for axis, shift in enumerate((0.019, 0.008, 0.0)):
        # The shift keeps the faces, half a width from the middle, inside a band and away from its edges.
        along = (points[:, axis] + shift) % 0.04
        band = ((along > 0.012) & (along < 0.024)).float()
        line = ((along > 0.030) & (along < 0.034)).float()
        cloth = mix(cloth, torch.tensor([0.10, 0.22, 0.16]), 0.45 * band)
        cloth = mix(cloth, torch.tensor([0.95, 0.82, 0.35]), 0.55 * line)
    return cloth


def book_cover(points: Float[Tensor, "m 3"]) -> Float[Tensor, "m 3"]:
    """A blue cover with a pale title block; page edges on three sides."""
    x, y, z = points.unbind(-1)
    cover = torch.tensor([0.13, 0.29, 0.52]).expand(len(points), 3)
    frame = ((x.abs() < 0.110) & (y.abs() < 0.076) & ((x.abs() > 0.104) | (y.abs() > 0.070))).float()
    cover = mix(cover, torch.tensor([0.93, 0.86, 0.62]), frame)
    pages = (z.abs() < 0.0115) & ((x.abs() > 0.1249) | (y > 0.0899))
    leaves = 0.90 - 0.10 * torch.sin(z * 2200)
    return torch.where(pages[:, None], leaves[:, None] * torch.tensor([1.0, 0.97, 0.90]), cover)


def mug_stripes(points: Float[Tensor, "m 3"]) -> Float[Tensor, "m 3"]:
    """Glazed cream with teal stripes outside, cream inside."""
    outside = points[:, :2].norm(dim=-1) > 0.043
    stripes = (((points[:, 2] + 0.05) % 0.028) < 0.013) & (points[:, 2].abs() < 0.046)
    return mix(
        torch.tensor([0.96, 0.94, 0.88]), torch.tensor([0.05, 0.50, 0.52]), (outside & stripes).float()
    )


def plate_rim(points: Float[Tensor, "m 3"]) -> Float[Tensor, "m 3"]:
    """White with a blue ring near the edge."""
    radius = points[:, :2].norm(dim=-1)
    ring = ((radius > 0.086) & (radius < 0.096)).float()
    return mix(torch.tensor([0.95, 0.95, 0.94]), torch.tensor([0.20, 0.35, 0.70]), ring)


def icing(generator: torch.Generator) -> Texture:
    """A doughnut: pink icing with a wavy edge and sprinkles over baked dough."""
    palette = torch.tensor([[0.98, 0.95, 0.4], [0.35, 0.75, 0.95], [0.98, 0.98, 0.98], [0.55, 0.85, 0.45]])
    count = 90
    angle = torch.rand(count, generator=generator) * 2 * math.pi
    reach = 0.055 + 0.017 * (2 * torch.rand(count, generator=generator) - 1)
    height = (0.026**2 - (reach - 0.055) ** 2).sqrt()
    sprinkles = torch.stack([reach * angle.cos(), reach * angle.sin(), height], dim=-1)
    colors = palette[torch.randint(len(palette), (count,), generator=generator)]

    def texture(points: Tensor) -> Tensor:
        around = torch.atan2(points[:, 1], points[:, 0])
        iced = points[:, 2] > 0.004 + 0.004 * torch.sin(7 * around)
        base = mix(torch.tensor([0.80, 0.55, 0.28]), torch.tensor([0.94, 0.45, 0.62]), iced.float())
        distance, nearest = torch.cdist(points, sprinkles).min(dim=1)
        return torch.where((distance < 0.0035)[:, None], colors[nearest], base)

    return texture


def beach_ball(points: Float[Tensor, "m 3"]) -> Float[Tensor, "m 3"]:
    """Six sectors in four colours with white caps."""
    palette = torch.tensor(
        [
            [0.90, 0.20, 0.18],
            [0.97, 0.96, 0.93],
            [0.98, 0.76, 0.15],
            [0.15, 0.42, 0.80],
            [0.97, 0.96, 0.93],
            [0.22, 0.62, 0.35],
        ]
    )
    sector = ((torch.atan2(points[:, 1], points[:, 0]) / (2 * math.pi) + 0.5) * 6).long().clamp(0, 5)
    caps = (points[:, 2].abs() > 0.059).float()
    return mix(palette[sector], torch.tensor([0.97, 0.96, 0.93]), caps)


def cone_bands(points: Float[Tensor, "m 3"]) -> Float[Tensor, "m 3"]:
    """Traffic-cone orange with two white bands."""
    z = points[:, 2]
    bands = ((z > 0.04) & (z < 0.068)) | ((z > 0.092) & (z < 0.115))
    return mix(torch.tensor([0.95, 0.40, 0.08]), torch.tensor([0.96, 0.96, 0.95]), bands.float())


def _trimesh():
    try:
        import trimesh
        import trimesh.creation
    except ImportError as error:
        raise MissingDependency(
            "expected trimesh to build meshes, found none; run `pip install trimesh`"
        ) from error
    return trimesh
