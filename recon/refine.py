"""Pose refinement: small corrections of the training cameras, learnt with the Gaussians."""

from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from gaussworld.camera import Camera
from gaussworld.pose import pose_from, rotation_from_rotvec

from .exposure import moments, restore_moments

_RATE, _FINAL = 5e-4, 0.05


class PoseRefinement:
    """A rotation and a shift for each training camera, in the world's axes; their mean stays zero.

    A shift common to all cameras would only move the scene away from the cameras that are held out.
    """

    def __init__(self, count: int, extent: float, device: torch.device) -> None:
        self.extent = extent
        self.deltas = torch.zeros(count, 6, device=device, requires_grad=True)
        """Rotation vectors [rad], then shifts in units of the scene's extent."""
        self._adam = torch.optim.Adam([self.deltas], lr=_RATE)

    def camera(self, index: int, camera: Camera) -> Camera:
        """The camera of picture `index`, corrected; differentiable in the corrections."""
        delta, pose = self.deltas[index], camera.world_from_camera
        rotation = rotation_from_rotvec(delta[:3]) @ pose[:3, :3]
        return replace(camera, world_from_camera=pose_from(rotation, pose[:3, 3] + delta[3:] * self.extent))

    def step(self, progress: float) -> None:
        """One Adam step at `progress` in [0, 1] of the run; then the mean correction is taken out."""
        self._adam.param_groups[0]["lr"] = _RATE * _FINAL**progress
        self._adam.step()
        self._adam.zero_grad(set_to_none=True)
        with torch.no_grad():
            self.deltas -= self.deltas.mean(0, keepdim=True)

    def size(self) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
        """Root mean squares of the rotations [rad] and of the shifts [unit of the poses]."""
        squares = self.deltas.detach().square()
        return squares[:, :3].sum(1).mean().sqrt(), squares[:, 3:].sum(1).mean().sqrt() * self.extent

    def state(self) -> dict[str, Tensor]:
        """For a checkpoint."""
        return {"deltas": self.deltas.detach().clone(), **moments(self._adam, self.deltas)}

    def restore(self, state: dict[str, Tensor]) -> None:
        """Take up what `state` gave."""
        with torch.no_grad():
            self.deltas.copy_(state["deltas"])
        restore_moments(self._adam, self.deltas, state)
