"""Checkpoints: a stopped fit ends bit for bit where an unbroken one does, and bad files say so."""

from dataclasses import replace

import pytest
import torch

from gaussworld.capture import Capture
from gaussworld.errors import FileFormatError, GaussWorldError
from recon.checkpoint import load_checkpoint, save_checkpoint
from recon.fit import Fit, TrainConfig, start
from recon.frames import load_view
from recon.strategy import Adc, Mcmc
from recon.synthetic import SKY, TabletopConfig, tabletop
from recon.trainer import take_step

ADC = TrainConfig(
    steps=60, max_gaussians=450, sh_degree=1, background=SKY, strategy=Adc(0.1, 0.8, 10, grad_threshold=1e-5)
)
MCMC = replace(ADC, strategy=Mcmc(start=0.1, every=10), lambda_opacity=0.01, lambda_scale=0.01)
EVERYTHING = replace(ADC, exposure=True, refine_poses=True)


@pytest.fixture(scope="module")
def capture() -> Capture:
    return tabletop(TabletopConfig(views=6, width=40, height=30, points=300))


def _begun(capture: Capture, config: TrainConfig, state: dict[str, torch.Tensor] | None = None) -> Fit:
    views = [load_view(frame) for frame in capture.frames]
    fit = start(views, capture.points, capture.colors, config, resume=state)
    if config.refine_poses and state is None:
        fit.poses = fit.refinement()
    return fit


@pytest.mark.parametrize("config", [ADC, MCMC, EVERYTHING], ids=["adc", "mcmc", "everything"])
def test_a_resumed_fit_ends_the_same(capture, config, tmp_path):
    """Half the steps, a file, the other half: every tensor equals that of the fit that was never stopped."""
    whole = _begun(capture, config)
    for _ in range(config.steps):
        take_step(whole)
    first = _begun(capture, config)
    for _ in range(config.steps // 2 - 3):
        take_step(first)
    save_checkpoint(tmp_path / "c.safetensors", first.state(), "x = 1")
    state, text = load_checkpoint(tmp_path / "c.safetensors")
    second = _begun(capture, config, state)
    assert text == "x = 1"
    assert second.step == first.step
    while second.step < config.steps:
        take_step(second)
    ours, theirs = second.state(), whole.state()
    assert ours.keys() == theirs.keys()
    for name in ours:
        if name != "seconds":
            assert torch.equal(ours[name], theirs[name]), name


def test_a_damaged_checkpoint_is_refused(tmp_path):
    """Cut short, missing, or of another format: one sentence that names the file."""
    path = tmp_path / "c.safetensors"
    with pytest.raises(FileFormatError, match=r"c\.safetensors: expected a checkpoint, got"):
        load_checkpoint(path)
    save_checkpoint(path, {"a": torch.ones(3)}, "")
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(FileFormatError, match="delete it to begin again"):
        load_checkpoint(path)
    from safetensors.torch import save_file

    save_file({"a": torch.ones(1)}, path, metadata={"format": "99"})
    with pytest.raises(FileFormatError, match="format 1, got '99'"):
        load_checkpoint(path)


def test_a_full_disk_leaves_the_old_checkpoint(tmp_path, monkeypatch):
    """The write fails half-way: the sentence names the file, and the old one is still whole."""
    path = tmp_path / "c.safetensors"
    save_checkpoint(path, {"a": torch.ones(3)}, "old")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("gaussworld.io.atomic.os.fsync", full)
    with pytest.raises(GaussWorldError, match=r"could not write .*c\.safetensors: No space left on device"):
        save_checkpoint(path, {"a": torch.zeros(3)}, "new")
    monkeypatch.undo()
    assert load_checkpoint(path)[1] == "old"
    assert [file.name for file in tmp_path.iterdir()] == ["c.safetensors"]
