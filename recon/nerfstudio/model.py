"""Splatfacto's model, drawn by `gaussworld.render`; losses, densification and checkpoints are its own."""
# nerfstudio lives in an environment of its own (`pip install 'gaussworld[nerfstudio]'`).
# pyright: reportMissingImports=false
# ruff: noqa: TID253

from dataclasses import dataclass, field
from typing import Any

import torch
from nerfstudio.cameras.cameras import Cameras
from nerfstudio.models.splatfacto import SplatfactoModel, SplatfactoModelConfig
from torch import Tensor

from gaussworld import Camera, Gaussians, render
from gaussworld.errors import ConfigError
from gaussworld.pose import OPENGL_FROM_OPENCV, pose_from
from gaussworld.render import Output, Rendering, RenderSettings
from gaussworld.sh import MAX_DEGREE, sh0_from_rgb


@dataclass
class GaussWorldModelConfig(SplatfactoModelConfig):
    """Splatfacto's settings; all mean the same here."""

    _target: type = field(default_factory=lambda: GaussWorldModel)


class GaussWorldModel(SplatfactoModel):
    """Splatfacto without gsplat's kernels; on a CUDA device, which has them, it draws as splatfacto does."""

    config: GaussWorldModelConfig

    def populate_modules(self) -> None:
        """As splatfacto, but the points' colours are not sent to a CUDA device on the way."""
        if not 0 <= self.config.sh_degree <= MAX_DEGREE:
            raise ConfigError(
                f"expected --pipeline.model.sh-degree 0 to {MAX_DEGREE}, got {self.config.sh_degree}"
            )
        seeds = self.seed_points
        if seeds is not None:
            self.seed_points = (seeds[0], seeds[1][:0])
        super().populate_modules()
        self.seed_points = seeds
        if seeds is not None and not self.config.random_init and len(seeds[1]):
            rgb = seeds[1].float() / 255
            colors = sh0_from_rgb(rgb) if self.config.sh_degree else torch.logit(rgb, eps=1e-10)
            self.gauss_params["features_dc"].data = colors

    def get_outputs(self, camera: Cameras) -> dict[str, Any]:
        """The pictures of one camera, and in `self.info` what splatfacto's densification asks for."""
        if self.device.type == "cuda" or not isinstance(camera, Cameras):
            return super().get_outputs(camera)
        rows = None
        if self.crop_box is not None and not self.training:
            rows = self.crop_box.within(self.means).squeeze(-1)
            if not bool(rows.any()):
                size = int(camera.width.item()), int(camera.height.item())
                return self.get_empty_outputs(*size, self.background_color)
        background = self._get_background_color()
        drawn = self._drawn(self._camera(camera), rows, background)
        if self.training:
            self._prepare_densification(drawn)
        rgb = drawn.rgb.clamp(0, 1)
        if self.config.use_bilateral_grid and self.training and "cam_idx" in (camera.metadata or {}):
            rgb = self._apply_bilateral_grid(rgb[None], camera.metadata["cam_idx"], *rgb.shape[:2])[0]
        return {
            "rgb": rgb,
            "depth": _filled(drawn),
            "accumulation": drawn.alpha[..., None],
            "background": background if self.training else background.expand(*rgb.shape[:2], 3),
        }

    def _drawn(self, camera: Camera, rows: Tensor | None, background: Tensor) -> Rendering:
        outputs: list[Output] = ["absgrad"] if self.training and self.strategy.absgrad else []
        if self.config.output_depth_during_training or not self.training:
            outputs.append("depth")
        degree = min(self.step // self.config.sh_degree_interval, self.config.sh_degree)
        antialiased = self.config.rasterize_mode == "antialiased"
        gaussians = self._gaussians() if rows is None else self._gaussians().select(rows)
        return render(
            gaussians,
            camera,
            background=background,
            # Without spherical harmonics splatfacto learns the logits of colours.
            colors=None if self.config.sh_degree else gaussians.sh[:, 0].sigmoid(),
            outputs=outputs,
            settings=RenderSettings(sh_degree=degree, antialiased=antialiased),
        )

    def _gaussians(self) -> Gaussians:
        sh = torch.cat([self.features_dc[:, None], self.features_rest], dim=1)
        return Gaussians(self.means, self.quats, self.scales, self.opacities.squeeze(-1), sh)

    def _camera(self, camera: Cameras) -> Camera:
        """nerfstudio's camera with OpenCV axes, at the resolution that splatfacto's schedule asks for."""
        if camera.shape[0] != 1:
            raise ValueError(f"expected one camera at a time, got {camera.shape[0]}")
        poses = self.camera_optimizer.apply_to_camera(camera) if self.training else camera.camera_to_worlds
        factor = self._get_downscale_factor()
        camera.rescale_output_resolution(1 / factor)
        K = camera.get_intrinsics_matrices()[0].to(poses)
        width, height = int(camera.width.item()), int(camera.height.item())
        camera.rescale_output_resolution(factor)
        self.last_size = (height, width)
        pose = pose_from(poses[0, :3, :3], poses[0, :3, 3])
        return Camera(pose @ OPENGL_FROM_OPENCV.to(pose), K, width, height)

    def _prepare_densification(self, drawn: Rendering) -> None:
        """Hand screen-space gradients and radii to gsplat's strategy, in the shapes of gsplat 1.4."""
        assert drawn.radii is not None
        height, width = drawn.alpha.shape
        self.info = {
            "means2d": drawn.means2d,
            "radii": drawn.radii.amax(dim=-1),
            "width": width,
            "height": height,
            "n_cameras": 1,
            "gaussian_ids": None,
        }
        self.strategy.step_pre_backward(
            self.gauss_params, self.optimizers, self.strategy_state, self.step, self.info
        )


def _filled(drawn: Rendering) -> Tensor | None:
    """Depth with a trailing channel; where nothing was hit, that of the farthest hit."""
    if drawn.depth is None:
        return None
    return torch.where(drawn.alpha > 0, drawn.depth, drawn.depth.detach().max())[..., None]
