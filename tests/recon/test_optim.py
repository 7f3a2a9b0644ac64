"""Parameters: rows of leaves and of Adam's moments stay together, and SH bands join without a jump."""

import torch

from gaussworld.gaussians import Gaussians
from recon.optim import LearningRates, Parameters

LEAVES = ("means", "quats", "log_scales", "opacity_logits", "sh0", "sh_rest")


def _parameters(n: int = 6, degree: int = 1, steps: int = 3) -> Parameters:
    g = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=g)

    gaussians = Gaussians(
        draw(n, 3),
        draw(n, 4),
        draw(n, 3),
        draw(n),
        draw(n, (degree + 1) ** 2, 3),
        torch.arange(n, dtype=torch.int32),
    )
    parameters = Parameters(gaussians, LearningRates(), extent=2.0)
    for _ in range(steps):
        current = parameters.gaussians()
        loss = sum(
            (value * draw(*value.shape)).sum() for value in vars(current).values() if value.requires_grad
        )
        loss.backward()
        parameters.step(0.0)
    return parameters


def test_moments_follow_their_rows():
    """A moved row keeps value and moments; a fresh one has its parent's value and zero moments."""
    parameters = _parameters()
    before = {name: (parameters.leaf(name).detach().clone(), *parameters.moments(name)) for name in LEAVES}
    parents, fresh = torch.tensor([4, 0, 0, 5]), torch.tensor([False, False, True, False])
    means = torch.full((4, 3), 7.0)
    parameters.rearrange(parents, fresh, {"means": means})
    assert len(parameters) == 4
    assert torch.equal(parameters.gaussians().object_ids, parents.int())
    for name, (value, first, second) in before.items():
        assert torch.equal(parameters.leaf(name), means if name == "means" else value[parents])
        for moment, old in zip(parameters.moments(name), (first, second), strict=True):
            assert torch.equal(moment[~fresh], old[parents][~fresh])
            assert float(moment[fresh].abs().sum()) == 0
            assert float(old.abs().sum()) > 0


def test_rearranged_rows_keep_training():
    """After a move the leaves still receive gradients and steps."""
    parameters = _parameters()
    parameters.rearrange(torch.tensor([1, 2]), torch.tensor([False, True]), {})
    before = parameters.leaf("means").detach().clone()
    parameters.gaussians().means.sum().backward()
    parameters.step(0.0)
    assert bool((parameters.leaf("means") != before).all())


def test_sh_bands_join_as_zeros_and_keep_moments():
    """Raising the degree changes no colour, keeps old moments, and lets the new band learn."""
    parameters = _parameters(degree=1)
    sh, moments = parameters.gaussians().sh.detach(), parameters.moments("sh_rest")
    parameters.raise_sh_degree(2)
    grown = parameters.gaussians().sh.detach()
    assert grown.shape == (6, 9, 3)
    assert torch.equal(grown[:, :4], sh)
    assert float(grown[:, 4:].abs().sum()) == 0
    assert torch.equal(parameters.moments("sh_rest")[1][:, :3], moments[1])
    parameters.gaussians().sh.sum().backward()
    parameters.step(0.0)
    assert float(parameters.gaussians().sh.detach()[:, 4:].abs().min()) > 0
    parameters.raise_sh_degree(1)
    assert parameters.sh_degree == 2


def test_rates_fall_to_their_share():
    """The first step of Adam is as long as the rate, at the start and at the end."""
    rates = LearningRates(means=1e-3, means_final=0.1)
    for progress, expected in ((0.0, 2e-3), (1.0, 2e-4)):
        parameters = Parameters(_parameters(steps=0).gaussians().detach(), rates, extent=2.0)
        before = parameters.leaf("means").detach().clone()
        parameters.gaussians().means.sum().backward()
        parameters.step(progress)
        assert torch.allclose(
            before - parameters.leaf("means").detach(), torch.full((6, 3), expected), rtol=1e-3
        )
