"""The method `gaussworld` for nerfstudio: splatfacto with GaussWorld's rasterizer in place of gsplat's.

Only nerfstudio imports this module, through its entry points (group `nerfstudio.method_configs`).
"""
# nerfstudio lives in an environment of its own (`pip install 'gaussworld[nerfstudio]'`).
# pyright: reportMissingImports=false
# ruff: noqa: TID253

from nerfstudio.configs.base_config import MachineConfig, ViewerConfig
from nerfstudio.data.datamanagers.full_images_datamanager import FullImageDatamanagerConfig
from nerfstudio.data.dataparsers.nerfstudio_dataparser import NerfstudioDataParserConfig
from nerfstudio.engine.optimizers import AdamOptimizerConfig
from nerfstudio.engine.schedulers import ExponentialDecaySchedulerConfig
from nerfstudio.engine.trainer import TrainerConfig
from nerfstudio.pipelines.base_pipeline import VanillaPipelineConfig
from nerfstudio.plugins.types import MethodSpecification
from torch import cuda

from .model import GaussWorldModelConfig

#: Learning rates of splatfacto: at the beginning and, where it falls, at the end; steps of its warm-up.
_RATES: dict[str, tuple[float, float | None, int]] = {
    "means": (1.6e-4, 1.6e-6, 0),
    "features_dc": (2.5e-3, None, 0),
    "features_rest": (1.25e-4, None, 0),
    "opacities": (5e-2, None, 0),
    "scales": (5e-3, None, 0),
    "quats": (1e-3, None, 0),
    "camera_opt": (1e-4, 5e-7, 1000),
    "bilateral_grid": (2e-3, 1e-4, 1000),
}
_STEPS = 30_000
#: Splatfacto trains at a quarter of the resolution for so long, which a CPU does in minutes.
_STEPS_ON_CPU = 3000


def _optimizers() -> dict[str, dict[str, object]]:
    chosen = {}
    for name, (rate, final, warmup) in _RATES.items():
        falling = None
        if final is not None:
            falling = ExponentialDecaySchedulerConfig(
                lr_final=final, max_steps=_STEPS, warmup_steps=warmup, lr_pre_warmup=0
            )
        chosen[name] = {"optimizer": AdamOptimizerConfig(lr=rate, eps=1e-15), "scheduler": falling}
    return chosen


def _trainer() -> TrainerConfig:
    on_gpu = cuda.is_available()
    return TrainerConfig(
        method_name="gaussworld",
        machine=MachineConfig(device_type="cuda" if on_gpu else "cpu"),
        max_num_iterations=_STEPS if on_gpu else _STEPS_ON_CPU,
        steps_per_eval_batch=0,
        steps_per_eval_image=100 if on_gpu else 1000,
        steps_per_eval_all_images=1000 if on_gpu else _STEPS_ON_CPU,
        steps_per_save=2000 if on_gpu else 500,
        mixed_precision=False,
        pipeline=VanillaPipelineConfig(
            datamanager=FullImageDatamanagerConfig(
                dataparser=NerfstudioDataParserConfig(load_3D_points=True), cache_images_type="uint8"
            ),
            model=GaussWorldModelConfig(),
        ),
        optimizers=_optimizers(),
        viewer=ViewerConfig(num_rays_per_chunk=1 << 15),
        vis="viewer",
    )


#: What the entry point names.
gaussworld_method = MethodSpecification(
    config=_trainer(),
    description="Splatfacto on GaussWorld's rasterizer: trains with or without a GPU.",
)
