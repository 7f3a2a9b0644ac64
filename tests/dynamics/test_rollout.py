"""`Accounts`: contacts, penetration, momentum, energy and events of rollouts."""

from dataclasses import replace

import jaxtyping
import pytest
import torch

from dynamics.physics import examples
from dynamics.prior import Prior
from dynamics.rollout import Accounts, Event
from gaussworld.state import Action


@pytest.fixture(autouse=True)
def quick():
    """Small operators gain nothing from threads, and checks of shapes take longer than they do."""
    before, checked = torch.get_num_threads(), jaxtyping.config.jaxtyping_disable
    torch.set_num_threads(1)
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    torch.set_num_threads(before)
    jaxtyping.config.update("jaxtyping_disable", checked)


def test_a_box_pushed_over_the_edge_topples_and_falls_off() -> None:
    """By name, with the step; contact with the tool is told while it lasts, in every sample of a batch."""
    world, matter = examples.box(ground=examples.table(0.2))
    prior = Prior(world, matter)
    x = torch.linspace(-0.1, 0.25, 40)
    zero = torch.zeros_like(x)
    tools = torch.stack([x, zero, zero + 0.02, zero + 1, zero, zero, zero], -1)[:, None]
    state = prior.initial(world, tools[0])
    tools = torch.cat([tools, tools[-1:].expand(20, 1, 7)])
    both = torch.stack([tools, tools[:1].expand_as(tools)], 1)
    rollout = prior.rollout(state.expand(2), Action(prior.action_spec, both))
    events = prior.accounts.events(rollout)
    assert {(event.kind, event.sample) for event in events} == {("toppled", 0), ("fell off", 0)}
    assert str(Event("fell off", 1, 30)) == "step 30: object 1 fell off"
    assert rollout.contacts is not None
    assert rollout.contacts[:, 0, 0, 1].any() and not rollout.contacts[0, 0, 0, 1]
    assert not rollout.contacts[:, 1].any()
    assert prior.accounts.penetration(rollout.states)[:, 1].max() < 1e-3


def test_things_that_stand_on_each_other_touch() -> None:
    """In both directions; and one that was put into another is that deep in it."""
    shapes = [[((0.0, 0.0, 0.0), (0.05, 0.05, 0.025))]] * 2
    world, matter = examples.rigid(shapes, [(0.0, 0.0, 0.025), (0.0, 0.0, 0.075)])
    prior = Prior(world, matter)
    state = prior.initial(world)
    assert prior.accounts.contacts(state).tolist() == [[False, True, False], [True, False, False]]
    deeper = Prior(world, matter).initial(
        world.moved(2, torch.tensor([[1.0, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0.065], [0, 0, 0, 1]]))
    )
    assert prior.accounts.penetration(deeper)[1] == pytest.approx(0.01, abs=0.002)


def test_momentum_and_energy_are_those_of_mechanics() -> None:
    """Of a turning box and of a moving rope."""
    world, matter = examples.box((0.1, 0.1, 0.05), mass=0.6)
    state = Prior(world, matter).initial(world)
    state = replace(state, object_twists=torch.tensor([[1.0, 0.0, 0.0, 0.0, 0.0, 2.0]]))
    found = Accounts(world, matter, []).momentum(state)
    inertia = 0.6 * (0.01 + 0.01) / 12
    assert found.linear[0].tolist() == pytest.approx([0.6, 0.0, 0.0])
    assert found.angular[0].tolist() == pytest.approx([0.0, 0.0, 2 * inertia], abs=1e-6)
    assert float(found.energy[0]) == pytest.approx(0.3 + 2 * inertia + 0.6 * 9.81 * 0.025, rel=1e-4)
    world, matter = examples.rope(mass=0.2)
    state = Prior(world, matter).initial(world)
    state = replace(state, particle_velocities=torch.tensor([0.0, 2.0, 0.0]).expand(40, 3))
    found = Accounts(world, matter, []).momentum(state.expand(2))
    assert found.linear[:, 0, 1].tolist() == pytest.approx([0.4, 0.4])
    assert found.angular.abs().max() < 1e-6
