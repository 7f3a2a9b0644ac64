"""A `World` of an episode's true meshes, as it stands at time 0."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from gaussworld.errors import FileFormatError
from gaussworld.pose import pose_from_pose7
from gaussworld.shape import Mesh, Shape
from gaussworld.surface import Paint, Surface
from gaussworld.surface.objects import FEWEST, Detail, Thing, objects_of
from gaussworld.world import World
from gaussworld.world_object import Material, ObjectKind, WorldObject

from .episode import Episode, EpisodeObject


def world_of(episode: Episode, gaussians: int, truth: bool) -> World:
    """See `Episode.world`."""
    states = episode.states_between(0, 0)
    poses = dict(zip(states.object_ids, pose_from_pose7(states.object_poses[0].double()).float()))
    things = [_thing(item, poses[item.id]) for item in episode.objects.values()]
    renumbered = {}
    for thing, item, count in zip(things, episode.objects.values(), _counts(things, gaussians)):
        made = objects_of([thing], Detail(count))[0]
        renumbered[item.id] = _known(replace(made, id=item.id, parent=item.parent), item, truth)
    return World(renumbered, tuple(episode.cameras.values()), metres_per_unit=1.0, up=(0.0, 0.0, 1.0))


def _counts(things: list[Thing], gaussians: int) -> list[int]:
    """How many for each: those that move get two thirds, for it is they that are looked at."""
    roots = [0.0 if each.surface is None else math.sqrt(each.surface.mesh.area) for each in things]
    still = [each.kind is ObjectKind.STATIC for each in things]
    totals = {kind: sum(root for root, s in zip(roots, still) if s is kind) or 1.0 for kind in (True, False)}
    share = {True: gaussians / 3, False: gaussians * 2 / 3}
    return [max(FEWEST, round(share[s] * root / totals[s])) for root, s in zip(roots, still)]


def _thing(item: EpisodeObject, pose: torch.Tensor) -> Thing:
    mesh = mesh_of(item.mesh)
    parts = tuple(mesh_of(path) for path in item.parts)
    if mesh.colors is not None:
        corners = mesh.colors[mesh.faces.long()]
        surface = Surface(replace(mesh, colors=None), (Paint((1.0, 1.0, 1.0)),), corner_colors=corners)
    else:
        surface = Surface(mesh, (Paint(item.color),))
    return Thing(item.name, surface, pose, item.kind, Shape(mesh, parts), joint=item.joint)


def _known(made: WorldObject, item: EpisodeObject, truth: bool) -> WorldObject:
    material: Material = made.material
    if item.kind is not ObjectKind.STATIC:
        material = material.with_values("shape", volume=item.volume)
    if truth:
        material = material.with_values("user", friction=item.friction, density=item.mass / item.volume)
        if item.stiffness is not None:
            material = material.with_values("user", stiffness=item.stiffness)
    return replace(made, material=material)


def mesh_of(path: Path) -> Mesh:
    """The mesh in a file, vertex by vertex: what bends has its points in this order.

    Raises:
        FileFormatError: it cannot be read.
    """
    import trimesh

    try:
        read: Any = trimesh.load_mesh(path, process=False)
        vertices, faces = np.asarray(read.vertices, np.float32), np.asarray(read.faces, np.int32)
        colors = None
        if read.visual.kind == "vertex":
            colors = torch.from_numpy(np.asarray(read.visual.vertex_colors, np.float32)[:, :3] / 255)
        return Mesh(torch.from_numpy(vertices.copy()), torch.from_numpy(faces.copy()), colors)
    except Exception as error:  # trimesh raises anything on malformed bytes.
        raise FileFormatError(f"{path}: expected a mesh of an episode, got: {error!r:.120}") from error
