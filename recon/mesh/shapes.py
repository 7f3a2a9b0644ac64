"""Shapes of a world's objects, and the mesh of the whole scene, as long work that reports its events."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from gaussworld.camera import Camera
from gaussworld.gaussians import Gaussians, cat
from gaussworld.log import Done, Event, Notice, Progress
from gaussworld.neighbors import nearest
from gaussworld.pose import invert_pose
from gaussworld.shape import Mesh, Shape
from gaussworld.threads import one_torch_thread
from gaussworld.world import World
from gaussworld.world_object import BACKGROUND_ID, WorldObject

from .cameras import cameras_of, spread_over
from .carve import carved, surface
from .convex import Method, convex_parts
from .depth import DepthKind, DepthView, depth_view
from .extent import corners_of, floor_under, grid_around, solid
from .fuse import Fusion, voxel_for
from .lid import levelled, resting, with_lids
from .open3d_mesh import cleaned, decimated, parts
from .paint import painted


@dataclass(frozen=True)
class MeshSettings:
    """How fine meshes are, and how long they may take."""

    views: int = 36
    """Cameras at most from which an object, and the scene, is measured."""
    pixels: int = 192
    """[px] longer side of the picture of an object."""
    voxels: int = 250_000
    """In the box around an object."""
    faces: int = 6000
    """Of an object's mesh at most."""
    convex: Method = "cuts"
    """How an object is cut into convex parts: plane cuts, or CoACD, which takes many times as long."""
    threshold: float = 0.05
    """Share of the object's volume that a part may waste; for CoACD its concavity. Smaller: more parts."""
    max_parts: int = 12
    """Convex parts of an object at most; 1 takes the convex hull."""
    scene_voxels: int = 320
    """In the median depth that the cameras see."""
    scene_pixels: int = 480
    """[px] longer side of the pictures from which the scene is fused, at most."""
    scene_depth: DepthKind = "expected"
    """Which depth the scene's mesh is fused from: expected is smooth where Gaussians are coarse; surface is
    sharper where they are fine, and right where they are translucent."""
    scene_faces: int = 200_000
    """Of the scene's mesh at most."""
    seed: int = 0
    """Of the search for convex parts."""
    seconds: float = 20.0
    """[s] for CoACD with one object; after that plane cuts must do."""


def shapes(
    world: World, objects: Sequence[int] | None = None, settings: MeshSettings | None = None
) -> Iterator[Event[dict[int, Shape]]]:
    """Make the shape of each object, in its own frame and the world's unit; the result is by id.

    An object is drawn alone, from the world's cameras that see it and from the side; its surface is closed
    where nobody looked, at the bottom by the level it stands on. One that has too few Gaussians is left out
    with a notice. The background, if it is asked for, is what surrounds: an open surface without parts.

    Args:
        world: as it stands; what is hidden or deleted has no part in it.
        objects: ids; default: all but the background, and what is hidden.
        settings: how fine.

    Raises:
        ValueError: no such object.
        MissingDependency: open3d or coacd is not installed.
    """
    settings = settings or MeshSettings()
    chosen = [world.find(number) for number in objects] if objects is not None else _things(world)
    made: dict[int, Shape] = {}
    for step, item in enumerate(chosen):
        yield Progress(step, len(chosen), message=item.name, stage="Shapes")
        shape = (_surroundings if item.id == BACKGROUND_ID else _shape)(world, item, settings)
        if shape is None:
            yield Notice(
                f"{item.name}: expected Gaussians that enclose something, got {len(item.gaussians)}; it gets"
                " no shape"
            )
        else:
            made[item.id] = shape
    yield Progress(len(chosen), len(chosen), {"shapes": float(len(made))}, stage="Shapes")
    yield Done(made)


def scene_mesh(
    world: World,
    settings: MeshSettings | None = None,
    measured: Sequence[DepthView] = (),
    rendered: bool = True,
) -> Iterator[Event[Mesh]]:
    """Fuse one coloured mesh of all that is shown, in the world frame.

    Args:
        world: with cameras, else it is looked at from a ring around it.
        settings: how fine.
        measured: depth of a sensor, to be fused as well.
        rendered: whether the Gaussians' depth is fused; if not, only `measured` is.

    Raises:
        MissingDependency: open3d is not installed.
        ValueError: nothing to fuse.
    """
    settings = settings or MeshSettings()
    gaussians = world.shown().detach()
    if not len(gaussians) or not (rendered or measured):
        raise ValueError("expected Gaussians or measured depth to make a mesh of, got none")
    chosen = _scene_cameras(world, gaussians, settings) if rendered else []
    cameras = [_shrunk(camera, settings.scene_pixels) for camera in chosen]
    views = list(measured)
    with one_torch_thread():
        for step, camera in enumerate(cameras):
            yield Progress(step, len(cameras), message="depth", stage="Depth of the scene")
            views.append(depth_view(gaussians, camera, kind=settings.scene_depth))
        yield Progress(0, 1, message="fusing", stage="Scene mesh")
        colored = _fused(views, settings)
        yield Progress(1, 1, stage="Scene mesh")
    yield Done(colored)


def _things(world: World) -> list[WorldObject]:
    """All that is shown but the background."""
    return [item for item in world.objects.values() if item.id != BACKGROUND_ID and not item.hidden]


@one_torch_thread()
@torch.no_grad()
def _shape(world: World, item: WorldObject, settings: MeshSettings) -> Shape | None:
    own = solid(item.posed().shown())
    if len(own) < 20:
        return None
    up = torch.tensor(world.up or (0.0, 0.0, 1.0))
    grid = grid_around(own, up, settings.voxels)
    height = floor_under(own, _below(world, item), up)
    cameras = cameras_of(world.cameras, corners_of(grid), up, settings.views, settings.pixels)
    riders = resting(own, _riders(world, item), up)
    covered = with_lids(own, riders, up)
    views = [depth_view(covered, camera, jump=8 * grid.voxel) for camera in cameras]
    field = carved(views, grid, None if height is None else (up, height))
    found = [part for part in parts(surface(field, grid)) if part.volume > 0]
    if not found:
        return None
    # Islands are noise: an object is one thing. Cavities have no positive volume and are filled so.
    whole = max(found, key=lambda part: part.volume)
    mesh = painted(decimated(whole, settings.faces), views, 4 * grid.voxel)
    s = settings
    hulls = convex_parts(mesh, s.convex, s.threshold, s.max_parts, s.seed, s.seconds)
    hulls = levelled(hulls, [level for _, level in riders], up, 5 * grid.voxel)
    return Shape(mesh, hulls).transformed(invert_pose(item.world_from_object))


@one_torch_thread()
@torch.no_grad()
def _surroundings(world: World, item: WorldObject, settings: MeshSettings) -> Shape | None:
    own = item.posed().shown().detach()
    if len(own) < 20:
        return None
    cameras = [_shrunk(camera, settings.scene_pixels) for camera in _scene_cameras(world, own, settings)]
    mesh = _fused([depth_view(own, camera, kind=settings.scene_depth) for camera in cameras], settings)
    return Shape(mesh.transformed(invert_pose(item.world_from_object))) if len(mesh.faces) else None


def _below(world: World, item: WorldObject) -> Gaussians:
    """What an object may stand on: its supports where they are known, else all others."""
    supports = [number for number in item.supported_by or () if number in world.objects]
    others = [world.objects[number] for number in supports] or [
        other for other in world.objects.values() if other.id != item.id and not other.hidden
    ]
    return cat([other.posed() for other in others]).shown() if others else item.gaussians.select(slice(0, 0))


def _riders(world: World, item: WorldObject) -> list[Gaussians]:
    """What may stand on an object: those that rest on it where that is known, else all others."""
    others = [other for other in _things(world) if other.id != item.id]
    riding = [o for o in others if o.supported_by is None or item.id in o.supported_by]
    return [solid(other.posed().shown()) for other in riding]


def _scene_cameras(world: World, gaussians: Gaussians, settings: MeshSettings) -> list[Camera]:
    if world.cameras:
        return [camera.undistorted() for camera in spread_over(world.cameras, settings.views)]
    up = torch.tensor(world.up or (0.0, 0.0, 1.0))
    corners = corners_of(grid_around(solid(gaussians), up, 1000))
    return cameras_of((), corners, up, settings.views, settings.scene_pixels)


def _fused(views: Sequence[DepthView], settings: MeshSettings) -> Mesh:
    """One coloured surface of many views, without crumbs."""
    fusion = Fusion(*voxel_for(views, settings.scene_voxels))
    for view in views:
        fusion.add(view)
    whole = cleaned(fusion.mesh(), 0.002)
    return _recolored(decimated(whole, settings.scene_faces), whole)


def _shrunk(camera: Camera, longest: int) -> Camera:
    scale = min(1.0, longest / max(camera.width, camera.height))
    return camera.rescaled(max(1, round(camera.width * scale)), max(1, round(camera.height * scale)))


def _recolored(mesh: Mesh, source: Mesh) -> Mesh:
    """Colours of the nearest vertices of the mesh it was decimated from."""
    if mesh.colors is not None or source.colors is None or not len(mesh.vertices):
        return mesh
    rows: Float[Tensor, " v"] = nearest(source.vertices, 1, mesh.vertices)[1][:, 0]
    return Mesh(mesh.vertices, mesh.faces, source.colors[rows])
