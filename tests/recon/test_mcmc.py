"""The Markov chain: copies that look like one, an exact cap, dead Gaussians that come back, shaped noise."""

import pytest
import torch

from gaussworld.gaussians import Gaussians
from recon.optim import LearningRates, Parameters
from recon.strategy import Mcmc, Relocation
from recon.strategy.mcmc import shared_among

EVERY_STEP = Mcmc(start=0.0, stop=1.0, every=1, growth=0.0, noise=0.0)


def _parameters(opacities: list[float], scale: float = 0.2) -> Parameters:
    n = len(opacities)
    gaussians = Gaussians.from_activated(
        means=torch.arange(n).float()[:, None] * torch.tensor([[0.0, 3.0, 0.0]]),
        quats=torch.tensor([1.0, 0.0, 0.0, 0.0]).expand(n, 4),
        scales=torch.tensor([[scale, scale / 2, scale / 4]]).expand(n, 3),
        opacities=torch.tensor(opacities),
        rgb=torch.full((n, 3), 0.7),
    )
    return Parameters(gaussians, LearningRates(), extent=1.0)


def _relocation(settings: Mcmc, cap: int = 100) -> Relocation:
    return Relocation(settings, cap, torch.Generator().manual_seed(0))


@pytest.mark.parametrize("copies", [1, 2, 3, 7, 40])
@pytest.mark.parametrize("opacity", [0.05, 0.5, 0.95])
def test_copies_together_look_like_one(copies: int, opacity: float):
    """As much light in the middle, and as much in all along a line through it: what eq. 9 promises."""
    shared, log_scales = shared_among(
        torch.tensor([opacity]), torch.full((1, 3), 0.2).log(), torch.tensor([copies])
    )
    assert float((1 - shared) ** copies) == pytest.approx(1 - opacity, abs=1e-5)
    x = torch.linspace(-4, 4, 20001, dtype=torch.float64)
    one = opacity * torch.exp(-0.5 * (x / 0.2) ** 2)
    each = float(shared) * torch.exp(-0.5 * (x / float(log_scales[0, 0].exp())) ** 2)
    assert float((1 - (1 - each) ** copies).sum()) == pytest.approx(float(one.sum()), rel=1e-3)


def test_the_dead_move_onto_the_living():
    """A faint Gaussian becomes a copy of a bright one; both then cover what the bright one did."""
    parameters = _parameters([0.8, 0.001])
    _relocation(EVERY_STEP).adapt(parameters, 1, 0.5)
    gaussians = parameters.gaussians().detach()
    assert gaussians.means[:, 1].tolist() == [0.0, 0.0]
    assert float((1 - gaussians.opacities).prod()) == pytest.approx(0.2, abs=1e-4)
    assert torch.equal(gaussians.log_scales[0], gaussians.log_scales[1])


def test_growth_ends_exactly_at_the_cap():
    """5 % more each time, never above the cap, and there in the end."""
    parameters = _parameters([0.5] * 40)
    relocation = _relocation(Mcmc(start=0.0, stop=1.0, every=1, growth=0.05, noise=0.0), cap=47)
    counts = []
    for step in range(1, 8):
        relocation.adapt(parameters, step, 0.5)
        counts.append(len(parameters))
    assert counts[0] == 42
    assert max(counts) == counts[-1] == 47


def test_all_dead_or_none_changes_nothing():
    """There is nobody to copy, or nobody to move."""
    for opacities in ([0.001, 0.002], [0.4, 0.9]):
        parameters = _parameters(opacities)
        before = parameters.gaussians().detach()
        _relocation(EVERY_STEP).adapt(parameters, 1, 0.5)
        assert torch.equal(parameters.gaussians().means, before.means)
        assert torch.equal(parameters.gaussians().opacity_logits, before.opacity_logits)


def test_noise_is_shaped_like_the_gaussian_and_spares_what_is_seen():
    """Faint ones wander along their long axis most (eq. 10); bright ones stay where they are."""
    parameters = _parameters([0.004] * 4000 + [0.9])
    before = parameters.leaf("means").detach().clone()
    _relocation(Mcmc(start=2.0, noise=1e3)).adapt(parameters, 1, 0.0)
    moved = parameters.leaf("means").detach() - before
    assert float(moved[-1].abs().max()) < 1e-6
    spread = moved[:-1].std(dim=0)
    # Covariance times noise: standard deviations go with the squares of the scales.
    assert float(spread[0] / spread[1]) == pytest.approx(4, rel=0.1)
    assert float(spread[0] / spread[2]) == pytest.approx(16, rel=0.1)


def test_the_unit_does_not_matter():
    """A scene twice as large wanders twice as far."""
    steps = []
    for scale in (1.0, 2.0):
        parameters = _parameters([0.004] * 50, scale=0.2 * scale)
        parameters.extent = scale
        before = parameters.leaf("means").detach().clone()
        _relocation(Mcmc(start=2.0, noise=1e3)).adapt(parameters, 1, 0.0)
        steps.append(parameters.leaf("means").detach() - before)
    assert torch.allclose(steps[1], 2 * steps[0], rtol=1e-3, atol=5e-5)


def test_moments_of_copies_and_parents_start_anew():
    """What Adam knew about a Gaussian that was cut is forgotten; others keep theirs."""
    parameters = _parameters([0.8, 0.001, 0.5])
    for name in ("means", "quats", "log_scales", "opacity_logits", "sh0"):
        parameters.leaf(name).grad = torch.ones_like(parameters.leaf(name))
    parameters.leaf("sh_rest").grad = torch.zeros_like(parameters.leaf("sh_rest"))
    parameters.step(0.0)
    relocation = Relocation(EVERY_STEP, 10, torch.Generator().manual_seed(1))
    relocation.adapt(parameters, 1, 0.5)
    moments = parameters.moments("means")
    rows = moments[0].abs().sum(1) > 0
    assert int(rows.sum()) == 1
