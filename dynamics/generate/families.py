"""What episodes of each family begin with: things of random size, shape, mass and friction, and a tool."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from gaussworld.world_object import ObjectKind

from ..tool import TOOLS, Tool
from .flex.flex import FlexKind, random_flex
from .forms import Form, box, turned
from .furniture import furniture
from .motion import girth_of
from .placing import beside, placed, spread
from .ranges import ORDINARY, Ranges, ranges_of
from .scene import SUBSTANCES, Lamp, SceneObject, SceneState, SimScene, upright
from .shift import Shift
from .textures import random_look
from .things import random_thing, table
from .tool_bodies import tool_bodies
from .trial import Family, JointFeel, Policy, Trial, stream
from .unseen import unseen_form, unseen_look, unseen_table, unseen_tool

Random = np.random.Generator
_ROOM = (2.3, 0.72)
_HUES = 0.6180339887
"""Golden-ratio steps keep the hues of all things apart."""
_ROD = 0.0125
"""[m] radius of the rod that pushes."""
_GAP = 0.02
"""[m] left free between things."""


@dataclass(frozen=True)
class Draw:
    """One episode that is to be drawn."""

    family: Family
    seed: int
    policy: Policy
    shift: Shift
    ranges: Ranges

    @property
    def unseen(self) -> Random:
        """Numbers of shifts alone, so that what is not shifted stays as it was."""
        return stream(self.seed, 5, 1)


def trial_of(family: Family, seed: int, policy: Policy, shift: Shift = "none") -> Trial:
    """The episode of a seed before it is simulated."""
    ranges = ranges_of(family, shift, stream(seed, 5))
    made = _FAMILIES[family](Draw(family, seed, policy, shift, ranges))
    return repainted(made) if shift == "color" else made


def _pushing(draw: Draw) -> Trial:
    random, ranges = stream(draw.seed, 0), draw.ranges
    few, most = ranges.count
    count = int(random.integers(few, most + 1)) if most > 1 else 1
    hue = random.random()
    things = []
    for i in range(count):
        # What is beside a T-block to be pushed too are boxes and cylinders.
        kind = "tblock" if draw.family == "push_t" and i == 0 else str(random.choice(["box", "cylinder"]))
        things.append(_thing(random, i + 2, kind, hue + _HUES * i, draw))
    if draw.shift == "count":
        poses = placed(draw.unseen, things, {}, 0.12, _GAP)
    else:
        poses = spread(random, things)
    hand = beside(random, things, poses, girth_of(_tool(draw, "pusher")) - _ROD)
    return _trial(draw, random, things, poses, "pusher", hand)


def _lifting(draw: Draw) -> Trial:
    random, ranges = stream(draw.seed, 0), draw.ranges
    wide, long, tall = (random.uniform(*span) for span in ranges.sizes)
    tall = min(tall, 1.6 * wide + 0.01)
    name, form = "box", Form((box(long, wide, tall),))
    if draw.shift == "shape":
        name, form = unseen_form("lift", draw.unseen, (wide, long, tall))
    thing = _painted_thing(random, 2, name, form, random.random(), ranges)
    x, y = random.uniform(-0.12, 0.12, 2)
    poses = {2: upright(x, y, tall / 2, random.uniform(-math.pi, math.pi))}
    away, angle = random.uniform(0.0, 0.12), random.uniform(-math.pi, math.pi)
    spot = (x + away * math.cos(angle), y + away * math.sin(angle), tall + random.uniform(0.03, 0.08))
    hand = np.array([*spot, random.uniform(-math.pi, math.pi), 0.0])
    things = [thing]
    if ranges.count[1] > 1:
        things, poses = _crowded(draw, thing, poses)
        hand[2] = max(hand[2], 0.12)
    return _trial(draw, random, things, poses, "gripper", hand)


def _crowded(
    draw: Draw, thing: SceneObject, poses: dict[int, np.ndarray]
) -> tuple[list[SceneObject], dict[int, np.ndarray]]:
    """A thing to lift with others around it, with room for fingers between."""
    random, few, most = draw.unseen, *draw.ranges.count
    sizes, things = replace(draw, family="push", ranges=ORDINARY["push"]), [thing]
    for i in range(1, int(random.integers(few, most + 1))):
        things.append(_thing(random, 2 + i, str(random.choice(["box", "cylinder"])), random.random(), sizes))
    return things, placed(random, things, dict(poses), 0.13, 0.05)


def _opening(draw: Draw) -> Trial:
    random, family, ranges = stream(draw.seed, 0), draw.family, draw.ranges
    objects, front = furniture(random, family, 2, ranges, hooked=draw.shift == "shape")
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
    if family == "drawer":
        random.random(2)  # As many as a door's feel once took, so that a seed's drawer stays what it was.
    feel = JointFeel(float(random.uniform(*ranges.damping)), float(random.uniform(*ranges.resistance)))
    poses = {item.id: place for item in objects}
    made = _trial(draw, random, objects, poses, "pusher", hand, positions)
    return replace(made, feel={moving.id: feel}, front=front)


def _bending(draw: Draw) -> Trial:
    random, family = stream(draw.seed, 0), draw.family
    kinds: dict[str, FlexKind] = {"rope": "rope", "cloth": "cloth", "soft": "soft"}
    place = (float(random.uniform(-0.05, 0.05)), float(random.uniform(-0.05, 0.05)))
    flex = random_flex(random, kinds[family], 2, random.random(), place, draw.ranges)
    if draw.policy == "arch":
        # Laid straight, as it is without forces: where it begins then says nothing wrong about its shape.
        flex = replace(flex, bent=None)
    category = {"rope": "rubber", "cloth": "foam", "soft": "foam"}[family]
    # Its form stands for it where only names and places matter; it is drawn and moved by what bends.
    item = SceneObject(
        2, flex.name, ObjectKind.DEFORMABLE, Form((box(*flex.size),)), (flex.look,), category, flex.friction
    )
    x, y, z = random.uniform(-0.1, 0.1), random.uniform(-0.1, 0.1), random.uniform(0.1, 0.16)
    hand = np.array([x, y, z, random.uniform(-math.pi, math.pi), 0.0])
    made = _trial(draw, random, [item], {2: flex.pose}, "gripper", hand)
    return replace(made, flexes=(flex,))


_FAMILIES: dict[str, Callable[[Draw], Trial]] = {
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
    draw: Draw,
    random: Random,
    things: Sequence[SceneObject],
    poses: dict[int, np.ndarray],
    tool_name: str,
    hand: np.ndarray,
    positions: dict[int, float] | None = None,
) -> Trial:
    """Table first, tool last, lamps at random."""
    wide = 1.0 if draw.family in ("door", "drawer") else 0.8
    board = table(random, 1, (wide, wide), _ROOM[1])
    board = replace(board, friction=round(float(random.uniform(*draw.ranges.table)), 3))
    tool = _tool(draw, tool_name)
    bodies = tool_bodies(tool, len(things) + 2)
    lamps, ambient = _lamps(random)
    scene = SimScene((board, *things, *bodies), lamps, ambient, (wide, wide), _ROOM, draw.seed)
    start = SceneState({1: np.eye(4), **poses}, positions or {})
    return Trial(draw.family, draw.seed, draw.policy, scene, start, tool, hand)


def _tool(draw: Draw, name: str) -> Tool:
    return TOOLS[name]() if draw.shift != "tool" else unseen_tool(draw.family, draw.unseen)


def _thing(random: Random, id: int, kind: str, hue: float, draw: Draw) -> SceneObject:
    """Something flat enough not to fall over when it is pushed."""
    spans = (ORDINARY["push"] if draw.family == "push_t" else draw.ranges).sizes
    if draw.shift == "shape":
        unseen = stream(draw.seed, 5, id)
        kind, form = unseen_form(draw.family, unseen, (unseen.uniform(*draw.ranges.sizes[0]),))
    elif kind == "tblock":
        form = random_thing(random, id, "tblock", draw.ranges.sizes[0], hue).form
    elif kind == "box":
        long = random.uniform(*spans[0])
        wide = long * random.uniform(0.45, 1.0)
        form = Form((box(long, wide, max(0.028, min(0.07, wide * random.uniform(0.35, 0.75)))),))
    else:
        radius = random.uniform(*spans[1])
        tall = max(0.028, min(0.07, radius * random.uniform(0.6, 1.3)))
        form = Form((turned([(0.0, 0.0), (radius, 0.0), (radius, tall), (0.0, tall)]),)).centred()
    return _painted_thing(random, id, kind, form, hue, draw.ranges)


def _painted_thing(random: Random, id: int, kind: str, form: Form, hue: float, ranges: Ranges) -> SceneObject:
    category = str(random.choice(["wood", "plastic", "cardboard", "rubber", "ceramic"]))
    if ranges.density is None:
        density = SUBSTANCES[category].density * math.exp(random.uniform(-0.4, 0.4))
    else:
        density = random.uniform(*ranges.density)
        category = "foam" if density < SUBSTANCES["wood"].density else "metal"
    friction = round(float(random.uniform(*ranges.friction)), 3)
    name = {"tblock": "T-block"}.get(kind, kind)
    look = random_look(random, hue)
    return SceneObject(
        id, f"{name} {id - 1}", ObjectKind.RIGID, form, (look,), category, friction, density=density
    )


def repainted(trial: Trial) -> Trial:
    """The same trial in colours that no other has; nothing moves differently."""
    objects = []
    for item in trial.scene.objects:
        if item.id == 1:
            objects.append(replace(item, looks=(unseen_table(item.looks[0]),)))
        elif item.kind is ObjectKind.ROBOT:
            objects.append(item)
        else:
            objects.append(replace(item, looks=tuple(map(unseen_look, item.looks))))
    flexes = tuple(replace(flex, look=unseen_look(flex.look)) for flex in trial.flexes)
    return replace(trial, scene=replace(trial.scene, objects=tuple(objects)), flexes=flexes)


def _lamps(random: Random) -> tuple[tuple[Lamp, ...], float]:
    """One lamp with shadows and two without, from anywhere above."""
    lamps, start = [], random.uniform(0, 2 * math.pi)
    for i, (strength, height) in enumerate(((0.52, 1.7), (0.22, 1.3), (0.16, 1.0))):
        angle = start + 2 * math.pi * (i + random.uniform(-0.3, 0.3)) / 3
        away = random.uniform(0.7, 1.3)
        spot = (away * math.cos(angle), away * math.sin(angle), height * random.uniform(0.9, 1.2))
        lamps.append(Lamp(spot, strength=strength * random.uniform(0.75, 1.15), shadow=i == 0))
    return tuple(lamps), float(random.uniform(0.32, 0.45))
