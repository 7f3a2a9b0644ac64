"""The method for nerfstudio, on stand-ins for nerfstudio, which has an environment of its own."""

import sys
from dataclasses import dataclass
from importlib import import_module
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch

from gaussworld import Camera, Gaussians, look_at, render
from gaussworld.errors import ConfigError
from gaussworld.pose import OPENGL_FROM_OPENCV
from gaussworld.render import RenderSettings
from gaussworld.sh import sh0_from_rgb

WIDTH, HEIGHT = 48, 32


@dataclass
class Config:
    """Settings of splatfacto that the model reads."""

    sh_degree: int = 3
    sh_degree_interval: int = 1000
    random_init: bool = False
    rasterize_mode: str = "classic"
    output_depth_during_training: bool = False
    use_bilateral_grid: bool = False


class Cameras:
    """One camera of nerfstudio: OpenGL axes, and a resolution that can be rescaled in place."""

    shape = (1,)

    def __init__(self, camera: Camera) -> None:
        self.camera_to_worlds = (camera.world_from_camera @ OPENGL_FROM_OPENCV)[None, :3]
        self.K, self.metadata = camera.K[None].clone(), {}
        self.width, self.height = torch.tensor([[camera.width]]), torch.tensor([[camera.height]])

    def rescale_output_resolution(self, factor: float) -> None:
        self.K[:, :2] *= factor
        self.width = (self.width * factor).to(torch.int64)
        self.height = (self.height * factor).to(torch.int64)

    def get_intrinsics_matrices(self) -> torch.Tensor:
        return self.K.clone()


class Strategy:
    """gsplat's strategy, as far as it is called before the backward pass."""

    absgrad = True

    def step_pre_backward(self, params: Any, optimizers: Any, state: Any, step: int, info: Any) -> None:
        info["means2d"].retain_grad()


class Splatfacto(torch.nn.Module):
    """Splatfacto without a rasterizer."""

    def __init__(self, config: Any, seed_points: tuple[torch.Tensor, torch.Tensor] | None) -> None:
        super().__init__()
        self.config, self.seed_points, self.step = config, seed_points, 5000
        self.crop_box, self.last_size, self.info, self.optimizers = None, (0, 0), {}, {}
        self.background_color = torch.tensor([0.2, 0.4, 0.6])
        self.camera_optimizer = SimpleNamespace(apply_to_camera=lambda camera: camera.camera_to_worlds)
        self.strategy, self.strategy_state, self.factor = Strategy(), {}, 1
        self.populate_modules()

    def populate_modules(self) -> None:
        n = 50 if self.seed_points is None else len(self.seed_points[0])
        # As splatfacto: points with colours go through a CUDA device here.
        assert self.seed_points is None or len(self.seed_points[1]) == 0
        g = torch.Generator().manual_seed(0)
        values = {
            "means": 0.3 * torch.randn(n, 3, generator=g),
            "quats": torch.randn(n, 4, generator=g),
            "scales": torch.full((n, 3), -2.5),
            "opacities": torch.randn(n, 1, generator=g),
            "features_dc": torch.rand(n, 3, generator=g),
            "features_rest": 0.2 * torch.randn(n, (self.config.sh_degree + 1) ** 2 - 1, 3, generator=g),
        }
        self.gauss_params = torch.nn.ParameterDict({k: torch.nn.Parameter(v) for k, v in values.items()})

    def __getattr__(self, name: str) -> Any:
        if name in ("means", "quats", "scales", "opacities", "features_dc", "features_rest"):
            return self.gauss_params[name]
        return super().__getattr__(name)

    @property
    def device(self) -> torch.device:
        return self.gauss_params["means"].device

    def _get_downscale_factor(self) -> int:
        return self.factor

    def _get_background_color(self) -> torch.Tensor:
        return self.background_color

    def get_empty_outputs(self, width: int, height: int, background: torch.Tensor) -> dict[str, Any]:
        return {"rgb": background.repeat(height, width, 1)}


@pytest.fixture
def model_type(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The model, built on the stand-ins."""
    stand_ins = {
        "nerfstudio": {},
        "nerfstudio.cameras": {},
        "nerfstudio.cameras.cameras": {"Cameras": Cameras},
        "nerfstudio.models": {},
        "nerfstudio.models.splatfacto": {"SplatfactoModel": Splatfacto, "SplatfactoModelConfig": Config},
    }
    for name, content in stand_ins.items():
        module = ModuleType(name)
        vars(module).update(content)
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.delitem(sys.modules, "recon.nerfstudio.model", raising=False)
    module = import_module("recon.nerfstudio.model")
    yield module.GaussWorldModel
    sys.modules.pop("recon.nerfstudio.model", None)


def viewpoint() -> Camera:
    pose = look_at(torch.tensor([1.5, -2.0, 1.0]), torch.zeros(3))
    return Camera.pinhole(pose, WIDTH, HEIGHT, 40.0)


def gaussians_of(model: Any) -> Gaussians:
    p = model.gauss_params
    sh = torch.cat([p["features_dc"][:, None], p["features_rest"]], 1)
    return Gaussians(p["means"], p["quats"], p["scales"], p["opacities"][:, 0], sh).detach()


def test_draws_what_gaussworld_draws(model_type: Any) -> None:
    """Axes, background, depth and alpha, in splatfacto's shapes."""
    model = model_type(Config(), None).eval()
    with torch.no_grad():
        drawn = model.get_outputs(Cameras(viewpoint()))
        wanted = render(gaussians_of(model), viewpoint(), background=(0.2, 0.4, 0.6), outputs=["depth"])
    assert wanted.depth is not None
    torch.testing.assert_close(drawn["rgb"], wanted.rgb.clamp(0, 1))
    torch.testing.assert_close(drawn["accumulation"], wanted.alpha[..., None])
    hit = wanted.alpha > 0
    torch.testing.assert_close(drawn["depth"][..., 0][hit], wanted.depth[hit])
    assert float(drawn["depth"][..., 0][~hit].min()) == float(wanted.depth.max())
    assert drawn["background"].shape == (HEIGHT, WIDTH, 3)


def test_densification_gets_what_it_asks_for(model_type: Any) -> None:
    """Absolute gradients of screen positions, radii and sizes; and every parameter learns."""
    model = model_type(Config(), None).train()
    model.factor = 2
    drawn = model.get_outputs(Cameras(viewpoint()))
    assert drawn["rgb"].shape == (HEIGHT // 2, WIDTH // 2, 3)
    assert drawn["depth"] is None
    drawn["rgb"].square().sum().backward()
    info = model.info
    assert info["means2d"].shape == (1, 50, 2)
    assert info["radii"].shape == (1, 50)
    assert (info["width"], info["height"], info["n_cameras"]) == (WIDTH // 2, HEIGHT // 2, 1)
    assert model.last_size == (HEIGHT // 2, WIDTH // 2)
    assert bool((info["means2d"].absgrad[info["radii"] > 0].sum(-1) > 0).any())
    assert all(bool((value.grad != 0).any()) for value in model.gauss_params.values())


@pytest.mark.parametrize(("step", "degree"), [(0, 0), (1500, 1), (9000, 3)])
def test_harmonics_come_in_by_and_by(model_type: Any, step: int, degree: int) -> None:
    """As splatfacto's schedule has it."""
    model = model_type(Config(), None).eval()
    model.step = step
    with torch.no_grad():
        drawn = model.get_outputs(Cameras(viewpoint()))["rgb"]
        settings = RenderSettings(sh_degree=degree)
        wanted = render(gaussians_of(model), viewpoint(), background=(0.2, 0.4, 0.6), settings=settings).rgb
    torch.testing.assert_close(drawn, wanted.clamp(0, 1))


def test_seed_points_colour_the_gaussians(model_type: Any) -> None:
    """Without a CUDA device on the way, with and without harmonics."""
    seeds = torch.randn(30, 3), torch.randint(0, 256, (30, 3), dtype=torch.uint8)
    model = model_type(Config(), seeds)
    torch.testing.assert_close(model.gauss_params["features_dc"].data, sh0_from_rgb(seeds[1].float() / 255))
    assert model.seed_points is seeds
    flat = model_type(Config(sh_degree=0), seeds).eval()
    torch.testing.assert_close(flat.gauss_params["features_dc"].sigmoid(), seeds[1].float() / 255)
    with torch.no_grad():
        drawn = flat.get_outputs(Cameras(viewpoint()))["rgb"]
        colors = seeds[1].float() / 255
        wanted = render(gaussians_of(flat), viewpoint(), background=(0.2, 0.4, 0.6), colors=colors).rgb
    torch.testing.assert_close(drawn, wanted.clamp(0, 1))


def test_crop_box_of_the_viewer(model_type: Any) -> None:
    """Only what is inside is drawn; an empty box shows the background."""
    model = model_type(Config(), None).eval()
    left = gaussians_of(model).means[:, 0] < 0
    with torch.no_grad():
        model.crop_box = SimpleNamespace(within=lambda means: means[:, :1] < 0)
        drawn = model.get_outputs(Cameras(viewpoint()))["rgb"]
        wanted = render(gaussians_of(model).select(left), viewpoint(), background=(0.2, 0.4, 0.6)).rgb
        torch.testing.assert_close(drawn, wanted.clamp(0, 1))
        model.crop_box = SimpleNamespace(within=lambda means: means[:, :1] > 100)
        empty = model.get_outputs(Cameras(viewpoint()))["rgb"]
    torch.testing.assert_close(empty, torch.tensor([0.2, 0.4, 0.6]).expand(HEIGHT, WIDTH, 3))


def test_degrees_that_are_not_drawn(model_type: Any) -> None:
    """Splatfacto allows degree 4; nothing here draws it."""
    with pytest.raises(ConfigError, match=r"expected --pipeline\.model\.sh-degree 0 to 3, got 4"):
        model_type(Config(sh_degree=4), None)
