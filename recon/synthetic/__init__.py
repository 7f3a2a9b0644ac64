"""A tabletop of textured meshes, ray-cast with Embree: pictures whose truth shares no code with the model."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from gaussworld.camera import Camera
from gaussworld.capture import Capture, Frame
from gaussworld.pose import transform_points
from gaussworld.threads import one_torch_thread

from ..mesh.open3d_mesh import open3d
from .textures import Part, tabletop_parts

#: Colour of the sky behind the scene; give it to the trainer so that truth and model agree.
SKY = (0.80, 0.86, 0.92)
_AMBIENT, _SUN = 0.42, 0.68
_LIGHT_FROM = (0.9, -0.7, 1.9)
_LIGHT_SIZE = 0.22
#: Corners of a pixel's 2x2 sub-samples. Each has its own spot on the lamp, so that four samples make one soft
#: shadow that is the same from every camera (random spots would not be).
_CORNERS = ((-0.25, -0.25), (0.25, -0.25), (-0.25, 0.25), (0.25, 0.25))


@dataclass(frozen=True)
class TabletopConfig:
    """How many pictures of the tabletop to take, and from where."""

    views: int = 28
    """Cameras on the ring; every `holdout`-th is kept for testing."""
    width: int = 320
    """[px]"""
    height: int = 240
    """[px]"""
    holdout: int = 8
    """Views 0, holdout, 2*holdout, ... are the test split."""
    points: int = 6000
    """Surface points handed over, as structure from motion would."""
    point_noise: float = 0.002
    """[m] standard deviation of the error of those points."""
    radius: float = 1.05
    """[m] distance of the cameras from the middle of the table."""
    fov_deg: float = 46.0
    """[deg] vertical field of view."""


@dataclass(frozen=True, eq=False)
class View:
    """What one camera sees of the meshes."""

    rgb: Float[Tensor, "h w 3"]
    """Shaded and supersampled, range [0, 1]."""
    depth: Float[Tensor, "h w"]
    """[m] z-depth through the pixel centres, 0 where there is only sky."""


@dataclass(frozen=True, eq=False)
class MeshScene:
    """Textured meshes inside Embree's ray caster."""

    parts: tuple[Part, ...]
    caster: Any = field(repr=False)
    """open3d's RaycastingScene."""
    corner_normals: Float[Tensor, "f 3 3"] = field(repr=False)
    """Normals at the corners of every triangle, all parts in order."""
    first_face: Int[Tensor, " o"] = field(repr=False)
    """Row of the first triangle of each part in `corner_normals`."""


@dataclass(frozen=True, eq=False)
class _Hits:
    """Where rays ended: only those that hit something."""

    rays: Int[Tensor, " m"]
    points: Float[Tensor, "m 3"]
    normals: Float[Tensor, "m 3"]
    parts: Int[Tensor, " m"]


def tabletop(config: TabletopConfig | None = None, seed: int = 0) -> Capture:
    """Ray-cast the tabletop from a ring of cameras: pictures and depths in memory, metres, +z up.

    Args:
        config: views, size and points.
        seed: the arrangement of the objects, their grain, and the noise of the points.

    Raises:
        MissingDependency: open3d or trimesh, or a system library of theirs, is missing.
    """
    config = config or TabletopConfig()
    generator = torch.Generator().manual_seed(seed)
    scene = mesh_scene(tabletop_parts(generator))
    with one_torch_thread():
        views = [(camera, cast_view(scene, camera)) for camera in ring_cameras(config)]
    frames = tuple(Frame(camera, view.rgb, depth=view.depth) for camera, view in views)
    capture = Capture(frames, metres_per_unit=1.0).with_holdout(config.holdout)
    trained = [pair for pair, frame in zip(views, capture.frames) if frame.split == "train"]
    points, colors = _surface_points(trained, config, generator)
    return Capture(capture.frames, points, colors, metres_per_unit=1.0)


def ring_cameras(config: TabletopConfig) -> list[Camera]:
    """Cameras around the table at elevations from 20 to 55 degrees that all look at its middle."""
    cameras = []
    for i in range(config.views):
        azimuth = 2 * math.pi * i / config.views
        # Golden-ratio steps: neighbours differ in height, and no test view is the lowest or highest of all.
        elevation = math.radians(20 + 35 * ((0.5 + i * 0.6180339887) % 1.0))
        eye = (
            config.radius * math.cos(elevation) * math.cos(azimuth),
            config.radius * math.cos(elevation) * math.sin(azimuth),
            config.radius * math.sin(elevation),
        )
        cameras.append(Camera.looking_at(eye, (0.0, 0.0, -0.02), config.width, config.height, config.fov_deg))
    return cameras


def mesh_scene(parts: tuple[Part, ...]) -> MeshScene:
    """Put textured meshes into a ray caster.

    Raises:
        MissingDependency: open3d or a system library it loads is missing.
    """
    package = open3d()
    caster = package.t.geometry.RaycastingScene(nthreads=torch.get_num_threads())
    normals, first_face, count = [], [], 0
    for part in parts:
        vertices = transform_points(part.world_from_part, part.vertices)
        caster.add_triangles(
            package.core.Tensor(vertices.contiguous().numpy()),
            package.core.Tensor(part.faces.to(torch.int32).numpy()).to(package.core.uint32),
        )
        first_face.append(count)
        count += len(part.faces)
        normals.append(part.corner_normals() @ part.world_from_part[:3, :3].T)
    return MeshScene(parts, caster, torch.cat(normals), torch.tensor(first_face))


def cast_view(scene: MeshScene, camera: Camera) -> View:
    """Draw the scene for one pinhole camera: Lambert and ambient light, soft shadow, four samples a pixel."""
    sky = torch.tensor(SKY)
    centers = camera.pixel_centers().reshape(-1, 2)
    total = torch.zeros(len(centers), 3)
    for corner, lamp in zip(_CORNERS, _lamp_spots()):
        directions = camera.directions(centers + torch.tensor(corner)) @ camera.world_from_camera[:3, :3].T
        hits = _cast(scene, camera.center, directions)
        total += sky
        total[hits.rays] += _shade(scene, hits, lamp) - sky
    rgb = (total / len(_CORNERS)).clamp(0, 1)
    return View(rgb.reshape(camera.height, camera.width, 3), _depth(scene, camera))


def _depth(scene: MeshScene, camera: Camera) -> Tensor:
    origin, directions = camera.rays()
    hits = _cast(scene, origin, directions.reshape(-1, 3))
    depth = torch.zeros(camera.height * camera.width)
    depth[hits.rays] = (hits.points - origin) @ camera.world_from_camera[:3, 2]
    return depth.reshape(camera.height, camera.width)


def _cast(scene: MeshScene, origin: Tensor, directions: Tensor) -> _Hits:
    answer = scene.caster.cast_rays(_open3d_rays(origin.expand_as(directions), directions))
    distance = torch.from_numpy(answer["t_hit"].numpy())
    rays = torch.isfinite(distance).nonzero()[:, 0]
    part = torch.from_numpy(answer["geometry_ids"].numpy().astype("int64"))[rays]
    face = torch.from_numpy(answer["primitive_ids"].numpy().astype("int64"))[rays]
    uv = torch.from_numpy(answer["primitive_uvs"].numpy())[rays]
    weights = torch.cat([1 - uv.sum(-1, keepdim=True), uv], dim=-1)
    normals = (scene.corner_normals[scene.first_face[part] + face] * weights[..., None]).sum(1)
    # Inside an open cup the triangle is seen from behind.
    towards = -(normals * directions[rays]).sum(-1, keepdim=True)
    normals = torch.nn.functional.normalize(torch.where(towards < 0, -normals, normals), dim=-1)
    return _Hits(rays, origin + distance[rays, None] * directions[rays], normals, part)


def _shade(scene: MeshScene, hits: _Hits, lamp: Tensor) -> Tensor:
    albedo = torch.zeros_like(hits.points)
    for index, part in enumerate(scene.parts):
        rows = (hits.parts == index).nonzero()[:, 0]
        if len(rows):
            local = (hits.points[rows] - part.world_from_part[:3, 3]) @ part.world_from_part[:3, :3]
            albedo[rows] = part.texture(local)
    to_lamp = lamp - hits.points
    start = hits.points + 1e-4 * hits.normals
    blocked = torch.from_numpy(
        scene.caster.test_occlusions(_open3d_rays(start, to_lamp), tnear=1e-4, tfar=1.0).numpy()
    )
    cosine = (hits.normals * torch.nn.functional.normalize(to_lamp, dim=-1)).sum(-1).clamp(min=0)
    # The sky lights what faces up more than what faces down.
    ambient = _AMBIENT * (0.75 + 0.25 * hits.normals[:, 2])
    return albedo * (ambient + _SUN * cosine * ~blocked)[:, None]


def _lamp_spots() -> Tensor:
    """Four spots [m] on a square lamp that faces the table."""
    lamp = torch.tensor(_LIGHT_FROM)
    side = torch.nn.functional.normalize(torch.linalg.cross(lamp, torch.tensor([0.0, 0.0, 1.0])), dim=0)
    up = torch.nn.functional.normalize(torch.linalg.cross(side, lamp), dim=0)
    offsets = torch.tensor([[-1.0, -0.4], [0.4, -1.0], [-0.4, 1.0], [1.0, 0.4]]) * _LIGHT_SIZE / 2
    return lamp + offsets[:, :1] * side + offsets[:, 1:] * up


def _surface_points(
    views: Sequence[tuple[Camera, View]], config: TabletopConfig, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Points that the cameras see, with their colours, spread evenly over the pictures."""
    points, colors = [], []
    for i, (camera, view) in enumerate(views):
        count = config.points * (i + 1) // len(views) - config.points * i // len(views)
        seen = (view.depth > 0).flatten().nonzero()[:, 0]
        rows = seen[torch.randint(len(seen), (count,), generator=generator)]
        pixels = camera.pixel_centers().reshape(-1, 2)[rows]
        points.append(camera.unproject(pixels, view.depth.flatten()[rows]))
        colors.append(view.rgb.reshape(-1, 3)[rows])
    noise = torch.randn(config.points, 3, generator=generator) * config.point_noise
    return torch.cat(points) + noise, torch.cat(colors)


def _open3d_rays(origins: Tensor, directions: Tensor) -> Any:
    return open3d().core.Tensor(torch.cat([origins, directions], dim=-1).contiguous().numpy())
