"""`train`: a stream of events that ends with a trained module; it can be stopped and taken up again."""

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from gaussworld.errors import ConfigError, GaussWorldError
from gaussworld.log import Done, Event, Progress
from gaussworld.threads import one_torch_thread

from .crew import Crew
from .learner import Learner
from .recording import Recording

_STEPS_PER_EVENT = 5
#: [s] Between two signs of life, where steps are slow.
_SECONDS_PER_EVENT = 5.0


@dataclass(frozen=True)
class TrainingConfig:
    """How a network is trained."""

    steps: int = 20_000
    """Steps of the optimiser, at most."""
    minutes: float = 7.0
    """[min] The schedule is squeezed into so much time where the steps would take longer; 0: no limit.
    Results then depend on the machine's speed."""
    slices: int = 2
    """Parts of each step, each with recordings of its own; as many processes can share the work."""
    recordings: int = 2
    """Recordings in each slice."""
    rate: float = 1.5e-3
    """Of learning, at its highest; it falls along a cosine."""
    decay: float = 1e-4
    """Of weights (AdamW, Loshchilov and Hutter 2019)."""
    averaged: float = 0.98
    """Of each step, the share of the mean weights that stays: the means are what is used."""
    judged: int = 8
    """How often held-out recordings are looked at; the best moment's weights are kept."""
    judges: int = 16
    """Held-out recordings for that, at most."""
    seed: int = 0
    """Of weights and of what is looked at."""

    def __post_init__(self) -> None:
        for name, least in (("steps", 1), ("slices", 1), ("recordings", 1), ("judged", 1), ("judges", 1)):
            if getattr(self, name) < least:
                raise ConfigError(f"{name}: expected at least {least}, got {getattr(self, name)}")
        if self.minutes < 0 or not 0 < self.rate < 1 or not 0 <= self.averaged < 1:
            raise ConfigError(
                "expected minutes >= 0, rate in 0..1 and averaged in 0..1, got"
                f" {self.minutes}, {self.rate} and {self.averaged}"
            )


@dataclass(eq=False)
class Training:
    """A training at one moment: whole after every step."""

    learner: Learner
    config: TrainingConfig
    optimiser: torch.optim.Optimizer
    mean: dict[str, Tensor]
    """The averaged weights."""
    best: dict[str, Tensor]
    """Those that did best on held-out recordings."""
    least: float = math.inf
    """[m] how well."""
    step: int = 0
    seconds: float = 0.0
    judgements: list[float] = field(default_factory=list)

    @classmethod
    def begin(cls, learner: Learner, config: TrainingConfig) -> "Training":
        """Before the first step."""
        optimiser = torch.optim.AdamW(
            learner.module.parameters(), lr=config.rate, weight_decay=config.decay, betas=(0.9, 0.98)
        )
        return cls(learner, config, optimiser, weights_of(learner), weights_of(learner))

    @property
    def share(self) -> float:
        """How much is done, range [0, 1]."""
        done = self.step / self.config.steps
        if self.config.minutes > 0:
            done = max(done, self.seconds / (60 * self.config.minutes))
        return min(1.0, done)

    def state(self) -> dict[str, Tensor]:
        """Everything that changes, as tensors."""
        numbers = torch.tensor([self.step, self.seconds, self.least, *self.judgements], dtype=torch.float64)
        result = {"numbers": numbers}
        for name, weights in (("now", weights_of(self.learner)), ("mean", self.mean), ("best", self.best)):
            result |= {f"{name}.{key}": value for key, value in weights.items()}
        for key, values in self.optimiser.state_dict()["state"].items():
            result |= {f"adam.{key}.{name}": torch.as_tensor(value) for name, value in values.items()}
        return result

    def restore(self, state: dict[str, Tensor]) -> None:
        """Go on from what `state` said.

        Raises:
            KeyError: something is missing.
            RuntimeError: of another network.
        """
        step, self.seconds, self.least, *judged = state["numbers"].tolist()
        self.step, self.judgements = int(step), judged
        groups: dict[str, dict[str, Tensor]] = {"now": {}, "mean": {}, "best": {}}
        adam: dict[int, dict[str, Tensor]] = {}
        for name, value in state.items():
            head, _, rest = name.partition(".")
            if head in groups:
                groups[head][rest] = value
            elif head == "adam":
                number, _, key = rest.partition(".")
                adam.setdefault(int(number), {})[key] = value
        self.learner.module.load_state_dict(groups["now"])
        self.mean, self.best = groups["mean"], groups["best"]
        told = self.optimiser.state_dict()
        self.optimiser.load_state_dict({"state": adam, "param_groups": told["param_groups"]})


def weights_of(learner: Learner) -> dict[str, Tensor]:
    """A copy of the module's weights and buffers."""
    return {name: value.detach().clone() for name, value in learner.module.state_dict().items()}


def train(
    training: Training, learned: Sequence[Sequence[Recording]], judges: Sequence[Recording], crew: Crew
) -> Iterator[Event[None]]:
    """Train until the share is 1, and leave the best weights in the module.

    Args:
        training: begun, or taken up again.
        learned: recordings of each slice; those of other processes may be left empty.
        judges: this process's share of the held-out recordings.
        crew: the processes that train together.

    Raises:
        GaussWorldError: a loss is not finite; names the recording.
    """
    config, learner = training.config, training.learner
    told, begun = time.monotonic(), time.monotonic()
    with one_torch_thread():
        if not training.judgements:
            # What nothing was learned for is the first to beat.
            yield Progress(*_done(training), {}, "looking at held-out recordings")
            _judge(training, judges, crew)
            begun = time.monotonic()
        while training.share < 1:
            values = take_step(training, learned, crew)
            now = time.monotonic()
            training.seconds = max(crew.gathered([training.seconds + now - begun]))
            begun = now
            due = 1 + int(training.share * config.judged)
            if due > len(training.judgements):
                # Not before the next event: who stops there must find this moment judged.
                _judge(training, judges, crew)
                # Time to look is not time to learn.
                begun = time.monotonic()
                training.judgements += [training.judgements[-1]] * (due - len(training.judgements))
            late = time.monotonic() - told > _SECONDS_PER_EVENT
            if training.step % _STEPS_PER_EVENT == 0 or late or training.share >= 1:
                told = time.monotonic()
                if training.judgements:
                    values["held_out_mm"] = 1000 * training.judgements[-1]
                yield Progress(*_done(training), values, "learning")
    learner.module.load_state_dict(training.best)
    yield Done(None)


def _done(training: Training) -> tuple[int, int]:
    """Steps so far, and as many as there will be at this pace."""
    return training.step, max(training.step, round(training.step / max(training.share, 1e-6)))


def take_step(training: Training, learned: Sequence[Sequence[Recording]], crew: Crew) -> dict[str, float]:
    """One step of the optimiser; the slices of this process, and the others' through the crew.

    Raises:
        GaussWorldError: a loss is not finite; the weights are as before.
    """
    config, learner, share = training.config, training.learner, training.share
    mine = range(config.slices)[crew.rank :: crew.size]
    training.optimiser.zero_grad()
    sums: dict[str, float] = {}
    for number in mine:
        generator = torch.Generator().manual_seed(_seed(config.seed, training.step, number))
        rows = torch.randint(len(learned[number]), (config.recordings,), generator=generator).tolist()
        chosen = [learned[number][row] for row in rows]
        losses = learner.loss(chosen, share, generator)
        (losses["loss"] / len(mine)).backward()
        for name, value in losses.items():
            sums[name] = sums.get(name, 0.0) + float(value.detach()) / len(mine)
        if not math.isfinite(float(losses["loss"].detach())):
            raise _astray(training, chosen, share)
    crew.average(learner.module)
    norm = torch.nn.utils.clip_grad_norm_(learner.module.parameters(), 1.0)
    if not bool(norm.isfinite()):
        raise GaussWorldError(
            f"step {training.step + 1}: expected finite gradients, got {float(norm)}; the last good state is"
            " kept: go on with a lower --training.rate"
        )
    for group in training.optimiser.param_groups:
        warm = min(1.0, (training.step + 1) / 50)
        group["lr"] = config.rate * warm * (0.5 + 0.5 * math.cos(math.pi * share) + 0.01)
    training.optimiser.step()
    training.step += 1
    keep = min(config.averaged, training.step / (training.step + 10))
    for name, value in learner.module.state_dict().items():
        mean = training.mean[name]
        training.mean[name] = keep * mean + (1 - keep) * value if value.is_floating_point() else value.clone()
    told = crew.gathered([sums])
    return {name: sum(each[name] for each in told) / len(told) for name in sums}


def _seed(seed: int, step: int, part: int) -> int:
    """The same on any number of processes, and after a stop."""
    return (seed * 1_000_003 + step) * 1009 + part


def _astray(training: Training, chosen: Sequence[Recording], share: float) -> GaussWorldError:
    """Which recording it was."""
    guilty = []
    for each in chosen:
        with torch.no_grad():
            value = training.learner.loss([each], share, torch.Generator().manual_seed(0))["loss"]
        if not bool(value.isfinite()):
            guilty.append(each.name)
    names = " or ".join(guilty or [each.name for each in chosen])
    return GaussWorldError(
        f"step {training.step + 1}: expected a finite loss, got NaN or infinity with the episode {names};"
        " the last good state is kept: leave the episode out, or go on with a lower --training.rate"
    )


def _judge(training: Training, judges: Sequence[Recording], crew: Crew) -> None:
    """How well the mean weights do, and whether better than before."""
    module, now = training.learner.module, weights_of(training.learner)
    module.load_state_dict(training.mean)
    found = crew.gathered([training.learner.score(each) for each in judges])
    module.load_state_dict(now)
    known = [value for value in found if math.isfinite(value)]
    score = sum(known) / len(known) if known else math.nan
    training.judgements.append(score)
    if not known or score <= training.least:
        training.least = score if known else training.least
        training.best = {name: value.clone() for name, value in training.mean.items()}
