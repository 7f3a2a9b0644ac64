"""Pushing things over the table with a rod: pushes through a thing towards a goal, then away from it."""

import math
from collections.abc import Sequence

import numpy as np

from gaussworld.world_object import ObjectKind

from .motion import STEP, Motion, Random, Steps, View, at, front_of, girth_of, go, hold, near_yaw, over
from .placing import flat_radius
from .scene import SceneObject
from .trial import Trial

_EDGE = 0.33
"""[m] farthest from the table's middle that the rod goes."""
_FAR = 0.39
"""[m] the same for the run-up to a strike."""
_APART = 0.012
"""[m] between rod and thing before a push."""
_SHORT, _LONG = 0.04, 0.16
"""[m] of a push."""


def scripted(trial: Trial, view: View, random: Random) -> Steps:
    """Pushes of random direction, place, length and speed; the rod then lets go, so that things slide on."""
    items, first = list(trial.scene.of(ObjectKind.RIGID)), True
    while True:
        item = _nearest(items, view) if first else items[int(random.integers(len(items)))]
        here = view.poses[item.id][:2, 3]
        goal = random.uniform(-0.2, 0.2, 2)
        way = here - view.sent[:2] if first else goal - here
        length = random.uniform(_SHORT, _LONG) if first else np.clip(np.linalg.norm(way), _SHORT, _LONG)
        turn = random.normal(0.0, 0.15)
        offset = random.uniform(-0.5, 0.5) * flat_radius(item)
        fast = random.random() < 0.4
        speed = random.uniform(0.5, 0.95) if fast else random.uniform(0.06, 0.25)
        length = min(float(length), 0.09) if fast else length
        view = yield from _push(trial, view, items, item, _turned(way, turn), offset, length, speed, random)
        view = yield from hold(view, int(random.integers(0, 8 if fast else 4)))
        first = False


def strikes(trial: Trial, view: View, random: Random) -> Steps:
    """Hits things and stops, so that they slide on alone: how far tells their friction on the table."""
    items = list(trial.scene.of(ObjectKind.RIGID))
    while True:
        item = items[int(random.integers(len(items)))]
        view = yield from _strike(trial, view, items, item, random)


def expert(trial: Trial, view: View, random: Random) -> Steps:
    """Short pushes that bring things to a place and a direction, then to the next."""
    items = list(trial.scene.of(ObjectKind.RIGID))
    while True:
        item = _nearest(items, view)
        goal, wanted = random.uniform(-0.18, 0.18, 2), random.uniform(-math.pi, math.pi)
        for _ in range(8):
            pose = view.poses[item.id]
            way = goal - pose[:2, 3]
            if (far := float(np.linalg.norm(way))) < 0.012:
                break
            error = near_yaw(wanted - math.atan2(pose[1, 0], pose[0, 0]), 0.0)
            # A push to the left of the middle turns the thing to the right.
            offset = np.clip(-0.5 * error, -0.5, 0.5) * flat_radius(item) + random.normal(0.0, 0.003)
            length, speed = min(far, 0.09), random.uniform(0.1, 0.22)
            view = yield from _push(trial, view, items, item, way, offset, length, speed, random)


def _push(
    trial: Trial,
    view: View,
    items: Sequence[SceneObject],
    item: SceneObject,
    way: np.ndarray,
    offset: float,
    length: float,
    speed: float,
    random: Random,
) -> Motion:
    """One push: to the far side of a thing, through it, and back.

    Args:
        trial: the episode.
        view: what is.
        items: all that stand in the way.
        item: what to push.
        way: the direction, of any length.
        offset: [m] of the rod's line from the thing's middle, to the left.
        length: [m] that the thing shall move.
        speed: [m/s]
        random: where numbers come from.
    """
    here = view.poses[item.id][:2, 3]
    ahead = way / max(float(np.linalg.norm(way)), 1e-9)
    if (
        np.abs(here - ahead * (flat_radius(item) + 0.03)).max() > _EDGE
        or np.abs(here + ahead * length).max() > _EDGE
    ):
        ahead = -here / max(float(np.linalg.norm(here)), 1e-9)
    left = np.array([-ahead[1], ahead[0]])
    start = here + offset * left - ahead * (flat_radius(item) + front_of(trial.tool) + _APART)
    low = random.uniform(0.004, 0.012)
    yaw = _facing(trial, view, ahead)
    goal = np.array([*start.clip(-_EDGE, _EDGE), low, yaw, 0.0])
    if _blocked(view, items, goal[:2], girth_of(trial.tool)):
        safe = float(max(_top(view, other) for other in items)) + 0.015
        view = yield from over(view, goal, safe)
    else:
        view = yield from go(view, goal, 0.35)
    pose = view.poses[item.id]
    reach = float(((pose[:2, 3] - (item.form.points() @ pose[:3, :3].T + pose[:3, 3])[:, :2]) @ ahead).max())
    end = here + offset * left + ahead * (length - reach - front_of(trial.tool))
    view = yield from go(view, np.array([*end.clip(-_EDGE, _EDGE), low, yaw, 0.0]), speed)
    back = (view.sent[:2] - ahead * random.uniform(0.03, 0.05)).clip(-_EDGE, _EDGE)
    return (yield from go(view, at(view.sent, x=back[0], y=back[1]), 0.35))


def _strike(
    trial: Trial, view: View, items: Sequence[SceneObject], item: SceneObject, random: Random
) -> Motion:
    """One blow at a thing: a run-up of two steps that touches in the second, a stop, and a wait."""
    middle = _middle(item, view)
    # From where it lies across the table's middle there is most room.
    aim = random.normal(0.0, 0.05, 2) - middle
    if float(np.linalg.norm(aim)) < 0.03:
        aim = _turned(np.array([1.0, 0.0]), random.uniform(-math.pi, math.pi))
    ahead = aim / np.linalg.norm(aim)
    room = float(((_EDGE - np.sign(ahead) * middle) / np.abs(ahead).clip(min=1e-6)).min())
    friction = math.sqrt(item.friction * trial.scene.objects[0].friction)
    speed = min(random.uniform(0.8, 1.0), math.sqrt(2 * friction * 9.81 * max(room - 0.07, 0.03)))
    left, low = np.array([-ahead[1], ahead[0]]), random.uniform(0.006, 0.012)
    offset = random.uniform(-0.12, 0.12) * flat_radius(item)
    corners = item.form.points() @ view.poses[item.id][:3, :3].T + view.poses[item.id][:3, 3]
    reach = float(((middle - corners[:, :2]) @ ahead).max())
    # Contact for the last two thirds of the second step: time for the thing to go as fast as the rod.
    touch = middle + offset * left - ahead * (reach + front_of(trial.tool))
    start = touch - ahead * speed * STEP * 1.33
    goal = np.array([*start.clip(-_FAR, _FAR), low, _facing(trial, view, ahead), 0.0])
    safe = float(max(_top(view, other) for other in items)) + 0.015
    view = yield from over(view, goal, safe)
    view = yield from hold(view, 1)
    way = np.array([*ahead, 0.0, 0.0, 0.0]) * speed * STEP
    for _ in range(2):
        view = yield view.sent + way
    view = yield from hold(view, 5)
    return (yield from go(view, at(view.sent, z=safe), 0.4))


def _middle(item: SceneObject, view: View) -> np.ndarray:
    """[m] x and y of a thing's centre of mass."""
    center = item.form.shape.mesh.center_of_mass.double().numpy()
    pose = view.poses[item.id]
    return (pose[:3, :3] @ center + pose[:3, 3])[:2]


def _nearest(items: Sequence[SceneObject], view: View) -> SceneObject:
    return min(
        items, key=lambda item: math.dist(view.poses[item.id][:2, 3], view.sent[:2]) - flat_radius(item)
    )


def _facing(trial: Trial, view: View, ahead: np.ndarray) -> float:
    """[rad] yaw with which a tool's front is ahead: a paddle turns, a rod is the same from all sides."""
    if front_of(trial.tool) == girth_of(trial.tool):
        return 0.0
    return near_yaw(math.atan2(ahead[1], ahead[0]), view.sent[3], math.pi)


def _blocked(view: View, items: Sequence[SceneObject], goal: np.ndarray, girth: float) -> bool:
    """Whether something is on the straight way of a tool of that girth [m]."""
    start = view.sent[:2]
    for item in items:
        middle, way = view.poses[item.id][:2, 3], goal - start
        share = np.clip((middle - start) @ way / max(float(way @ way), 1e-12), 0.0, 1.0)
        if math.dist(start + share * way, middle) < flat_radius(item) + girth + 0.004:
            return True
    return False


def _top(view: View, item: SceneObject) -> float:
    pose = view.poses[item.id]
    return float((item.form.points() @ pose[2, :3]).max() + pose[2, 3])


def _turned(way: np.ndarray, angle: float) -> np.ndarray:
    c, s = math.cos(angle), math.sin(angle)
    return np.array([c * way[0] - s * way[1], s * way[0] + c * way[1]])
