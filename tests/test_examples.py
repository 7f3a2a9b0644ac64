"""The examples run, and do what they say."""

import re
import runpy
from pathlib import Path

import pytest
import torch

import gaussworld as gw

EXAMPLES = Path(__file__).parents[1] / "examples"


def test_find_camera_finds_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    g = torch.Generator().manual_seed(0)
    n = 400
    means = torch.randn(n, 3, generator=g) * torch.tensor([0.3, 0.3, 0.05])
    scales = torch.full((n, 3), 0.02)
    quats = torch.tensor([1.0, 0, 0, 0]).expand(n, 4)
    colors = torch.rand(n, 3, generator=g)
    scene = gw.Gaussians.from_activated(means, quats, scales, torch.full((n,), 0.9), colors)
    gw.save(scene, tmp_path / "scene.ply")
    runpy.run_path(str(EXAMPLES / "01_find_camera.py"))["main"](str(tmp_path / "scene.ply"))
    away = [float(found) for found in re.findall(r"camera ([\d.]+) cm off", capsys.readouterr().out)]
    assert away[0] > 4 and away[-1] < 1
