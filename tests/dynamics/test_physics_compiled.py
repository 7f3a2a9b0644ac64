"""The compiled contacts against their twin in PyTorch; only they give the same bits in any batch."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from dynamics.physics import examples, solver
from dynamics.physics.parameters import Parameters
from dynamics.physics.settings import PriorConfig
from dynamics.prior import Prior
from dynamics.tool import gripper
from gaussworld.render import kernels
from gaussworld.state import Action, State

QUICK = PriorConfig(contacts=False)
SMALL = [[((0.0, 0.0, 0.0), (0.05, 0.05, 0.025))]] * 2
pytestmark = pytest.mark.skipif(not kernels.available(), reason="the kernels are not compiled")


@pytest.fixture(autouse=True)
def _quick(quick: None) -> None:
    """As in production."""


def box_pusher() -> tuple[Prior, Tensor, Tensor]:
    return Prior(*examples.tee(spacing=0.03), config=QUICK), *ways((-0.08, 0.01, 0.01), (0.12, 0.03, 0.0))


def two_boxes() -> tuple[Prior, Tensor, Tensor]:
    made = examples.rigid(SMALL, [(0.0, 0.0, 0.025), (0.11, 0.02, 0.025)])
    return Prior(*made, config=QUICK), *ways((-0.08, 0.01, 0.01), (0.12, 0.02, 0.0))


def over_the_edge() -> tuple[Prior, Tensor, Tensor]:
    made = examples.box(ground=examples.table(0.12))
    return Prior(*made, config=QUICK), *ways((-0.08, 0.01, 0.01), (0.12, 0.02, 0.0))


def door() -> tuple[Prior, Tensor, Tensor]:
    return Prior(*examples.door(), config=QUICK), *ways((0.25, 0.03, 0.2), (-0.03, -0.14, 0.0))


SCENES = [box_pusher, two_boxes, over_the_edge, door]


def ways(start: tuple[float, ...], way: tuple[float, ...]) -> tuple[Tensor, Tensor]:
    """A tool's start (1, 7), and three ways (20, 3, 1, 7) that differ a little."""
    pose = torch.tensor([[*start, 1.0, 0.0, 0.0, 0.0]])
    path = pose.repeat(20, 3, 1, 1)
    shares = torch.arange(1, 21)[:, None, None, None] / 20 * torch.tensor([0.6, 0.8, 1.0])[:, None, None]
    path[..., :3] += shares * torch.tensor(way)
    return pose, path


def led(prior: Prior, start: Tensor, path: Tensor, grip: Tensor | None = None) -> State:
    """All states of samples that begin alike."""
    state = prior.initial(prior.world, start).expand(path.shape[1]).map(torch.clone)
    with torch.no_grad():
        return prior.rollout(state, Action(prior.action_spec, path, grip=grip)).states


@pytest.fixture
def twin(monkeypatch: pytest.MonkeyPatch) -> Callable[..., State]:
    """As `led`, in PyTorch alone."""

    def run(*given: Prior | Tensor) -> State:
        with monkeypatch.context() as patch:
            patch.setattr(solver, "fits", lambda *_: False)
            return led(*given)  # pyright: ignore[reportArgumentType]

    return run


def assert_alike(a: State, b: State) -> None:
    """Poses within 0.1 mm and a milliradian."""
    apart = (a.object_poses - b.object_poses).abs()
    assert apart[..., :3].max() < 1e-4
    assert apart[..., 3:].max() < 5e-4
    torch.testing.assert_close(a.joint_positions, b.joint_positions, rtol=0, atol=1e-3)


@pytest.mark.parametrize("scene", SCENES)
def test_kernel_and_twin_agree_on_twenty_steps(scene: Callable, twin: Callable[..., State]) -> None:
    """And something moves at all."""
    made = scene()
    states = led(*made)
    assert_alike(states, twin(*made))
    assert float((states.particle_positions[-1] - states.particle_positions[0]).norm(dim=-1).max()) > 0.02


def test_kernel_and_twin_grasp_alike(twin: Callable[..., State]) -> None:
    """What is held, when, and where it is carried."""
    world, matter = examples.box((0.04, 0.04, 0.04), mass=0.1, spacing=0.02)
    start, path = ways((0.0, 0.0, 0.01), (0.03, 0.0, 0.2))
    path[:6] = start
    grip = torch.linspace(0.1, 3.0, 20).clamp(max=0.9)[:, None, None].expand(20, 3, 1).clone()
    grip[16:, 1] = 0
    prior = Prior(world, matter, [gripper()], QUICK)
    states, others = led(prior, start, path, grip), twin(prior, start, path, grip)
    assert torch.equal(states.grasped, others.grasped) and bool(states.grasped.any())
    assert_alike(states, others)


@pytest.mark.parametrize("scene", SCENES)
def test_a_sample_has_the_same_bits_alone_and_among_others(scene: Callable) -> None:
    """With as many threads as there are, too."""
    prior, start, path = scene()
    before = kernels.threads()
    kernels.set_threads(2)
    try:
        states = led(prior, start, torch.cat([path] * 4, 1))
    finally:
        kernels.set_threads(before)
    for sample in range(3):
        alone = led(prior, start, path[:, sample : sample + 1])
        for name in ("object_poses", "object_twists", "joint_positions", "joint_rates"):
            value = getattr(states, name)
            assert torch.equal(value[:, sample], getattr(alone, name)[:, 0]), name
            assert torch.equal(value[:, sample], value[:, sample + 9]), name


@pytest.mark.parametrize("variant", kernels.variants())
def test_every_variant_agrees(variant: str) -> None:
    """But for rounding."""
    made = box_pusher()
    with kernels.using(variant):
        states = led(*made)
    assert_alike(states, led(*made))


def test_each_sample_has_its_own_parameters(twin: Callable[..., State]) -> None:
    """Friction and mass of every guess, as in the twin."""
    prior, start, path = box_pusher()
    own = prior.parameters
    guesses = Parameters(
        **{
            name: value.expand(3, *value.shape).clone()
            for name, value in vars(own).items()
        }
    )  # fmt: skip
    guesses = replace(
        guesses, friction=torch.tensor([[0.1], [0.4], [0.9]]), patch=torch.tensor([1.0, 1.2, 1.5])
    )
    prior = prior.with_parameters(guesses)
    same = path[:, 2:].expand(-1, 3, -1, -1).contiguous()
    states = led(prior, start, same)
    assert_alike(states, twin(prior, start, same))
    assert (states.object_poses[-1, 0] - states.object_poses[-1, 2]).abs().max() > 1e-3


def test_the_twin_answers_where_gradients_are_asked_for() -> None:
    """Also with the kernel at hand."""
    prior, start, path = box_pusher()
    path = path[:8, :1].clone().requires_grad_()
    state = prior.initial(prior.world, start).expand(1)
    final = prior.rollout(state, Action(prior.action_spec, path)).final.object_poses
    (gradient,) = torch.autograd.grad(final[0, 0, 0], path)
    assert bool(torch.isfinite(gradient).all()) and float(gradient.abs().max()) > 0.01
