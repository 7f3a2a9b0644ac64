"""`identify`: materials that make the prior's future look like a recording - CMA-ES, then slopes."""

import math
import time
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gaussworld.edit import SetMaterial
from gaussworld.errors import CaptureError
from gaussworld.log import Done, Event, Progress
from gaussworld.state import State
from gaussworld.threads import one_torch_thread
from gaussworld.world import World

from ..observed import Observation
from ..physics.parameters import Parameters
from ..prior import Prior
from .markers import Markers
from .problem import Problem
from .unknowns import Found, IdentifyConfig, Unknown, unknowns_of
from .windows import Window, windows_of

#: Standard deviations to either side that hold 90 %.
_NINETY = 1.645
#: Evenly spread guesses at first, over those of a generation.
_FIRST = 3
#: Of the logarithms where CMA-ES begins.
_SIGMA = 0.3
#: Logarithms that differ by less are the same to us.
_CLOSE = 0.02
#: [m] what goes less far rests.
_MOVED = 1e-3


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
    only the window that begins at time 0. What slides alone after a tool let go tells its friction on the
    ground, and nothing else disturbs it: where there are such slides they come first, and what they tell is
    held while the pushes tell the rest. Each time evenly spread guesses come first, CMA-ES (Hansen 2016, "The
    CMA evolution strategy: a tutorial", arXiv:1604.00772) goes on from the best, and Levenberg's method ends
    the search.

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
        yield from _in_stages(model, world, recordings, config)


def _in_stages(
    model: Prior, world: World, recordings: Sequence[Observation], config: IdentifyConfig
) -> Iterator[Event[Identified]]:
    begun = time.monotonic()
    initial, markers = model.initial(world), Markers.of(model.matter, world)
    stages = _stages(model, recordings, markers, initial, config)
    steps = len(stages) * (config.generations + config.refine)
    everything = [each for windows, _ in stages for each in windows]
    before = Problem(model, markers, initial, everything, ()).error(torch.zeros(0))
    found: list[Found] = []
    rollouts, parameters = 0, model.parameters
    for k, (windows, unknowns) in enumerate(stages):
        problem = Problem(model.with_parameters(parameters), markers, initial, windows, unknowns)
        until = begun + config.seconds * (k + 1) / len(stages)
        best = yield from _searched(problem, config, until, k * steps // len(stages), steps)
        spread = problem.spread(best)
        found += [
            _found(unknown, float(value), float(sigma))
            for unknown, value, sigma in zip(unknowns, best, spread)
        ]
        parameters = _first(problem.parameters(best[None]))
        rollouts += problem.rollouts
    after = Problem(model.with_parameters(parameters), markers, initial, everything, ())
    seconds = time.monotonic() - begun
    error = after.error(torch.zeros(0))
    yield Done(Identified(tuple(found), parameters, before, error, seconds, rollouts))


def _stages(
    model: Prior,
    recordings: Sequence[Observation],
    markers: Markers,
    initial: State,
    config: IdentifyConfig,
) -> list[tuple[list[Window], list[Unknown]]]:
    """Which windows tell what: free slides first, then all others with what slides do not tell.

    Raises:
        CaptureError: nothing moves, or there is nothing to find.
    """
    every = windows_of(recordings, model.matter, config)
    pairs = [(each, ids) for each in every if (ids := _moved(each, markers, initial))]
    if not pairs:
        raise CaptureError(
            "expected a recording in which things move, got one in which all rest; record a push"
        )
    stages: list[tuple[list[Window], list[Unknown]]] = []
    known: set[Unknown] = set()
    for free in (True, False):
        rows = [pair for pair in pairs if (pair[0].slide is not None) == free]
        ids = {number for _, numbers in rows for number in numbers}
        unknowns = [each for each in unknowns_of(model, ids, not free, config) if each not in known]
        if unknowns:
            stages.append(([each for each, _ in rows], unknowns))
            known |= set(unknowns)
    if not stages:
        raise CaptureError("expected something to identify, got things that only rest; record a push")
    return stages


def _moved(window: Window, markers: Markers, initial: State) -> set[int]:
    """Ids of what moves in a window."""
    seen = markers.seen(window.recording, initial)[window.start : window.stop + 1]
    far = (seen - seen[:1]).norm(dim=-1).amax(0) > _MOVED
    return {markers.matter.parts[row].object_id for row in markers.owners[far].tolist()}


def _searched(
    problem: Problem, config: IdentifyConfig, until: float, done: int, steps: int
) -> Generator[Event[Identified], None, Tensor]:
    """Look for the best guess; gives it back."""
    begun = time.monotonic()
    guesses = problem.spaced(_FIRST * config.population)
    losses = problem.losses(guesses)
    best, least = guesses[int(losses.argmin())], float(losses.min())
    search = _cma(problem, best, config)
    for _ in range(config.generations):
        tries = [search.ask() for _ in range(config.population)]
        values = problem.losses(torch.from_numpy(np.stack(tries)).float()).tolist()
        search.tell(list(zip(tries, values)))
        if min(values) < least:
            least = min(values)
            best = torch.from_numpy(tries[values.index(least)]).float()
        done += 1
        yield Progress(done, steps, {"error": math.sqrt(least)}, "searching")
        late = time.monotonic() - begun > 0.7 * (until - begun)
        if late or search.should_stop() or float(np.ptp(np.stack(tries), 0).max()) < _CLOSE:
            break
    for guess, loss in problem.descend(best, config.refine):
        if loss < least:
            best, least = guess, loss
        done += 1
        yield Progress(done, steps, {"error": math.sqrt(least)}, "refining")
        if time.monotonic() > until:
            break
    return best


def _cma(problem: Problem, start: Tensor, config: IdentifyConfig) -> Any:
    from cmaes import CMA

    bounds = np.array([[math.log(value) for value in unknown.range] for unknown in problem.unknowns])
    mean = np.clip(start.double().numpy(), bounds[:, 0] + 1e-3, bounds[:, 1] - 1e-3)
    return CMA(mean=mean, sigma=_SIGMA, bounds=bounds, seed=config.seed, population_size=config.population)


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
