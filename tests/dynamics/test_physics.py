"""The prior's mechanics against what is known exactly: rest, sliding, flight, stretch, joints, grasps."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from dynamics.physics import examples
from dynamics.physics.settings import PriorConfig
from dynamics.prior import Prior
from dynamics.rollout import Accounts
from dynamics.tool import gripper, pusher
from gaussworld.state import Action, Rollout, State

FAR = torch.tensor([[5.0, 5.0, 5.0, 1.0, 0.0, 0.0, 0.0]])
QUICK = PriorConfig(contacts=False)


@pytest.fixture(autouse=True)
def _quick(quick: None) -> None:
    """As in production."""


def untouched(prior: Prior, state: State, steps: int) -> Rollout:
    tools = state.tool_poses.expand(steps, *state.tool_poses.shape).contiguous()
    with torch.no_grad():
        return prior.rollout(state, Action(prior.action_spec, tools))


def led(prior: Prior, state: State, path: Tensor, grip: Tensor | None = None) -> Rollout:
    """The tool at places (t, 3), upright."""
    upright = torch.tensor([1.0, 0.0, 0.0, 0.0]).expand(len(path), 4)
    tools = torch.cat([path, upright], -1)[:, None]
    with torch.no_grad():
        return prior.rollout(state, Action(prior.action_spec, tools, grip=grip))


def line(start: tuple[float, ...], end: tuple[float, ...], steps: int) -> Tensor:
    t = torch.linspace(0, 1, steps + 1)[1:, None]
    return torch.tensor(start) * (1 - t) + torch.tensor(end) * t


STACK = [[((0.0, 0.0, 0.0), (0.05, 0.05, 0.025))]] * 2
SCENES = {
    "box": examples.box,
    "T": examples.tee,
    "stack": lambda: examples.rigid(STACK, [(0.0, 0.0, 0.025), (0.01, 0.0, 0.075)]),
    "rope": examples.rope,
    "cloth": examples.cloth,
    "block": examples.block,
}


@pytest.mark.parametrize("name", SCENES)
def test_what_is_not_touched_stays_for_thirty_seconds(name: str) -> None:
    """300 steps move nothing by 1 % of its size; a soft block may first settle under its weight."""
    world, matter = SCENES[name]()
    prior = Prior(world, matter, config=replace(QUICK, substeps=3))
    state = prior.initial(world, FAR)
    after = untouched(prior, state, 300)
    size = float((state.particle_positions.amax(0) - state.particle_positions.amin(0)).max())
    drift = (after.final.particle_positions - state.particle_positions).norm(dim=-1).max()
    assert drift < 0.01 * size
    assert after.final.particle_velocities.norm(dim=-1).max() < 1e-3


def test_a_flying_spinning_box_keeps_its_momentum() -> None:
    """Linear but for gravity, and angular, to 1e-5 over three seconds."""
    world, matter = examples.box()
    prior = Prior(world, matter, config=QUICK)
    state = prior.initial(world, FAR)
    high = state.object_poses + torch.tensor([0.0, 0.0, 100.0, 0.0, 0.0, 0.0, 0.0])
    state = replace(state, object_poses=high, object_twists=torch.tensor([[0.3, -0.2, 0.0, 3.0, 7.0, 5.0]]))
    momentum = prior.accounts.momentum(untouched(prior, state, 30).states)
    spin, way = momentum.angular[:, 0], momentum.linear[:, 0]
    assert (spin - spin[0]).norm(dim=-1).max() < 1e-5 * spin[0].norm()
    assert (way - way[0])[:, :2].abs().max() < 1e-5
    fall = way[0, 2] - 0.5 * 9.81 * 0.1 * torch.arange(31)
    torch.testing.assert_close(way[:, 2], fall, rtol=1e-5, atol=1e-5)


def test_a_flying_rope_keeps_its_momentum() -> None:
    """Turning and bending in the air, linear momentum to 1e-5 of the fall, angular to a thousandth."""
    world, matter = examples.rope(stiffness=1e6, place=(0.0, 0.0, 10.0))
    prior = Prior(world, matter, config=QUICK)
    state = prior.initial(world, FAR)
    arms = state.particle_positions - state.particle_positions.mean(0)
    spin = torch.linalg.cross(torch.tensor([0.0, 3.0, 4.0]).expand_as(arms), arms)
    after = untouched(prior, replace(state, particle_velocities=spin), 10)
    momentum = prior.accounts.momentum(after.states)
    way, turn = momentum.linear[:, 0], momentum.angular[:, 0]
    assert way[:, :2].abs().max() < 1e-5
    assert (way[-1, 2] + 0.1 * 9.81).abs() < 1e-5
    assert (turn - turn[0]).norm(dim=-1).max() < 1e-3 * turn[0].norm()


@pytest.mark.parametrize("speed", [0.5, 1.0])
@pytest.mark.parametrize("friction", [0.2, 0.4, 0.8])
def test_a_sliding_box_stops_where_the_books_say(speed: float, friction: float) -> None:
    """After v^2 / 2 mu g, within 3 %, from a start that knows no pressures yet, without turning."""
    world, matter = examples.box((0.1, 0.08, 0.05), friction=friction, ground=examples.floor(friction))
    prior = Prior(world, matter, config=QUICK)
    still = prior.initial(world, FAR)
    moving = replace(still, object_twists=torch.tensor([[speed, 0.0, 0.0, 0.0, 0.0, 0.0]]))
    after = untouched(prior, moving, 8).final
    assert float(after.object_poses[0, 0]) == pytest.approx(speed**2 / (2 * friction * 9.81), rel=0.03)
    assert float(after.object_poses[0, 1].abs()) < 1e-3 and float(after.object_poses[0, 6].abs()) < 0.01


def test_free_sliding_slows_by_friction_times_gravity() -> None:
    """The deceleration of a sliding box within 3 %."""
    world, matter = examples.box(friction=0.3, ground=examples.floor(0.3))
    prior = Prior(world, matter, config=QUICK)
    still = untouched(prior, prior.initial(world, FAR), 5).final
    moving = replace(still, object_twists=torch.tensor([[1.0, 0.0, 0.0, 0.0, 0.0, 0.0]]))
    speed = untouched(prior, moving, 3).states.object_twists[:, 0, 0]
    assert float((speed[0] - speed[3]) / 0.3) == pytest.approx(0.3 * 9.81, rel=0.03)


def pushed(offset: float, config: PriorConfig) -> Tensor:
    """Pose [m, m, degrees] after a push of 10 cm so far beside the middle of a block."""
    world, matter = examples.box((0.08, 0.06, 0.05), friction=0.4, ground=examples.floor(0.4))
    prior = Prior(world, matter, config=config)
    start = (-0.0525, offset, 0.01)
    state = prior.initial(world, torch.tensor([[*start, 1.0, 0.0, 0.0, 0.0]]))
    pose = led(prior, state, line(start, (0.0475, offset, 0.01), 10)).final.object_poses[0]
    return torch.stack([pose[0], pose[1], torch.rad2deg(2 * torch.atan2(pose[6], pose[3]))])


def test_a_push_through_the_middle_goes_straight() -> None:
    """10 cm with less than 2 mm aside and 2 degrees of turn."""
    _, aside, turn = pushed(0.0, QUICK).abs()
    assert aside < 2e-3 and turn < 2


@pytest.mark.parametrize("offset", [0.005, 0.015])
def test_a_push_off_centre_is_as_with_fine_steps(offset: float) -> None:
    """Within 3 mm and 3 degrees of four times as many substeps and twice as many iterations."""
    fine = replace(QUICK, substeps=24, iterations=12)
    apart = (pushed(offset, QUICK) - pushed(offset, fine)).abs()
    assert apart[:2].max() < 3e-3 and apart[2] < 3


def test_a_slow_push_off_centre_turns_as_the_points_that_touch_resist() -> None:
    """A block pushed slowly turns less when its friction acts farther out, and mass does not matter."""

    def turned(patch: float, mass: float) -> float:
        world, matter = examples.box(mass=mass)
        prior = Prior(world, matter, config=QUICK)
        prior = prior.with_parameters(replace(prior.parameters, patch=torch.tensor(patch)))
        state = prior.initial(world, torch.tensor([[-0.063, 0.02, 0.02, 1.0, 0, 0, 0]]))
        after = led(prior, state, line((-0.063, 0.02, 0.02), (-0.023, 0.02, 0.02), 10))
        return abs(float(after.final.object_poses[0, 6]))

    assert 0.02 < turned(1.5, 0.5) < 0.9 * turned(1.0, 0.5)
    assert turned(1.0, 2.0) == pytest.approx(turned(1.0, 0.5), rel=0.05)


def test_a_violent_tool_breaks_nothing() -> None:
    """A tool that jumps into a box, through it and back leaves finite states on this side of the moon."""
    world, matter = examples.box()
    prior = Prior(world, matter, config=QUICK)
    state = prior.initial(world, torch.tensor([[-0.3, 0.0, 0.02, 1.0, 0, 0, 0]]))
    path = torch.tensor(
        [[0.0, 0.0, 0.02], [0.5, 0.1, 0.0], [-0.5, 0.0, 0.02], [0.0, 0.0, -0.1], [0.3, 0.0, 0.02]]
    )
    after = led(prior, state, path.repeat(4, 1))
    for value in (after.states.object_poses, after.states.object_twists, after.states.particle_positions):
        assert bool(torch.isfinite(value).all())
    assert after.states.object_poses[..., :3].norm(dim=-1).max() < 100


@pytest.mark.parametrize("stiffness", [1e5, 1e7])
def test_a_hanging_rope_stretches_by_its_weight(stiffness: float) -> None:
    """By density g L^2 / 2 E, within 2 %."""
    length, radius = 0.6, 0.005
    mass = 1000 * torch.pi * radius**2 * length
    world, matter = examples.rope(
        stiffness=stiffness, density=1000.0, mass=mass, damping=5.0, fixed=torch.eye(40)[0]
    )
    down = matter.rest[:, [1, 2, 0]] * torch.tensor([1.0, 1.0, -1.0])
    prior = Prior(world, replace(matter, rest=down, ground=examples.floor()), config=QUICK)
    state = prior.initial(world, FAR)
    high = torch.tensor([0.0, 0.0, 2.0])
    state = replace(state, particle_positions=state.particle_positions + high)
    final = untouched(prior, state, 30).final.particle_positions[:, 2]
    longer = float(final[0] - final[-1]) - length
    assert longer == pytest.approx(1000 * 9.81 * length**2 / (2 * stiffness), rel=0.02)


def test_a_push_opens_a_door_to_its_limit() -> None:
    """It turns about its hinge alone, with the tool, and stops where its limit is."""
    world, matter = examples.door()
    prior = Prior(world, matter, config=QUICK)
    state = prior.initial(world, torch.tensor([[0.25, 0.03, 0.2, 1.0, 0, 0, 0]]))
    after = led(prior, state, line((0.25, 0.03, 0.2), (0.2, -0.1, 0.2), 15))
    angle = after.states.joint_positions[:, 0]
    assert -0.8 < float(angle[-1]) < -0.3
    assert after.states.object_poses[:, 0, :3].sub(torch.tensor([0.0, 0.0, 0.25])).abs().max() < 1e-5
    spun = replace(state, joint_rates=torch.tensor([-8.0]), tool_poses=FAR)
    assert untouched(prior, spun, 20).states.joint_positions.min() > -1.6


def test_a_gripper_lifts_what_it_closes_on_and_drops_it() -> None:
    """Held as in the tool's frame, let go when it opens."""
    world, matter = examples.box((0.04, 0.04, 0.04), mass=0.1, spacing=0.02)
    prior = Prior(world, matter, [gripper()])
    state = prior.initial(world, torch.tensor([[0.0, 0.0, 0.01, 1.0, 0, 0, 0]]))
    path = torch.cat(
        [torch.tensor([[0.0, 0.0, 0.01]]).expand(5, 3), line((0.0, 0.0, 0.01), (0.1, 0.0, 0.21), 10)]
    )
    path = torch.cat([path, path[-1:].expand(6, 3)])
    grip = torch.cat([torch.linspace(0.2, 1, 5), torch.ones(10), torch.zeros(6)])[:, None]
    after = led(prior, state, path, grip)
    carried = after.states.object_poses[:, 0, :3] - after.states.tool_poses[:, 0, :3]
    assert (carried[15] - carried[5]).norm() < 1e-4
    assert float(after.states.object_poses[15, 0, 2]) == pytest.approx(0.22, abs=0.005)
    assert float(after.final.object_poses[0, 2]) == pytest.approx(0.02, abs=0.003)
    kinds = [event.kind for event in prior.accounts.events(after)]
    assert kinds == ["grasped", "dropped"]


def test_a_gripper_drags_a_rope_by_its_end() -> None:
    """The held end follows exactly, the rest at its own length behind."""
    world, matter = examples.rope(stiffness=1e7)
    prior = Prior(world, matter, [gripper()], QUICK)
    state = prior.initial(world, torch.tensor([[0.0, 0.0, 0.005, 1.0, 0, 0, 0]]))
    path = torch.cat(
        [torch.tensor([[0.0, 0.0, 0.005]]).expand(4, 3), line((0.0, 0.0, 0.005), (-0.2, 0.1, 0.1), 15)]
    )
    after = led(prior, state, path, torch.tensor([0.3, 0.6, 0.9] + [1.0] * 16)[:, None]).final
    held = after.grasped[0]
    assert 1 <= int(held.sum()) <= 4 and bool(held[0])
    assert (after.particle_positions[0] - torch.tensor([-0.2, 0.1, 0.1])).norm() < 0.012
    lengths = (after.particle_positions[1:] - after.particle_positions[:-1]).norm(dim=-1)
    assert float(lengths.sum()) == pytest.approx(0.6, rel=0.02)


def test_a_cloth_hangs_over_the_edge_of_its_table() -> None:
    """What is over the edge sinks, what is on the table stays above it."""
    world, matter = examples.cloth(place=(0.2, 0.0, 0.001), ground=examples.table(0.2), stiffness=1e4)
    prior = Prior(world, matter, config=QUICK)
    state = prior.initial(world, FAR)
    before, points = state.particle_positions, untouched(prior, state, 6).final.particle_positions
    assert points[before[:, 0] < 0.13, 2].min() > -0.005
    assert points[before[:, 0] > 0.28, 2].max() < -0.01


def test_a_pushed_rope_moves_where_the_tool_goes() -> None:
    """The tool never gets deep into it."""
    world, matter = examples.rope()
    prior = Prior(world, matter, config=QUICK)
    state = prior.initial(world, torch.tensor([[0.3, -0.05, -0.01, 1.0, 0, 0, 0]]))
    after = led(prior, state, line((0.3, -0.05, -0.01), (0.3, 0.08, -0.01), 12))
    assert float(after.final.particle_positions[20, 1]) == pytest.approx(0.08 + 0.0125 + 0.005, abs=0.01)
    assert after.final.particle_positions[0, 1].abs() < 0.09
    accounts = Accounts(world, matter, [pusher()])
    assert accounts.penetration(after.states).max() < 0.003
