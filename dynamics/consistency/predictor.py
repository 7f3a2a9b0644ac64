"""`Predictor`: what the suite asks of a model, and how our own models and people's own objects become one."""

import importlib
import inspect
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from gaussworld.errors import ConfigError, GaussWorldError
from gaussworld.state import Action, Dynamics, Rollout, State, stack
from gaussworld.world import World

from ..matter.parts import Matter
from ..matter.sample import matter_of
from ..models import MODELS, model_named
from ..tool import Tool
from .scenes import RATE_HZ, Case, one_box

#: Makes a model for a world in metres, what it is made of, and the tools that act in it.
DynamicsMaker = Callable[[World, Matter, tuple[Tool, ...]], Dynamics]


@dataclass(frozen=True, eq=False)
class Future:
    """What will happen, in plain numbers: poses suffice, all else is welcome."""

    poses: Float[Tensor, "u o 7"]
    """World frame, x y z [m], w x y z: of all objects of the start, in its order, at u = t + 1 moments."""
    points: Mapping[int, Float[Tensor, "u k 3"]] = field(default_factory=dict)
    """[m] for things that bend, by object id: the same k points of their matter at every moment."""


@runtime_checkable
class Predictor(Protocol):
    """A model that can be tested."""

    def predict(
        self, world: World, start: State, actions: Action, tools: tuple[Tool, ...]
    ) -> Future | Rollout:
        """What happens if the tools do this.

        Args:
            world: in metres, +z up: objects with Gaussians, shapes, materials and joints, and cameras.
            start: where everything is at time 0 and how fast; it has no particles and no batch axis.
            actions: (t, a) poses that the tools reach at the end of each step of 0.1 s.
            tools: what acts.
        """
        ...


class OfDynamics:
    """A `Dynamics` as a `Predictor`; questions about one scene are answered as a batch."""

    def __init__(self, maker: DynamicsMaker) -> None:
        self._maker = maker
        self._made: dict[int, tuple[World, Matter, Dynamics]] = {}

    def predict(self, world: World, start: State, actions: Action, tools: tuple[Tool, ...]) -> Future:
        """What happens if the tools do this."""
        matter = matter_of(world)
        model = self._maker(world, matter, tools)
        return _rolled(model, matter, [world], [start], [actions])[0]

    def predict_all(self, cases: Sequence[Case]) -> list[Future]:
        """The answers to several questions, in order."""
        futures: dict[int, Future] = {}
        groups: dict[tuple[int, int, bool], list[int]] = {}
        for row, case in enumerate(cases):
            key = (id(case.scene), len(case.actions), case.actions.grip is None)
            groups.setdefault(key, []).append(row)
        for rows in groups.values():
            mine = [cases[row] for row in rows]
            matter, model = self._model(mine[0])
            worlds, starts = [case.world for case in mine], [case.start for case in mine]
            made = _rolled(model, matter, worlds, starts, [case.actions for case in mine])
            futures |= dict(zip(rows, made))
        return [futures[row] for row in range(len(cases))]

    def _model(self, case: Case) -> tuple[Matter, Dynamics]:
        world = case.scene.world
        # The world is kept too: while it lives, no other has its id.
        if id(world) not in self._made:
            matter = matter_of(world)
            self._made[id(world)] = (world, matter, self._maker(world, matter, case.scene.tools))
        return self._made[id(world)][1:]


@torch.no_grad()
def _rolled(
    model: Dynamics,
    matter: Matter,
    worlds: Sequence[World],
    starts: Sequence[State],
    actions: Sequence[Action],
) -> list[Future]:
    """One rollout for all, which differ in starts and actions only."""
    states = [_begun(model.initial(world), start) for world, start in zip(worlds, starts)]
    first = actions[0]
    together = {
        name: torch.stack([getattr(each, name) for each in actions], 1)
        for name in ("tools", "grip")
        if getattr(first, name) is not None
    }
    states = model.rollout(stack(states), Action(first.spec, **together)).states
    known = getattr(model, "matter", matter)
    known = known if isinstance(known, Matter) else matter
    fits = states.particle_positions.shape[-2] == len(known.rest)
    bending = [part for part in known.parts if part.kind.bends] if fits else []
    return [
        Future(
            states.object_poses[:, row],
            {part.object_id: states.particle_positions[:, row, part.rows] for part in bending},
        )
        for row in range(len(worlds))
    ]


def _begun(state: State, start: State) -> State:
    """The model's first state, moving as the start says, with the tools where it has them."""
    if state.object_ids != start.object_ids or state.joint_ids != start.joint_ids:
        raise ValueError(
            f"expected a model of objects {start.object_ids} and joints {start.joint_ids},"
            f" got {state.object_ids} and {state.joint_ids}"
        )
    names = ("object_poses", "object_twists", "joint_positions", "joint_rates", "tool_poses", "grip")
    return replace(state, **{name: getattr(start, name).to(state.object_poses) for name in names})


def of_dynamics(maker: DynamicsMaker) -> OfDynamics:
    """The predictor of a `Dynamics` that is made anew for each world."""
    return OfDynamics(maker)


def predictor_named(name: str) -> Predictor:
    """The predictor of a built-in model, of a folder with a trained one, or of `package.module:object`.

    The last imports that module, from the current folder too, and so runs its code; the object is a
    `Predictor`, or a class or function without arguments that gives one.

    Raises:
        ConfigError: there is no such model, module or object, or it is no predictor.
    """
    if name in MODELS or Path(name).is_dir():
        found = OfDynamics(lambda world, matter, tools: model_named(name, world, matter, tools, RATE_HZ))
        if name not in MODELS:
            _check_folder(found)
        return found
    if ":" not in name:
        known = ", ".join(MODELS)
        raise ConfigError(
            f"model: expected {known}, a model's folder, or package.module:object, got {name!r};"
            " check the spelling"
        )
    return _imported(name)


def _check_folder(model: OfDynamics) -> None:
    """Refuse a damaged folder, or one that is no model, before every check fails for it."""
    scene = one_box()
    try:
        model.predict_all([scene.case(1)])
    except GaussWorldError:
        raise
    except Exception:  # What it does with a box is for the checks to find.
        return


def _imported(name: str) -> Predictor:
    module, _, path = name.partition(":")
    if not module or not path:
        raise ConfigError(f"model: expected package.module:object, got {name!r}; name both")
    # As `python -m` does, and for good: a model may import more of its package when it is asked.
    if (here := str(Path.cwd())) not in sys.path:
        sys.path.insert(0, here)
    try:
        found: Any = importlib.import_module(module)
        for attribute in path.split("."):
            found = getattr(found, attribute)
        if inspect.isclass(found) or not isinstance(found, Predictor):
            found = found()
    except Exception as error:  # A stranger's module may fail in any way.
        raise ConfigError(
            f"model: expected {name!r} to be importable, got {type(error).__name__}: {error}; run it from the"
            " folder of its package"
        ) from error
    if not isinstance(found, Predictor):
        raise ConfigError(
            f"model: expected {name!r} to have predict(world, start, actions, tools), got"
            f" {type(found).__name__}; docs/consistency.md has an example"
        )
    return found
