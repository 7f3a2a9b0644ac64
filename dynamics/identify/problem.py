"""`Problem`: windows of recordings, and how badly the prior predicts them with some parameters."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import fields, replace

import torch
from jaxtyping import Float
from torch import Tensor

from gaussworld.state import State

from ..physics.parameters import Parameters
from ..prior import Prior
from .markers import Markers
from .unknowns import Unknown
from .windows import Window

#: [m] beyond it an error counts in proportion only: what once goes another way must not decide.
_HUBER = 0.02
#: Steps of one window that count as one unit where its errors are judged.
_BLOCK = 10
#: Standard deviations of logarithms that are due to physics being another than ours, whatever data say: what
#: remained on simulated recordings that no figure is made from.
_OTHER_PHYSICS = {"stiffness": 0.08}
_ELSE = 0.03


class Problem:
    """Windows, unknowns, and how badly guesses predict."""

    def __init__(
        self,
        model: Prior,
        markers: Markers,
        initial: State,
        windows: Sequence[Window],
        unknowns: Sequence[Unknown],
    ) -> None:
        """Put the beginnings of windows together.

        Args:
            model: its parameters are those of all that is not looked for.
            markers: where predictions are compared.
            initial: the model's first state, unbatched.
            windows: what is predicted.
            unknowns: what is looked for.
        """
        self.model, self.markers = model, markers
        self.windows, self.unknowns = list(windows), list(unknowns)
        self.rollouts = 0
        whole = {id(each.recording): markers.seen(each.recording, initial) for each in windows}
        self._begin = [
            each.recording.begin(initial, model.world, torch.tensor([each.start])) for each in windows
        ]
        self._seen = [whole[id(each.recording)][each.start : each.stop + 1] for each in windows]
        longest = max(len(each) for each in windows)
        self._within = torch.arange(longest) < torch.tensor([len(each) for each in windows])[:, None]
        bounds = [[math.log(value) for value in unknown.range] for unknown in unknowns]
        self._lows, self._highs = torch.tensor(bounds).reshape(-1, 2).T

    def start(self) -> Float[Tensor, " k"]:
        """Logarithms of what the model has now."""
        values = []
        for unknown in self.unknowns:
            rows = getattr(self.model.parameters.rows(), unknown.field)
            value = float(rows[0] if unknown.column is None else rows[0, unknown.column])
            values.append(math.log(max(value, 1e-9)))
        return torch.tensor(values).clamp(self._lows, self._highs)

    def spaced(self, count: int) -> Float[Tensor, "n k"]:
        """Guesses that fill the ranges evenly, the model's own among them (Sobol 1967)."""
        if count < 2:
            return self.start()[None]
        places = torch.quasirandom.SobolEngine(len(self.unknowns)).draw(count)[1:]
        return torch.cat([self.start()[None], self._lows + places * (self._highs - self._lows)])

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

    def residuals(self, guesses: Float[Tensor, "n k"]) -> Float[Tensor, "n w t m 3"]:
        """[m] predicted minus seen markers of w windows, 0 after the end of one of fewer than t steps."""
        n, w = len(guesses), len(self.windows)
        parameters = _repeated(self.parameters(guesses), w)
        state = _joined(self._begin).expand(n).map(lambda v: v.flatten(0, 1))
        model = self.model.with_parameters(parameters)
        errors = []
        for step in range(self._within.shape[1]):
            # What ends earlier goes on with its last action, and does not count.
            rows = [min(each.start + step, each.stop - 1) for each in self.windows]
            actions = [each.recording.actions[row] for each, row in zip(self.windows, rows)]
            grips = [action.grip for action in actions if action.grip is not None]
            tools = torch.stack([action.tools for action in actions if action.tools is not None])
            grip = torch.stack(grips).repeat(n, 1) if len(grips) == w else None
            state = model.step(state, replace(actions[0], tools=tools.repeat(n, 1, 1), grip=grip))
            seen = torch.stack([each[min(step + 1, len(each) - 1)] for each in self._seen])
            error = self.markers.at(state).unflatten(0, (n, w)) - seen
            errors.append(error.where(self._within[:, step, None, None], error.new_zeros(())))
        self.rollouts += n * w
        return torch.stack(errors, 2)

    def losses(self, guesses: Float[Tensor, "n k"]) -> Float[Tensor, " n"]:
        """[m^2] mean robust squared error of every guess."""
        with torch.no_grad():
            total = _robust(self.residuals(guesses)).mean(-1).flatten(1).sum(1)
        loss = total / int(self._within.sum())
        return torch.where(loss.isfinite(), loss, torch.full_like(loss, 1e6))

    def error(self, guess: Float[Tensor, " k"]) -> float:
        """[m] root mean square distance of markers; far ones count less."""
        return math.sqrt(float(self.losses(guess[None])[0]))

    def descend(self, guess: Float[Tensor, " k"], steps: int) -> Iterator[tuple[Tensor, float]]:
        """Levenberg's method on the logarithms (1944); gives every better point on the way with its loss.

        Slopes are central differences: all of them are one batch, which the prior predicts many times faster
        than it can be differentiated.
        """
        least, damping = float(self.losses(guess[None])[0]), 1e-3
        for _ in range(steps):
            slopes, residuals, weight = self._slopes(guess)
            matrix = torch.einsum("kwtmx,lwtmx,wtmx->kl", slopes, slopes, weight)
            pull = torch.einsum("kwtmx,wtmx->k", slopes, residuals * weight)
            dampings = damping * 10.0 ** torch.arange(-1, 3)
            ridges = dampings[:, None] * (matrix.diagonal() + 1e-12)
            moves = torch.linalg.solve(matrix + torch.diag_embed(ridges), pull.expand(len(ridges), -1))
            tries = (guess - moves.float().clamp(-0.5, 0.5)).clamp(self._lows, self._highs)
            losses = self.losses(tries)
            row = int(losses.argmin())
            if float(losses[row]) >= least * (1 - 1e-4):
                return
            guess, least, damping = tries[row], float(losses[row]), float(dampings[row])
            yield guess, least

    def _slopes(self, guess: Tensor, step: float = 0.03) -> tuple[Tensor, Tensor, Tensor]:
        """Slopes (k, w, t, m, 3) [m] along logarithms, residuals (w, t, m, 3) and Huber's weights of them."""
        moves = step * torch.eye(len(guess))
        with torch.no_grad():
            each = self.residuals(torch.cat([guess[None], guess + moves, guess - moves])).double()
        count = len(guess)
        slopes = (each[1 : 1 + count] - each[1 + count :]) / (2 * step)
        weight = _HUBER / each[0].norm(dim=-1, keepdim=True).clamp(min=_HUBER)
        return slopes, each[0], weight.expand(each[0].shape)

    def spread(self, guess: Float[Tensor, " k"]) -> Float[Tensor, " k"]:
        """Standard deviations of the logarithms at the best guess.

        White's sandwich (1982, "Maximum likelihood estimation of misspecified models"), whose units are whole
        slides, because their windows tell the same thing again, and blocks of steps of other windows. Errors
        beyond Huber's bound count as much less as they do in the loss.
        """
        count = len(self.unknowns)
        slopes, residuals, weight = self._slopes(guess)
        bread = torch.einsum("kwtmx,lwtmx,wtmx->kl", slopes, slopes, weight)
        pulls = torch.einsum("kwtmx,wtmx->wtk", slopes, residuals * weight)
        scores: dict[tuple[int, int], Tensor] = {}
        for row, (window, steps) in enumerate(zip(self.windows, pulls)):
            for block, pull in enumerate(steps[: len(window)].split(_BLOCK)):
                key = (row, block) if window.slide is None else (-1, window.slide)
                scores[key] = scores.get(key, torch.zeros(count, dtype=torch.float64)) + pull.sum(0)
        units, stacked = len(scores), torch.stack(list(scores.values()))
        # Few units say too little about their own errors.
        meat = stacked.T @ stacked * units / max(units - count, 1)
        ridge = 1e-9 * (bread.diagonal().amax() + 1e-12) * torch.eye(count)
        inverse = torch.linalg.inv(bread + ridge)
        found = (inverse @ meat @ inverse).diagonal().clamp(min=0)
        others = [_OTHER_PHYSICS.get(unknown.field, _ELSE) for unknown in self.unknowns]
        return (found + torch.tensor(others).double().square()).sqrt().float()


def _robust(residuals: Tensor) -> Tensor:
    """Huber's loss of the markers' distances, quadratic near 0."""
    square = residuals.square().sum(-1)
    far = square > _HUBER**2
    distance = torch.where(far, square, torch.ones_like(square)).sqrt()
    return torch.where(far, 2 * _HUBER * distance - _HUBER**2, square)


def _joined(states: Sequence[State]) -> State:
    first = states[0]
    names = [f.name for f in fields(first) if isinstance(getattr(first, f.name), Tensor)]
    return replace(first, **{name: torch.cat([getattr(each, name) for each in states]) for name in names})


def _repeated(parameters: Parameters, count: int) -> Parameters:
    """Every guess of a batch so many times, one after the other."""
    names = [entry.name for entry in fields(parameters)]
    return Parameters(**{name: getattr(parameters, name).repeat_interleave(count, 0) for name in names})
