"""`.splat` files: rows as the layout says, round trips within its quantisation, refusals."""

import struct
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gaussworld.errors import FileFormatError
from gaussworld.gaussians import Gaussians
from gaussworld.io import load, load_framing, save
from gaussworld.pose import normalize_quats

ROW = struct.pack("<6f8B", 1, 2, 3, 0.5, 1, 2, 255, 0, 51, 128, 255, 128, 128, 128)


def test_a_hand_made_row(tmp_path: Path) -> None:
    (tmp_path / "a.splat").write_bytes(ROW)
    got = load(tmp_path / "a.splat")
    assert got.means.tolist() == [[1, 2, 3]]
    assert torch.allclose(got.scales, torch.tensor([[0.5, 1, 2]]))
    assert torch.allclose(got.rgb, torch.tensor([[1.0, 0, 0.2]]), atol=1e-6)
    assert torch.allclose(got.opacities, torch.tensor([128 / 255]))
    assert got.quats.tolist() == [[1, 0, 0, 0]]
    assert load_framing(tmp_path / "a.splat").up is None


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 50), st.integers(0, 2**31))
def test_a_round_trip_stays_within_the_quantisation(tmp_path_factory, n: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    gaussians = Gaussians.from_activated(
        torch.randn(n, 3, generator=generator) * 100,
        torch.randn(n, 4, generator=generator),
        torch.rand(n, 3, generator=generator) + 1e-3,
        torch.rand(n, generator=generator),
        torch.rand(n, 3, generator=generator),
    )
    path = tmp_path_factory.mktemp("splat") / "a.splat"
    save(gaussians, path)
    got = load(path)
    assert torch.equal(got.means, gaussians.means)
    assert torch.allclose(got.scales, gaussians.scales, rtol=1e-5)
    assert (got.opacities - gaussians.opacities).abs().max() <= 0.5 / 255 + 1e-6
    assert (got.rgb - gaussians.rgb).abs().max() <= 0.5 / 255 + 1e-6
    dots = (normalize_quats(got.quats) * gaussians.quats).sum(-1).abs()
    assert dots.min() > 0.9998


def test_writing_again_changes_nothing(tmp_path: Path) -> None:
    (tmp_path / "a.splat").write_bytes(ROW * 3)
    save(load(tmp_path / "a.splat"), tmp_path / "b.splat")
    assert (tmp_path / "b.splat").read_bytes() == ROW * 3


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 200), st.integers(0, 2**31))
def test_a_second_round_trip_changes_nothing(tmp_path_factory, n: int, seed: int) -> None:
    """Rounded quaternions and logarithms settle in the first: the second gives the same, bit for bit."""
    generator = torch.Generator().manual_seed(seed)
    values = [torch.randn(n, *shape, generator=generator) for shape in ((3,), (4,), (3,), (), (1, 3))]
    folder = tmp_path_factory.mktemp("splat")
    save(Gaussians(values[0], values[1], values[2] * 3, values[3] * 5, values[4]), folder / "1.splat")
    once = load(folder / "1.splat")
    save(once, folder / "2.splat")
    twice = load(folder / "2.splat")
    for name in ("means", "quats", "log_scales", "opacity_logits", "sh"):
        assert torch.equal(getattr(once, name), getattr(twice, name)), name


def test_values_that_are_not_finite_are_not_written(tmp_path: Path) -> None:
    """What `read` would refuse, or what would become noise when it is cast to bytes."""
    (tmp_path / "a.splat").write_bytes(ROW)
    gaussians = load(tmp_path / "a.splat")
    gaussians.sh[0, 0, 1] = float("nan")
    with pytest.raises(ValueError, match="finite sh"):
        save(gaussians, tmp_path / "b.splat")
    assert not (tmp_path / "b.splat").exists()


def test_extremes_become_finite(tmp_path: Path) -> None:
    """Opacities of 0 and 255 and a scale of 0 have no finite logit and logarithm."""
    flat = struct.pack("<6f8B", 0, 0, 0, 0, 1, 1, 0, 0, 0, 0, 255, 128, 128, 128)
    solid = struct.pack("<6f8B", 0, 0, 0, 1, 1, 1, 0, 0, 0, 255, 255, 128, 128, 128)
    (tmp_path / "a.splat").write_bytes(flat + solid)
    got = load(tmp_path / "a.splat")
    assert torch.isfinite(got.log_scales).all()
    assert got.opacity_logits.tolist() == [-15, 15]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "got 0 bytes"),
        (ROW[:-1], "got 31 bytes"),
        (
            ROW + struct.pack("<f", float("nan")) + ROW[4:],
            "a finite position in every row, got otherwise in row 1",
        ),
        (ROW[:12] + struct.pack("<f", -1) + ROW[16:], "a scale of at least 0"),
        (ROW[:28] + b"\x80" * 4, "a non-zero quaternion"),
    ],
)
def test_hostile_files_are_refused(tmp_path: Path, data: bytes, message: str) -> None:
    (tmp_path / "a.splat").write_bytes(data)
    with pytest.raises(FileFormatError, match=message):
        load(tmp_path / "a.splat")


def test_no_gaussians_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.splat").write_bytes(ROW)
    none = load(tmp_path / "a.splat").select(slice(0, 0))
    with pytest.raises(ValueError, match="at least one Gaussian"):
        save(none, tmp_path / "b.splat")
    assert not (tmp_path / "b.splat").exists()
