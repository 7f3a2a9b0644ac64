"""Where things and tools of an episode are put: on the table, apart from each other."""

import math
from collections.abc import Sequence

import numpy as np

from gaussworld.errors import ConfigError

from .scene import SceneObject, upright

Random = np.random.Generator
_GAP = 0.02
"""[m] left free between things."""
_TRIES = 200


def spread(random: Random, things: Sequence[SceneObject]) -> dict[int, np.ndarray]:
    """Things flat on the table, apart from each other.

    Raises:
        ConfigError: they find no room.
    """
    for _ in range(_TRIES):
        poses: dict[int, np.ndarray] = {}
        for item in things:
            x, y = random.normal(size=2).clip(-2, 2) * (0.06 if len(things) == 1 else 0.1)
            low = item.form.points()[:, 2].min()
            poses[item.id] = upright(x, y, -low, random.uniform(-math.pi, math.pi))
        if all(
            math.dist(poses[a.id][:2, 3], poses[b.id][:2, 3]) > flat_radius(a) + flat_radius(b) + _GAP
            for i, a in enumerate(things)
            for b in things[i + 1 :]
        ):
            return poses
    # Large things seldom find room all at once.
    return placed(random, things, {}, 0.12, _GAP)


def placed(
    random: Random,
    things: Sequence[SceneObject],
    poses: dict[int, np.ndarray],
    wide: float,
    gap: float,
) -> dict[int, np.ndarray]:
    """Things one after the other flat on the table, apart from all that have their place in `poses` [m].

    Raises:
        ConfigError: they find no room.
    """
    for _ in range(_TRIES):
        found = dict(poses)
        for item in things:
            if item.id in found:
                continue
            low = item.form.points()[:, 2].min()
            for _ in range(_TRIES):
                x, y = (random.normal(size=2) * wide).clip(-0.27, 0.27)
                others = [other for other in things if other.id in found]
                apart = [math.dist((x, y), found[other.id][:2, 3]) - flat_radius(other) for other in others]
                if min(apart, default=1.0) > flat_radius(item) + gap:
                    found[item.id] = upright(x, y, -low, random.uniform(-math.pi, math.pi))
                    break
        if len(found) == len(things):
            return found
    raise _no_room(things)


def _no_room(things: Sequence[SceneObject]) -> ConfigError:
    return ConfigError(f"expected room for {len(things)} things on the table, found none; take another seed")


def flat_radius(item: SceneObject) -> float:
    """[m] of the circle about its origin that holds a thing as it lies."""
    return float(np.linalg.norm(item.form.points()[:, :2], axis=1).max())


def beside(
    random: Random, things: Sequence[SceneObject], poses: dict[int, np.ndarray], wider: float
) -> np.ndarray:
    """A place for a tool that is so much wider than the rod [m]: low, near a thing and clear of all."""
    for _ in range(_TRIES):
        item = things[int(random.integers(len(things)))]
        away = flat_radius(item) + random.uniform(0.02, 0.06) + wider
        angle = random.uniform(-math.pi, math.pi)
        spot = poses[item.id][:2, 3] + away * np.array([math.cos(angle), math.sin(angle)])
        clear = all(math.dist(spot, poses[o.id][:2, 3]) > flat_radius(o) + 0.016 + wider for o in things)
        if clear and np.abs(spot).max() < 0.34:
            return np.array([*spot, random.uniform(0.005, 0.012), 0.0, 0.0])
    return np.array([0.33, 0.33, 0.01, 0.0, 0.0])
