"""The poses an object had in the history of a world: each is a state of the door or drawer it may be."""

import math
from pathlib import Path

from jaxtyping import Float
from torch import Tensor

from gaussworld.pose import invert_pose, rotvec_from_rotation
from gaussworld.store import Store

#: Poses nearer than this to one before are the same state: [rad], [unit of the world].
_SAME_TURN, _SAME_SHIFT = math.radians(0.1), 1e-4


def poses_seen(path: Path, object_id: int) -> list[Float[Tensor, "4 4"]]:
    """All different poses of an object on the branch, oldest first.

    Args:
        path: the world's folder.
        object_id: an object of its present revision.
    """
    found: list[Tensor] = []
    with Store(path, read_only=True) as store:
        here = store.branch()
        touching = store.touching(object_id)
        past = [revision.id for revision in store.history(here.revision)]
        # What is the first revision of all need not have touched it.
        for number in reversed([each for each in past if each in touching or each == past[-1]]):
            world = store.read(number).world
            if object_id in world.objects:
                pose = world.find(object_id).world_from_object
                if not any(_same(pose, other) for other in found):
                    found.append(pose)
    return found


def _same(a: Tensor, b: Tensor) -> bool:
    change = invert_pose(a.double()) @ b.double()
    turn = float(rotvec_from_rotation(change[:3, :3]).norm())
    return turn < _SAME_TURN and float((a - b)[:3, 3].norm()) < _SAME_SHIFT


__all__ = ["poses_seen"]
