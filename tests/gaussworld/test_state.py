"""States, actions and rollouts: shapes, batches, strict action specs, and a smallest possible dynamics."""

import math
from dataclasses import FrozenInstanceError, fields, replace

import pytest
import torch

from gaussworld.gaussians import Gaussians
from gaussworld.pose import look_at
from gaussworld.state import Action, ActionSpec, Dynamics, Rollout, State, stack
from gaussworld.world import World
from gaussworld.world_object import Joint, ObjectKind, WorldObject

IDENTITY = [0.0, 0, 0, 1, 0, 0, 0]
TOOL = ActionSpec("tool_pose", 2, "world", "m", 10.0)
DELTA = ActionSpec("tool_delta", 1, "tool", "m", 10.0, ((-0.1,) * 3, (0.1,) * 3))
ARM = ActionSpec("joint_position", 3, "joint", "rad", 50.0, ((-1.0, -1.0, 0.0), (1.0, 1.0, 2.0)))
GRIPPER = ActionSpec("gripper", 1, "tool", "fraction", 10.0)


def gaussians(n=3):
    ones = torch.ones(n, 3)
    means = torch.rand(n, 3, generator=torch.Generator().manual_seed(n))
    return Gaussians.from_activated(means, torch.ones(n, 4), ones * 0.1, ones[:, 0] * 0.5, ones * 0.5)


def world():
    drawer = Joint("prismatic", (1.0, 0.0, 0.0), limits=(0.0, 0.4), position=0.1)
    pose = look_at(torch.tensor([1.0, 2, 3]), torch.zeros(3))
    objects = [
        WorldObject(0, "background", gaussians()),
        WorldObject(4, "drawer", gaussians(), ObjectKind.ARTICULATED, pose, joint=drawer),
        WorldObject(2, "cup", gaussians(), ObjectKind.RIGID, pose),
    ]
    return World({item.id: item for item in objects}, metres_per_unit=1.0)


def full_state(*batch):
    """Two objects, one joint, five particles, two tools; numbers tell elements of a batch apart."""
    poses = torch.tensor(IDENTITY).expand(*batch, 2, 7).clone()
    poses[..., 0] = torch.arange(math.prod(batch)).reshape(*batch, 1).float()
    return State(
        (3, 8), poses, joint_ids=(8,), particle_positions=torch.rand(*batch, 5, 3),
        tool_poses=torch.tensor(IDENTITY).expand(*batch, 2, 7), time=torch.rand(batch),
    )  # fmt: skip


def tools(*batch, count=2):
    return torch.tensor(IDENTITY).expand(*batch, count, 7)


def tensors(state):
    return {
        f.name: getattr(state, f.name)
        for f in fields(state)
        if isinstance(getattr(state, f.name), torch.Tensor)
    }


def test_at_rest_is_the_world_as_it_stands():
    state = State.at_rest(world())
    assert state.object_ids == (0, 2, 4)  # ascending, as a world lists them
    assert state.joint_ids == (4,)
    assert state.joint_positions.tolist() == pytest.approx([0.1])
    assert state.object_poses[0].tolist() == IDENTITY
    assert state.object_poses[2, :3].tolist() == [1, 2, 3]
    assert not state.object_twists.any() and not state.joint_rates.any()
    assert (float(state.time), state.batch_shape) == (0.0, ())
    assert state.particle_positions.shape == (0, 3)
    torch.testing.assert_close(state.world_from_objects()[2], world().objects[2].world_from_object)


def test_left_out_fields_become_zeros_of_the_batch():
    state = full_state(4, 3)
    assert state.batch_shape == (4, 3)
    assert state.object_twists.shape == (4, 3, 2, 6)
    assert state.joint_rates.shape == (4, 3, 1)
    assert state.particle_velocities.shape == state.residual.shape == (4, 3, 5, 3)
    assert state.grip.shape == (4, 3, 2)
    assert (state.grasped.shape, state.grasped.dtype) == ((4, 3, 2, 5), torch.bool)


def test_indexing_takes_the_first_batch_axis_of_everything():
    state = full_state(4, 3)
    for index, shape in ((1, (3,)), (-1, (3,)), (slice(1, 3), (2, 3)), (torch.tensor([3, 0]), (2, 3))):
        part = state[index]
        assert part.batch_shape == shape
        for name, value in tensors(part).items():
            assert torch.equal(value, getattr(state, name)[index]), name
    assert len(state) == 4
    assert float(state[2][1].object_poses[0, 0]) == 7
    mask = torch.tensor([True, False, True, False])
    assert state[mask].batch_shape == (2, 3)


def test_stacking_and_iterating_undo_each_other():
    state = full_state(3)
    again = stack(list(state))
    for name, value in tensors(again).items():
        assert torch.equal(value, getattr(state, name)), name
    assert (again.object_ids, again.joint_ids) == (state.object_ids, state.joint_ids)


def test_expanding_repeats_without_copies():
    state = full_state()
    many = state.expand(64)
    assert many.batch_shape == (64,)
    assert many.object_poses.data_ptr() == state.object_poses.data_ptr()
    assert torch.equal(many[63].particle_positions, state.particle_positions)


def test_states_are_frozen_detach_and_move():
    state = full_state()
    with pytest.raises(FrozenInstanceError):
        state.time = torch.ones(())
    tracked = replace(state, object_poses=state.object_poses.clone().requires_grad_())
    assert not tracked.detach().object_poses.requires_grad
    assert {value.device.type for value in tensors(state.to("meta")).values()} == {"meta"}


def test_double_precision_is_kept():
    state = State((1,), torch.tensor([IDENTITY], dtype=torch.float64))
    floats = [value for name, value in tensors(state).items() if name != "grasped"]
    assert {value.dtype for value in floats} == {torch.float64}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"object_poses": torch.zeros(7)}, r"State.object_poses: expected shape \(\*b, o, 7\), got \(7,\)"),
        ({"object_ids": (1,)}, r"State.object_poses: expected shape \(4, 1, 7\), got \(4, 2, 7\)"),
        (
            {"object_twists": torch.zeros(4, 2, 7)},
            r"State.object_twists: expected shape \(4, 2, 6\), got \(4, 2, 7\)",
        ),
        (
            {"joint_positions": torch.zeros(4, 3)},
            r"State.joint_positions: expected shape \(4, 1\), got \(4, 3\)",
        ),
        (
            {"particle_velocities": torch.zeros(4, 6, 3)},
            r"State.particle_velocities: expected shape \(4, 5, 3\)",
        ),
        (
            {"grasped": torch.zeros(4, 1, 5).bool()},
            r"State.grasped: expected shape \(4, 2, 5\), got \(4, 1, 5\)",
        ),
        ({"time": torch.zeros(1)}, r"State.time: expected shape \(4,\), got \(1,\)"),
        (
            {"time": torch.zeros(4, device="meta")},
            r"State.time: expected device cpu \(that of the poses\), got meta",
        ),
    ],
)
def test_states_that_do_not_fit_together(changes, message, as_in_production):
    with pytest.raises(ValueError, match=message):
        replace(full_state(4), **changes)


def test_single_states_have_no_length_or_elements():
    with pytest.raises(ValueError, match="expected a batch, got a single state"):
        full_state()[0]
    with pytest.raises(ValueError, match="expected a batch, got a single state"):
        len(full_state())


def test_stacking_strangers_is_refused():
    with pytest.raises(ValueError, match="at least one state"):
        stack([])
    with pytest.raises(ValueError, match=r"object_ids: expected \(3, 8\) in every state, got \(3, 9\)"):
        stack([full_state(), replace(full_state(), object_ids=(3, 9))])
    with pytest.raises(
        ValueError, match=r"State.object_poses: expected shape \(2, 7\) in every state, got \(4, 2, 7\)"
    ):
        stack([full_state(), full_state(4)])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kind": "velocity"}, "ActionSpec.kind: expected one of tool_pose, tool_delta, .*got 'velocity'"),
        ({"frame": "tool"}, "ActionSpec.frame: tool_pose expects world, got 'tool'; convert before"),
        ({"kind": "tool_delta", "frame": "base"}, "tool_delta expects world or tool, got 'base'"),
        ({"units": "mm"}, "ActionSpec.units: tool_pose expects m, got 'mm'"),
        ({"kind": "joint_delta", "frame": "joint", "units": "deg"}, "joint_delta expects rad, got 'deg'"),
        ({"size": 0}, "ActionSpec.size: expected at least 1 tool or joint, got 0"),
        ({"rate_hz": 0.0}, "ActionSpec.rate_hz: expected a positive finite rate, got 0.0"),
        ({"rate_hz": math.nan}, "ActionSpec.rate_hz: expected a positive finite rate"),
        ({"limits": ((0.0,), (1.0,))}, "ActionSpec.limits: expected 3 values"),
        ({"limits": ((0.0, 0.0, 1.0), (1.0, 1.0, 0.0))}, "lowest <= highest"),
        (
            {"kind": "gripper", "frame": "tool", "units": "fraction", "limits": ((0.0,), (1.0,))},
            r"ActionSpec.limits: expected None for a gripper, whose range is \[0, 1\]",
        ),
    ],
)
def test_bad_specs_say_why(changes, message, as_in_production):
    with pytest.raises(ValueError, match=message):
        replace(TOOL, **changes)


def test_the_period_is_one_over_the_rate():
    assert TOOL.dt == pytest.approx(0.1)
    assert TOOL == ActionSpec("tool_pose", 2, "world", "m", 10.0)


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (replace(TOOL, kind="tool_delta"), "action kind: expected 'tool_pose', got 'tool_delta'"),
        (replace(TOOL, size=1), "action size: expected 2, got 1"),
        (replace(TOOL, rate_hz=20.0), "action rate_hz: expected 10.0, got 20.0"),
    ],
)
def test_a_mismatch_is_never_reinterpreted(other, message):
    action = Action(other, tools=tools(count=other.size))
    with pytest.raises(ValueError, match=message):
        TOOL.check(action)
    other.check(action)


def test_deltas_in_another_frame_are_another_action():
    action = Action(DELTA, tools=tools(count=1))
    with pytest.raises(
        ValueError, match="action frame: expected 'world', got 'tool'; convert it, it is never guessed"
    ):
        replace(DELTA, frame="world").check(action)


def test_limits_need_not_agree():
    TOOL.check(Action(replace(TOOL, limits=((-1.0,) * 3, (1.0,) * 3)), tools=tools()))


def test_actions_index_like_states():
    action = Action(TOOL, tools=tools(5, 4), grip=torch.rand(5, 4, 2))
    assert (len(action), action.batch_shape) == (5, (5, 4))
    assert action[2].batch_shape == (4,)
    assert torch.equal(action[1:3].grip, action.grip[1:3])
    assert len(list(action)) == 5
    assert Action(ARM, joints=torch.zeros(6, 3)).batch_shape == (6,)
    assert Action(GRIPPER, grip=torch.zeros(1)).batch_shape == ()
    with pytest.raises(ValueError, match="expected a batch, got a single action"):
        Action(GRIPPER, grip=torch.zeros(1))[0]


def test_an_arm_may_carry_another_number_of_grippers():
    action = Action(ARM, joints=torch.zeros(4, 3), grip=torch.zeros(4, 1))
    assert action[0].grip.shape == (1,)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Action(TOOL), "Action.tools: tool_pose expects a tensor, got None"),
        (
            lambda: Action(TOOL, tools(), torch.zeros(3)),
            "Action.joints: tool_pose expects None, got a tensor",
        ),
        (lambda: Action(ARM, tools()), "Action.tools: joint_position expects None, got a tensor"),
        (lambda: Action(GRIPPER), "Action.grip: gripper expects a tensor, got None"),
        (lambda: Action(TOOL, tools(count=3)), r"Action.tools: expected shape \(\*b, 2, 7\), got \(3, 7\)"),
        (lambda: Action(ARM, joints=torch.zeros(4)), r"Action.joints: expected shape \(\*b, 3\), got \(4,\)"),
        (
            lambda: Action(TOOL, tools(5), grip=torch.zeros(2)),
            r"Action.grip: expected shape \(5, 2\), got \(2,\)",
        ),
        (lambda: Action(GRIPPER, grip=torch.zeros(2)), r"Action.grip: expected shape \(1,\), got \(2,\)"),
        (
            lambda: Action(GRIPPER, grip=torch.tensor([1.2])),
            r"Action.grip: expected values in \[0, 1\] .*got 1.2 to 1.2",
        ),
        (lambda: Action(GRIPPER, grip=torch.tensor([math.nan])), "Action.grip: expected finite values"),
        (lambda: Action(TOOL, tools() * math.nan), "Action.tools: expected finite values"),
        (lambda: Action(TOOL, tools() * 2), "Action.tools: expected unit quaternions wxyz in columns 3 to 6"),
        (
            lambda: Action(DELTA, tools(count=1) + 0.2 * torch.eye(7)[:1]),
            r"expected targets within .*got 0.2; clamp",
        ),
        (lambda: Action(ARM, joints=torch.tensor([0.0, 0, -0.5])), r"expected targets within .*got -0.5"),
    ],
)
def test_bad_actions_say_why(make, message, as_in_production):
    with pytest.raises(ValueError, match=message):
        make()


def rollout(steps=4, *batch, **changes):
    parts = {
        "states": full_state(steps + 1, *batch),
        "actions": Action(TOOL, tools(steps, *batch)),
        "dt": 0.1,
    }
    return Rollout(**{**parts, **changes})


def test_rollouts_know_their_length_and_end():
    future = rollout(4, 3, spread=torch.zeros(5, 3, 2), contacts=torch.zeros(5, 3, 2, 4).bool())
    assert len(future) == 4
    assert future.final.batch_shape == (3,)
    assert torch.equal(future.final.time, future.states.time[4])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"actions": Action(TOOL, tools(5))},
            "expected one state more than actions, got 5 states and 5 actions",
        ),
        ({"actions": Action(TOOL, tools(4, 2))}, r"expected actions with the states' batch \(\), got \(2,\)"),
        ({"dt": 0.2}, "Rollout.dt: expected 0.1 s, the actions' period, got 0.2 s"),
        ({"spread": torch.zeros(4, 2)}, r"Rollout.spread: expected shape \(5, 2\), got \(4, 2\)"),
        (
            {"contacts": torch.zeros(5, 2, 2).bool()},
            r"Rollout.contacts: expected shape \(5, 2, 4\), got \(5, 2, 2\)",
        ),
    ],
)
def test_contradictory_rollouts_say_why(changes, message, as_in_production):
    with pytest.raises(ValueError, match=message):
        rollout(**changes)


class Coasting:
    """The smallest dynamics: objects keep their velocity and tools jump to their targets."""

    action_spec = TOOL

    def initial(self, world: World) -> State:
        world.require_scale()
        return State.at_rest(world, particle_positions=torch.zeros(5, 3), tool_poses=tools())

    def step(self, state: State, action: Action) -> State:
        self.action_spec.check(action)
        poses = state.object_poses.clone()
        poses[..., :3] += state.object_twists[..., :3] * self.action_spec.dt
        return replace(
            state, object_poses=poses, tool_poses=action.tools, time=state.time + self.action_spec.dt
        )

    def rollout(self, state: State, actions: Action) -> Rollout:
        states = [state]
        for action in actions:
            states.append(self.step(states[-1], action))
        return Rollout(stack(states), actions, self.action_spec.dt)


def test_the_protocol_can_be_met():
    model = Coasting()
    assert isinstance(model, Dynamics)
    start = model.initial(world())
    twists = start.object_twists.clone()
    twists[2, 0] = 0.5
    future = model.rollout(replace(start, object_twists=twists), Action(TOOL, tools(10)))
    assert float(future.final.time) == pytest.approx(1.0)
    travelled = future.final.object_poses - start.object_poses
    assert travelled[2].tolist() == pytest.approx([0.5, 0, 0, 0, 0, 0, 0], abs=1e-6)
    assert not travelled[:2].any()
    posed = world().posed(future.states[3])
    torch.testing.assert_close(posed.means[6:, 1:], world().posed().means[6:, 1:])


def test_a_class_without_rollout_is_no_dynamics():
    class Half:
        action_spec = TOOL

        def initial(self, world):
            return State.at_rest(world)

    assert not isinstance(Half(), Dynamics)


def test_what_is_printed_fits_a_line(as_in_production) -> None:
    """Thousands of numbers tell nobody anything."""
    spec = ActionSpec("tool_pose", 1, "world", "m", 10.0)
    poses = torch.tensor([1.0, 2, 3, 1, 0, 0, 0])
    states = State((4, 7), poses.expand(6, 2, 7), tool_poses=poses.expand(6, 1, 7))
    rollout = Rollout(states, Action(spec, tools=poses.expand(5, 1, 7)), 0.1)
    assert repr(states) == "State((6,) of 2 objects, 0 joints, 0 particles, 1 tools)"
    assert repr(rollout.actions) == "Action((5,) of tool_pose x 1, 10 Hz)"
    assert repr(rollout) == f"Rollout(5 steps of 0.1 s, states: {states!r})"
