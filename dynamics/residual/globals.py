"""`Globals`: a few numbers of the prior that a family has in common, found on its training recordings."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace

import torch
from jaxtyping import Float
from torch import Tensor

from gaussworld.log import Done, Event, Notice, Progress

from ..learning.recording import Recording
from ..matter.parts import PartKind
from ..physics.parameters import Parameters
from ..physics.settings import PriorConfig
from ..prior import Prior

#: Fields of `Parameters` that a family may have in common, with the range of factors on them.
RANGES: dict[str, tuple[float, float]] = {
    "patch": (0.4, 2.5),
    "friction": (0.3, 2.5),
    "tool_friction": (0.2, 3.0),
    "stiffness": (0.05, 20.0),
    "damping": (0.05, 20.0),
    "joint_friction": (0.02, 10.0),
}
#: What matters to which kind of part.
_OF: dict[PartKind, tuple[str, ...]] = {
    PartKind.RIGID: ("patch", "friction", "tool_friction"),
    PartKind.JOINT: ("joint_friction", "damping", "tool_friction"),
    PartKind.ROPE: ("stiffness", "damping", "friction"),
    PartKind.CLOTH: ("stiffness", "damping", "friction"),
    PartKind.VOLUME: ("stiffness", "damping", "friction"),
}
#: Recordings looked at, steps predicted, guesses at a time, and how often.
_RECORDINGS, _STEPS, _GUESSES, _ROUNDS = 10, 20, 8, 12
#: [m] Beyond it an error counts in proportion only.
_HUBER = 0.01


@dataclass(frozen=True)
class Globals:
    """Factors on what worlds say of themselves."""

    factors: Mapping[str, float] = field(default_factory=dict)

    def applied(self, parameters: Parameters) -> Parameters:
        """The parameters of a world with the factors."""
        changed = {name: getattr(parameters, name) * value for name, value in self.factors.items()}
        return replace(parameters, **changed)


def find_globals(recordings: Sequence[Recording], seed: int = 0) -> Iterator[Event[Globals]]:
    """The factors with which the prior predicts some recordings best.

    CMA-ES (Hansen 2016, "The CMA evolution strategy: a tutorial") over their logarithms. What is looked for
    hangs on the kinds of the parts that can move.

    Args:
        recordings: of training; at most ten, evenly taken, are looked at.
        seed: of the guesses.
    """
    import numpy as np
    from cmaes import CMA

    kinds = {part.kind for each in recordings for part in each.movable if part.mass > 0 or part.kind.bends}
    names = tuple(dict.fromkeys(name for kind in _OF if kind in kinds for name in _OF[kind]))
    chosen = recordings[:: max(1, len(recordings) // _RECORDINGS)][:_RECORDINGS]
    if not names or not chosen:
        yield Done(Globals())
        return
    bounds = np.log(np.array([RANGES[name] for name in names]))
    search = CMA(np.zeros(len(names)), 0.35, bounds=bounds, seed=seed, population_size=_GUESSES)
    best, least, first = np.zeros(len(names)), math.inf, math.nan
    for done in range(_ROUNDS):
        guesses = [search.ask() for _ in range(_GUESSES)]
        asked = [np.zeros(len(names)), *guesses] if done == 0 else guesses
        factors = torch.tensor(np.array(asked)).exp().float()
        costs = sum(_cost(each, names, factors) for each in chosen) / len(chosen)
        assert isinstance(costs, Tensor)
        values = costs.tolist()
        if done == 0:
            first = values.pop(0)
            least = first
        search.tell(list(zip(guesses, values)))
        if min(values) < least:
            least, best = min(values), guesses[int(np.argmin(values))]
        yield Progress(done + 1, _ROUNDS, {"error_mm": 1000 * least}, "fitting the prior")
    found = {name: round(float(np.exp(value)), 4) for name, value in zip(names, best)}
    told = ", ".join(f"{name} x {value:.2f}" for name, value in found.items())
    yield Notice(
        f"prior: {told}; {1000 * least:.1f} mm instead of {1000 * first:.1f} mm on training recordings"
    )
    yield Done(Globals(found))


@torch.no_grad()
def _cost(recording: Recording, names: tuple[str, ...], factors: Float[Tensor, "g k"]) -> Float[Tensor, " g"]:
    """[m] how far the prior is off with each guess."""
    steps = min(_STEPS, len(recording))
    places = recording.states.particle_positions
    moved = (places[1:] - places[:-1]).norm(dim=-1).amax(-1).unfold(0, steps, 1).sum(-1)
    bends = any(part.kind.bends for part in recording.matter.parts)
    # What bends rests at first only.
    starts = torch.tensor([0, 0 if bends else int(moved.argmax())]).unique()
    rows = starts.repeat_interleave(len(factors))
    prior = Prior(
        recording.world, recording.matter, recording.tools, PriorConfig(contacts=False), None, recording.spec
    )
    prior = prior.with_parameters(as_batch(prior.parameters, names, factors.repeat(len(starts), 1)))
    state, cost = recording.states[rows], torch.zeros(len(rows))
    for index in range(steps):
        state = prior.advanced(state, recording.actions[rows + index])
        off = (state.particle_positions - places[rows + index + 1]).norm(dim=-1)
        huber = torch.where(off < _HUBER, 0.5 * off.square() / _HUBER, off - 0.5 * _HUBER)
        cost += huber.mean(-1) / steps
    return cost.nan_to_num(1.0).reshape(len(starts), len(factors)).mean(0)


def as_batch(parameters: Parameters, names: tuple[str, ...], factors: Float[Tensor, "g k"]) -> Parameters:
    """The parameters once for each guess of factors on the named fields."""
    rows, changed = parameters.rows(), {}
    for entry in fields(Parameters):
        value = getattr(rows, entry.name)
        changed[entry.name] = value.expand(len(factors), *value.shape[1:])
    for k, name in enumerate(names):
        value = changed[name]
        changed[name] = value * factors[:, k].reshape(-1, *[1] * (value.ndim - 1))
    return Parameters(**changed)
