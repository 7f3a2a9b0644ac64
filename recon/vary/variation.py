"""One randomised copy of a world: what is drawn, as edits and cameras, with what is known about it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from gaussworld.camera import Camera
from gaussworld.camera_record import camera_record
from gaussworld.edit import Edit, Grade, Place, Recolour, SetSupport, applied
from gaussworld.edit.fill import FillHole
from gaussworld.edit.plain import to_plain
from gaussworld.errors import EditError
from gaussworld.pose import invert_pose, pose7_from_pose, transform_points
from gaussworld.world import World

from .looks import light, recolours
from .placement import Arrangement, arrange, as_it_stands, lying_turns
from .rest import Drift, can_simulate, settle
from .scene import Scene, scene_of
from .settings import VaryConfig
from .viewpoints import viewpoints

#: How often things that do not come to rest are placed again.
_ROUNDS = 8
#: [s] How long a thing may roll until it lies on a facet of its hull, and how far [mm, deg].
_ROLL_SECONDS, _ROLL = 3.0, (30.0, 25.0)


@dataclass(frozen=True, eq=False)
class Base:
    """A world to vary, and what was found out about it once."""

    world: World
    """With the holes under things filled, where that was asked for."""
    steps: tuple[tuple[Edit, World], ...]
    """Edits that filled them, what every copy begins with, and the world after each."""
    scene: Scene | None
    """None where nothing shall be moved."""
    judged: frozenset[int]
    """Things whose rest a simulation can judge: those that rest in it where they are now."""
    lying: Mapping[int, Sequence[Float[Tensor, "3 3"]]]
    """Group -> rotations that put it on other faces."""
    notices: tuple[str, ...]
    """What the user should know."""


@dataclass(frozen=True, eq=False)
class Variation:
    """One copy, not written yet."""

    seed: int
    edits: tuple[Edit, ...]
    """From `Base.world` to `world`."""
    world: World
    cameras: tuple[Camera, ...]
    drifts: Mapping[int, Drift] = field(default_factory=dict)
    """Of things that were judged by simulation."""
    overlap: float | None = None
    """[mm] how deep things reached into each other in the simulation."""
    stuck: tuple[int, ...] = ()
    """Things that found no room, and stayed."""
    restless: tuple[int, ...] = ()
    """Things that did not come to rest however they were placed."""


def prepared(world: World, config: VaryConfig) -> Base:
    """Find out what can be moved and judged, and fill what is hidden under it.

    Raises:
        ValueError: things shall move, but nothing rests on anything, or nobody knows where up is.
    """
    if not config.move:
        return Base(world, (), None, frozenset(), {}, ())
    scene = scene_of(world, config)
    if not scene.groups:
        raise ValueError(
            "expected rigid things that rest on a surface, got none that can be moved; `gaussworld objects`"
            " finds them, --no-move varies colours, light and cameras alone"
        )
    notices: list[str] = []
    steps = _filled(world, scene, notices) if config.fill else []
    scene, judged = _judged(scene, config, notices)
    lying = _lying(scene) if config.lying > 0 else {}
    return Base(steps[-1][1] if steps else world, tuple(steps), scene, judged, lying, tuple(notices))


def varied(base: Base, config: VaryConfig, seed: int) -> Variation:
    """Draw one copy; the same seed gives the same copy."""
    master = torch.Generator().manual_seed(seed)
    # Each part has randomness of its own: switching one off leaves the others as they were.
    seeds = torch.randint(2**62, (4,), generator=master).tolist()
    places, colours, lights, views = (torch.Generator().manual_seed(each) for each in seeds)
    edits: list[Edit] = []
    found = _Found(Arrangement({}, ()), {}, None, ())
    if base.scene is not None:
        found = _resting(base, base.scene, config, places)
        edits += _moves(base.scene, found.arrangement, config)
    edits += recolours(base.world, _things(base), config.colours, colours)
    grade = light(base.world, config.light, lights)
    edits += [grade] if grade is not None else []
    after = base.world
    for each in edits:
        after = applied(each, after)
    cameras = _cameras(base, after, config, views)
    groups = base.scene.groups if base.scene is not None else ()
    stuck = tuple(number for i in found.arrangement.stuck for number in groups[i].members)
    return Variation(seed, tuple(edits), after, cameras, found.drifts, found.overlap, stuck, found.restless)


@dataclass(frozen=True, eq=False)
class _Found:
    arrangement: Arrangement
    drifts: Mapping[int, Drift]
    overlap: float | None
    restless: tuple[int, ...]


def _resting(base: Base, scene: Scene, config: VaryConfig, generator: torch.Generator) -> _Found:
    """Places where everything rests: what drifts away is placed again, while the rest stays."""
    arrangement = arrange(scene, config, generator, lying=base.lying)
    if not base.judged:
        return _Found(arrangement, {}, None, ())
    for _ in range(_ROUNDS):
        rest = settle(scene, arrangement.motions)
        drifts = {number: rest.drifts[number] for number in sorted(base.judged)}
        bad = {n for n, drift in drifts.items() if not drift.within(config.drift_mm, config.drift_deg)}
        again = {i for i in arrangement.motions if bad & set(scene.groups[i].members)}
        if not again:
            return _Found(arrangement, drifts, rest.overlap, tuple(sorted(bad)))
        keep = {i: motion for i, motion in arrangement.motions.items() if i not in again}
        arrangement = arrange(scene, config, generator, keep=keep, lying=base.lying)
    rest = settle(scene, arrangement.motions)
    drifts = {number: rest.drifts[number] for number in sorted(base.judged)}
    bad = {n for n, drift in drifts.items() if not drift.within(config.drift_mm, config.drift_deg)}
    return _Found(arrangement, drifts, rest.overlap, tuple(sorted(bad)))


def _moves(scene: Scene, arrangement: Arrangement, config: VaryConfig) -> list[Edit]:
    places: list[Edit] = []
    below: list[Edit] = []
    for index, motion in sorted(arrangement.motions.items()):
        group = scene.groups[index]
        for number in group.members:
            pose = motion @ group.settled @ scene.world.objects[number].world_from_object.double()
            x, y, z, *quaternion = pose7_from_pose(pose).tolist()
            w, i, j, k = quaternion
            places.append(Place(number, (x, y, z, w, i, j, k)))
            on_top = number != group.members[0] and not config.unstack
            support = scene.surfaces[group.surface].support
            below.append(SetSupport((number,), scene.rests_on[number] if on_top else (support,)))
    return places + below


def _filled(world: World, scene: Scene, notices: list[str]) -> list[tuple[Edit, World]]:
    """Edits that make the surfaces whole under what stands on them, and the world after each."""
    steps: list[tuple[Edit, World]] = []
    for group in scene.groups:
        support = scene.surfaces[group.surface].support
        for number in group.members:
            if support not in scene.rests_on[number]:
                continue
            fill = FillHole(support, (number,))
            try:
                world = applied(fill, world)
            except EditError as error:
                notices.append(f"The place under {world.objects[number].name} stays as it is: {error}.")
                continue
            steps.append((fill, world))
    return steps


def _judged(scene: Scene, config: VaryConfig, notices: list[str]) -> tuple[Scene, frozenset[int]]:
    """The scene with round things rolled to where they rest, and what a simulation can judge."""
    if not config.simulate:
        return scene, frozenset()
    if not can_simulate(scene):
        lacking = (
            "the scale is not known" if scene.world.metres_per_unit is None else "MuJoCo is not installed"
        )
        notices.append(f"Whether things rest is judged by their geometry alone: {lacking}.")
        return scene, frozenset()
    shaky = _restless(scene, config)
    if shaky:
        scene = _rolled(scene, shaky)
        shaky = _restless(scene, config)
    if shaky:
        names = ", ".join(scene.world.objects[number].name for number in sorted(shaky))
        notices.append(
            f"In simulation these do not rest even where they are: {names}; geometry alone judges them."
        )
    return scene, frozenset(n for group in scene.groups for n in group.members if n not in shaky)


def _restless(scene: Scene, config: VaryConfig) -> set[int]:
    drifts = settle(scene, as_it_stands(scene)).drifts
    return {n for n, drift in drifts.items() if not drift.within(config.drift_mm, config.drift_deg)}


def _rolled(scene: Scene, shaky: set[int]) -> Scene:
    """Single things that soon come to rest nearby, a facet of theirs below, stand as they do there."""
    motions = as_it_stands(scene)
    rest, groups = settle(scene, motions, _ROLL_SECONDS), []
    for group in scene.groups:
        number, drift = group.members[0], rest.drifts[group.members[0]]
        single = len(group.members) + len(group.carried) == 1
        if single and number in shaky and drift.within(*_ROLL):
            settled = rest.poses[number] @ invert_pose(scene.world.objects[number].world_from_object.double())
            hulls = tuple(hull.moved(settled @ invert_pose(group.settled)) for hull in group.hulls)
            group = replace(group, hulls=hulls, settled=settled)
        groups.append(group)
    return replace(scene, groups=tuple(groups))


def _lying(scene: Scene) -> dict[int, list[Tensor]]:
    """Other faces of single things whose shape is known; of others nobody knows what is below."""
    found, up = {}, torch.tensor(scene.world.up, dtype=torch.float64)
    for index, group in enumerate(scene.groups):
        item = scene.world.objects[group.members[0]]
        if len(group.members) + len(group.carried) > 1 or item.shape is None:
            continue
        center = torch.tensor(item.material.center_of_mass or item.shape.center_of_mass.tolist())
        center = transform_points(group.settled @ item.world_from_object.double(), center[None].double())[0]
        if turns := lying_turns(group.hulls, center, up):
            found[index] = turns
    return found


def _things(base: Base) -> list[int]:
    """What is recoloured: what can be moved; where nothing is, all objects but the background."""
    if base.scene is not None:
        return sorted(number for group in base.scene.groups for number in group.members)
    return [number for number in base.world.objects if number != 0]


def _cameras(base: Base, after: World, config: VaryConfig, generator: torch.Generator) -> tuple[Camera, ...]:
    up = torch.tensor(after.up or (0.0, 0.0, 1.0))
    things = [after.objects[number].world_from_object[:3, 3] for number in _things(base)]
    shown = after.shown()
    pivot = torch.stack(things).mean(0) if things else shown.means.median(0).values
    return tuple(
        viewpoints(
            after.cameras, shown, pivot, up, config.cameras, config.camera_motion, config.longest, generator
        )
    )


def record(base: Base, variation: Variation) -> dict[str, Any]:
    """Everything about a copy as plain values: its labels."""
    world, after = base.world, variation.world
    colours = {e.target.objects[0]: e for e in variation.edits if isinstance(e, Recolour)}
    grade = next((e for e in variation.edits if isinstance(e, Grade)), None)
    moved = {e.object_id for e in variation.edits if isinstance(e, Place)}
    objects = []
    for number, item in after.objects.items():
        drift = variation.drifts.get(number)
        colour = colours.get(number)
        objects.append(
            {
                "id": number,
                "name": item.name,
                "kind": item.kind.value,
                "category": item.material.category or None,
                "old": _pose7(world.objects[number].world_from_object),
                "new": _pose7(item.world_from_object),
                "moved": number in moved,
                "rests_on": None if item.supported_by is None else [*item.supported_by],
                "judged_by": "simulation" if drift else "geometry" if number in moved else None,
                "drift_mm": None if drift is None else round(drift.millimetres, 3),
                "drift_deg": None if drift is None else round(drift.degrees, 3),
                "colour": None if colour is None else {"rgb": [*colour.rgb], "amount": colour.amount},
            }
        )
    edits = [*(each for each, _ in base.steps), *variation.edits]
    light_values = None if grade is None else {k: v for k, v in vars(grade).items() if k != "target"}
    return {
        "seed": variation.seed,
        "objects": objects,
        "grade": light_values,
        "overlap_mm": None if variation.overlap is None else round(variation.overlap, 4),
        "without_room": [*variation.stuck],
        "not_resting": [*variation.restless],
        "cameras": [camera_record(camera) for camera in variation.cameras],
        "edits": [{"edit": each.name, **to_plain(each)} for each in edits],
    }


def _pose7(pose: Tensor) -> list[float]:
    return [round(value, 6) for value in pose7_from_pose(pose.double()).tolist()]
