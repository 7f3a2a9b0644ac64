"""An update from pictures to edits: where they were taken, what differs, what moved, what is gone or new."""

import math
import tempfile
import time
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch

from gaussworld.edit import Edit, Hide, Place, SetJoint, Target, applied
from gaussworld.errors import CaptureError, EditError
from gaussworld.gaussians import Gaussians
from gaussworld.log import Done, Event, Notice, Progress, part
from gaussworld.pose import invert_pose, pose7_from_pose, rotvec_from_rotation
from gaussworld.world import World
from gaussworld.world_object import BACKGROUND_ID, ObjectKind, WorldObject

from .candidates import Clues, Ground, by_features, by_search, object_matches, support
from .changes import Difference, compared, suspects
from .explain import backdrops, placed
from .familiar import well_known
from .holes import filled, surface_below
from .landmarks import Landmarks, landmarks
from .moves import Move, explained
from .pictures import Pictures, read_pictures
from .relocalise import Registration, Shot, relocalised
from .renew import Renewal, renewed

#: Pictures that are looked at when a motion is searched, and rounds in which objects are asked.
_SEARCHED, _ROUNDS = 6, 2
#: Features that make a search superfluous.
_SURE = 40
_NAMED = 5


@dataclass(frozen=True)
class UpdateConfig:
    """How to look at new pictures."""

    pictures: int = 24
    """At most so many of them are used, evenly spread."""
    resolution: int = 640
    """[px] Longer side at which pictures and world are compared."""
    renderings: int = 24
    """From so many of the world's own cameras the world is looked at to recognise places."""
    fewest_inliers: int = 15
    """A picture must fit so many landmarks of the world."""
    fewest_pictures: int = 3
    """So many pictures must find their place: one or two cannot tell a change from a reflection."""
    refit: bool = True
    """Fit anew what no motion explains: traces of what left, and things that are new."""
    refit_steps: int = 200
    """Pictures looked at while fitting."""
    seed: int = 0

    def __post_init__(self) -> None:
        if self.pictures < 1 or self.resolution < 64 or self.renderings < 1 or self.fewest_pictures < 1:
            raise ValueError(
                "expected pictures, renderings and fewest_pictures of at least 1, resolution of at least 64,"
                f" got {self.pictures}, {self.renderings}, {self.fewest_pictures} and {self.resolution}"
            )


@dataclass(frozen=True, eq=False)
class Updated:
    """A world as new pictures show it, and how it came to be."""

    world: World
    """After the update; the world before, if nothing changed."""
    registrations: tuple[Registration, ...]
    moves: tuple[Move, ...]
    """Of every object that looked changed."""
    edits: tuple[Edit, ...]
    """What was done, without what was fitted anew."""
    renewal: Renewal | None = None
    left_out: tuple[tuple[str, str], ...] = ()
    """Name and reason of pictures that could not be read."""
    differences: tuple[Difference, ...] = ()
    """Of the pictures from the world before."""
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def shots(self) -> list[Shot]:
        """The pictures that found their place."""
        return [each.shot for each in self.registrations if each.shot is not None]

    @property
    def changed(self) -> bool:
        """Whether there is anything to commit."""
        return bool(self.edits) or (self.renewal is not None and self.renewal.changed)


def update(
    world: World,
    pictures: Sequence[Path],
    config: UpdateConfig | None = None,
    *,
    camera_like: int | None = None,
) -> Iterator[Event[Updated]]:
    """Find out what new pictures change in a world.

    Args:
        world: as it was.
        pictures: a folder of photographs, a video, or a capture with cameras.
        config: how.
        camera_like: number of the world's camera that took them; None finds out.

    Yields:
        `Progress`, a `Notice` for what a user should know, `Done` with the world as it is now.

    Raises:
        CaptureError: a world without cameras or Gaussians, or too few pictures that show this place.
        ConfigError: the world has no such camera.
    """
    config, started = config or UpdateConfig(), time.monotonic()
    shown = world.shown() if world.objects else None
    if shown is None or not len(shown):
        raise CaptureError("expected a world with Gaussians to compare pictures with, got an empty one")
    with tempfile.TemporaryDirectory(prefix="gaussworld-update-") as scratch:
        given = yield from read_pictures(pictures, world, Path(scratch), config.pictures, camera_like)
        registrations = yield from _registered(shown, world, given, config)
    seconds = {"relocalise": time.monotonic() - started}
    shots = [each.shot for each in registrations if each.shot is not None]
    known = well_known(shown, world.cameras, shots, config.renderings)
    differences = compared(shown, shots, known)
    moves = yield from _moves(world, shown, differences, config)
    seconds["moves"] = time.monotonic() - started - sum(seconds.values())
    after, edits = yield from _edited(world, moves, shots)
    renewal = None
    if config.refit:
        renewal = yield from part(renewed(after, shots, known, config.refit_steps, config.seed), "Fitting")
        after = renewal.world if renewal.changed else after
    seconds["fit"] = time.monotonic() - started - sum(seconds.values())
    yield Done(
        Updated(
            after,
            registrations,
            tuple(moves),
            tuple(edits),
            renewal,
            given.left_out,
            tuple(differences),
            seconds,
        )
    )


def _registered(
    shown: Gaussians, world: World, given: Pictures, config: UpdateConfig
) -> Generator[Progress | Notice, None, tuple[Registration, ...]]:
    events = relocalised(
        shown, world.cameras, given.all,
        longest=config.resolution, renderings=config.renderings, fewest_inliers=config.fewest_inliers,
    )  # fmt: skip
    found = yield from part(events, "Relocalising")
    failed = [each for each in found if each.shot is None]
    if len(found) - len(failed) < config.fewest_pictures:
        reasons = "; ".join(f"{each.name} {each.problem}" for each in failed[:_NAMED])
        raise CaptureError(
            f"expected at least {config.fewest_pictures} pictures that show this world, got"
            f" {len(found) - len(failed)} of {len(found)}{f' ({reasons})' if reasons else ''}; take more, of"
            " the same place, sharp, and from where the world was seen before"
        )
    if failed:
        named = ", ".join(each.name for each in failed[:_NAMED])
        yield Notice(f"{len(failed)} of {len(found)} pictures found no place in the world: {named}")
    return found


def _may_move(item: WorldObject) -> bool:
    """The background and what is static stay; links of robots follow joints; locks are the user's."""
    link = item.kind is ObjectKind.ROBOT and item.joint is not None
    fixed = item.kind is ObjectKind.STATIC or link or item.id == BACKGROUND_ID
    return not (fixed or item.locked or item.hidden) and len(item.gaussians) > 0


def _moves(
    world: World, shown: Gaussians, differences: Sequence[Difference], config: UpdateConfig
) -> Generator[Progress | Notice, None, list[Move]]:
    """What became of every object that looks changed, asked twice: the sure ones make room for the others."""
    movable = [number for number, item in world.objects.items() if _may_move(item)]
    waiting = [suspect.object_id for suspect in suspects(differences, movable)]
    if not waiting:
        return []
    known = landmarks(shown, world.cameras, config.resolution, config.renderings)
    clues, total = Clues.of(differences), len(waiting)
    decided: dict[int, Move] = {}
    unsure: dict[int, Move] = {}
    for _ in range(_ROUNDS):
        scene, sure_before = _with_moves(shown, decided), len(decided)
        for number in list(waiting):
            yield Progress(len(decided), total, message=f"finding {world.find(number).name}", stage="Objects")
            move = _asked(number, shown, scene, waiting, known, clues, world)
            if move.verdict == "moved":
                decided[number] = move
                waiting.remove(number)
                scene = _with_moves(shown, decided)
            else:
                unsure[number] = move
        if not waiting or len(decided) == sure_before:
            # Nothing was learnt that could change the answers.
            break
    return [*decided.values(), *(unsure[number] for number in waiting)]


def _with_moves(shown: Gaussians, decided: dict[int, Move]) -> Gaussians:
    """The world with objects where they are now known to be."""
    for number, move in decided.items():
        if move.verdict == "moved":
            rows = shown.object_ids == number
            there = placed(shown.select(rows), move.motion)
            columns = {}
            for name in ("means", "quats", "sh"):
                column = getattr(shown, name).clone()
                column[rows] = getattr(there, name)
                columns[name] = column
            shown = replace(shown, **columns)
    return shown


def _asked(
    number: int,
    shown: Gaussians,
    scene: Gaussians,
    waiting: Sequence[int],
    known: Landmarks,
    clues: Clues,
    world: World,
) -> Move:
    shots = [each.shot for each in clues.differences]
    item = shown.select(shown.object_ids == number)
    coarse, fine = (backdrops(scene, shots, waiting, shrink) for shrink in (4, 2))
    matches = object_matches(number, known, clues)
    motions = by_features(matches, clues)
    if not motions or support(motions[0], clues, matches) < _SURE:
        up = torch.tensor(world.up if world.up is not None else _upright(world)).float()
        motions += by_search(item, clues, Ground.of(up, coarse), coarse[:_SEARCHED])
    else:
        motions = motions[:1]
    return explained(number, item, motions, coarse, fine, lambda motion: support(motion, clues, matches))


def _upright(world: World) -> list[float]:
    """People hold cameras upright: the mean of what is up in their pictures."""
    ups = torch.stack([-camera.world_from_camera[:3, 1] for camera in world.cameras])
    return torch.nn.functional.normalize(ups.mean(0), dim=0).tolist()


def _edited(
    world: World, moves: Sequence[Move], shots: Sequence[Shot]
) -> Generator[Notice, None, tuple[World, list[Edit]]]:
    """The world after the moves, parents before what is mounted on them, and the edits that made it so."""
    edits: list[Edit] = []
    acted = [move for move in moves if move.verdict != "stays"]
    targets = {move.object_id: world.find(move.object_id).world_from_object for move in acted}
    acted.sort(key=lambda move: len(world.ancestors(world.find(move.object_id))))
    surfaces = surface_below(world, [move.object_id for move in acted], shots)
    world, filling = filled(world, surfaces)
    edits += filling
    for move in acted:
        number, name = move.object_id, world.find(move.object_id).name
        if move.verdict == "moved":
            x, y, z, *turn = pose7_from_pose(move.motion.to(targets[number]) @ targets[number]).tolist()
            edit: Edit = Place(number, (x, y, z, turn[0], turn[1], turn[2], turn[3]))
        else:
            # Hidden, not deleted: it may only have gone out of sight, and it can come back.
            edit = Hide(Target((number,)))
        try:
            done = [edit, *_joint_follows(world.find(number), move)]
            there = world
            for each in done:
                there = applied(each, there)
            world, edits = there, [*edits, *done]
        except EditError as error:
            yield Notice(f"{name} was left as it was: {error}")
    return world, edits


def _joint_follows(item: WorldObject, move: Move) -> list[Edit]:
    """A door that was opened knows so: its joint stands elsewhere, and may have gone beyond its limits."""
    joint = item.joint
    if joint is None or move.verdict != "moved":
        return []
    pose = item.world_from_object
    change = invert_pose(pose) @ move.motion.to(pose) @ pose
    way = rotvec_from_rotation(change[:3, :3]) if joint.kind == "revolute" else change[:3, 3]
    position = joint.position + float(way @ pose.new_tensor(joint.axis))
    low, high = min(joint.limits[0], position), max(joint.limits[1], position)
    limits = [limit if math.isfinite(limit) else None for limit in (low, high)]
    return [SetJoint(item.id, joint.kind, joint.axis, joint.origin, limits[0], limits[1], position)]
