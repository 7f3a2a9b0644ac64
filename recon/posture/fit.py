"""`fit_joints`: joint positions at which a robot's silhouettes cover its masks in several pictures."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from gaussworld.errors import CaptureError
from gaussworld.log import Done, Event, Progress
from gaussworld.robot import Robot

from .evolve import Best, Cost, evolve
from .silhouettes import MeshRobot, PointRobot, RobotView, Target

#: [rad] first steps of the three; a sliding joint's step is `_SLIDE` of its range for each radian.
_STEPS, _SLIDE = (0.25, 0.08, 0.03), 0.5
#: Pixels across the pictures that rays are cast through, and faces of each link then.
_ACROSS, _FACES = 240, 500
#: Positions computed together.
_BATCH = 128
#: Cost of a posture as far from the start as the spread, per joint. It decides between postures that look
#: alike, as those of a shoulder turned by half a turn, and counts as long as postures are compared.
_USUAL = 0.002
#: Cost of a position beyond its limit, per square of a radian.
_BEYOND = 1.0

Prior = Callable[[Float[Tensor, "b l 4 4"]], Float[Tensor, " b"]]


@dataclass(frozen=True)
class Effort:
    """How much is tried."""

    scattered: int = 4096
    """Random positions that the search begins with."""
    starts: int = 16
    """The best of them, from which it goes on."""
    kept: int = 3
    """The best of these, from which the fine search goes on."""
    generations: tuple[int, int, int] = (40, 50, 50)
    """Of the coarse search from every start, of the fine one, and of the last one, with rays."""
    population: tuple[int, int, int] = (32, 24, 14)
    """Positions in a generation of each."""
    points: tuple[int, int] = (4000, 12000)
    """On the robot, in the coarse search and in the fine one."""
    cells: tuple[int, int] = (60, 120)
    """Across a picture, in the two."""


@dataclass(frozen=True, eq=False)
class JointFit:
    """Positions found, and how well the robot's silhouettes then cover the masks."""

    positions: Float[Tensor, " j"]
    """[rad or m] in the order of `Robot.joint_names`, within limits."""
    overlaps: tuple[float, ...]
    """Intersection over union of silhouette and mask where it is known, by view."""


def fit_joints(
    robot: Robot,
    views: Sequence[RobotView],
    generator: torch.Generator,
    start: Float[Tensor, " j"] | None = None,
    spread: float = 0.7,
    prior: Prior | None = None,
    world_from_base: Float[Tensor, "4 4"] | None = None,
    effort: Effort | None = None,
) -> Iterator[Event[JointFit]]:
    """Search joint positions whose silhouettes agree with masks in all views; no picture of a robot alone.

    Random positions about `start` are refined by a population (CMA-ES): first with points in coarse cells,
    then with points in finer ones, and last with rays through pictures of 240 pixels. What no view shows is
    as the prior or chance has it.

    Args:
        robot: with geometry; its fixed joints stay.
        views: pictures of the same moment.
        generator: of random numbers.
        start: [rad or m] a likely posture; default: `Robot.rest`.
        spread: [rad] standard deviation of the postures about it that are tried.
        prior: what else is known, as a cost of links' poses `world_from_link`; 0.01 is a percent of overlap.
        world_from_base: where the robot stands; default: its base is at the origin.
        effort: how much is tried.

    Raises:
        CaptureError: no view, or none whose mask shows any robot.
        ValueError: a mask of another size than its camera.
    """
    _check(views)
    effort = effort or Effort()
    middle = robot.rest.double() if start is None else start.double()
    search = _Search(robot, views, prior, world_from_base, middle, spread, effort)
    count = effort.starts * effort.generations[0] + effort.kept * effort.generations[1]
    total, done = count + effort.generations[2], 0
    coarse = search.by_points(0, generator)
    places = search.scattered(coarse, generator)
    for stage, cost in enumerate((coarse, search.by_points(1, generator), search.by_rays)):
        found: list[Best] = []
        for place in places:
            best = Best(place, math.inf)
            for best in search.improved(cost, place, stage, generator):
                done += 1
                yield Progress(done, total, {"difference": best.cost}, "the robot's posture")
            found.append(best)
        found.sort(key=lambda best: best.cost)
        places = [best.place for best in found[: effort.kept if stage == 0 else 1]]
    positions = search.within(places[0])
    yield Done(JointFit(positions.float(), search.overlaps(positions)))


def _check(views: Sequence[RobotView]) -> None:
    for view in views:
        size = (view.camera.height, view.camera.width)
        if tuple(view.mask.shape) != size or tuple(view.known.shape) != size:
            raise ValueError(
                f"views: expected masks of their camera's size {size}, got {tuple(view.mask.shape)}"
            )
    if not any(bool((view.mask & view.known).any()) for view in views):
        raise CaptureError(
            f"expected a mask that shows the robot in at least one view, got {len(views)} views without;"
            " check how the masks are made"
        )


class _Search:
    """Costs of joint positions, and what they need."""

    def __init__(
        self,
        robot: Robot,
        views: Sequence[RobotView],
        prior: Prior | None,
        base: Tensor | None,
        middle: Float[Tensor, " j"],
        spread: float,
        effort: Effort,
    ) -> None:
        self._middle, self._spread, self._effort = middle, spread, effort
        self._robot, self._views, self._prior, self._base = robot, views, prior, base
        self.low, self.high = robot.limits.unbind(1)
        slides = torch.tensor([joint.kind == "prismatic" for joint in robot.joints if joint.free])
        self.steps = torch.where(slides, _SLIDE * (self.high - self.low), 1.0)
        self._meshes = MeshRobot(robot, _FACES, base)
        self._targets = [Target.of(view, min(_ACROSS, view.camera.width)) for view in views]
        self._cameras = [target.camera for target in self._targets]

    def within(self, places: Tensor) -> Tensor:
        return places.clamp(self.low, self.high)

    def scattered(self, cost: Cost, generator: torch.Generator) -> list[Float[Tensor, " j"]]:
        """The best of random positions."""
        size = (self._effort.scattered, len(self._middle))
        noise = torch.randn(size, generator=generator, dtype=torch.float64)
        places = self.within(self._middle + noise * self.steps * self._spread)
        places[0] = self._middle
        return list(places[cost(places).argsort()[: self._effort.starts]])

    def improved(
        self, cost: Cost, place: Float[Tensor, " j"], stage: int, generator: torch.Generator
    ) -> Iterator[Best]:
        """A search of one of the three stages about a place."""
        return evolve(
            cost,
            place,
            self.steps * _STEPS[stage],
            generations=self._effort.generations[stage],
            population=self._effort.population[stage],
            generator=generator,
        )

    def by_points(self, level: int, generator: torch.Generator) -> Cost:
        """Points in coarse cells (0) or finer ones (1); postures far from the start cost a little."""
        body = PointRobot(self._robot, self._effort.points[level], generator, self._base)
        targets = [Target.of(view, self._effort.cells[level], touched=True) for view in self._views]

        def cost(places: Tensor) -> Tensor:
            found = []
            for rows in places.split(_BATCH):
                poses = body.poses(self.within(rows))
                each = [target.difference(body.drawn(poses, target.camera)) for target in targets]
                found.append(torch.stack(each).mean(0) + self._rest(rows, poses) + self._unusual(rows))
            return torch.cat(found).double()

        return cost

    def by_rays(self, places: Float[Tensor, "b j"]) -> Float[Tensor, " b"]:
        found = []
        for place in places:
            drawn = self._meshes.drawn(self.within(place), self._cameras)
            each = [target.difference(one[None])[0] for target, one in zip(self._targets, drawn)]
            found.append(torch.stack(each).mean())
        base = torch.eye(4) if self._base is None else self._base.float()
        poses = base @ self._robot.link_poses(self.within(places)).float()
        return (torch.stack(found) + self._rest(places, poses)).double()

    def overlaps(self, positions: Float[Tensor, " j"]) -> tuple[float, ...]:
        drawn = self._meshes.drawn(positions, self._cameras)
        return tuple(float(target.overlap(one[None])[0]) for target, one in zip(self._targets, drawn))

    def _unusual(self, places: Tensor) -> Tensor:
        away = (places - self._middle) / (self.steps * self._spread)
        return _USUAL * away.square().sum(1)

    def _rest(self, places: Tensor, poses: Tensor) -> Tensor:
        """Cost beside that of pictures."""
        beyond = ((places - self.within(places)) / self.steps).square().sum(1) * _BEYOND
        return beyond.float() if self._prior is None else beyond.float() + self._prior(poses)
