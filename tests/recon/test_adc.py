"""Adaptive density control: the exact cap, clones and splits by hand-made pulls, pruning, fading."""

import pytest
import torch

from gaussworld.gaussians import Gaussians
from gaussworld.render import Rendering
from recon.optim import LearningRates, Parameters
from recon.strategy import Adc, DensityControl
from recon.strategy.adc import strongest

EVERY_STEP = Adc(start=0.0, stop=1.0, every=1, opacity_decay=0.0)


def _parameters(scales: list[float], opacities: list[float]) -> Parameters:
    n = len(scales)
    gaussians = Gaussians.from_activated(
        means=torch.arange(n).float()[:, None].expand(n, 3),
        quats=torch.tensor([1.0, 0.0, 0.0, 0.0]).expand(n, 4),
        scales=torch.tensor(scales)[:, None].expand(n, 3),
        opacities=torch.tensor(opacities),
        rgb=torch.full((n, 3), 0.5),
    )
    return Parameters(gaussians, LearningRates(), extent=1.0)


def _rendering(pulls: list[float]) -> Rendering:
    """As if a 2x2 picture had pulled each centre along x by so much."""
    n = len(pulls)
    means2d = torch.zeros(1, n, 2, requires_grad=True)
    means2d.grad = torch.stack([torch.tensor(pulls), torch.zeros(n)], dim=-1)[None]
    return Rendering(
        torch.zeros(2, 2, 3), torch.zeros(2, 2), means2d=means2d, radii=torch.ones(1, n, 2, dtype=torch.int32)
    )


def _adapted(
    parameters: Parameters, pulls: list[float], cap: int = 100, settings: Adc = EVERY_STEP
) -> Gaussians:
    control = DensityControl(settings, cap=cap, extent=1.0, generator=torch.Generator().manual_seed(0))
    control.observe(_rendering(pulls))
    control.adapt(parameters, 1, 0.1)
    return parameters.gaussians().detach()


def test_small_ones_are_cloned_and_cover_as_much_together():
    """A clone shares the place; both together let as much light through as the one before."""
    grown = _adapted(_parameters([0.005, 0.005], [0.6, 0.6]), [1.0, 0.0])
    assert grown.means[:, 0].tolist() == [0.0, 1.0, 0.0]
    assert float((1 - grown.opacities[0]) * (1 - grown.opacities[2])) == pytest.approx(0.4, abs=1e-5)
    assert float(grown.opacities[1]) == pytest.approx(0.6, abs=1e-5)


def test_large_ones_are_split_into_two_smaller():
    """The parent goes, two children 1.6 times smaller lie within its reach."""
    grown = _adapted(_parameters([0.1, 0.005], [0.5, 0.5]), [1.0, 0.0])
    assert len(grown) == 3
    assert torch.allclose(grown.scales[1:], torch.full((2, 3), 0.1 / 1.6), rtol=1e-5)
    assert float(grown.means[1:].abs().max()) < 0.5
    assert not torch.equal(grown.means[1], grown.means[2])


def test_faint_and_huge_ones_go():
    """Only the middle one shows something and stays inside the scene."""
    kept = _adapted(_parameters([0.1, 0.1, 0.9], [0.001, 0.5, 0.5]), [0.0, 0.0, 0.0])
    assert kept.means[:, 0].tolist() == [1.0]


def test_the_cap_is_exact_and_the_strongest_go_first():
    """With room for one, the one that is pulled hardest multiplies."""
    grown = _adapted(_parameters([0.005] * 4, [0.5] * 4), [1.0, 3.0, 2.0, 0.5], cap=5)
    assert len(grown) == 5
    assert grown.means[4, 0] == 1.0
    full = _adapted(_parameters([0.005] * 4, [0.5] * 4), [1.0] * 4, cap=4)
    assert len(full) == 4


def test_opacities_fade_but_stay_drawable():
    """A change takes its share of the opacity away, far from the rasterizer's cut-off."""
    faded = _adapted(
        _parameters([0.005], [0.5]), [0.0], settings=Adc(start=0.0, stop=1.0, every=1, opacity_decay=0.1)
    )
    assert float(faded.opacities[0]) == pytest.approx(0.45, abs=1e-5)


def test_nothing_happens_outside_its_time():
    """Between changes and after the last one, rows stay."""
    parameters = _parameters([0.005], [0.5])
    control = DensityControl(Adc(start=0.2, stop=0.5, every=2), 100, 1.0, torch.Generator())
    for step in (1, 3, 6, 8):
        control.observe(_rendering([1.0]))
        control.adapt(parameters, step, step / 10)
    assert len(parameters) == 1
    control.adapt(parameters, 4, 0.4)
    assert len(parameters) == 2


def test_only_pictures_that_show_a_gaussian_count():
    """The mean pull is over the pictures that saw it."""
    control = DensityControl(EVERY_STEP, 100, 1.0, torch.Generator())
    rendering = _rendering([3e-4])
    control.observe(rendering)
    unseen = _rendering([0.0])
    unseen.radii.zero_()
    control.observe(unseen)
    parameters = _parameters([0.005], [0.5])
    control.adapt(parameters, 1, 0.1)
    assert len(parameters) == 2


def test_ties_are_broken_by_row():
    """Equal pulls: the first rows win, on every machine."""
    chosen = strongest(torch.ones(5), torch.tensor([False, True, True, True, True]), 2)
    assert chosen.tolist() == [False, True, True, False, False]
