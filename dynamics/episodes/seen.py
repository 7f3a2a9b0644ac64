"""`seen_world`: an episode's world at time 0 as its cameras see it, and not as the simulator knows it."""

import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor

from gaussworld import edit
from gaussworld.config import load_config
from gaussworld.errors import EditError
from gaussworld.io import load_world
from gaussworld.log import Done, Event, part
from gaussworld.pose import invert_pose, pose_from_pose7, transform_points
from gaussworld.verbs import resolve
from gaussworld.world import World
from gaussworld.world_object import Joint, ObjectKind, WorldObject

from .episode import Episode, EpisodeObject

logger = logging.getLogger(__name__)


def seen_world(episode: Episode, folder: Path, preset: str = "rgbd") -> Iterator[Event[World]]:
    """Reconstruct the first RGB-D frames, cut them into objects by their segmentation, and give these shapes.

    Form, place and colour of everything are what the pictures show; masses and frictions are defaults. From
    the episode's card come names, kinds, and the axes of joints, which nobody can see in one moment. What
    things hide of the surface they lie on is filled, because they are about to move.

    Args:
        episode: with pictures.
        folder: for the reconstruction, a run folder; a finished one is used again.
        preset: how finely, one of `gaussworld recon`'s presets.

    Raises:
        CaptureError: the episode was not drawn.
    """
    start = episode.start
    config = load_config(cast(type, resolve("recon.fit:TrainConfig")), preset, group="train")
    options = resolve("recon.reconstruct:ReconConfig")(masks=start / "ids")
    yield from part(resolve("recon.reconstruct:reconstruction")([start], folder, config, options), "Seeing")
    yield Done(filled(told(load_world(folder / "scene.world"), episode)))


def told(world: World, episode: Episode) -> World:
    """A world whose objects have the ids of an episode's, with the names, kinds and joints of these.

    An object that no picture shows is not in it; what hangs on such a one hangs on nothing. A robot's base
    gets the frame of its tool.
    """
    poses = dict(zip(episode.objects, _true_poses(episode)))
    there = {
        number: _told(item, episode.objects[number], poses[number])
        for number, item in world.objects.items()
        if number in episode.objects
    }
    kept = {
        number: replace(item, parent=item.parent if item.parent in there else None)
        for number, item in there.items()
    }
    tools = iter(pose_from_pose7(episode.states_between(0, 0).tool_poses[0]))
    for number, item in kept.items():
        if item.kind is ObjectKind.ROBOT and item.parent is None and (pose := next(tools, None)) is not None:
            kept[number] = _framed(item, pose)
    # Its frame is the episode's, whatever its surfaces look like.
    return replace(world, objects={**world.objects, **kept}, up=(0.0, 0.0, 1.0), metres_per_unit=1.0)


def filled(world: World) -> World:
    """The world with its widest static thing, the table, made whole below what stands there and may leave."""
    still = {n: item for n, item in world.objects.items() if item.kind is ObjectKind.STATIC and n}
    if not still:
        return world
    table = max(still, key=lambda number: _width(still[number]))
    for number, item in world.objects.items():
        if item.kind is ObjectKind.STATIC:
            continue
        try:
            world = edit.applied(edit.FillHole(table, (number,), undersides=False), world)
        except EditError as error:
            # A tool mostly hangs in the air.
            logger.info("%s", error)
    return world


def _width(item: WorldObject) -> float:
    """[m] across the middle 90 % of its Gaussians."""
    places = item.posed().means[:, :2].detach()
    return float((places.quantile(0.95, dim=0) - places.quantile(0.05, dim=0)).norm()) if len(places) else 0.0


def _true_poses(episode: Episode) -> Float[Tensor, "o 4 4"]:
    return pose_from_pose7(episode.states_between(0, 0).object_poses[0].double())


def _told(item: WorldObject, facts: EpisodeObject, true_pose: Float[Tensor, "4 4"]) -> WorldObject:
    joint = None
    if facts.joint is not None:
        joint = _moved(facts.joint, invert_pose(item.world_from_object.double()) @ true_pose)
    return replace(item, name=facts.name, kind=facts.kind, joint=joint, parent=facts.parent)


def _framed(item: WorldObject, pose: Float[Tensor, "4 4"]) -> WorldObject:
    """The same thing where it is, in a frame of another pose."""
    new_from_old = invert_pose(pose) @ item.world_from_object
    material = item.material
    if material.center_of_mass is not None:
        x, y, z = transform_points(new_from_old, torch.tensor([material.center_of_mass]))[0].tolist()
        material = replace(material, center_of_mass=(x, y, z))
    return replace(
        item,
        world_from_object=pose,
        gaussians=item.gaussians.transformed(new_from_old),
        shape=item.shape and item.shape.transformed(new_from_old),
        material=material,
    )


def _moved(joint: Joint, seen_from_true: Float[Tensor, "4 4"]) -> Joint:
    """A joint in the frame of the object as it was seen."""
    axis = seen_from_true[:3, :3] @ torch.tensor(joint.axis, dtype=torch.float64)
    origin = seen_from_true[:3, :3] @ torch.tensor(joint.origin, dtype=torch.float64) + seen_from_true[:3, 3]
    x, y, z = (axis / axis.norm()).tolist()
    a, b, c = origin.tolist()
    return replace(joint, axis=(x, y, z), origin=(a, b, c))
