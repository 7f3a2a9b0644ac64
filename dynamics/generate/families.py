"""What episodes of each family begin with: things of random size, shape, mass and friction, and a tool."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from gaussworld.errors import ConfigError
from gaussworld.world_object import ObjectKind

from ..tool import TOOLS, Tool
from .flex.flex import FlexKind, random_flex
from .forms import Form, box, turned
from .furniture import furniture
from .scene import SUBSTANCES, Lamp, SceneObject, SceneState, SimScene, upright
from .textures import random_look
from .things import random_thing, table
from .tools import tool_objects
from .trial import Family, JointFeel, Policy, Trial, stream

Random = np.random.Generator
_ROOM = (2.3, 0.72)
_HUES = 0.6180339887
"""Golden-ratio steps keep the hues of all things apart."""
_GAP = 0.02
"""[m] left free between things."""
_TRIES = 200


def trial_of(family: Family, seed: int, policy: Policy) -> Trial:
    """The episode of a seed before it is simulated."""
    return _FAMILIES[family](family, seed, policy)


def _pushing(family: Family, seed: int, policy: Policy) -> Trial:
    random = stream(seed, 0)
    count = int(random.integers(2, 5)) if family == "push_many" else 1
    hue = random.random()
    things = []
    for i in range(count):
        kind = "tblock" if family == "push_t" else str(random.choice(["box", "cylinder"]))
        things.append(_thing(random, i + 2, kind, hue + _HUES * i))
    poses = _spread(random, things)
    hand = _beside(random, things, poses)
    return _trial(family, seed, policy, random, things, poses, "pusher", hand)


def _lifting(family: Family, seed: int, policy: Policy) -> Trial:
    random = stream(seed, 0)
    wide, long, tall = random.uniform(0.025, 0.06), random.uniform(0.035, 0.09), random.uniform(0.035, 0.1)
    tall = min(tall, 1.6 * wide + 0.01)
    thing = _painted_thing(random, 2, "box", Form((box(long, wide, tall),)), random.random())
    x, y = random.uniform(-0.12, 0.12, 2)
    poses = {2: upright(x, y, tall / 2, random.uniform(-math.pi, math.pi))}
    away, angle = random.uniform(0.0, 0.12), random.uniform(-math.pi, math.pi)
    spot = (x + away * math.cos(angle), y + away * math.sin(angle), tall + random.uniform(0.03, 0.08))
    hand = np.array([*spot, random.uniform(-math.pi, math.pi), 0.0])
    return _trial(family, seed, policy, random, [thing], poses, "gripper", hand)


def _opening(family: Family, seed: int, policy: Policy) -> Trial:
    random = stream(seed, 0)
    objects, front = furniture(random, family, 2)
    place, moving = objects[0].home, objects[1]
    assert place is not None and moving.joint is not None
    share = random.choice([0.0, random.uniform(0.25, 0.9)], p=[0.45, 0.55])
    positions = {moving.id: round(float(share) * moving.joint.limits[1], 4)}
    x, y = front.face + random.uniform(0.14, 0.2), random.uniform(-0.06, 0.06)
    if family == "door":
        # Clear of where the door may stand.
        x += 0.5 * front.size[1]
    else:
        x += positions[moving.id]
    spot = place @ np.array([x, y, front.bar[1] + random.uniform(0.03, 0.06), 1.0])
    hand = np.array([*spot[:3], 0.0, 0.0])
    feel = JointFeel(float(random.uniform(0.05, 0.6)), float(random.uniform(0.02, 0.25)))
    if family == "drawer":
        feel = JointFeel(float(random.uniform(0.5, 6.0)), float(random.uniform(0.3, 2.5)))
    poses = {item.id: place for item in objects}
    made = _trial(family, seed, policy, random, objects, poses, "pusher", hand, positions)
    return replace(made, feel={moving.id: feel}, front=front)


def _bending(family: Family, seed: int, policy: Policy) -> Trial:
    random = stream(seed, 0)
    kinds: dict[str, FlexKind] = {"rope": "rope", "cloth": "cloth", "soft": "soft"}
    place = (float(random.uniform(-0.05, 0.05)), float(random.uniform(-0.05, 0.05)))
    flex = random_flex(random, kinds[family], 2, random.random(), place)
    if policy == "arch":
        # Laid straight, as it is without forces: where it begins then says nothing wrong about its shape.
        flex = replace(flex, bent=None)
    category = {"rope": "rubber", "cloth": "foam", "soft": "foam"}[family]
    # Its form stands for it where only names and places matter; it is drawn and moved by what bends.
    item = SceneObject(
        2, flex.name, ObjectKind.DEFORMABLE, Form((box(*flex.size),)), (flex.look,), category, flex.friction
    )
    x, y, z = random.uniform(-0.1, 0.1), random.uniform(-0.1, 0.1), random.uniform(0.1, 0.16)
    hand = np.array([x, y, z, random.uniform(-math.pi, math.pi), 0.0])
    made = _trial(family, seed, policy, random, [item], {2: flex.pose}, "gripper", hand)
    return replace(made, flexes=(flex,))


_FAMILIES: dict[str, Callable[[Family, int, Policy], Trial]] = {
    "push_t": _pushing,
    "push": _pushing,
    "push_many": _pushing,
    "lift": _lifting,
    "door": _opening,
    "drawer": _opening,
    "rope": _bending,
    "cloth": _bending,
    "soft": _bending,
}


def _trial(
    family: Family,
    seed: int,
    policy: Policy,
    random: Random,
    things: Sequence[SceneObject],
    poses: dict[int, np.ndarray],
    tool_name: str,
    hand: np.ndarray,
    positions: dict[int, float] | None = None,
) -> Trial:
    """Table first, tool last, lamps at random."""
    wide = 1.0 if family in ("door", "drawer") else 0.8
    board = replace(
        table(random, 1, (wide, wide), _ROOM[1]), friction=round(float(random.uniform(0.2, 0.6)), 3)
    )
    tool = TOOLS[tool_name]()
    bodies = tool_bodies(tool, len(things) + 2)
    lamps, ambient = _lamps(random)
    scene = SimScene((board, *things, *bodies), lamps, ambient, (wide, wide), _ROOM, seed)
    start = SceneState({1: np.eye(4), **poses}, positions or {})
    return Trial(family, seed, policy, scene, start, tool, hand)


def tool_bodies(tool: Tool, first_id: int) -> list[SceneObject]:
    """A tool's bodies as they are drawn; the pusher's rod has the round end of its capsule."""
    bodies = tool_objects("pusher" if tool.name == "pusher" else "gripper", first_id)
    if tool.name != "pusher":
        return bodies
    radius = float(tool.radii[0])
    bend = np.linspace(0.0, 1.0, 9) * math.pi / 2
    tip = [(radius * math.sin(t), radius * (1 - math.cos(t))) for t in bend]
    rod = turned([*tip, (radius, 0.16), (0.0, 0.16)])
    return [replace(bodies[0], form=Form((rod, bodies[0].form.pieces[1])))]


def _thing(random: Random, id: int, kind: str, hue: float) -> SceneObject:
    """Something flat enough not to fall over when it is pushed."""
    if kind == "tblock":
        form = random_thing(random, id, "tblock", (0.1, 0.17), hue).form
    elif kind == "box":
        long = random.uniform(0.05, 0.13)
        wide = long * random.uniform(0.45, 1.0)
        form = Form((box(long, wide, max(0.028, min(0.07, wide * random.uniform(0.35, 0.75)))),))
    else:
        radius = random.uniform(0.025, 0.06)
        tall = max(0.028, min(0.07, radius * random.uniform(0.6, 1.3)))
        form = Form((turned([(0.0, 0.0), (radius, 0.0), (radius, tall), (0.0, tall)]),)).centred()
    return _painted_thing(random, id, kind, form, hue)


def _painted_thing(random: Random, id: int, kind: str, form: Form, hue: float) -> SceneObject:
    category = str(random.choice(["wood", "plastic", "cardboard", "rubber", "ceramic"]))
    density = SUBSTANCES[category].density * math.exp(random.uniform(-0.4, 0.4))
    friction = round(float(random.uniform(0.15, 0.7)), 3)
    name = {"tblock": "T-block"}.get(kind, kind)
    look = random_look(random, hue)
    return SceneObject(
        id, f"{name} {id - 1}", ObjectKind.RIGID, form, (look,), category, friction, density=density
    )


def _spread(random: Random, things: Sequence[SceneObject]) -> dict[int, np.ndarray]:
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
    raise ConfigError(f"expected room for {len(things)} things on the table, found none; take another seed")


def flat_radius(item: SceneObject) -> float:
    """[m] of the circle about its origin that holds a thing as it lies."""
    return float(np.linalg.norm(item.form.points()[:, :2], axis=1).max())


def _beside(random: Random, things: Sequence[SceneObject], poses: dict[int, np.ndarray]) -> np.ndarray:
    """A place for the rod, low, near a thing and clear of all."""
    for _ in range(_TRIES):
        item = things[int(random.integers(len(things)))]
        away = flat_radius(item) + random.uniform(0.02, 0.06)
        angle = random.uniform(-math.pi, math.pi)
        spot = poses[item.id][:2, 3] + away * np.array([math.cos(angle), math.sin(angle)])
        clear = all(math.dist(spot, poses[o.id][:2, 3]) > flat_radius(o) + 0.016 for o in things)
        if clear and np.abs(spot).max() < 0.34:
            return np.array([*spot, random.uniform(0.005, 0.012), 0.0, 0.0])
    return np.array([0.33, 0.33, 0.01, 0.0, 0.0])


def _lamps(random: Random) -> tuple[tuple[Lamp, ...], float]:
    """One lamp with shadows and two without, from anywhere above."""
    lamps, start = [], random.uniform(0, 2 * math.pi)
    for i, (strength, height) in enumerate(((0.52, 1.7), (0.22, 1.3), (0.16, 1.0))):
        angle = start + 2 * math.pi * (i + random.uniform(-0.3, 0.3)) / 3
        away = random.uniform(0.7, 1.3)
        spot = (away * math.cos(angle), away * math.sin(angle), height * random.uniform(0.9, 1.2))
        lamps.append(Lamp(spot, strength=strength * random.uniform(0.75, 1.15), shadow=i == 0))
    return tuple(lamps), float(random.uniform(0.32, 0.45))
