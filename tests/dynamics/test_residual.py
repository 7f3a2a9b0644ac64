"""A corrected model: momentum is kept, turned scenes are predicted turned, a closed gate changes no bit."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from dynamics.baselines import ConstantVelocity
from dynamics.learning.calibration import Radius, Usual
from dynamics.matter.parts import PartKind
from dynamics.matter.sample import matter_of
from dynamics.models import Learned, model_named
from dynamics.physics import examples
from dynamics.prior import Prior
from dynamics.residual.files import save_residual
from dynamics.residual.globals import Globals
from dynamics.residual.graph import graph_of
from dynamics.residual.impulses import correction_of, momenta
from dynamics.residual.layout import Layout
from dynamics.residual.model import Gate, Residual, observed
from dynamics.residual.network import ImpulseNetwork, NetworkConfig
from gaussworld.errors import ConfigError, FileFormatError, UnknownScale
from gaussworld.gaussians import Gaussians
from gaussworld.pose import multiply_quats, rotation_from_quats
from gaussworld.state import Action, Dynamics, State
from gaussworld.world import World
from gaussworld.world_object import ObjectKind, WorldObject

WORLDS: dict[str, Any] = {
    "box": examples.box, "door": examples.door, "rope": examples.rope, "block": examples.block
}  # fmt: skip
SMALL = NetworkConfig(width=8, rounds=1, heads=2)
OPEN = Gate({kind.value: 1.0 for kind in PartKind})


@pytest.fixture(autouse=True)
def _quick(quick: None) -> None:
    """As in production."""


def noisy(seed: int = 0, size: float = 0.05, config: NetworkConfig = SMALL) -> ImpulseNetwork:
    """A network that pushes at random."""
    torch.manual_seed(seed)
    network = ImpulseNetwork(config)
    torch.nn.init.normal_(network.push.weight, std=size)
    return network.requires_grad_(False)


def pushed(world_of: Any, model_of: Any, steps: int = 6) -> tuple[Any, State, Action]:
    """A model, the state in which a rod is at a thing, and actions that push it."""
    world, matter = world_of()
    model = model_of(world, matter)
    low, high = matter.rest.amin(0), matter.rest.amax(0)
    begin = torch.tensor([[float(low[0]) - 0.02, 0.01, 0.01, 1.0, 0.0, 0.0, 0.0]])
    if world_of is examples.door:
        begin = torch.tensor([[0.2, 0.06, 0.01, 1.0, 0.0, 0.0, 0.0]])
    way = torch.tensor([1.0, 0.1, 0.0]) if world_of is not examples.door else torch.tensor([0.0, -1.0, 0.0])
    assert float(high[0]) > float(low[0])
    places = begin.repeat(steps, 1, 1)
    places[:, :, :3] += 0.012 * torch.arange(1, steps + 1)[:, None, None] * way
    return model, model.initial(world, begin), Action(model.action_spec, places)


def hybrid(network: ImpulseNetwork, gate: Gate = OPEN, radius: Radius | None = None) -> Any:
    """Makes a corrected prior for a world."""
    return lambda world, matter: Residual(Prior(world, matter), network, gate, radius)


def values(state: State) -> dict[str, Tensor]:
    """All tensors of a state."""
    found = {}
    state.map(lambda value: found.setdefault(str(len(found)), value))
    return found


@pytest.mark.parametrize("name", WORLDS)
def test_closed_gate_is_the_prior(name: str) -> None:
    """With nothing let through, and with an untrained network, every bit is the prior's."""
    prior, state, actions = pushed(WORLDS[name], Prior)
    plain = prior.rollout(state, actions)
    for network, gate in ((noisy(), Gate()), (ImpulseNetwork(SMALL), OPEN)):
        model, _, _ = pushed(WORLDS[name], hybrid(network, gate))
        rollout = model.rollout(state, actions)
        for key, value in values(plain.states).items():
            same = torch.equal(value, values(rollout.states)[key])
            assert same or torch.allclose(value, values(rollout.states)[key], atol=1e-6)
        if gate.closed:
            assert torch.equal(plain.states.object_poses, rollout.states.object_poses)


@pytest.mark.parametrize("name", WORLDS)
def test_conforms(name: str) -> None:
    """It is a `Dynamics`: deterministic, each sample for itself, step like rollout, and it does something."""
    model, state, actions = pushed(WORLDS[name], hybrid(noisy(), radius=Radius(torch.ones(3))))
    assert isinstance(model, Dynamics) and isinstance(model, Learned)
    rollout, again = model.rollout(state, actions), model.rollout(state, actions)
    assert torch.equal(rollout.states.object_poses, again.states.object_poses)
    stepped = state
    for index in range(len(actions)):
        stepped = model.step(stepped, actions[index])
    assert torch.allclose(stepped.object_poses, rollout.final.object_poses, atol=1e-6)
    two = state.expand(2).map(torch.clone)
    both = actions.map(lambda value: value[:, None].expand(-1, 2, *value.shape[1:]).clone())
    both.tools[:, 1, :, :3] = state.tool_poses[:, :3]
    pair = model.rollout(two, both)
    assert torch.allclose(pair.states.object_poses[:, 0], rollout.states.object_poses, atol=1e-5)
    assert rollout.spread is not None and rollout.spread.shape == rollout.states.object_poses.shape[:-1]
    assert float(rollout.spread[0].abs().max()) == 0
    plain = Prior(model.world, model.matter).rollout(state, actions)
    off = (plain.final.particle_positions - rollout.final.particle_positions).abs().max()
    assert 1e-5 < float(off) < 1.0


def test_nothing_moves_by_itself() -> None:
    """What nobody touches stays, however loud the network is; also over 300 steps."""
    model, state, actions = pushed(examples.box, hybrid(noisy(size=2.0)))
    away = state.tool_poses + torch.tensor([0.0, 0, 0.3, 0, 0, 0, 0])
    still = Action(actions.spec, away.expand(300, 1, 7))
    rollout = model.rollout(replace(state, tool_poses=away), still)
    assert float((rollout.final.object_poses - state.object_poses).abs().max()) < 5e-4


def test_momentum_is_kept() -> None:
    """Between things that only touch each other, linear and angular momentum of the pushes cancel."""
    rope, matter = examples.rope(24)
    prior = Prior(rope, matter)
    layout, state = Layout.of(rope, matter, prior.tools, prior.parameters), prior.initial(rope)
    lifted = replace(state, particle_positions=state.particle_positions + torch.tensor([0.0, 0.0, 0.5]))
    before = lifted.expand(1).map(torch.clone)
    generator = torch.Generator().manual_seed(0)
    shift = 0.01 * torch.randn(1, len(matter.rest), 3, generator=generator)
    after = replace(
        before, particle_positions=before.particle_positions + shift, particle_velocities=shift / 0.1
    )
    graph, bodies = graph_of(layout, before, after, 0.1)
    assert len(graph.facts) > 20
    linear, angular = momenta(graph, noisy(size=0.5)(graph).strengths[0])
    change = correction_of(layout, bodies, linear, angular)
    mass = layout.masses[:, None]
    gained = (mass * change.linear[0, 0]).sum(0)
    arms = bodies.centers[0] - (mass * bodies.centers[0]).sum(0) / mass.sum()
    spun = torch.linalg.cross(arms, mass * change.linear[0, 0]).sum(0)
    size = float((mass * change.linear[0, 0]).norm(dim=-1).sum())
    assert size > 1e-4
    assert float(gained.norm()) < 1e-5 * size
    assert float(spun.norm()) < 2e-3 * size * float(arms.norm(dim=-1).max())


@pytest.mark.parametrize("name", ["box", "rope", "block"])
def test_turned_scene_is_predicted_turned(name: str) -> None:
    """A shift on level ground and a turn about the vertical of everything turn the correction alike."""
    model, state, actions = pushed(WORLDS[name], hybrid(noisy()))
    quat = torch.tensor([0.8, 0.0, 0.0, 0.6])
    turn, shift = rotation_from_quats(quat), torch.tensor([0.03, -0.02, 0.0])

    def moved(value: Tensor) -> Tensor:
        quats = multiply_quats(quat.expand(*value.shape[:-1], 4), value[..., 3:])
        return torch.cat([value[..., :3] @ turn.T + shift, quats], -1)

    after = model.prior.rollout(state, actions).states
    one = (after[2], after[3])
    two = tuple(
        replace(
            each,
            object_poses=moved(each.object_poses),
            tool_poses=moved(each.tool_poses),
            object_twists=(each.object_twists.unflatten(-1, (2, 3)) @ turn.T).flatten(-2),
            particle_positions=each.particle_positions @ turn.T + shift,
            particle_velocities=each.particle_velocities @ turn.T,
        )
        for each in one
    )
    pushes = []
    for pair in (one, two):
        found = model.watched(pair[0].expand(1), pair[1].expand(1))
        pushes.append(model._pushed(found).particle_positions[0])
    straight = one[1].particle_positions
    assert float((pushes[0] - straight).abs().max()) > 1e-4
    assert torch.allclose(pushes[0] @ turn.T + shift, pushes[1], atol=2e-4)


def test_joint_stays_on_its_axis() -> None:
    """A correction moves a door along its hinge only, within its limits, and its poses follow."""
    model, state, actions = pushed(examples.door, hybrid(noisy(size=1.0)), steps=20)
    rollout = model.rollout(state, actions)
    number = rollout.states.joint_ids[0]
    joint = model.world.objects[number].joint
    row = rollout.states.object_ids.index(number)
    positions = rollout.states.joint_positions[:, 0]
    assert float(positions.min()) >= joint.limits[0] - 1e-5
    wanted = model.world.objects[number].world_from_object @ joint.motion(positions)
    from gaussworld.pose import pose_from_pose7

    got = pose_from_pose7(rollout.states.object_poses[:, row])
    assert torch.allclose(got, wanted.to(got), atol=1e-4)


def test_network_alone() -> None:
    """Without physics the same network corrects things that go on as they do."""
    network = noisy()
    world, matter = examples.box()
    model = Residual(ConstantVelocity(world, matter), network, OPEN)
    _, state, actions = pushed(examples.box, Prior)
    rollout = model.rollout(state, actions)
    assert bool(rollout.states.object_poses.isfinite().all())


def test_last_difference_goes_on() -> None:
    """What physics did not know goes on for what moves, and for nothing that rests."""
    prior, state, actions = pushed(examples.box, Prior, steps=12)
    model = Residual(prior, ImpulseNetwork(SMALL), Gate(persisted=1.0))
    plain = Residual(prior, ImpulseNetwork(SMALL), Gate())
    drift = torch.tensor([0.01, 0.02, 0.0]).expand_as(state.residual)
    truth = model.rollout(replace(state, residual=drift), actions)
    seen = replace(truth.states, residual=torch.zeros_like(truth.states.residual))
    begun = observed(model, seen[:7], actions[:6])
    assert float((begun.residual - drift).norm(dim=-1).mean()) < 0.01
    errors = []
    for each in (model, plain):
        rollout = each.rollout(begun, actions[6:])
        errors.append(float((rollout.final.object_poses - truth.final.object_poses)[..., :3].norm()))
    assert errors[0] < 0.5 * errors[1]
    rest = replace(state, residual=torch.full_like(state.residual, 0.1))
    away = rest.tool_poses + torch.tensor([0.0, 0, 0.3, 0, 0, 0, 0])
    stays = model.rollout(replace(rest, tool_poses=away), Action(actions.spec, away.expand(5, 1, 7)))
    assert float((stays.final.object_poses - state.object_poses).abs().max()) < 1e-3
    with pytest.raises(ValueError, match="one state more than actions"):
        observed(model, seen[:3], actions[:6])


def saved(folder: Path) -> tuple[Path, ImpulseNetwork]:
    """A model on disk."""
    network = noisy()
    facts = {
        "spec": {"kind": "tool_pose", "frame": "world", "units": "m", "rate_hz": 10.0},
        "families": ["push"], "trained_on": ["push:1"],
    }  # fmt: skip
    radius, width = Radius(torch.tensor([1.0, 2.0])), 4
    usual = Usual(torch.zeros(width), torch.eye(width), torch.ones(3))
    given = Globals({"patch": 1.25})
    save_residual(folder, network, "prior", given, OPEN, radius, usual, facts)
    return folder, network


def test_saved_is_the_same(tmp_path: Path) -> None:
    """What is loaded predicts the same bits; its prior lies beside it as a model of its own."""
    folder, network = saved(tmp_path / "model")
    world, matter = examples.box()
    loaded = model_named(str(folder), world, matter, Prior(world, matter).tools)
    prior = Prior(world, matter)
    prior = prior.with_parameters(Globals({"patch": 1.25}).applied(prior.parameters))
    _, state, actions = pushed(examples.box, Prior)
    wanted = Residual(prior, network, OPEN).rollout(state, actions)
    got = loaded.rollout(state, actions)
    assert torch.equal(wanted.states.object_poses, got.states.object_poses)
    assert got.spread is not None
    alone = model_named(str(folder / "prior"), world, matter, prior.tools).rollout(state, actions)
    assert torch.equal(alone.states.object_poses, prior.rollout(state, actions).states.object_poses)


def test_bad_models_are_refused(tmp_path: Path) -> None:
    """Another version, rate or kind, missing or truncated tensors: one clear sentence each."""
    world, matter = examples.box()
    tools = Prior(world, matter).tools

    def refused(folder: Path, error: type[Exception], text: str, rate: float = 10.0) -> None:
        with pytest.raises(error, match=text):
            model_named(str(folder), world, matter, tools, rate)

    folder, _ = saved(tmp_path / "model")
    refused(folder, ConfigError, "expected actions at 10 Hz", 5.0)
    card = json.loads((folder / "model.json").read_text())
    for key, value, text in (
        ("version", 9, "version 1 or older, got 9"),
        ("kind", "oracle", "kind hybrid"),
        ("format", "other", "expected format"),
        ("gate", {}, "network, gate and base"),
        ("prior", {"patch": "x"}, "factors on the prior"),
    ):
        (folder / "model.json").write_text(json.dumps({**card, key: value}))
        refused(folder, FileFormatError, text)
    (folder / "model.json").write_text(json.dumps(card))
    whole = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    refused(folder, FileFormatError, "model.safetensors")
    (folder / "model.safetensors").unlink()
    refused(folder, FileFormatError, "no such file")
    other, _ = saved(tmp_path / "other")
    save = json.loads((other / "model.json").read_text())
    save["network"]["width"] = 16
    (other / "model.json").write_text(json.dumps(save))
    refused(other, FileFormatError, "not of one model")
    (tmp_path / "empty").mkdir()
    refused(tmp_path / "empty", ConfigError, "a folder without model.json")


def test_radius_holds_nine_of_ten() -> None:
    """Factors make errors that were not looked at fall within the radius nine times out of ten."""
    generator = torch.Generator().manual_seed(0)
    doubts = (torch.rand(20, 400, generator=generator) + 0.5).cumsum(0) * 0.002
    errors = doubts * 3 * torch.randn(20, 400, generator=generator).abs()
    radius = Radius.of(errors[:, :200], doubts[:, :200])
    radii = radius(torch.cat([torch.zeros(1, 200), doubts[:, 200:]]))[1:]
    covered = float((errors[:, 200:] <= radii).float().mean())
    assert 0.87 < covered < 0.94
    with pytest.raises(ValueError, match="nothing moved"):
        Radius.of(torch.full((3, 2), torch.nan), torch.zeros(3, 2))


def test_unusual_is_told() -> None:
    """Situations like those of training rank anywhere; others rank highest."""
    generator = torch.Generator().manual_seed(0)
    known = torch.randn(200, 6, generator=generator)
    usual = Usual.of(known[:150], known[150:])
    ranks = torch.tensor([usual.rank(each) for each in torch.randn(50, 6, generator=generator)])
    assert 0.3 < float(ranks.mean()) < 0.7
    assert usual.rank(torch.full((6,), 8.0)) == 1.0


def test_limits_of_a_correction() -> None:
    """Nothing is pushed into table or tool, and what slides freely gets no faster."""
    model, state, actions = pushed(examples.box, hybrid(noisy(size=0.1)))
    accounts = model.prior.accounts
    deep = accounts.penetration(model.rollout(state, actions).states).max()
    plain = accounts.penetration(model.prior.rollout(state, actions).states).max()
    assert float(deep) < float(plain) + 0.002
    away = state.tool_poses + torch.tensor([0.0, 0, 0.3, 0, 0, 0, 0])
    twist = torch.tensor([[0.6, 0.1, 0.0, 0.0, 0.0, 1.0]])
    sliding = model.prior.placed(replace(state, tool_poses=away, object_twists=twist))
    rollout = model.rollout(sliding, Action(actions.spec, away.expand(8, 1, 7)))
    speeds = rollout.states.object_twists[:, 0, :3].norm(dim=-1)
    assert bool((speeds.diff() < 1e-3).all())
    other = model.prior.rollout(sliding, rollout.actions)
    assert float((other.final.object_poses - rollout.final.object_poses).abs().max()) > 1e-3


def test_unknown_contacts_push_nothing() -> None:
    """A kind of contact that was never learned from is left to the prior."""
    network = noisy()
    network.seen.zero_()
    model, state, actions = pushed(examples.box, hybrid(network))
    plain = model.prior.rollout(state, actions).states.object_poses
    assert torch.allclose(model.rollout(state, actions).states.object_poses, plain, atol=1e-6)


def test_odd_worlds_and_states(tmp_path: Path) -> None:
    """An object of three Gaussians moves; NaN, no scale and no objects are refused as by the prior."""
    points = torch.tensor([[-0.03, -0.02, -0.02], [0.03, -0.02, -0.02], [0.0, 0.03, 0.02]])
    quats = torch.tensor([[1.0, 0.0, 0.0, 0.0]]).repeat(3, 1)
    made = Gaussians(points, quats, torch.full((3, 3), -4.5), torch.full((3,), 4.0), torch.zeros(3, 1, 3))
    pose = torch.eye(4)
    pose[2, 3] = 0.05
    world = World(
        {1: WorldObject(1, "crumb", made, ObjectKind.RIGID, pose)}, metres_per_unit=1.0, up=(0, 0, 1)
    )
    matter = matter_of(world)
    model = hybrid(noisy())(world, matter)
    state = model.initial(world, torch.tensor([[-0.15, 0.0, 0.03, 1.0, 0, 0, 0]]))
    places = state.tool_poses.repeat(12, 1, 1)
    places[:, 0, 0] = torch.linspace(-0.13, 0.1, 12)
    actions = Action(model.action_spec, places)
    after = model.rollout(state, actions).final.object_poses
    assert bool(torch.isfinite(after).all()) and float(after[0, 0]) > 0.05
    broken = replace(state, object_poses=state.object_poses * torch.nan)
    with pytest.raises(ValueError, match=r"State.object_poses: expected finite values"):
        model.step(broken, actions[0])
    folder, _ = saved(tmp_path / "model")
    with pytest.raises(UnknownScale):
        model_named(str(folder), replace(world, metres_per_unit=None), matter, model.tools)
    with pytest.raises(ValueError, match="with objects, got none"):
        model_named(str(folder), World(metres_per_unit=1.0), matter, model.tools)
