"""Tracking against prediction: `python benchmarks/track.py [EPISODE] [--out FOLDER]`, a table and a video.

With an episode of `gaussworld generate` (its cameras and its truth), physics starts from default materials.
Without one a T-block is pushed by our own physics with other friction and mass than the tracker believes, and
four cameras see it with noise: what correction adds, apart from how good the physics is.
"""

import argparse
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from machine import commit, processor

from dynamics.correction.correct import CorrectConfig, ImageView
from dynamics.correction.track import TrackConfig, Tracker, episode_views, track
from dynamics.matter.parts import Matter
from dynamics.matter.sample import matter_of
from dynamics.physics.parameters import Parameters
from dynamics.prediction.picture import Column, drawn, film
from dynamics.prediction.stage import Stage
from dynamics.prior import Prior
from dynamics.skinning.skin import Skin
from dynamics.tool import Tool, pusher
from gaussworld.camera import Camera
from gaussworld.log import drain
from gaussworld.pose import look_at, pose_from, pose_from_pose7, rotation_from_rotvec, rotvec_from_rotation
from gaussworld.render import render
from gaussworld.shape import Shape
from gaussworld.state import Action, Rollout, State
from gaussworld.surface import Paint, box
from gaussworld.surface.objects import Detail, Thing, objects_of
from gaussworld.surface.painted import Surface, merged
from gaussworld.world import World
from gaussworld.world_object import ObjectKind

SIZE, STEPS = (160, 120), 25
EYES = ((0.5, -0.5, 0.5), (-0.5, -0.5, 0.5), (0.5, 0.5, 0.5), (-0.5, 0.5, 0.5))


@dataclass(frozen=True)
class Case:
    """What is followed."""

    name: str
    world: World
    tools: tuple[Tool, ...]
    start: State
    actions: Action
    truth: State
    matter: Matter
    episode: Any = None

    @property
    def model(self) -> Prior:
        return Prior(self.world, self.matter, self.tools)

    def views(self, config: TrackConfig) -> Iterator[Sequence[ImageView]]:
        """What the cameras saw, moment after moment."""
        if self.episode is not None:
            return episode_views(self.episode, config)
        return (seen(self, step) for step in range(len(self.truth)))


def t_parts() -> list[Surface]:
    bar, stem = (box(size) for size in ((0.16, 0.04, 0.04), (0.04, 0.12, 0.04)))
    down = pose_from(torch.eye(3), torch.tensor([0.0, -0.08, 0.0]))
    return [part.tinted((0.75, 0.25, 0.2)) for part in (bar, stem.transformed(down))]


def synthetic() -> Case:
    """A T-block that the truth's physics knows better than the tracker."""
    table, block = box((0.8, 0.8, 0.04)), merged(t_parts())
    parts = [part.mesh for part in t_parts()]
    turn = rotation_from_rotvec(torch.tensor([0.0, 0.0, 0.4]))
    things = [
        Thing("table", Surface(table.mesh, (Paint((0.7, 0.68, 0.6)),)),
              pose_from(torch.eye(3), torch.tensor([0.0, 0.0, -0.02])), ObjectKind.STATIC,
              Shape(table.mesh, (table.mesh,))),
        Thing("T", block, pose_from(turn, torch.tensor([0.0, 0.0, 0.02])), ObjectKind.RIGID,
              Shape(block.mesh, tuple(parts))),
    ]  # fmt: skip
    objects = {item.id: item for item in objects_of(things, Detail(12000, shade=True))}
    world, tools = World(objects, metres_per_unit=1.0, up=(0.0, 0.0, 1.0)), (pusher(),)
    matter = matter_of(world)
    believed = Parameters.of(world, matter, tools)
    true = replace(
        believed,
        friction=believed.friction * 0.4,
        mass=believed.mass * 3,
        tool_friction=believed.tool_friction * 2.5,
        patch=believed.patch * 0.4,
    )
    poses = torch.zeros(STEPS + 1, 1, 7)
    poses[..., 3], poses[..., 2] = 1, 0.005
    along = torch.linspace(0, 1, STEPS + 1)
    poses[:, 0, 0] = -0.15 + 0.28 * along
    poses[:, 0, 1] = 0.02 - 0.06 * along
    model = Prior(world, matter, tools)
    start = replace(model.initial(world), tool_poses=poses[0])
    actions = Action(model.action_spec, poses[1:])
    truth = Prior(world, matter, tools, parameters=true).rollout(start, actions).states
    return Case("T-block of other friction and mass", world, tools, start, actions, truth, matter)


def recorded(path: Path) -> Case:
    """An episode, seen by physics that knows only default materials."""
    from dynamics.episodes import Episode

    episode = Episode(path)
    world, tools = episode.world(), tuple(episode.tools)
    matter = matter_of(world)
    states = episode.states
    start = Prior(world, matter, tools).initial(world)
    start = replace(start, tool_poses=states.tool_poses[0], grip=states.grip[0])
    return Case(path.name, world, tools, start, episode.actions, states, matter, episode)


def cameras() -> list[Camera]:
    return [Camera.pinhole(look_at(torch.tensor(eye), torch.zeros(3)), *SIZE, 40.0) for eye in EYES]


def seen(case: Case, step: int) -> list[ImageView]:
    """RGB-D of the truth: light off by up to 15 %, colours by 2 %, depth by 2 mm and with holes."""
    generator, views = torch.Generator().manual_seed(step), []
    stage = Stage(case.world, case.tools)
    for row, camera in enumerate(cameras()):
        picture = render(stage.gaussians(case.truth[step]), camera, outputs=["depth"])
        assert picture.depth is not None
        light = 0.85 + 0.1 * row
        rgb = picture.rgb * light + 0.02 * torch.randn(picture.rgb.shape, generator=generator)
        depth = picture.depth + 0.002 * torch.randn(picture.depth.shape, generator=generator)
        kept = (picture.alpha > 0.5) & (torch.rand(depth.shape, generator=generator) > 0.05)
        views.append(ImageView(camera, rgb.clamp(0, 1), torch.where(kept, depth, torch.zeros_like(depth))))
    return views


def errors(case: Case, states: State) -> tuple[list[float], list[float]]:
    """[mm] and [deg] of the things that move, in each state the mean of them."""
    movable = [
        row for row, number in enumerate(states.object_ids)
        if case.world.objects[number].kind in (ObjectKind.RIGID, ObjectKind.ARTICULATED)
    ]  # fmt: skip
    other = [case.truth.object_ids.index(states.object_ids[row]) for row in movable]
    a, b = (
        pose_from_pose7(states.object_poses[:, movable]),
        pose_from_pose7(case.truth.object_poses[:, other]),
    )
    far = (a[..., :3, 3] - b[..., :3, 3]).norm(dim=-1).mean(1) * 1000
    turn = rotvec_from_rotation(a[..., :3, :3] @ b[..., :3, :3].transpose(-1, -2)).norm(dim=-1)
    return far.tolist(), turn.mean(1).rad2deg().tolist()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("episode", type=Path, nargs="?")
    parser.add_argument("--out", type=Path, default=Path("track"))
    asked = parser.parse_args()
    torch.set_num_threads(1)
    case = synthetic() if asked.episode is None else recorded(asked.episode)
    posed = Skin.bind(case.matter, case.world).gaussians if case.matter.bending else None
    ways = {
        "depth points": TrackConfig(images=False),
        "pictures": TrackConfig(points=False),
        "both": TrackConfig(images=True),
    }
    rows: dict[str, tuple[Rollout, float]] = {}
    begun = time.monotonic()
    rows["prediction alone"] = case.model.rollout(case.start, case.actions), time.monotonic() - begun
    for name, config in ways.items():
        config = replace(config, longest=SIZE[0], stride=2)
        tracker = Tracker(case.model, case.world, case.tools, posed, config, CorrectConfig())
        begun = time.monotonic()
        events = track(tracker, case.start, case.actions, case.views(config))
        rows[name] = drain(events).result, time.monotonic() - begun
    print(f"Tracking {case.name}, {len(case.actions)} steps; {commit()} on {processor()}\n")
    print("| | mean [mm] | last [mm] | mean [deg] | last [deg] | s a frame |\n|---|---|---|---|---|---|")
    for name, (rollout, seconds) in rows.items():
        far, turn = errors(case, rollout.states)
        mean = sum(far) / len(far), far[-1], sum(turn) / len(turn), turn[-1]
        print(
            f"| {name} | " + " | ".join(f"{value:.1f}" for value in mean) + f" | {seconds / len(far):.2f} |"
        )
    show(case, rows, asked.out)


def show(case: Case, rows: dict[str, tuple[Rollout, float]], out: Path) -> None:
    """Truth, prediction and tracking side by side."""
    posed = Skin.bind(case.matter, case.world).gaussians if case.matter.bending else None
    stage, camera = Stage(case.world, case.tools, posed), cameras()[0].rescaled(480, 360)
    truth = case.truth
    if case.episode is not None:
        from dynamics.prediction.truth_view import TruePoses

        camera = next(iter(case.episode.cameras.values()))
        true = Stage(case.world, case.tools, TruePoses(case.episode, case.world))
    else:
        true = stage
    columns = [Column("truth", [drawn(true, truth, camera)])]
    for name, label in (("prediction alone", "prediction alone"), ("depth points", "tracked")):
        columns.append(Column(label, [drawn(stage, rows[name][0].states, camera)]))
    out.mkdir(parents=True, exist_ok=True)
    for _ in film(out / "track.mp4", columns, rows["both"][0].dt, len(truth)):
        pass
    print(f"\nWrote {out / 'track.mp4'}")


if __name__ == "__main__":
    main()
