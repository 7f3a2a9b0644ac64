"""The compiled kernel that carries Gaussians with particles; `binding.py` is its twin with gradients."""

from ctypes import byref, c_float
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int32
from torch import Tensor

from gaussworld.gaussians import Gaussians
from gaussworld.pose import normalize_quats, rotation_from_quats
from gaussworld.render import kernels

from .binding import ROUND, SWEEPS, TINY, Binding


@dataclass(frozen=True, eq=False)
class CompiledSkin:
    """What the kernel reads of the Gaussians of a part that bends; all of it float32 on the CPU."""

    points: Float[Tensor, "n 3"]
    axes: Float[Tensor, "n 3 3"]
    """[m] columns: principal axes at rest times standard deviations."""
    quats: Float[Tensor, "n 4"]
    rows: Int32[Tensor, "n k"]
    weights: Float[Tensor, "n k"]
    rest: Float[Tensor, "p 3"]

    @classmethod
    def of(cls, binding: Binding, gaussians: Gaussians) -> "CompiledSkin":
        """Of Gaussians at rest and what they hang on."""
        quats = normalize_quats(gaussians.quats.detach().float())
        axes = rotation_from_quats(quats) * gaussians.scales.detach().float()[:, None, :]
        columns = (binding.points, axes, quats, binding.rows.int(), binding.weights, binding.rest)
        return cls(*(column.contiguous() for column in columns))

    def __call__(
        self, positions: Float[Tensor, "p 3"], gradients: Float[Tensor, "p 3 3"], turns: Float[Tensor, "p 4"]
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Means, quaternions, log scales and turns, as `Binding.blended` and `stretched` give them.

        Raises:
            RuntimeError: the kernel failed.
            MissingDependency: it is not compiled.
        """
        shift = positions - (gradients @ self.rest[..., None])[..., 0]
        carriers = torch.cat([gradients.flatten(1), shift, turns], 1).float().contiguous()
        count = len(self.points)
        out = [torch.empty(count, width, dtype=torch.float32) for width in (3, 4, 3, 4)]
        columns = (self.points, self.axes, self.quats, self.rows, self.weights, carriers)
        pointers = [column.data_ptr() for column in columns]
        given = kernels.SkinInput(count, *pointers, self.rows.shape[1], SWEEPS, ROUND, TINY)
        found = kernels.SkinOutput(*(x.data_ptr() for x in out))
        kernels.check(kernels.library().gw_skin(byref(given), byref(found)))
        means, quats, log_scales, turned = out
        return means, quats, log_scales, turned


def seen_colors(
    means: Float[Tensor, "n 3"],
    turns: Float[Tensor, "n 4"],
    sh: Float[Tensor, "n k 3"],
    center: Float[Tensor, "3"],
) -> Float[Tensor, "n 3"]:
    """What Gaussians that turned since rest show to an eye at `center`, by their harmonics at rest.

    Raises:
        RuntimeError: the kernel failed.
        MissingDependency: it is not compiled.
    """
    columns = [column.detach().float().contiguous() for column in (means, turns, sh)]
    eye = (c_float * 3)(*center.detach().tolist())
    given = kernels.ColorInput(len(means), *(column.data_ptr() for column in columns), sh.shape[1], eye)
    colors = torch.empty(len(means), 3, dtype=torch.float32)
    kernels.check(kernels.library().gw_seen_colors(byref(given), colors.data_ptr()))
    return colors


def fits(positions: Tensor) -> bool:
    """Whether a kernel can answer: it is compiled, for float32 on the CPU, and nobody wants gradients."""
    asked = torch.is_grad_enabled() and positions.requires_grad
    plain = positions.device.type == "cpu" and positions.dtype == torch.float32
    return plain and not asked and kernels.available()
