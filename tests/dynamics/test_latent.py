"""The latent model: the protocol, what it must not depend on, tokens that do not collapse, files."""

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from dynamics.episodes.episode import Tracks
from dynamics.latent.config import SIZES, LatentConfig
from dynamics.latent.learner import LatentLearner
from dynamics.latent.losses import apart, effective_rank
from dynamics.latent.model import Latent, loaded
from dynamics.latent.network import LatentNetwork
from dynamics.latent.windows import batch, prepared
from dynamics.learning.calibration import Radius
from dynamics.learning.learner import Learner
from dynamics.learning.recording import Recording
from dynamics.matter import Matter
from dynamics.physics import examples
from dynamics.prior import Prior
from dynamics.tool import gripper, pusher
from gaussworld.errors import ConfigError, FileFormatError
from gaussworld.log import Notice
from gaussworld.pose import pose7_from_pose, pose_from, pose_from_pose7, rotation_from_rotvec
from gaussworld.state import Action, Dynamics, State
from gaussworld.world import World

SMALL = LatentConfig(anchors=12, neighbors=4, token=16, hidden=16, layers=1, windows=64, longest=4)
FACTS = {"spec": {"rate_hz": 10.0}, "families": ["push"]}
Made = tuple[World, Matter]


def trained(config: LatentConfig = SMALL, size: float = 0.3) -> LatentNetwork:
    """A network whose outputs are not zero, as if it had learned something."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        network = LatentNetwork(config).requires_grad_(False)
        for layer in (network.motion, network.bend[2]):
            assert isinstance(layer, torch.nn.Linear)
            layer.weight.normal_(0, size / config.token**0.5)
            layer.bias.normal_(0, size)
        # The door of the examples opens towards lower positions.
        network.motion.bias[12] = -3 * size
    return network


def pushing(model: Latent | Prior, steps: int = 6, batch_size: int | None = None) -> tuple[State, Action]:
    """A tool that goes through where the thing is, each sample of a batch on its own way."""
    state = model.initial(model.world)
    generator = torch.Generator().manual_seed(0)
    count = batch_size or 1
    tools = torch.zeros(steps, count, len(model.tools), 7)
    tools[..., 3] = 1
    middle = state.particle_positions.mean(0)
    begin = middle[:2] + torch.tensor([-0.15, 0.01])
    ways = torch.linspace(0, 1, steps + 1)[:, None, None] * torch.tensor([0.2, 0.0])
    jitter = 0.01 * torch.randn(1, count, 2, generator=generator)
    places = begin + ways + ways[..., :1] * 5 * jitter
    tools[..., :2], tools[..., 2] = places[1:, :, None], 0.01
    first = torch.cat([places[0, 0], torch.tensor([0.01, 1.0, 0, 0, 0])])
    state = replace(state, tool_poses=first.expand_as(state.tool_poses).contiguous())
    if batch_size is None:
        return state, Action(model.action_spec, tools[:, 0])
    return state.expand(count).map(torch.clone), Action(model.action_spec, tools)


def turned(state: State, actions: Action, angle: float, shift: Tensor) -> tuple[State, Action]:
    """The same about a turn about the vertical and a shift."""
    motion = pose_from(rotation_from_rotvec(torch.tensor([0.0, 0.0, angle])), shift)

    def poses(value: Tensor) -> Tensor:
        return pose7_from_pose(motion @ pose_from_pose7(value))

    assert actions.tools is not None
    twists = state.object_twists.unflatten(-1, (2, 3)) @ motion[:3, :3].T
    state = replace(
        state,
        object_poses=poses(state.object_poses),
        object_twists=twists.flatten(-2),
        particle_positions=state.particle_positions @ motion[:3, :3].T + shift,
        particle_velocities=state.particle_velocities @ motion[:3, :3].T,
        tool_poses=poses(state.tool_poses),
    )
    return state, replace(actions, tools=poses(actions.tools))


def recording(seed: float = 0.0, steps: int = 12, name: str = "a") -> Recording:
    """A box of some size that physics says is pushed, somewhere from the middle, in some direction."""
    world, matter = examples.box((0.1 + 0.02 * math.sin(seed), 0.1, 0.04 + 0.01 * math.cos(seed)))
    prior = Prior(world, matter, (pusher(),))
    state, actions = pushing(prior, steps)
    aside = torch.tensor([0.0, 0.03 * math.sin(3 * seed), 0.0, 0.0, 0.0, 0.0, 0.0])
    assert actions.tools is not None
    state = replace(state, tool_poses=state.tool_poses + aside)
    state, actions = turned(state, replace(actions, tools=actions.tools + aside), seed, torch.zeros(3))
    with torch.no_grad():
        states = prior.rollout(state, actions).states
    world = replace(
        world,
        objects={1: replace(world.objects[1], world_from_object=pose_from_pose7(state.object_poses[0]))},
    )
    none = Tracks(torch.zeros(0, dtype=torch.long), torch.zeros(0, 3), torch.zeros(steps + 1, 0, 3))
    return Recording(
        name,
        f"push:{name}",
        "push",
        "scripted",
        world,
        matter,
        prior.tools,
        prior.action_spec,
        states,
        actions,
        none,
    )


@pytest.fixture(scope="module")
def learner() -> LatentLearner:
    """Trained for a moment on six pushes."""
    generator = torch.Generator().manual_seed(0)
    made = LatentLearner(SMALL, generator)
    assert isinstance(made, Learner)
    group = [recording(angle, name=str(angle)) for angle in (0.0, 1.0, 2.0, 3.0, 4.0, 5.0)]
    made.begin(group)
    optimizer = torch.optim.Adam(made.module.parameters())
    for step in range(45):
        for entry in optimizer.param_groups:
            entry["lr"] = 1e-2 * (1 - step / 45)
        loss = made.loss(group, 0.15 * step / 45, generator)["loss"]
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(made.module.parameters(), 1.0)
        optimizer.step()
    for event in made.finish(group[:4], group[2:]):
        assert not isinstance(event, Notice), event
    return made


WORLDS: dict[str, Callable[[], Made]] = {
    "box": examples.box,
    "tee": examples.tee,
    "door": examples.door,
    "rope": examples.rope,
    "two": lambda: examples.rigid(
        [[((0.0, 0.0, 0.0), (0.05, 0.05, 0.02))]] * 2, [(0.0, 0.0, 0.02), (0.12, 0.0, 0.02)]
    ),
}


@pytest.mark.parametrize("name", WORLDS)
def test_it_is_a_dynamics(name: str) -> None:
    """A rollout of a batch is the rollouts of each alone, begins with the state, and repeats to the bit."""
    world, matter = WORLDS[name]()
    model = Latent(trained(), world, matter, (pusher(),), radius=Radius(torch.ones(3)))
    assert isinstance(model, Dynamics)
    state, actions = pushing(model, batch_size=3)
    rollout = model.rollout(state, actions)
    torch.testing.assert_close(rollout.states[0].object_poses, state.object_poses, atol=0, rtol=0)
    torch.testing.assert_close(rollout.states[0].particle_positions, state.particle_positions, atol=0, rtol=0)
    again = model.rollout(state, actions)
    assert torch.equal(again.states.particle_positions, rollout.states.particle_positions)
    assert rollout.spread is not None and bool((rollout.spread >= 0).all())
    moved = (rollout.final.particle_positions - state.particle_positions).abs().amax((1, 2))
    assert bool((moved > 1e-3).all())
    for row in range(3):
        alone = model.rollout(state[row], actions.map(lambda value, row=row: value[:, row]))
        torch.testing.assert_close(
            alone.states.particle_positions, rollout.states.particle_positions[:, row], atol=2e-5, rtol=0.0
        )
        assert alone.spread is not None
        torch.testing.assert_close(alone.spread, rollout.spread[:, row], atol=1e-5, rtol=1e-3)
    first = model.step(state, actions[0])
    torch.testing.assert_close(first.object_poses, rollout.states.object_poses[1], atol=1e-6, rtol=0.0)


def test_an_untrained_model_says_that_nothing_moves() -> None:
    """To the bit, whatever the tool does."""
    for made in WORLDS.values():
        world, matter = made()
        model = Latent(LatentNetwork(SMALL), world, matter, (pusher(),))
        state, actions = pushing(model)
        with torch.no_grad():
            final = model.rollout(state, actions).final
        assert torch.equal(final.object_poses, state.object_poses)
        assert torch.equal(final.particle_positions, state.particle_positions)


@pytest.mark.parametrize("name", WORLDS)
def test_what_nothing_reaches_stays_exactly(name: str) -> None:
    """Far from the tool, a trained model moves nothing."""
    world, matter = WORLDS[name]()
    model = Latent(trained(), world, matter, (pusher(),))
    state, actions = pushing(model)
    far = torch.tensor([5.0, 0, 0, 0, 0, 0, 0])
    assert actions.tools is not None
    rollout = model.rollout(
        replace(state, tool_poses=state.tool_poses + far), replace(actions, tools=actions.tools + far)
    )
    assert torch.equal(rollout.final.object_poses, state.object_poses)
    assert torch.equal(rollout.final.particle_positions, state.particle_positions)


@pytest.mark.parametrize("name", ["tee", "rope", "two"])
def test_shifts_and_turns_of_everything_change_nothing_else(name: str) -> None:
    """Whatever is free to move: the future of the moved world is the moved future."""
    world, matter = WORLDS[name]()
    model = Latent(trained(), world, matter, (pusher(),))
    state, actions = pushing(model)
    shift = torch.tensor([0.7, -0.4, 0.0])
    rollout = model.rollout(state, actions)
    moved = model.rollout(*turned(state, actions, 2.0, shift))
    turn = rotation_from_rotvec(torch.tensor([0.0, 0.0, 2.0]))
    wanted = rollout.states.particle_positions @ turn.T + shift
    torch.testing.assert_close(moved.states.particle_positions, wanted, atol=1e-4, rtol=0.0)


def test_an_action_changes_the_future_and_a_joint_keeps_its_limits() -> None:
    """A door that is pushed hard stops where it must."""
    world, matter = examples.door()
    network = trained(size=3.0)
    model = Latent(network, world, matter, (pusher(),))
    state, actions = pushing(model, 12)
    states = model.rollout(state, actions).states
    assert bool((states.joint_positions <= 1e-6).all())
    assert bool((states.joint_positions >= -math.pi / 2 - 1e-6).all())
    assert float(states.joint_positions.abs().max()) > 0.05
    item = world.objects[1]
    assert item.joint is not None
    wanted = pose7_from_pose(item.world_from_object @ item.joint.motion(states.joint_positions[:, 0]))
    torch.testing.assert_close(states.object_poses[:, 0], wanted, atol=1e-5, rtol=0.0)


def test_a_gripper_has_several_boxes_and_its_grip_counts() -> None:
    """Closing it instead of leaving it open gives another future."""
    world, matter = examples.box((0.04, 0.04, 0.04))
    model = Latent(trained(), world, matter, (gripper(),))
    state, actions = pushing(model)
    actions = replace(actions, grip=torch.zeros(6, 1))
    closed = replace(actions, grip=torch.ones(6, 1))
    a, b = (model.rollout(state, each).final for each in (actions, closed))
    assert float(b.grip) == 1.0
    assert float((a.object_poses - b.object_poses).abs().max()) > 1e-4


def test_mirrored_windows_are_windows_of_a_mirrored_world() -> None:
    """Poses and shapes are mirrored so that the anchors are."""
    ready = prepared(recording(), SMALL)
    windows = batch([ready], [0], 4)
    signs = torch.tensor([-1.0])
    scene, begin = windows.scene.mirrored(signs), windows.begin.mirrored(signs)
    arms = begin.centers[:, :, None] + scene.arms @ begin.turns.transpose(-1, -2)
    torch.testing.assert_close(arms, begin.anchors, atol=1e-6, rtol=0.0)
    flip = torch.tensor([-1.0, 1.0, 1.0])
    torch.testing.assert_close(begin.anchors, windows.begin.anchors * flip, atol=0.0, rtol=0.0)
    torch.testing.assert_close(torch.linalg.det(begin.turns), torch.ones(1, 1))


def test_rank_tells_collapse_and_the_spread_forbids_it() -> None:
    """Tokens that are the same, or on a line, are few directions and cost much."""
    generator = torch.Generator().manual_seed(0)
    good = torch.randn(256, 16, generator=generator)
    line = good[:, :1] * torch.ones(16)
    same = torch.ones(256, 16)
    assert float(effective_rank(good)) > 14
    assert float(effective_rank(line)) < 1.5
    assert float(effective_rank(same)) == 0.0
    assert float(apart(good)) < 0.2 < min(float(apart(line)), float(apart(same)))


def test_learning_lowers_the_error_and_tokens_do_not_collapse(learner: LatentLearner) -> None:
    """Six pushes are learned in seconds: a third of what persistence does wrong is gone."""
    test = [recording(seed, name=str(seed)) for seed in (0.0, 2.0, 3.0)]
    new = LatentLearner(SMALL, torch.Generator().manual_seed(0))
    assert sum(map(learner.score, test)) < 0.67 * sum(map(new.score, test))
    parts = [made.loss(test, 0.0, torch.Generator().manual_seed(3)) for made in (learner, new)]
    assert float(parts[0]["place"]) < 0.67 * float(parts[1]["place"])
    assert float(parts[0]["rank"]) > 2
    assert set(parts[0]) == {"loss", "place", "speed", "latent", "spread", "doubt", "rank"}


def test_a_collapsed_model_is_told(learner: LatentLearner) -> None:
    """A network whose tokens are all the same ends with a notice."""
    broken = LatentLearner(SMALL, torch.Generator().manual_seed(0))
    last = broken.module.state[2]
    assert isinstance(last, torch.nn.Linear)
    torch.nn.init.zeros_(last.weight)
    group = [recording(1.0, name="1"), recording(2.0, name="2")]
    notices = [event.message for event in broken.finish(group) if isinstance(event, Notice)]
    assert len(notices) == 1 and "collapsed" in notices[0]


def test_the_spread_covers_and_strange_worlds_surprise(learner: LatentLearner, tmp_path: Path) -> None:
    """Radii grow from zero; a much larger thing is more unusual than those of training."""
    learner.save(tmp_path, dict(FACTS))
    usual = recording(1.0, name="1.0")
    model = loaded(tmp_path, usual.world, usual.matter, usual.tools, 10.0)
    rollout = model.rollout(usual.states[0], usual.actions)
    assert rollout.spread is not None
    assert float(rollout.spread[0].max()) == 0.0
    wrong = (rollout.states.object_poses - usual.states.object_poses)[..., :3].norm(dim=-1)
    assert float((wrong[1:] <= rollout.spread[1:]).float().mean()) > 0.5
    world, matter = examples.box((0.5, 0.3, 0.2))
    other = loaded(tmp_path, world, matter, usual.tools, 10.0)
    strange = other.rollout(*pushing(other, 12))
    assert 0 <= model.surprise(rollout) < other.surprise(strange) <= 1


def test_a_saved_model_is_the_same_to_the_bit(learner: LatentLearner, tmp_path: Path) -> None:
    """Also its radii; and the card says what it is."""
    learner.save(tmp_path, dict(FACTS))
    each = recording(0.7, name="c")
    model = loaded(tmp_path, each.world, each.matter, each.tools, 10.0)
    with torch.no_grad():
        mine = learner.model(each, learner.radius).rollout(each.states[0], each.actions)
    theirs = model.rollout(each.states[0], each.actions)
    assert torch.equal(mine.states.particle_positions, theirs.states.particle_positions)
    assert mine.spread is not None and theirs.spread is not None
    assert torch.equal(mine.spread, theirs.spread)
    card = json.loads((tmp_path / "model.json").read_text())
    assert (card["format"], card["kind"], card["families"]) == ("gaussworld-model", "latent", ["push"])
    assert card["spec"]["rate_hz"] == 10.0


def _cut(folder: Path) -> None:
    whole = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(whole[: len(whole) // 2])


def _card(**changed: object) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        card = json.loads((folder / "model.json").read_text())
        (folder / "model.json").write_text(json.dumps(card | changed))

    return change


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (_cut, "whole safetensors file"),
        (_card(version=2), "expected version 1 or older, got 2"),
        (_card(kind="hybrid"), "of kind 'latent', got 'hybrid'"),
        (_card(format="other"), "expected format"),
        (_card(config={"token": 3, "nonsense": 1}), "nonsense"),
        (_card(config={"token": 3, "heads": 4}), "config of a latent model"),
        (_card(config={"token": 16, "hidden": 32}), "not of one model"),
        (_card(spec=None), "rate_hz in the spec"),
        (lambda folder: (folder / "model.json").write_text("{"), "expected JSON"),
        (lambda folder: (folder / "model.safetensors").unlink(), "no such file"),
    ],
)
def test_damaged_models_are_refused(
    learner: LatentLearner, tmp_path: Path, spoil: Callable[[Path], None], message: str
) -> None:
    """In one sentence that names the file."""
    learner.save(tmp_path, dict(FACTS))
    spoil(tmp_path)
    world, matter = examples.box()
    with pytest.raises(FileFormatError, match=message) as caught:
        loaded(tmp_path, world, matter, (pusher(),), 10.0)
    assert str(tmp_path) in str(caught.value) and "\n" not in str(caught.value)


def test_another_rate_is_refused(learner: LatentLearner, tmp_path: Path) -> None:
    """Actions are never resampled in silence."""
    learner.save(tmp_path, dict(FACTS))
    world, matter = examples.box()
    with pytest.raises(ConfigError, match="10 Hz"):
        loaded(tmp_path, world, matter, (pusher(),), 20.0)


def test_sizes_and_settings() -> None:
    """The small one is small; settings that make no sense are refused."""
    assert sum(value.numel() for value in LatentNetwork(SIZES["small"]).parameters()) <= 300_000
    assert SIZES["large"].token > SIZES["small"].token
    with pytest.raises(ConfigError, match="divisor"):
        LatentConfig(token=30, heads=4)
    with pytest.raises(ConfigError, match="anchors"):
        LatentConfig(anchors=1)


def test_broken_states_are_refused() -> None:
    """A state that is not finite, or a batch that is not the actions'."""
    world, matter = examples.box()
    model = Latent(trained(), world, matter, (pusher(),))
    state, actions = pushing(model)
    with pytest.raises(ValueError, match="finite"):
        model.rollout(replace(state, object_poses=state.object_poses * torch.nan), actions)
    with pytest.raises(ValueError, match="one batch"):
        model.rollout(state.expand(2), actions)


def test_windows_of_different_worlds_are_one_batch() -> None:
    """A door, a T and two boxes with different tools: each predicts as it does alone."""
    config = replace(SMALL, windows=8)
    network = trained(config)
    scenes = []
    for name, tools in (("door", (pusher(),)), ("tee", (gripper(),)), ("two", (pusher(),))):
        world, matter = WORLDS[name]()
        prior = Prior(world, matter, tools)
        state, actions = pushing(prior)
        states = state.expand(7).map(torch.clone)
        assert actions.tools is not None
        states = replace(states, tool_poses=torch.cat([state.tool_poses[None], actions.tools]))
        none = Tracks(torch.zeros(0, dtype=torch.long), torch.zeros(0, 3), torch.zeros(7, 0, 3))
        made = Recording(
            name, name, name, "scripted", world, matter, tools, prior.action_spec, states, actions, none
        )
        scenes.append((prepared(made, config), Latent(network, world, matter, tools), states[0], actions))
    windows = batch([each[0] for each in scenes], [0, 0, 0], 6)
    from dynamics.latent.unroll import unroll

    said = unroll(network, windows.scene, network.shapes(windows.scene), windows.begin, windows.hands, 0.1)
    for row, (ready, model, state, actions) in enumerate(scenes):
        final = model.rollout(state, actions).final
        count = ready.scene.present.shape[1]
        centers = model._follower.situation(final).centers
        torch.testing.assert_close(said.situations[-1].centers[row, :count], centers, atol=1e-5, rtol=0.0)
