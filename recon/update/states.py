"""The poses an object had in the history of a world: each is a state of the door or drawer it may be."""

import math
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from gaussworld.pose import invert_pose, pose_from, rotvec_from_rotation
from gaussworld.store import Store
from gaussworld.world import World

#: Poses nearer than this to one before are the same state: [rad], [m, or the world's unit].
_SAME_TURN, _SAME_SHIFT = math.radians(0.1), 1e-4


def poses_seen(path: Path, object_id: int) -> list[Float[Tensor, "4 4"]]:
    """All different poses of an object on the branch, oldest first.

    They are `parent_from_object` of today's parent, `world_from_object` where it has none, all in today's
    frame and unit: turning or scaling the world, or moving the cupboard, opens no drawer.

    Args:
        path: the world's folder.
        object_id: an object of its present revision.
    """
    found: list[Tensor] = []
    with Store(path, read_only=True) as store:
        here = store.branch()
        now = store.read(here.revision).world
        parent = now.find(object_id).parent
        touching = store.touching(object_id) | (set() if parent is None else store.touching(parent))
        past = [revision.id for revision in store.history(here.revision)]
        # What is the first revision of all need not have touched it.
        for number in reversed([each for each in past if each in touching or each == past[-1]]):
            then = store.read(number).world
            if object_id in then.objects and (parent is None or parent in then.objects):
                pose = pose_in_parent(then, object_id, now)
                if not any(_same(pose, other, now.metres_per_unit or 1.0) for other in found):
                    found.append(pose)
    return found


def pose_in_parent(world: World, object_id: int, now: World) -> Float[Tensor, "4 4"]:
    """Where an object of a world is in the frame and unit of another revision, relative to its parent there.

    Args:
        world: that has the object, and the parent.
        object_id: the object.
        now: the revision whose frame, unit and parent count.
    """
    parent = now.find(object_id).parent
    pose = _in_frame(world.find(object_id).world_from_object, world, now)
    return (
        pose
        if parent is None
        else invert_pose(_in_frame(world.find(parent).world_from_object, world, now)) @ pose
    )


def _in_frame(pose: Tensor, world: World, now: World) -> Tensor:
    """A pose of one revision in the frame of another: a turn, a shift and a scale lie between them."""
    there, here = world.world_from_source.double(), now.world_from_source.double()
    if torch.equal(there, here):
        return pose
    now_from_then = here @ torch.linalg.inv(there)
    turn = now_from_then[:3, :3] / torch.linalg.det(now_from_then[:3, :3]) ** (1 / 3)
    moved = now_from_then @ pose.double()
    return pose_from(turn @ pose[:3, :3].double(), moved[:3, 3]).to(pose)


def _same(a: Tensor, b: Tensor, metres_per_unit: float) -> bool:
    change = invert_pose(a.double()) @ b.double()
    turn = float(rotvec_from_rotation(change[:3, :3]).norm())
    return turn < _SAME_TURN and float((a - b)[:3, 3].norm()) * metres_per_unit < _SAME_SHIFT


__all__ = ["pose_in_parent", "poses_seen"]
