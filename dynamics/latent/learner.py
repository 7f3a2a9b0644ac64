"""`LatentLearner`: what `fit` trains of the latent model - windows, losses, radii, what is usual, files."""

import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from gaussworld.log import Event, Notice, Progress
from gaussworld.threads import one_torch_thread

from ..learning.calibration import Radius, Usual
from ..learning.recording import Recording
from ..prediction.predict import sample
from .config import LatentConfig
from .folder import write_model
from .losses import effective_rank, losses
from .model import Latent
from .network import LatentNetwork
from .windows import Prepared, batch, drawn, prepared

#: Shares of training after which windows are twice as long.
_LONGER = (0.05, 0.2, 0.5)
#: Steps of a window for which there are as many as the config says.
_SHORT = 4
#: Steps over which a model is scored.
_HORIZON = 30
#: Tokens that spread in fewer directions than this have collapsed.
_FEWEST = 2.0
#: Recordings that tell what training was like.
_KNOWN = 150
#: [m] where nothing went farther, and nothing was predicted to, there is nothing to learn a radius from.
_STILL = 1e-3


class LatentLearner:
    """A latent model while it is trained."""

    def __init__(self, config: LatentConfig, generator: torch.Generator) -> None:
        """An untrained network, which predicts that nothing moves.

        Args:
            config: its sizes.
            generator: of the first weights.
        """
        self.config = config
        with torch.random.fork_rng():
            torch.manual_seed(int(torch.randint(2**31, (1,), generator=generator)))
            self.module = LatentNetwork(config)
        self.radius: Radius | None = None
        self.usual: Usual | None = None
        self._prepared: dict[str, Prepared] = {}

    def begin(self, recordings: Sequence[Recording]) -> None:
        """Prepare recordings; nothing of the network depends on them before training."""
        for each in recordings:
            self.prepared(each)

    def prepared(self, recording: Recording) -> Prepared:
        """The recording's tensors, made once."""
        if recording.identity not in self._prepared:
            self._prepared[recording.identity] = prepared(recording, self.config)
        return self._prepared[recording.identity]

    def length(self, share: float) -> int:
        """Steps of the windows at a moment of training: 2, 4, 8, 16."""
        return min(self.config.longest, 2 ** (1 + sum(share >= each for each in _LONGER)))

    def loss(
        self, recordings: Sequence[Recording], share: float, generator: torch.Generator
    ) -> dict[str, Tensor]:
        """Of some windows of some recordings; see the `Learner` protocol.

        Raises:
            ValueError: there are no recordings.
        """
        if not recordings:
            raise ValueError("expected recordings to learn from, got none")
        ready = [self.prepared(each) for each in recordings]
        steps = min(self.length(share), *(len(each) for each in ready))
        count = self.config.windows * _SHORT // max(steps, _SHORT)
        starts = drawn(ready, max(1, count // len(ready)), steps, generator)
        device = next(self.module.parameters()).device
        windows = batch(ready, starts, steps, device, self.config.noise, generator)
        return losses(self.module, windows, self.config, recordings[0].spec.dt)

    def model(self, recording: Recording, radius: Radius | None = None) -> Latent:
        """The model of a recording's world."""
        world, matter, tools = recording.world, recording.matter, recording.tools
        return Latent(self.module, world, matter, tools, recording.spec.rate_hz, radius, self.usual)

    @torch.no_grad()
    def score(self, recording: Recording) -> float:
        """[m] mean distance of particles after up to 30 steps from the beginning; NaN if nothing moved."""
        steps = min(_HORIZON, len(recording))
        if recording.moved(0, steps) < _STILL:
            return math.nan
        rollout = self.model(recording).rollout(recording.states[0], recording.actions[:steps])
        wrong = rollout.final.particle_positions - recording.states.particle_positions[steps]
        return float(_by_part(recording, wrong.norm(dim=-1)).mean())

    def finish(
        self, recordings: Sequence[Recording], learned: Sequence[Recording] = ()
    ) -> Iterator[Event[None]]:
        """Learn radii and what is usual, on recordings that were not learned from.

        Args:
            recordings: for validation.
            learned: what was trained on; without, half of the others take their place for what is usual.
        """
        # Every so many-th tells what is usual as well as all of them would.
        learned = learned[:: max(1, len(learned) // _KNOWN)]
        total = len(recordings) + len(learned) + 1
        errors, doubts, tokens, fresh = [], [], [], []
        for done, each in enumerate(recordings):
            yield Progress(done, total, {}, "learning radii")
            with one_torch_thread():
                wrong, doubt = self._places(each)
                mine, seen = self._situations(each)
            errors.append(wrong)
            doubts.append(doubt)
            fresh.append(mine)
            tokens.append(seen)
        known = []
        for done, each in enumerate(learned):
            yield Progress(len(recordings) + done, total, {}, "learning what is usual")
            with one_torch_thread():
                known.append(self._situations(each)[0])
        # Rollouts from an episode's beginning and from later on err differently: radii shall hold for both.
        groups = [_radius(errors, doubts, rows) for rows in (slice(0, 1), slice(1, None))]
        factors = [group.factors for group in groups if group is not None]
        self.radius = Radius(torch.stack(factors).amax(0)) if factors else None
        known, fresh = (known, fresh) if known else (fresh[::2], fresh[1::2])
        if known and fresh and len(torch.cat(known)) > 1:
            self.usual = Usual.of(torch.cat(known), torch.cat(fresh))
        rank = float(effective_rank(torch.cat(tokens))) if tokens else 0.0
        if tokens and rank < _FEWEST:
            yield Notice(
                f"the tokens have collapsed: they spread in {rank:.1f} directions; raise --config.spread, or"
                " train longer"
            )

    @torch.no_grad()
    def _places(self, recording: Recording) -> tuple[Float[Tensor, "h w o"], Float[Tensor, "h w o"]]:
        """[m] errors of the objects' places from some moments, NaN where nothing happened; and doubts."""
        steps, states = len(recording), recording.states
        starts = torch.arange(0, steps, max(1, steps // 6))
        reach = (starts[None] + torch.arange(steps + 1)[:, None]).clamp(max=steps)
        model = self.model(recording, Radius(torch.ones(1)))
        rollout = model.rollout(states[starts], recording.actions[reach[:-1].clamp(max=steps - 1)])
        seen = states.object_poses[reach][..., :3]
        wrong = (rollout.states.object_poses[..., :3] - seen).norm(dim=-1)[1:]
        went = (seen - seen[:1]).norm(dim=-1)[1:]
        late = (starts[None] + torch.arange(1, steps + 1)[:, None]) > steps
        mine = torch.zeros(wrong.shape[-1], dtype=torch.bool)
        mine[[part.row for part in recording.movable]] = True
        nothing = (torch.maximum(wrong, went) < _STILL) | late[..., None] | ~mine
        assert rollout.spread is not None
        return wrong.masked_fill(nothing, math.nan), rollout.spread[1:]

    @torch.no_grad()
    def _situations(self, recording: Recording) -> tuple[Float[Tensor, "n f"], Float[Tensor, "q d"]]:
        """What predictions of stretches are like, as `Latent.surprise` asks it; and their tokens."""
        model = self.model(recording)
        half = max(1, min(_HORIZON, len(recording)))
        starts = torch.arange(0, len(recording) - half + 1, half)
        rows = starts[None] + torch.arange(half)[:, None]
        rollout = model.rollout(recording.states[starts], recording.actions[rows])
        found = [model.situation(sample(rollout, row)) for row in range(len(starts))]
        return torch.stack([each for each, _ in found]), torch.cat([tokens for _, tokens in found])

    def save(self, folder: Path, facts: dict[str, object]) -> None:
        """Write `model.json`, with these facts in it, and `model.safetensors`."""
        write_model(folder, self.module, self.radius, self.usual, facts)


def _by_part(recording: Recording, distances: Float[Tensor, " p"]) -> Float[Tensor, " o"]:
    return torch.stack([distances[part.rows].mean() for part in recording.movable])


def _radius(errors: Sequence[Tensor], doubts: Sequence[Tensor], rows: slice) -> Radius | None:
    """Of some of the beginnings: errors and doubts are (h, w, o) of each recording."""
    longest = max((len(each) for each in errors), default=0)
    if not longest:
        return None
    off, unsure = (
        torch.cat([_until(value[:, rows].flatten(1), longest) for value in group], 1)
        for group in (errors, doubts)
    )
    return Radius.of(off, unsure) if bool(off.isfinite().any()) else None


def _until(values: Float[Tensor, "h n"], longest: int) -> Float[Tensor, "l n"]:
    """With NaN in rows up to the longest."""
    more = values.new_full((longest - len(values), values.shape[1]), math.nan)
    return torch.cat([values, more])
