"""Pose refinement: small corrections of the training cameras, learnt with the Gaussians."""

from dataclasses import replace

import torch
from torch import Tensor

from gaussworld.camera import Camera
from gaussworld.pose import pose_from, rotation_from_rotvec

from .adam import Learnt

_RATE, _FINAL = 5e-4, 0.05


class PoseRefinement:
    """A rotation and a shift for each training camera, in the world's axes; their mean stays zero.

    A shift common to all cameras would only move the scene away from the cameras that are held out.
    """

    def __init__(self, count: int, extent: float, device: torch.device) -> None:
        self.extent = extent
        self._deltas = Learnt(torch.zeros(count, 6, device=device))
        # Rotation vectors [rad], then shifts in units of the scene's extent.

    def camera(self, index: int, camera: Camera) -> Camera:
        """The camera of picture `index`, corrected; differentiable in the corrections."""
        delta, pose = self._deltas.value[index], camera.world_from_camera
        rotation = rotation_from_rotvec(delta[:3]) @ pose[:3, :3]
        return replace(camera, world_from_camera=pose_from(rotation, pose[:3, 3] + delta[3:] * self.extent))

    def step(self, progress: float) -> None:
        """One Adam step at `progress` in [0, 1] of the run; then the mean correction is taken out."""
        self._deltas.step(_RATE * _FINAL**progress)
        with torch.no_grad():
            self._deltas.value -= self._deltas.value.mean(0, keepdim=True)

    def state(self) -> dict[str, Tensor]:
        """For a checkpoint."""
        return self._deltas.state()

    def restore(self, state: dict[str, Tensor]) -> None:
        """Take up what `state` gave."""
        self._deltas = Learnt.restored(state)
