"""A run of splatfacto as nerfstudio lays it out, made without nerfstudio."""

import json
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

CONFIG = """!!python/object:nerfstudio.engine.trainer.TrainerConfig
_target: !!python/name:nerfstudio.engine.trainer.Trainer ''
data: &id001 !!python/object/apply:pathlib.PosixPath
{data}
experiment_name: kitchen
load_dir: null
pipeline: !!python/object:nerfstudio.pipelines.base_pipeline.VanillaPipelineConfig
  _target: !!python/name:nerfstudio.pipelines.base_pipeline.VanillaPipeline ''
  datamanager: !!python/object:nerfstudio.data.datamanagers.full_images_datamanager.FullImageDatamanagerConfig
    data: *id001
    dataparser: !!python/object:nerfstudio.data.dataparsers.nerfstudio_dataparser.NerfstudioDataParserConfig
      orientation_method: {orientation}
      auto_scale_poses: {auto}
      scale_factor: 1.0
  model: !!python/object:nerfstudio.models.splatfacto.SplatfactoModelConfig
    camera_optimizer: !!python/object:nerfstudio.cameras.camera_optimizers.CameraOptimizerConfig
      mode: {optimizer}
    rasterize_mode: {mode}
"""


@pytest.fixture
def make_run(tmp_path: Path) -> Callable[..., Path]:
    """Writes a run folder of Gaussians that are given in nerfstudio's frame."""

    def make(
        gaussians: Any,
        transform: torch.Tensor,
        scale: float,
        data: Path = Path("/nowhere/kitchen"),
        step: int = 199,
        **words: str,
    ) -> Path:
        run = tmp_path / "outputs" / "kitchen" / "splatfacto" / "2026-01-02_030405"
        (run / "nerfstudio_models").mkdir(parents=True, exist_ok=True)
        torch.save(checkpoint_of(gaussians, step), run / "nerfstudio_models" / f"step-{step:09d}.ckpt")
        placed = {"transform": transform[:3].tolist(), "scale": scale}
        (run / "dataparser_transforms.json").write_text(json.dumps(placed))
        parts = "\n".join(f"- {part}" for part in data.parts)
        words = {"orientation": "up", "optimizer": "'off'", "mode": "classic", "auto": "false", **words}
        (run / "config.yml").write_text(CONFIG.format(data=parts, **words))
        return run

    return make


def checkpoint_of(gaussians: Any, step: int) -> dict[str, Any]:
    """What nerfstudio's trainer hands to torch.save, of the same types."""
    parameters = {
        "means": gaussians.means,
        "scales": gaussians.log_scales,
        "quats": gaussians.quats,
        "opacities": gaussians.opacity_logits[:, None],
        "features_dc": gaussians.sh[:, 0],
        "features_rest": gaussians.sh[:, 1:],
    }
    state = OrderedDict({"datamanager_placeholder": torch.zeros(0), "_model.lpips.weight": torch.ones(4)})
    state |= {f"_model.gauss_params.{name}": value.clone() for name, value in parameters.items()}
    moments = {"step": torch.tensor(5.0), "exp_avg": torch.zeros(3)}
    return {
        "step": step,
        "pipeline": OrderedDict(state),
        "optimizers": {"means": {"state": {0: moments}, "param_groups": [{"lr": 1e-4, "params": [0]}]}},
        "schedulers": {"means": {"last_epoch": 5, "_last_lr": [np.float64(1.5e-4)], "lr_lambdas": [None]}},
        "scalers": {},
    }
