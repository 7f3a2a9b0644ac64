"""Where a body of known form and place appears in a picture: its outlines, moved to where there are edges."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import conv2d, grid_sample

from gaussworld.camera import Camera
from gaussworld.shape import Mesh

from ..mesh.open3d_mesh import open3d
from .photo_plane import Sighting

#: [px] how far a calibration may have moved a body in a picture, and the step of the search.
_REACH, _STEP = 8.0, 0.5
#: Outlines shorter than this are none [px].
_LEAST = 60
#: A best place that is less than this much better than the mean place is none.
_CLEAR = 1.3
#: Neighbouring samples are on different surfaces beyond this share of their depth, or angle (its cosine).
_JUMP, _CREASE = 0.02, 0.8


def sightings_of(
    mesh: Mesh, pictures: Sequence[Float[Tensor, "h w 3"]], cameras: Sequence[Camera], error_px: float = 1.5
) -> list[Sighting]:
    """The pictures that show a body well, and how far from where its mesh would appear they show it.

    Args:
        mesh: in the frame of the cameras.
        pictures: one of each camera, range [0, 1].
        cameras: PINHOLE.
        error_px: how well a shift is known; a turn of the body in the picture is not looked for.
    """
    found = []
    for index, (picture, camera) in enumerate(zip(pictures, cameras)):
        spots, normals = _outline(mesh, camera)
        if len(spots) < _LEAST:
            continue
        shift = _best_shift(picture, spots, normals)
        if shift is not None:
            points = _corners(mesh)
            found.append(Sighting(index, points, camera.project(points)[0] + shift, error_px))
    return found


def _corners(mesh: Mesh) -> Float[Tensor, "8 3"]:
    """The corners of the box around a body stand for it."""
    low, high = mesh.vertices.amin(0), mesh.vertices.amax(0)
    return torch.cartesian_prod(*(torch.stack([a, b]) for a, b in zip(low, high)))


def _outline(mesh: Mesh, camera: Camera) -> tuple[Float[Tensor, "m 2"], Float[Tensor, "m 2"]]:
    """Pixels where the mesh's outline or a crease would appear, and unit normals of these lines there."""
    depth, normals = _cast(mesh, camera)
    spots, across = [], []
    for axis in (0, 1):
        a, b = (values.narrow(axis, start, values.shape[axis] - 1) for values in (depth,) for start in (0, 1))
        n, m = (normals.narrow(axis, start, normals.shape[axis] - 1) for start in (0, 1))
        both = (a > 0) & (b > 0)
        jump = ((a > 0) != (b > 0)) | (both & ((a - b).abs() > _JUMP * torch.minimum(a, b)))
        crease = both & ((n * m).sum(-1) < _CREASE)
        rows = (jump | crease).nonzero().float()
        step = torch.tensor([1.0, 0.0]) if axis == 1 else torch.tensor([0.0, 1.0])
        spots.append(rows.flip(1) + 0.5 + step / 2)
        across.append(step.expand(len(rows), 2))
    return torch.cat(spots), torch.cat(across)


def _cast(mesh: Mesh, camera: Camera) -> tuple[Float[Tensor, "h w"], Float[Tensor, "h w 3"]]:
    """z-depth of a mesh through the pixels' centres, 0 beside it, and unit normals."""
    core, scene = open3d().core, open3d().t.geometry.RaycastingScene(nthreads=1)
    faces = core.Tensor(mesh.faces.contiguous().numpy()).to(core.uint32)
    scene.add_triangles(core.Tensor(mesh.vertices.contiguous().numpy()), faces)
    origin, rays = camera.rays()
    both = torch.cat([origin.expand_as(rays), rays], dim=-1).float().contiguous()
    answer = scene.cast_rays(core.Tensor(both.numpy()))
    distance = torch.from_numpy(answer["t_hit"].numpy())
    hit = torch.isfinite(distance)
    normals = torch.from_numpy(answer["primitive_normals"].numpy())
    depth = torch.where(hit, distance * (rays @ camera.world_from_camera[:3, 2]), 0.0)
    return depth, torch.where(hit[..., None], normals, 0.0)


def _best_shift(picture: Tensor, spots: Tensor, across: Tensor) -> Float[Tensor, "2"] | None:
    """The shift at which the picture's brightness changes most across the lines [px]."""
    slopes = _slopes(picture)
    h, w = picture.shape[:2]
    line = torch.arange(-_REACH, _REACH + 0.1, _STEP)
    dy, dx = torch.meshgrid(line, line, indexing="ij")
    shifts = torch.stack([dx, dy], dim=-1).reshape(-1, 1, 2)
    where = (spots + shifts) / torch.tensor([w, h]) * 2 - 1
    inside = (where.abs().amax(-1) < 1).float()
    values = grid_sample(slopes[None], where[None].float(), align_corners=False)[0]
    change = (values.movedim(0, -1) * across).sum(-1).abs() * inside
    scores = (change.sum(1) / inside.sum(1).clamp(min=1)).reshape(dx.shape)
    row, column = divmod(int(scores.argmax()), len(line))
    if not (0 < row < len(line) - 1 and 0 < column < len(line) - 1):
        return None
    if float(inside.mean()) < 0.5 or float(scores.max()) < _CLEAR * float(scores.mean()):
        return None
    return torch.stack([line[column], line[row]])


def _slopes(picture: Tensor) -> Float[Tensor, "2 h w"]:
    """Brightness's slopes along x and y, smoothed, strong edges bent down so that none decides alone."""
    grey = picture.detach().cpu().float().mean(-1)[None, None]
    line = torch.tensor([1.0, 4.0, 6.0, 4.0, 1.0]) / 16
    smooth = conv2d(grey, (line[:, None] * line)[None, None], padding=2)
    sobel = torch.tensor([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]]) / 8
    found = conv2d(smooth, torch.stack([sobel, sobel.T])[:, None], padding=1)[0]
    strength = found.norm(dim=0, keepdim=True)
    return found / (strength + strength.quantile(0.9))
