"""How far estimated camera poses are from true ones, after the best similarity between them: ATE and RPE."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from gaussworld.pose import invert_pose, rotvec_from_rotation, transform_points

#: Share of the cameras' orientations in the fit of the rotation: nothing, unless their centres lie on a line
#: and leave the turn about it open.
_TIE_BREAK = 1e-6


@dataclass(frozen=True, eq=False)
class Similarity:
    """x -> scale · rotation · x + translation."""

    rotation: Float[Tensor, "3 3"]
    translation: Float[Tensor, "3"]
    scale: float

    @property
    def matrix(self) -> Float[Tensor, "4 4"]:
        matrix = torch.eye(4, dtype=self.rotation.dtype)
        matrix[:3, :3], matrix[:3, 3] = self.scale * self.rotation, self.translation
        return matrix

    def moved(self, poses: Float[Tensor, "c 4 4"]) -> Float[Tensor, "c 4 4"]:
        """The rigid poses `world_from_camera` after their world was moved and scaled."""
        moved = poses.clone()
        moved[:, :3, :3] = self.rotation.to(poses) @ poses[:, :3, :3]
        moved[:, :3, 3] = transform_points(self.matrix.to(poses), poses[:, :3, 3])
        return moved


@dataclass(frozen=True, eq=False)
class TrajectoryError:
    """Absolute trajectory error: distances of the estimated camera centres from the true ones, aligned."""

    rmse: float
    """[unit of the true poses]"""
    median: float
    """[unit of the true poses]"""
    max: float
    """[unit of the true poses]"""
    scale: float
    """Length of one unit of the estimated poses in units of the true ones."""
    similarity: Float[Tensor, "4 4"]
    """`true_from_estimated`"""


@dataclass(frozen=True)
class RelativeError:
    """Relative pose error: root mean squares over all pairs of poses that lie `delta` apart."""

    translation: float
    """[unit of the true poses]"""
    rotation_deg: float
    """[deg]"""


def align_trajectories(
    estimated: Float[Tensor, "c 4 4"], true: Float[Tensor, "c 4 4"], with_scale: bool = True
) -> Similarity:
    """The similarity that brings estimated camera centres closest to the true ones (Umeyama 1991, eq. 40-42).

    Centres on a line leave the turn about it open; the cameras' orientations decide it then.

    Args:
        estimated: `world_from_camera`, in any frame and unit.
        true: `world_from_camera` of the same pictures in the same order.
        with_scale: fit the unit too; otherwise both trajectories are taken to share theirs.

    Raises:
        ValueError: fewer than three cameras, all at one point, other counts, or values that are not finite.
    """
    _check(estimated, true)
    x, y = estimated[:, :3, 3].double().cpu(), true[:, :3, 3].double().cpu()
    spread = _spread(x, "estimated"), _spread(y, "true")
    x_mean, y_mean = x.mean(0), y.mean(0)
    covariance = (y - y_mean).T @ (x - x_mean) / len(x)
    turns = true[:, :3, :3].double().cpu() @ estimated[:, :3, :3].double().cpu().transpose(1, 2)
    U, _, Vt = torch.linalg.svd(covariance + _TIE_BREAK * spread[0] * spread[1] * turns.mean(0))
    # Without this sign the best fit to noisy or planar centres may be a mirror image.
    signs = torch.ones(3, dtype=torch.float64)
    signs[2] = torch.linalg.det(U @ Vt).sign()
    rotation = U @ torch.diag(signs) @ Vt
    scale = float((rotation * covariance).sum()) / spread[0] ** 2 if with_scale else 1.0
    if not scale > 0:
        raise ValueError(
            "align_trajectories: expected trajectories that resemble each other, got a best scale of"
            f" {scale:.3g}; check that both list the same pictures in the same order"
        )
    return Similarity(rotation, y_mean - scale * rotation @ x_mean, scale)


def ate(
    estimated: Float[Tensor, "c 4 4"], true: Float[Tensor, "c 4 4"], with_scale: bool = True
) -> TrajectoryError:
    """Absolute trajectory error after alignment (Sturm et al. 2012, sec. V-B).

    Args:
        estimated: `world_from_camera`, in any frame and unit.
        true: `world_from_camera` of the same pictures in the same order.
        with_scale: fit the unit too; say False where the estimate claims to know it.

    Raises:
        ValueError: the trajectories cannot be aligned, see `align_trajectories`.
    """
    similarity = align_trajectories(estimated, true, with_scale)
    moved = transform_points(similarity.matrix, estimated[:, :3, 3].double().cpu())
    distances = (moved - true[:, :3, 3].double().cpu()).norm(dim=-1)
    return TrajectoryError(
        rmse=float(distances.square().mean().sqrt()),
        median=float(distances.quantile(0.5)),
        max=float(distances.max()),
        scale=similarity.scale,
        similarity=similarity.matrix,
    )


def rpe(
    estimated: Float[Tensor, "c 4 4"],
    true: Float[Tensor, "c 4 4"],
    delta: int = 1,
    with_scale: bool = True,
) -> RelativeError:
    """Relative pose error (Sturm et al. 2012, eq. 2): drift between pictures `delta` apart.

    Args:
        estimated: `world_from_camera`, in any frame and unit.
        true: `world_from_camera` of the same pictures in the same order.
        delta: how many pictures later the second of a pair is.
        with_scale: fit the unit first, as `ate` does.

    Raises:
        ValueError: the trajectories cannot be aligned, or no pair is `delta` apart.
    """
    _check(estimated, true)
    if not 1 <= delta < len(true):
        raise ValueError(f"rpe: expected 1 <= delta < {len(true)} for {len(true)} cameras, got {delta}")
    estimated, true = estimated.double().cpu().clone(), true.double().cpu()
    if with_scale:
        estimated[:, :3, 3] *= align_trajectories(estimated, true).scale
    error = invert_pose(_steps(true, delta)) @ _steps(estimated, delta)
    angles = rotvec_from_rotation(error[:, :3, :3]).norm(dim=-1)
    return RelativeError(
        translation=float(error[:, :3, 3].square().sum(-1).mean().sqrt()),
        rotation_deg=float(angles.rad2deg().square().mean().sqrt()),
    )


def _steps(poses: Tensor, delta: int) -> Tensor:
    """Each pose `delta` later, seen from the earlier one."""
    return invert_pose(poses[:-delta]) @ poses[delta:]


def _spread(centers: Tensor, name: str) -> float:
    """Root mean square distance [unit] of the centres from their mean."""
    spread = float((centers - centers.mean(0)).square().sum(-1).mean().sqrt())
    if spread <= 1e-7 * float(centers.abs().max()):
        raise ValueError(
            f"expected {name} cameras at different places, got all {len(centers)} at one point;"
            " trajectories are aligned by the places of their cameras"
        )
    return spread


def _check(estimated: Tensor, true: Tensor) -> None:
    if estimated.shape != true.shape or tuple(true.shape[1:]) != (4, 4):
        raise ValueError(
            "expected two trajectories of c poses 4x4 each, got shapes"
            f" {tuple(estimated.shape)} and {tuple(true.shape)}"
        )
    if len(true) < 3:
        raise ValueError(f"expected at least 3 cameras to align trajectories, got {len(true)}")
    for name, poses in (("estimated", estimated), ("true", true)):
        if not bool(torch.isfinite(poses).all()):
            raise ValueError(f"expected finite {name} poses, got NaN or infinity; leave those cameras out")
