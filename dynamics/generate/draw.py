"""Drawing a simulated scene with MuJoCo: colour, z-depth and true ids of calibrated cameras."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from gaussworld.camera import Camera

from .flex.body import flex_ids
from .flex.flex import Flex
from .mjcf import DRAWN, compiled, mujoco_module, object_of_geom, place, why_not_drawn
from .scene import SceneState, SimScene

_FINER = 2
"""Pixels are drawn so many times smaller and averaged."""


@dataclass(frozen=True, eq=False)
class SimView:
    """What one camera sees."""

    rgb: Float[Tensor, "h w 3"]
    """sRGB, range [0, 1]."""
    depth: Float[Tensor, "h w"]
    """[m] z-depth through the pixel centres."""
    ids: Int[Tensor, "h w"]
    """The object at each pixel's centre; 0 is the background."""


class Artist:
    """Draws one scene in any state, from any pinhole camera whose principal point is the middle."""

    def __init__(
        self, scene: SimScene, width: int, height: int, model: Any = None, flexes: Sequence[Flex] = ()
    ) -> None:
        """Open an off-screen context.

        Args:
            scene: what is in it.
            width: [px]
            height: [px]
            model: of the scene, drawn; compiled here if None.
            flexes: what bends in it.

        Raises:
            MissingDependency: mujoco is not installed.
            BackendUnavailable: no off-screen OpenGL can be had.
        """
        mujoco = mujoco_module()
        self.scene, self.model = scene, compiled(scene) if model is None else model
        self.data = mujoco.MjData(self.model)
        visual = self.model.vis.global_
        visual.offwidth, visual.offheight = _FINER * width, _FINER * height
        self._owner, self._flexes = object_of_geom(self.model, scene), flexes
        self._option = mujoco.MjvOption()
        self._option.geomgroup[:] = 0
        self._option.geomgroup[DRAWN] = 1
        self._coarse, self._fine = (_renderer(self.model, width * k, height * k) for k in (1, _FINER))
        # Depth and ids know no shadows, which are half of the work.
        self._coarse.scene.flags[mujoco.mjtRndFlag.mjRND_SHADOW] = 0

    def show(self, state: SceneState) -> None:
        """Put everything where a state says."""
        place(self.model, self.data, self.scene, state)

    def show_positions(self, qpos: Float[np.ndarray, " q"]) -> None:
        """Put everything where MuJoCo's own positions of the model say."""
        self.data.qpos[:] = qpos
        mujoco_module().mj_forward(self.model, self.data)

    def draw(self, camera: Camera) -> SimView:
        """What a camera sees of the state shown last."""
        self._aim(camera)
        self._fine.update_scene(self.data, camera=0, scene_option=self._option)
        fine = torch.from_numpy(self._fine.render()).float() / 255
        shape = (camera.height, _FINER, camera.width, _FINER, 3)
        rgb = fine.reshape(shape).mean(dim=(1, 3))
        coarse = self._coarse
        coarse.update_scene(self.data, camera=0, scene_option=self._option)
        coarse.enable_depth_rendering()
        depth = torch.from_numpy(coarse.render().copy())
        coarse.disable_depth_rendering()
        coarse.enable_segmentation_rendering()
        ids = self._ids(coarse.render())
        coarse.disable_segmentation_rendering()
        return SimView(rgb, depth, torch.from_numpy(ids))

    def _ids(self, segmentation: Int[np.ndarray, "h w 2"]) -> Int[np.ndarray, "h w"]:
        """The object of what MuJoCo drew at every pixel, which it gives as a row and a type."""
        rows, types = segmentation[..., 0], segmentation[..., 1]
        geoms = types == mujoco_module().mjtObj.mjOBJ_GEOM
        ids = np.where(geoms, self._owner[np.where(geoms, rows, 0)], 0).astype(np.int32)
        elastic = flex_ids(self.model, self._flexes, segmentation)
        return np.where(elastic > 0, elastic, ids)

    def close(self) -> None:
        """Give the contexts back."""
        self._coarse.close()
        self._fine.close()

    def _aim(self, camera: Camera) -> None:
        """MuJoCo's camera looks along its -z with y up, and knows its vertical field of view only."""
        pose = camera.world_from_camera.double().numpy()
        self.model.cam_fovy[0] = np.degrees(2 * np.arctan(camera.height / 2 / float(camera.K[1, 1])))
        self.data.cam_xpos[0] = pose[:3, 3]
        self.data.cam_xmat[0] = (pose[:3, :3] @ np.diag([1.0, -1.0, -1.0])).ravel()


def _renderer(model: Any, width: int, height: int) -> Any:
    mujoco = mujoco_module()
    try:
        return mujoco.Renderer(model, height, width)
    except Exception as error:  # MuJoCo's GL back ends raise anything from ImportError to FatalError.
        raise why_not_drawn(error) from error
