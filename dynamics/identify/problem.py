"""`Problem`: windows of recordings, and how badly the prior predicts them with some parameters."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import fields, replace

import torch
from jaxtyping import Float
from torch import Tensor

from gaussworld.errors import CaptureError
from gaussworld.state import State
from gaussworld.world import World

from ..observed import Observation
from ..physics.parameters import Parameters
from ..prior import Prior
from .markers import Markers
from .unknowns import IdentifyConfig, unknowns_of

#: [m] beyond it an error counts in proportion only: what once goes another way must not decide.
_HUBER = 0.02


class Problem:
    """Windows of recordings, unknowns, and how badly guesses predict."""

    def __init__(
        self, model: Prior, world: World, recordings: Sequence[Observation], config: IdentifyConfig
    ) -> None:
        self.model, self.world, self.config = model, world, config
        self.rollouts = 0
        initial = model.initial(world)
        self.markers = Markers.of(model.matter, world)
        bends = model.matter.bending
        self.windows = [
            window
            for recording in recordings
            for window in _windows(recording, 0 if bends else config.stride, config.window, len(recording))
        ]
        self._begin = [recording.begin(initial, world, torch.tensor([k])) for recording, k, _ in self.windows]
        self._seen = [
            self.markers.seen(recording, initial)[start : stop + 1] for recording, start, stop in self.windows
        ]
        moving = [float((seen - seen[:1]).norm(dim=-1).amax()) > 1e-3 for seen in self._seen]
        if not any(moving):
            raise CaptureError(
                "expected a recording in which things move, got one in which all rest; record a push"
            )
        keep = [row for row, moves in enumerate(moving) if moves]
        self.windows = [self.windows[row] for row in keep]
        self._begin, self._seen = [self._begin[row] for row in keep], [self._seen[row] for row in keep]
        self.unknowns = unknowns_of(model, world, self.markers, self._seen, config)
        if not self.unknowns:
            raise CaptureError("expected something to identify, got things that only rest; record a push")

    def start(self) -> Float[Tensor, " k"]:
        """Logarithms of what the model has now."""
        values = []
        for unknown in self.unknowns:
            rows = getattr(self.model.parameters.rows(), unknown.field)
            value = float(rows[0] if unknown.column is None else rows[0, unknown.column])
            low, high = unknown.range
            values.append(math.log(min(max(value, low), high)))
        return torch.tensor(values)

    def parameters(self, guesses: Float[Tensor, "n k"]) -> Parameters:
        """The model's parameters with each guess in its place, as a batch."""
        base = self.model.parameters.rows()
        changed = {
            entry.name: getattr(base, entry.name)[:1].expand(
                len(guesses), *getattr(base, entry.name).shape[1:]
            )
            for entry in fields(base)
        }
        for k, unknown in enumerate(self.unknowns):
            value, column = guesses[:, k].exp(), changed[unknown.field]
            if unknown.column is None:
                changed[unknown.field] = value
            else:
                here = torch.arange(column.shape[1]) == unknown.column
                changed[unknown.field] = torch.where(here, value[:, None], column)
        return Parameters(**changed)

    def residuals(self, guesses: Float[Tensor, "n k"]) -> list[Float[Tensor, "n w t m 3"]]:
        """[m] predicted minus seen markers of w windows of t steps: one tensor for each length of windows."""
        return [self._predicted(guesses, group) for group in self._groups()]

    def losses(self, guesses: Float[Tensor, "n k"]) -> Float[Tensor, " n"]:
        """[m^2] mean robust squared error of every guess."""
        with torch.no_grad():
            return self._loss(guesses)

    def _loss(self, guesses: Tensor) -> Tensor:
        parts = [_robust(each).flatten(1) for each in self.residuals(guesses)]
        loss = torch.cat(parts, 1).mean(1)
        return torch.where(loss.isfinite(), loss, torch.full_like(loss, 1e6))

    def error(self, guess: Float[Tensor, " k"]) -> float:
        """[m] root mean square distance of markers."""
        with torch.no_grad():
            parts = self.residuals(guess[None])
            squares = torch.cat([each.square().sum(-1).flatten() for each in parts])
        return float(squares.mean().sqrt())

    def descend(self, guess: Float[Tensor, " k"], steps: int) -> Iterator[tuple[Tensor, float]]:
        """Adam on the logarithms; gives every point on the way with its loss."""
        point = guess.clone().requires_grad_()
        optimizer = torch.optim.Adam([point], lr=0.03)
        lows, highs = torch.tensor([[math.log(v) for v in unknown.range] for unknown in self.unknowns]).T
        for _ in range(steps):
            optimizer.zero_grad()
            loss = self._loss(point[None])[0]
            loss.backward()
            yield point.detach().clone(), float(loss.detach())
            if point.grad is None or not bool(point.grad.isfinite().all()):
                return
            optimizer.step()
            with torch.no_grad():
                point.clamp_(lows, highs)

    def spread(self, guess: Float[Tensor, " k"]) -> Float[Tensor, " k"]:
        """Standard deviation of each logarithm, with windows as the units that err independently."""
        step = 0.02
        count = len(self.unknowns)
        tries = torch.cat([guess[None], guess + step * torch.eye(count), guess - step * torch.eye(count)])
        with torch.no_grad():
            parts = [each.flatten(2) for each in self.residuals(tries)]
        bread = torch.zeros(count, count, dtype=torch.float64)
        meat = torch.zeros_like(bread)
        units = 0
        for each in parts:
            slopes = ((each[1 : 1 + count] - each[1 + count :]) / (2 * step)).double()
            bread += torch.einsum("kwr,lwr->kl", slopes, slopes)
            scores = torch.einsum("kwr,wr->wk", slopes, each[0].double())
            meat += scores.T @ scores
            units += each.shape[1]
        # Few windows say too little about their own errors.
        meat = meat * units / max(units - count, 1)
        ridge = 1e-9 * (bread.diagonal().amax() + 1e-12) * torch.eye(count)
        inverse = torch.linalg.inv(bread + ridge)
        return (inverse @ meat @ inverse).diagonal().clamp(min=0).sqrt().float()

    def _groups(self) -> list[list[int]]:
        """Windows of one length together, so that they are predicted at once."""
        lengths = [stop - start for _, start, stop in self.windows]
        return [[row for row, n in enumerate(lengths) if n == length] for length in sorted(set(lengths))]

    def _predicted(self, guesses: Tensor, group: list[int]) -> Tensor:
        n, w = len(guesses), len(group)
        parameters = _repeated(self.parameters(guesses), w)
        state = _joined([self._begin[row] for row in group]).expand(n).map(lambda v: v.flatten(0, 1))
        model = self.model.with_parameters(parameters)
        rows = [self.windows[row] for row in group]
        steps = rows[0][2] - rows[0][1]
        errors = []
        for step in range(steps):
            tools = torch.cat([r.actions.tools[k + step][None] for r, k, _ in rows])  # pyright: ignore
            grips = [r.actions.grip for r, _, _ in rows]
            action = replace(
                rows[0][0].actions[0],
                tools=tools.repeat(n, 1, 1),
                grip=None
                if any(grip is None for grip in grips)
                else torch.cat([grip[k + step][None] for grip, (_, k, _) in zip(grips, rows)]).repeat(n, 1),  # pyright: ignore
            )
            state = model.step(state, action)
            seen = torch.stack([self._seen[row][step + 1] for row in group])
            errors.append(self.markers.at(state).unflatten(0, (n, w)) - seen)
        self.rollouts += n * w
        return torch.stack(errors, 2)


def _robust(residuals: Tensor) -> Tensor:
    """Huber's loss of the markers' distances, quadratic near 0."""
    square = residuals.square().sum(-1)
    far = square > _HUBER**2
    distance = torch.where(far, square, torch.ones_like(square)).sqrt()
    return torch.where(far, 2 * _HUBER * distance - _HUBER**2, square)


def _windows(
    recording: Observation, stride: int, length: int, total: int
) -> Iterator[tuple[Observation, int, int]]:
    if not stride:
        yield recording, 0, total
        return
    for start in range(0, max(total - length, 0) + 1, stride):
        # What a closed gripper holds cannot be told from where things are.
        if float(recording.states.grip[start].amax() if recording.states.grip.numel() else 0.0) < 0.2:
            yield recording, start, min(start + length, total)


def _joined(states: Sequence[State]) -> State:
    first = states[0]
    names = [f.name for f in fields(first) if isinstance(getattr(first, f.name), Tensor)]
    return replace(first, **{name: torch.cat([getattr(each, name) for each in states]) for name in names})


def _repeated(parameters: Parameters, count: int) -> Parameters:
    """Every guess of a batch so many times, one after the other."""
    names = [entry.name for entry in fields(parameters)]
    return Parameters(**{name: getattr(parameters, name).repeat_interleave(count, 0) for name in names})
