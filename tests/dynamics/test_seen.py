"""Worlds of an episode's first moment, of true meshes and of what cameras see; how far predictions are."""

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from dynamics.baselines import Persistence
from dynamics.episodes import Episode
from dynamics.episodes.commands import import_episode
from dynamics.episodes.seen import told
from dynamics.evaluation import track_errors
from dynamics.matter import matter_of
from dynamics.models import model_named
from dynamics.prediction.predict import predicting, start_state, tool_robots
from dynamics.prediction.question import ask
from dynamics.prediction.summary import summary
from gaussworld.errors import CaptureError
from gaussworld.gaussians import Gaussians
from gaussworld.log import drain
from gaussworld.world import World
from gaussworld.world_object import ObjectKind

pytest.importorskip("mujoco")


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Episode:
    """A door that a rod opens; nothing was drawn."""
    from dynamics.generate import EpisodesConfig, generate_episodes

    out = tmp_path_factory.mktemp("episodes")
    config = EpisodesConfig(family=("door",), episodes=1, steps=25, policy="scripted", seed=41)
    drain(generate_episodes(out, config, 1))
    return Episode(out / "door-00000")


def test_its_world_is_stored_with_its_numbers(door, tmp_path, capsys):
    """Ids, names, kinds and joints are the episode's, so that predictions can be compared with it."""
    import_episode(door.folder, out=tmp_path / "door.world", gaussians=900, json=True)
    facts = json.loads(capsys.readouterr().out)
    world = World.open(tmp_path / "door.world")
    assert facts["objects"] == {str(number): item.name for number, item in world.objects.items()}
    assert set(world.objects) == set(door.objects)
    moving = [item for item in world.objects.values() if item.kind is ObjectKind.ARTICULATED]
    assert len(moving) == 1 and moving[0].joint.kind == "revolute"
    sources = {source for item in world.objects.values() for source in item.material.sources.values()}
    assert "user" not in sources


def test_what_was_seen_gets_names_and_axes(door):
    """A reconstruction knows masks' numbers only; the joint is in the frame that the thing got there."""
    true = door.world(900)
    seen = _renamed(true, torch.tensor([0.03, -0.02, 0.05]))
    named = told(seen, door)
    (number,) = [n for n, item in true.objects.items() if item.kind is ObjectKind.ARTICULATED]
    ours, theirs = named.objects[number], true.objects[number]
    assert (ours.name, ours.kind, ours.parent) == (theirs.name, theirs.kind, theirs.parent)
    assert ours.joint is not None and theirs.joint is not None
    for position in (0.2, 0.9):
        at = torch.tensor(position)
        offset = torch.eye(4)
        offset[:3, 3] = torch.tensor([0.03, -0.02, 0.05])
        moved = ours.world_from_object @ ours.joint.motion(at)
        wanted = theirs.world_from_object @ theirs.joint.motion(at) @ offset
        torch.testing.assert_close(moved, wanted.to(moved), atol=1e-5, rtol=0)


def _renamed(world: World, shift: torch.Tensor) -> World:
    """As a reconstruction would have it: everything rigid, without joints, each frame elsewhere."""
    objects = {}
    for number, item in world.objects.items():
        offset = torch.eye(4)
        offset[:3, 3] = shift
        back = torch.eye(4)
        back[:3, 3] = -shift
        objects[number] = replace(
            item,
            name=f"object {number}",
            kind=ObjectKind.RIGID,
            joint=None,
            parent=None,
            gaussians=item.gaussians.transformed(back),
            world_from_object=item.world_from_object @ offset,
        )
    return replace(world, objects=objects)


def test_an_episode_without_pictures_is_refused(door, tmp_path):
    """One sentence says how to get some."""
    with pytest.raises(CaptureError, match="expected pictures, got an episode without"):
        import_episode(door.folder, out=tmp_path / "door.world", seen=True)
    assert not (tmp_path / "door.world").exists()


def test_errors_of_standing_still_are_how_far_things_went(door):
    """Persistence is as far off as the points moved."""
    world = door.world(900)
    matter = matter_of(world)
    model = Persistence(world, matter, door.tools, door.spec)
    (errors,) = track_errors([model], world, matter, door)
    assert len(errors.predicted) == len(door) + 1
    torch.testing.assert_close(errors.predicted, errors.rested, atol=1e-6, rtol=0)
    assert float(errors.rested[-1]) > 0.01 and float(errors.rested[0]) == 0


@pytest.mark.skipif("DISPLAY" in os.environ and os.environ.get("MUJOCO_GL") == "glfw", reason="needs EGL")
def test_cameras_are_enough(tmp_path):
    """Four small RGB-D pictures become a world in which the T stands where it is, to a centimetre."""
    from dynamics.generate import EpisodesConfig, generate_episodes

    config = EpisodesConfig(family=("push_t",), episodes=1, steps=3, seed=5, cameras=4, width=160, height=120)
    drain(generate_episodes(tmp_path / "set", config, 1))
    preset = tmp_path / "quick.toml"
    preset.write_text("steps = 30\nmax_gaussians = 12000\nstart_gaussians = 12000\n", encoding="utf-8")
    folder = tmp_path / "set" / "push_t-00000"
    import_episode(folder, out=tmp_path / "seen.world", seen=True, preset=str(preset))
    world, episode = World.open(tmp_path / "seen.world"), Episode(folder)
    (number,) = [n for n, item in episode.objects.items() if item.kind is ObjectKind.RIGID]
    seen, true = (each.objects[number].posed() for each in (world, episode.world(900)))
    assert isinstance(seen, Gaussians) and len(seen) > 50
    middle, wanted = (each.means.quantile(0.5, dim=0)[:2] for each in (seen, true))
    torch.testing.assert_close(middle, wanted, atol=0.012, rtol=0)
    top, wanted = (each.means[:, 2].quantile(0.95) for each in (seen, true))
    torch.testing.assert_close(top, wanted, atol=0.012, rtol=0)
    assert world.objects[number].shape is not None
    assert (tmp_path / "seen.world.run").is_dir() and Path(preset).is_file()


def test_a_recording_is_compared_in_numbers(door):
    """The summary of a predicted episode says how far it is from what happened."""
    prediction = drain(predicting(ask(door.folder, door.folder))).result
    facts = summary(prediction, "prior", 0, {})["truth"]
    assert facts is not None
    assert 0 < facts["mean_m"] < 0.1 and facts["final_m"] > 0
    rested = drain(predicting(ask(door.folder, door.folder), "persistence")).result
    facts = summary(rested, "persistence", 0, {})["truth"]
    assert facts["mean_m"] == pytest.approx(facts["mean_if_nothing_moved_m"], abs=1e-6)


def test_robots_begin_where_their_tools_do(door):
    """Actions that begin elsewhere than the recording take the robot along, so that pictures show it."""
    question = ask(door.folder, door.folder)
    elsewhere = replace(question, start=question.start + torch.tensor([0.05, -0.2, 0.3, 0, 0, 0, 0]))
    (robot,) = tool_robots(question.world)
    state = start_state(
        model_named("prior", question.world, matter_of(question.world), door.tools), elsewhere
    )
    row = state.object_ids.index(robot)
    torch.testing.assert_close(state.object_poses[row], elsewhere.start[0], atol=1e-5, rtol=0)
