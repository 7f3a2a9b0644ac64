"""LPIPS is there when package and weights are, is not when either is missing, and never goes online."""

import socket
import sys
from types import ModuleType, SimpleNamespace

import pytest
import torch

from recon.perceptual import lpips_metric

URL = "https://download.pytorch.org/models/alexnet-owt-7be5be79.pth"


class FakeNet(torch.nn.Module):
    """Mean distance of what the network is fed, as LPIPS is called."""

    made: int = 0

    def __init__(self, net: str, verbose: bool) -> None:
        super().__init__()
        assert net == "alex" and not verbose
        type(self).made += 1

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        assert x.shape == y.shape == (1, 3, *x.shape[2:])
        assert x.min() >= -1 and x.max() <= 1
        return (x - y).abs().mean().reshape(1, 1, 1, 1)


@pytest.fixture
def installed(monkeypatch, tmp_path):
    """The packages as far as they are used, an empty cache, and no way out to any network."""
    lpips, torchvision = ModuleType("lpips"), ModuleType("torchvision")
    lpips.__dict__["LPIPS"] = FakeNet
    weights = SimpleNamespace(IMAGENET1K_V1=SimpleNamespace(url=URL))
    torchvision.__dict__["models"] = SimpleNamespace(AlexNet_Weights=weights)
    monkeypatch.setitem(sys.modules, "lpips", lpips)
    monkeypatch.setitem(sys.modules, "torchvision", torchvision)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(FakeNet, "made", 0)

    def refuse(*_):
        raise AssertionError("the network was tried")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(torch.hub, "download_url_to_file", refuse)
    (tmp_path / "checkpoints").mkdir()
    return tmp_path / "checkpoints" / "alexnet-owt-7be5be79.pth"


def test_measured_where_everything_is_installed(installed):
    """Pictures arrive as the network wants them: a batch, channels first, from -1 to 1."""
    installed.write_bytes(b"weights")
    metric = lpips_metric()
    assert metric is not None
    black, white = torch.zeros(40, 50, 3), torch.ones(40, 50, 3)
    assert metric(black, black) == 0
    assert metric(black, white) == pytest.approx(2)
    assert metric(black[:20], white[:20]) is None


def test_without_weights_nothing_is_even_built(installed):
    """Building the network is what would download them."""
    assert lpips_metric() is None
    assert FakeNet.made == 0


def test_without_the_package_there_is_no_metric(monkeypatch):
    """A package that is not installed is no error."""
    monkeypatch.setitem(sys.modules, "lpips", None)
    assert lpips_metric() is None


def test_weights_that_cannot_be_read_are_said_and_skipped(installed, monkeypatch, caplog):
    """A half download of long ago must not end a run."""
    installed.write_bytes(b"half")

    def broken(net: str, verbose: bool):
        raise RuntimeError("unexpected end of file")

    monkeypatch.setattr(sys.modules["lpips"], "LPIPS", broken)
    assert lpips_metric() is None
    assert "unexpected end of file" in caplog.text
