"""What the latent model learns from: places and speeds, tokens that come true, and tokens that differ."""

import torch
from jaxtyping import Float
from torch import Tensor

from .config import LatentConfig
from .network import LatentNetwork, Shapes
from .relations import SPEED
from .scene import Scene
from .situation import Situation
from .unroll import Unrolled, unroll
from .windows import Windows

#: [m] an error of places that counts as one, and from where on errors count less than in proportion.
_UNIT, _LARGE = 0.01, 0.1
#: Weights of speeds and of doubts.
_SPEEDS, _DOUBTS = 0.1, 0.02
#: [m] no doubt is smaller in training.
_SURE = 0.0005
#: [m] rounds the distance off at zero.
_ROUND = 0.0005


def losses(network: LatentNetwork, windows: Windows, config: LatentConfig, dt: float) -> dict[str, Tensor]:
    """The loss of predicting windows, and its parts.

    The parts: "place" [cm]; "speed"; "doubt" (of errors under what the model says of them); "latent" (tokens
    predicted against those of what really came, as in JEPA: LeCun 2022); "spread" (variance and covariance of
    tokens, as in VICReg: Bardes et al. 2022); and "rank", the effective rank of the tokens, which nothing is
    trained on.
    """
    each = len(windows) // len(windows.scene)
    scene, truth = windows.scene.repeated(each), windows.truth
    shapes = network.shapes(windows.scene).repeated(each)
    said = unroll(network, scene, shapes, windows.begin, windows.hands, dt)
    places = torch.stack([_place_error(scene, at, truth, k) for k, at in enumerate(said.situations)][1:])
    speeds = torch.stack([_speed_error(scene, at, truth, k) for k, at in enumerate(said.situations)][1:])
    share = torch.arange(1, len(places) + 1).to(places).rsqrt()[:, None, None] * scene.present
    share = share / share.sum()
    place, speed = (places * share).sum(), (speeds * share).sum()
    latent = _latent_error(network, scene, windows, shapes, said)
    tokens = said.tokens[0][scene.present]
    spread = apart(tokens)
    doubt = (_doubt_error(said, truth) * share).sum()
    total = place + _SPEEDS * speed + config.latent * latent + config.spread * spread + _DOUBTS * doubt
    parts = {"place": place, "speed": speed, "latent": latent, "spread": spread, "doubt": doubt}
    return {
        "loss": total,
        **{name: value.detach() for name, value in parts.items()},
        "rank": effective_rank(tokens.detach()),
    }


def _place_error(scene: Scene, at: Situation, truth: Situation, moment: int) -> Float[Tensor, "n m"]:
    """Mean distance of anchors, in units; large ones by their logarithm."""
    square = (at.anchors - truth.anchors[:, moment]).square().sum(-1)
    distance = ((square + _ROUND**2).sqrt() - _ROUND).mean(-1)
    return _LARGE / _UNIT * torch.log1p(distance / _LARGE)


def _speed_error(scene: Scene, at: Situation, truth: Situation, moment: int) -> Float[Tensor, "n m"]:
    speed = (at.velocities - truth.velocities[:, moment]).square().sum(-1)
    spin = (at.spins - truth.spins[:, moment]).square().sum(-1) * scene.sizes.square()
    return ((speed + spin) / SPEED**2 + 0.01).sqrt().clamp(max=5.0)


def _doubt_error(said: Unrolled, truth: Situation) -> Float[Tensor, "t n m"]:
    """Negative log-likelihood of errors of places, as if exponential with the doubts as their means."""
    scale = torch.stack(said.doubts).cumsum(0) + _SURE
    places = torch.stack([at.centers for at in said.situations[1:]], 1).detach()
    wrong = (places - truth.centers[:, 1:]).norm(dim=-1).transpose(0, 1)
    return (scale / _UNIT).log() + wrong / scale


def _latent_error(
    network: LatentNetwork, scene: Scene, windows: Windows, shapes: Shapes, said: Unrolled
) -> Float[Tensor, ""]:
    """Mean square of predicted tokens less those of the true states, through which no gradient goes."""
    # The first, the middle and the last moment stand for all, which would take as long as predicting them.
    last = len(said.tokens) - 1
    moments = sorted({1, (1 + last) // 2, last})
    with torch.no_grad():
        wanted = [network.encode(scene, shapes, _moment(windows.truth, k), windows.hands[k]) for k in moments]
    wrong = torch.stack([said.tokens[k] for k in moments]) - torch.stack(wanted)
    return wrong[:, scene.present].square().clamp(max=25.0).mean()


def _moment(truth: Situation, moment: int) -> Situation:
    return Situation(**{name: getattr(truth, name)[:, moment] for name in truth.__dataclass_fields__})


def apart(tokens: Float[Tensor, "q d"]) -> Float[Tensor, ""]:
    """How much tokens are alike: 0 if each number varies by at least 1, and none follows from another."""
    if len(tokens) < 2:
        return tokens.sum() * 0
    centered = tokens - tokens.mean(0)
    variance = (1 - (centered.square().mean(0) + 1e-4).sqrt()).clamp(min=0).mean()
    covariance = centered.T @ centered / (len(tokens) - 1)
    square = covariance.square()
    return variance + 0.04 * (square.sum() - square.diagonal().sum()) / tokens.shape[1]


def effective_rank(tokens: Float[Tensor, "q d"]) -> Float[Tensor, ""]:
    """How many directions tokens spread in: 1 if all lie on a line; 0 if they are all the same.

    The exponential of the entropy of the spectrum (Roy and Vetterli 2007, "The effective rank").
    """
    values = torch.linalg.svdvals((tokens - tokens.mean(0)).float())
    if float(values.sum()) < 1e-4 * max(len(tokens), 1):
        return values.new_zeros(())
    share = values / values.sum()
    return (-(share * (share + 1e-12).log()).sum()).exp()
