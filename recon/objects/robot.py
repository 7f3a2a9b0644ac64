"""The Gaussians of a robot: those on or in the meshes of its links, where its joints put them."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from gaussworld.camera import Camera
from gaussworld.gaussians import Gaussians
from gaussworld.shape import Mesh
from gaussworld.world_object import BACKGROUND_ID, ObjectKind

from ..mesh.open3d_mesh import open3d
from .found import Found

#: A Gaussian whose deviations reach the surface from farther away is on it, but no farther than this many
#: tolerances: haze around an arm is not the arm.
_REACH = 2.0


def with_robot(
    gaussians: Gaussians, meshes: Mapping[str, Mesh], tolerance: float, found: Found | None = None
) -> Found:
    """Give the Gaussians of each link an object of its own; the others stay as they were found.

    A Gaussian belongs to the nearest link if its centre is inside of the mesh, or within the tolerance of it:
    that forgives errors of the calibration and of the joint values. Confidence falls from the surface to the
    edge of the tolerance, where something else may be meant.

    Args:
        gaussians: in the world frame; n of them.
        meshes: of every link, by name, in the world frame.
        tolerance: [unit of the world] how far off the meshes may be.
        found: what else there is; default: background.
    """
    nothing = torch.zeros(len(gaussians), dtype=torch.int32)
    found = found or Found(nothing, nothing.to(torch.uint8))
    links, sure = near_meshes(gaussians, list(meshes.values()), tolerance)
    first = max([0, *found.names, *found.numbers]) + 1
    hit = links >= 0
    ids = torch.where(hit, links + first, found.ids.long()).to(torch.int32)
    confidences = torch.where(hit, (sure * 255).round().to(torch.uint8), found.confidences)
    present = {first + i: name for i, name in enumerate(meshes) if bool((links == i).any())}
    kinds = {**found.kinds, **dict.fromkeys(present, ObjectKind.ROBOT)}
    return Found(ids, confidences, {**found.names, **present}, kinds)


def near_meshes(
    gaussians: Gaussians, meshes: Sequence[Mesh], tolerance: float
) -> tuple[Int[Tensor, " n"], Float[Tensor, " n"]]:
    """The mesh that each Gaussian is on or in, -1 for none, and the sureness of that, range [0, 1].

    Raises:
        ValueError: the tolerance is not positive.
        MissingDependency: open3d is not installed.
    """
    if not tolerance > 0:
        raise ValueError(f"expected a positive tolerance, got {tolerance:g}")
    means = gaussians.means.detach().float().contiguous()
    best = torch.full((len(means),), torch.inf)
    links = torch.full((len(means),), -1)
    for i, mesh in enumerate(meshes):
        distance = _signed_distances(mesh, means, _REACH * tolerance)
        closer = distance < best
        best, links = torch.where(closer, distance, best), torch.where(closer, i, links)
    # A large Gaussian just off the surface draws the surface.
    half = gaussians.log_scales.detach().amax(1).exp()
    reach = (tolerance + half).clamp(max=_REACH * tolerance)
    outside = best.clamp(min=0) / reach
    return torch.where(outside <= 1, links, -1), (1 - 0.75 * outside).clamp(0, 1)


def mesh_pictures(meshes: Sequence[Mesh], cameras: Sequence[Camera]) -> list[Int[Tensor, "h w"]]:
    """Which mesh each pixel of each camera sees, from 1; 0 for none: masks to lift.

    Other things do not hide the meshes here: with Gaussians in front, lifting sees to that.

    Raises:
        MissingDependency: open3d is not installed.
    """
    scene = _scene(meshes)
    pictures = []
    for camera in cameras:
        origin, directions = camera.rays()
        rays = torch.cat([origin.expand_as(directions), directions], dim=-1).float().contiguous()
        hits = scene.cast_rays(open3d().core.Tensor(rays.numpy()))["geometry_ids"].numpy().astype("int64")
        found = torch.from_numpy(hits)
        pictures.append(torch.where(found < len(meshes), found + 1, BACKGROUND_ID))
    return pictures


def _signed_distances(mesh: Mesh, points: Tensor, reach: float) -> Float[Tensor, " n"]:
    """[unit] to the surface, negative inside; infinity beyond `reach`."""
    distances = torch.full((len(points),), torch.inf)
    if not len(mesh.faces):
        return distances
    low, high = mesh.vertices.amin(0) - reach, mesh.vertices.amax(0) + reach
    rows = ((points >= low) & (points <= high)).all(1).nonzero()[:, 0]
    if len(rows):
        scene = _scene([mesh])
        asked = open3d().core.Tensor(points[rows].numpy())
        # Three rays vote on what is inside, since meshes of robots are seldom closed.
        signed = scene.compute_signed_distance(asked, nsamples=3)
        distances[rows] = torch.from_numpy(signed.numpy())
    return distances


def _scene(meshes: Sequence[Mesh]) -> Any:
    package = open3d()
    scene = package.t.geometry.RaycastingScene(nthreads=torch.get_num_threads())
    for mesh in meshes:
        vertices, faces = mesh.vertices.float().contiguous().numpy(), mesh.faces.contiguous().numpy()
        scene.add_triangles(package.core.Tensor(vertices), package.core.Tensor(faces).to(package.core.uint32))
    return scene
