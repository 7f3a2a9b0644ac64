"""`Gaussians`: the raw parameters of n anisotropic 3D Gaussians and all that travels with them row by row."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace

import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from .pose import (
    check_rigid,
    multiply_quats,
    normalize_quats,
    quats_from_rotation,
    rotation_from_quats,
    transform_points,
)
from .sh import coefficient_count, degree_of, rgb_from_sh0, rotate_sh, sh0_from_rgb

#: Opacity logits that "fully opaque" and "fully transparent" become: a sigmoid of 1 - 3e-7 and 3e-7.
MAX_LOGIT = 15.0
#: Bits of `Gaussians.flags`.
DELETED, SELECTED, LOCKED, HIDDEN = 1, 2, 4, 8


@dataclass(frozen=True, eq=False)
class Gaussians:
    """n anisotropic Gaussians in one frame, as unconstrained parameters; activated values are properties.

    `object_ids`, `flags` and `id_confidences` may be left out: they become zeros. Every field has n rows,
    so `select` and `cat` cannot let one drift from another.
    """

    means: Float[Tensor, "n 3"]
    """[m, or the source's unit while the scale is unknown] centres in the frame of their object."""
    quats: Float[Tensor, "n 4"]
    """wxyz, any non-zero length: the rotation from a Gaussian's principal axes to the frame of `means`."""
    log_scales: Float[Tensor, "n 3"]
    """Natural logarithm of the standard deviations [same unit as means] along the principal axes."""
    opacity_logits: Float[Tensor, " n"]
    """Opacity before the sigmoid."""
    sh: Float[Tensor, "n k 3"]
    """Spherical-harmonic colour, k = 1, 4, 9 or 16; what is seen is `max(evaluate_sh(sh, direction), 0)`."""
    object_ids: Int[Tensor, " n"] = None  # pyright: ignore[reportAssignmentType]
    """Identifier of the object each Gaussian belongs to; 0 is the background."""
    flags: UInt8[Tensor, " n"] = None  # pyright: ignore[reportAssignmentType]
    """Bits: 1 deleted, 2 selected, 4 locked, 8 hidden."""
    id_confidences: UInt8[Tensor, " n"] = None  # pyright: ignore[reportAssignmentType]
    """How sure `object_ids` is, 255 for certain; 0 where nobody said."""

    def __post_init__(self) -> None:
        n, device = self.means.shape[0] if self.means.ndim else 0, self.means.device
        if self.object_ids is None:
            object.__setattr__(self, "object_ids", torch.zeros(n, dtype=torch.int32, device=device))
        if self.flags is None:
            object.__setattr__(self, "flags", torch.zeros(n, dtype=torch.uint8, device=device))
        if self.id_confidences is None:
            object.__setattr__(self, "id_confidences", torch.zeros(n, dtype=torch.uint8, device=device))
        k = self.sh.shape[1] if self.sh.ndim == 3 else None
        expected = {
            "means": (n, 3), "quats": (n, 4), "log_scales": (n, 3), "opacity_logits": (n,),
            "sh": (n, k, 3), "object_ids": (n,), "flags": (n,), "id_confidences": (n,),
        }  # fmt: skip
        for name, shape in expected.items():
            value = getattr(self, name)
            if value.shape != shape:
                wanted = f"({n}, k, 3)" if name == "sh" else str(shape)
                raise ValueError(f"Gaussians.{name}: expected shape {wanted}, got {tuple(value.shape)}")
            if value.device != device:
                raise ValueError(
                    f"Gaussians.{name}: expected device {device} (that of means), got {value.device}"
                )
        if self.sh.shape[1] not in (1, 4, 9, 16):
            raise ValueError(
                f"Gaussians.sh: expected k = 1, 4, 9 or 16 coefficients, got shape {tuple(self.sh.shape)}"
            )

    @classmethod
    def from_activated(
        cls,
        means: Float[Tensor, "n 3"],
        quats: Float[Tensor, "n 4"],
        scales: Float[Tensor, "n 3"],
        opacities: Float[Tensor, " n"],
        rgb: Float[Tensor, "n 3"],
        sh_degree: int = 0,
    ) -> "Gaussians":
        """Build Gaussians from linear scales, opacities in [0, 1] and colours in [0, 1].

        Raises:
            ValueError: a scale is not positive, an opacity is outside [0, 1], or a quaternion is zero.
        """
        if bool((scales <= 0).any()) or not bool(torch.isfinite(scales).all()):
            raise ValueError(f"expected positive finite scales, got a minimum of {float(scales.min())}")
        if not bool(((opacities >= 0) & (opacities <= 1)).all()):
            low, high = float(opacities.min()), float(opacities.max())
            raise ValueError(
                f"expected opacities in [0, 1], got values from {low} to {high}; logits go to Gaussians()"
            )
        sh = means.new_zeros(len(means), coefficient_count(sh_degree), 3)
        sh[:, 0] = sh0_from_rgb(rgb)
        logits = torch.logit(opacities).clamp(-MAX_LOGIT, MAX_LOGIT)
        return cls(means, normalize_quats(quats), scales.log(), logits, sh)

    def __len__(self) -> int:
        return self.means.shape[0]

    @property
    def device(self) -> torch.device:
        return self.means.device

    @property
    def sh_degree(self) -> int:
        return degree_of(self.sh.shape[1])

    @property
    def scales(self) -> Float[Tensor, "n 3"]:
        """Standard deviations along the principal axes [unit of means]."""
        return self.log_scales.exp()

    @property
    def opacities(self) -> Float[Tensor, " n"]:
        """Opacity at the centre, range [0, 1]."""
        return self.opacity_logits.sigmoid()

    @property
    def rgb(self) -> Float[Tensor, "n 3"]:
        """The view-independent part of the colour, clamped to [0, 1]."""
        return rgb_from_sh0(self.sh[:, 0]).clamp(0, 1)

    @property
    def covariances(self) -> Float[Tensor, "n 3 3"]:
        """R S S^T R^T (Kerbl et al. 2023, eq. 6) [unit of means, squared]."""
        half = rotation_from_quats(self.quats) * self.scales[:, None, :]
        return half @ half.transpose(-1, -2)

    def map(self, change: Callable[[Tensor], Tensor]) -> "Gaussians":
        """The same function applied to every field; it must keep rows aligned."""
        return replace(self, **{field.name: change(getattr(self, field.name)) for field in fields(self)})

    def select(self, rows: Int[Tensor, " m"] | Bool[Tensor, " n"] | slice) -> "Gaussians":
        """The Gaussians of the given row indices, mask or slice, in that order.

        Raises:
            ValueError: a mask has another length than there are Gaussians.
        """
        if isinstance(rows, slice):
            return self.map(lambda value: value[rows])
        if rows.dtype == torch.bool and len(rows) != len(self):
            raise ValueError(f"expected a mask of {len(self)} rows, got {len(rows)}")
        index = rows.nonzero()[:, 0] if rows.dtype == torch.bool else rows
        return self.map(lambda value: value.index_select(0, index))

    def shown(self) -> "Gaussians":
        """Those that are neither deleted nor hidden: what is drawn and exported."""
        return self.select((self.flags & (DELETED | HIDDEN)) == 0)

    def to(self, device: torch.device | str) -> "Gaussians":
        """All fields on `device`."""
        return self.map(lambda value: value.to(device))

    def detach(self) -> "Gaussians":
        """All fields cut from the autograd graph."""
        return self.map(lambda value: value.detach())

    def with_sh_degree(self, degree: int) -> "Gaussians":
        """The same Gaussians with SH bands dropped above, or zeros added up to, `degree`."""
        count = coefficient_count(degree)
        missing = max(0, count - self.sh.shape[1])
        sh = torch.cat([self.sh[:, :count], self.sh.new_zeros(len(self), missing, 3)], dim=1)
        return replace(self, sh=sh)

    def transformed(self, a_from_b: Float[Tensor, "4 4"], scale: float = 1.0) -> "Gaussians":
        """These Gaussians, given in frame b, in frame a: positions times `scale`, then moved; SH turns too.

        Raises:
            ValueError: `a_from_b` is not rigid or `scale` is not positive.
        """
        check_rigid(a_from_b, "a_from_b")
        if not scale > 0:
            raise ValueError(f"expected a positive scale, got {scale}")
        a_from_b = a_from_b.to(self.means)
        rotation = a_from_b[:3, :3]
        turn = quats_from_rotation(rotation).expand_as(self.quats)
        return replace(
            self,
            means=transform_points(a_from_b, self.means * scale),
            quats=multiply_quats(turn, self.quats),
            log_scales=self.log_scales + math.log(scale),
            sh=rotate_sh(self.sh, rotation),
        )


def cat(parts: Sequence[Gaussians]) -> Gaussians:
    """Join Gaussians row-wise; lower SH degrees are padded with zeros to the highest.

    Raises:
        ValueError: `parts` is empty.
    """
    if not parts:
        raise ValueError("expected at least one Gaussians to join, got none")
    degree = max(part.sh_degree for part in parts)
    padded = [part.with_sh_degree(degree) for part in parts]
    return Gaussians(*(torch.cat([getattr(part, f.name) for part in padded]) for f in fields(Gaussians)))
