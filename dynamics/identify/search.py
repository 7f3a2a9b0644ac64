"""`identify`: materials that make the prior's future look like a recording - CMA-ES, then gradients."""

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gaussworld.edit import SetMaterial
from gaussworld.log import Done, Event, Progress
from gaussworld.threads import one_torch_thread
from gaussworld.world import World

from ..observed import Observation
from ..physics.parameters import Parameters
from ..prior import Prior
from .problem import Problem
from .unknowns import Found, IdentifyConfig, Unknown

#: Standard deviations to either side that hold 90 %.
_NINETY = 1.645


@dataclass(frozen=True, eq=False)
class Identified:
    """What the recording says."""

    found: tuple[Found, ...]
    parameters: Parameters
    """With the identified values in place."""
    error_before: float
    """[m] root mean square over windows, with the world's materials."""
    error: float
    """[m] the same, with the identified ones."""
    seconds: float
    rollouts: int
    """Windows that were predicted."""

    def edits(self) -> list[SetMaterial]:
        """The edits that write objects' numbers into a world, with source "identified"."""
        values: dict[int, dict[str, float]] = {}
        for each in self.found:
            number, name = each.unknown.object_id, each.unknown.field
            if number is not None and each.told and name in ("friction", "stiffness", "damping"):
                values.setdefault(number, {})[name] = each.value
        return [SetMaterial((number,), row, source="identified") for number, row in values.items()]


def identify(
    model: Prior, world: World, recordings: Sequence[Observation], config: IdentifyConfig | None = None
) -> Iterator[Event[Identified]]:
    """Find the materials with which the prior predicts what was recorded.

    Every recording is cut into windows that begin where the things were seen to be; of what bends there is
    only the window that begins at time 0. CMA-ES (Hansen 2016, "The CMA evolution strategy: a tutorial",
    arXiv:1604.00772) searches the logarithms, Adam ends the search, and the Gauss-Newton approximation with
    windows as independent units gives intervals (White 1982, "Maximum likelihood estimation of misspecified
    models").

    Args:
        model: of this world; its parameters are where the search begins.
        world: that the recordings begin with.
        recordings: of the same things.
        config: how hard to search.

    Raises:
        CaptureError: nothing moves in the recordings, or there is nothing to find.
        ValueError: their actions are not the model's.
    """
    config = config or IdentifyConfig()
    with one_torch_thread():
        problem = Problem(model, world, recordings, config)
        yield from _searched(problem, config)


def _searched(problem: Problem, config: IdentifyConfig) -> Iterator[Event[Identified]]:
    begun = time.monotonic()
    start = problem.start()
    before = problem.error(start)
    best, least = start, float(problem.losses(start[None])[0])
    search = _cma(problem, start, config)
    for generation in range(config.generations):
        guesses = [search.ask() for _ in range(config.population)]
        losses = problem.losses(torch.from_numpy(np.stack(guesses)).float()).tolist()
        search.tell(list(zip(guesses, losses)))
        if min(losses) < least:
            least = min(losses)
            best = torch.from_numpy(guesses[losses.index(least)]).float()
        values = {"error": math.sqrt(least)}
        yield Progress(generation + 1, config.generations + config.refine, values, "searching")
        if time.monotonic() - begun > 0.7 * config.seconds or search.should_stop():
            break
    for step, (guess, loss) in enumerate(problem.descend(best, config.refine)):
        if loss < least:
            best, least = guess, loss
        values = {"error": math.sqrt(least)}
        yield Progress(config.generations + step + 1, config.generations + config.refine, values, "refining")
        if time.monotonic() - begun > config.seconds:
            break
    spread = problem.spread(best)
    found = tuple(
        _found(unknown, float(value), float(sigma))
        for unknown, value, sigma in zip(problem.unknowns, best, spread)
    )
    yield Done(
        Identified(
            found,
            _first(problem.parameters(best[None])),
            before,
            problem.error(best),
            time.monotonic() - begun,
            problem.rollouts,
        )
    )


def _cma(problem: Problem, start: Tensor, config: IdentifyConfig) -> Any:
    from cmaes import CMA

    bounds = np.array([[math.log(value) for value in unknown.range] for unknown in problem.unknowns])
    mean = np.clip(start.double().numpy(), bounds[:, 0] + 1e-3, bounds[:, 1] - 1e-3)
    return CMA(mean=mean, sigma=0.5, bounds=bounds, seed=config.seed, population_size=config.population)


def _found(unknown: Unknown, log_value: float, sigma: float) -> Found:
    low, high = unknown.range
    reach = min(_NINETY * sigma, 20.0)
    return Found(
        unknown,
        math.exp(log_value),
        max(low, math.exp(log_value - reach)),
        min(high, math.exp(log_value + reach)),
    )


def _first(parameters: Parameters) -> Parameters:
    """The first guess of a batch, as one."""
    return Parameters(**{entry.name: getattr(parameters, entry.name)[0] for entry in fields(parameters)})
