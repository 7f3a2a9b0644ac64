"""Rotations and rigid poses as plain tensors: wxyz quaternions, 4x4 `a_from_b`, and the two xyzw borders."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

#: Camera axes of OpenGL (x right, y up, z backward) expressed in OpenCV's (x right, y down, z forward).
#: `world_from_opengl_camera @ OPENGL_FROM_OPENCV == world_from_camera`; the matrix is its own inverse.
OPENGL_FROM_OPENCV = torch.diag(torch.tensor([1.0, -1.0, -1.0, 1.0]))


def wxyz_from_xyzw(quats: Float[Tensor, "*b 4"]) -> Float[Tensor, "*b 4"]:
    """Reorder quaternions that arrive as xyzw (pycolmap, scipy, glTF, ROS, Warp)."""
    return quats[..., [3, 0, 1, 2]]


def xyzw_from_wxyz(quats: Float[Tensor, "*b 4"]) -> Float[Tensor, "*b 4"]:
    """Reorder quaternions for those who want xyzw (pycolmap, scipy, glTF, ROS, Warp)."""
    return quats[..., [1, 2, 3, 0]]


def normalize_quats(quats: Float[Tensor, "*b 4"]) -> Float[Tensor, "*b 4"]:
    """Scale quaternions to unit length.

    Raises:
        ValueError: a quaternion is zero and therefore names no rotation.
    """
    largest = quats.detach().abs().amax(dim=-1, keepdim=True)
    if bool((largest == 0).any()):
        raise ValueError(
            "expected quaternions of non-zero length, got an all-zero one; use [1, 0, 0, 0] for identity"
        )
    # Scaled first, so that squares can neither overflow nor vanish.
    quats = quats / largest
    return quats / quats.norm(dim=-1, keepdim=True)


def multiply_quats(a: Float[Tensor, "*b 4"], b: Float[Tensor, "*b 4"]) -> Float[Tensor, "*b 4"]:
    """Hamilton product: the rotation `a` after the rotation `b`."""
    aw, ax, ay, az = a.unbind(-1)
    bw, bx, by, bz = b.unbind(-1)
    return torch.stack(
        [
            aw * bw - ax * bx - ay * by - az * bz,
            aw * bx + ax * bw + ay * bz - az * by,
            aw * by - ax * bz + ay * bw + az * bx,
            aw * bz + ax * by - ay * bx + az * bw,
        ],
        dim=-1,
    )


def invert_quats(quats: Float[Tensor, "*b 4"]) -> Float[Tensor, "*b 4"]:
    """The inverse rotation of unit quaternions (their conjugate)."""
    return quats * quats.new_tensor([1.0, -1.0, -1.0, -1.0])


def rotation_from_quats(quats: Float[Tensor, "*b 4"]) -> Float[Tensor, "*b 3 3"]:
    """Rotation matrices of quaternions of any non-zero length."""
    # Scaled first, so that squares can neither overflow nor vanish.
    quats = quats / quats.detach().abs().amax(dim=-1, keepdim=True)
    w, x, y, z = (quats / quats.norm(dim=-1, keepdim=True)).unbind(-1)
    rows = [
        1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y),
        2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x),
        2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y),
    ]  # fmt: skip
    return torch.stack(rows, dim=-1).reshape(*quats.shape[:-1], 3, 3)


def quats_from_rotation(rotation: Float[Tensor, "*b 3 3"]) -> Float[Tensor, "*b 4"]:
    """Unit quaternions with w ≥ 0 of rotation matrices, stable at every angle.

    Of the four ways to divide (Shepperd 1978), the one with the largest divisor is taken.
    """
    m = rotation
    xx, yy, zz = m[..., 0, 0], m[..., 1, 1], m[..., 2, 2]
    a, b, c = m[..., 2, 1] - m[..., 1, 2], m[..., 0, 2] - m[..., 2, 0], m[..., 1, 0] - m[..., 0, 1]
    d, e, f = m[..., 1, 0] + m[..., 0, 1], m[..., 0, 2] + m[..., 2, 0], m[..., 2, 1] + m[..., 1, 2]
    candidates = torch.stack(
        [
            torch.stack([1 + xx + yy + zz, a, b, c], -1),
            torch.stack([a, 1 + xx - yy - zz, d, e], -1),
            torch.stack([b, d, 1 - xx + yy - zz, f], -1),
            torch.stack([c, e, f, 1 - xx - yy + zz], -1),
        ],
        dim=-2,
    )
    best = torch.stack([xx + yy + zz, xx - yy - zz, yy - xx - zz, zz - xx - yy], -1).argmax(-1)
    picked = candidates.gather(-2, best[..., None, None].expand(*best.shape, 1, 4)).squeeze(-2)
    quats = picked / picked.norm(dim=-1, keepdim=True)
    return torch.where(quats[..., :1] < 0, -quats, quats)


def rotation_from_rotvec(rotvec: Float[Tensor, "*b 3"]) -> Float[Tensor, "*b 3 3"]:
    """Exponential map: the rotation by |rotvec| [rad] about its direction (Rodrigues' formula)."""
    x, y, z = rotvec.unbind(-1)
    o = torch.zeros_like(x)
    skew = torch.stack([o, -z, y, z, o, -x, -y, x, o], -1).reshape(*rotvec.shape[:-1], 3, 3)
    angle_squared = (rotvec * rotvec).sum(-1)[..., None, None]
    small = angle_squared < 1e-8
    safe = torch.where(small, torch.ones_like(angle_squared), angle_squared)
    angle = safe.sqrt()
    first = torch.where(small, 1 - angle_squared / 6, angle.sin() / angle)
    # 1 - cos(a) = 2 sin(a/2)^2, which keeps its digits where the cosine is almost 1.
    second = torch.where(small, 0.5 - angle_squared / 24, 2 * (angle / 2).sin().square() / safe)
    return torch.eye(3, dtype=rotvec.dtype, device=rotvec.device) + first * skew + second * (skew @ skew)


def rotvec_from_rotation(rotation: Float[Tensor, "*b 3 3"]) -> Float[Tensor, "*b 3"]:
    """Logarithm map: the rotation vector [rad], of length at most pi, of rotation matrices."""
    quats = quats_from_rotation(rotation)
    w, v = quats[..., :1], quats[..., 1:]
    sine = v.norm(dim=-1, keepdim=True)
    angle = 2 * torch.atan2(sine, w)
    ratio = torch.where(sine < 1e-6, 2 / w.clamp(min=0.5), angle / sine.clamp(min=1e-6))
    return ratio * v


def slerp_quats(a: Float[Tensor, "*b 4"], b: Float[Tensor, "*b 4"], t: float) -> Float[Tensor, "*b 4"]:
    """Interpolate unit quaternions along the shorter arc; t = 0 gives `a`, t = 1 gives `b` up to sign."""
    b = torch.where((a * b).sum(-1, keepdim=True) < 0, -b, b)
    angle = 2 * torch.atan2((a - b).norm(dim=-1, keepdim=True), (a + b).norm(dim=-1, keepdim=True))
    near = angle < 1e-4
    sine = torch.where(near, torch.ones_like(angle), angle.sin())
    wa = torch.where(near, torch.full_like(angle, 1 - t), ((1 - t) * angle).sin() / sine)
    wb = torch.where(near, torch.full_like(angle, t), (t * angle).sin() / sine)
    mixed = wa * a + wb * b
    return mixed / mixed.norm(dim=-1, keepdim=True)


def pose_from(
    rotation: Float[Tensor, "*b 3 3"], translation: Float[Tensor, "*b 3"]
) -> Float[Tensor, "*b 4 4"]:
    """Assemble `a_from_b` 4x4 matrices from rotations and translations."""
    top = torch.cat([rotation, translation[..., None]], dim=-1)
    bottom = top.new_tensor([0.0, 0.0, 0.0, 1.0]).expand(*top.shape[:-2], 1, 4)
    return torch.cat([top, bottom], dim=-2)


def invert_pose(a_from_b: Float[Tensor, "*b 4 4"]) -> Float[Tensor, "*b 4 4"]:
    """`b_from_a` of a rigid `a_from_b`: the rotation transposed, exact and differentiable."""
    rotation = a_from_b[..., :3, :3].transpose(-1, -2)
    return pose_from(rotation, -(rotation @ a_from_b[..., :3, 3:])[..., 0])


def transform_points(
    a_from_b: Float[Tensor, "*b 4 4"], points: Float[Tensor, "*b m 3"]
) -> Float[Tensor, "*b m 3"]:
    """Points given in frame b, expressed in frame a."""
    return points @ a_from_b[..., :3, :3].transpose(-1, -2) + a_from_b[..., None, :3, 3]


def pose_from_pose7(pose7: Float[Tensor, "*b 7"]) -> Float[Tensor, "*b 4 4"]:
    """4x4 poses of rows `x y z [m], w x y z`; the quaternion may have any non-zero length."""
    return pose_from(rotation_from_quats(pose7[..., 3:]), pose7[..., :3])


def pose7_from_pose(a_from_b: Float[Tensor, "*b 4 4"]) -> Float[Tensor, "*b 7"]:
    """Rows `x y z [m], w x y z` of rigid 4x4 poses, with a unit quaternion whose w ≥ 0."""
    return torch.cat([a_from_b[..., :3, 3], quats_from_rotation(a_from_b[..., :3, :3])], dim=-1)


def check_rigid(a_from_b: Float[Tensor, "*b 4 4"], name: str) -> None:
    """Refuse matrices that scale, shear, mirror or project: the formulas for poses would be silently wrong.

    Raises:
        ValueError: not finite, not orthonormal to 1e-3, a mirror image, or the last row is not 0 0 0 1.
    """
    pose = a_from_b.detach()
    if pose.ndim == 2 and _clearly_rigid(pose.tolist()):
        return
    rotation = pose[..., :3, :3]
    if not bool(torch.isfinite(pose).all()):
        raise ValueError(f"{name}: expected finite values, got NaN or infinity")
    if not torch.equal(pose[..., 3, :], pose.new_tensor([0.0, 0.0, 0.0, 1.0]).expand(pose[..., 3, :].shape)):
        raise ValueError(f"{name}: expected the last row 0 0 0 1, got {pose[..., 3, :].tolist()}")
    error = (rotation @ rotation.transpose(-1, -2) - torch.eye(3).to(rotation)).abs()
    if bool((error > 1e-3).any()):
        raise ValueError(
            f"{name}: expected a rotation with orthonormal columns, got an error of {float(error.max()):.2g};"
            " take scale and shear out of the matrix first"
        )
    if bool((torch.linalg.det(rotation) < 0).any()):
        raise ValueError(
            f"{name}: expected a rotation, got a mirror image (determinant -1); flip one axis back"
        )


def _clearly_rigid(rows: list[list[float]]) -> bool:
    """The same question about one pose in plain numbers, which is twenty times as fast; no is not final."""
    if len(rows) != 4 or any(len(row) != 4 for row in rows) or rows[3] != [0.0, 0.0, 0.0, 1.0]:
        return False
    if not math.isfinite(rows[0][3] + rows[1][3] + rows[2][3]):
        return False
    (a, b, c, _), (d, e, f, _), (g, h, i, _), _ = rows
    errors = (
        a * a + b * b + c * c - 1, d * d + e * e + f * f - 1, g * g + h * h + i * i - 1,
        a * d + b * e + c * f, a * g + b * h + c * i, d * g + e * h + f * i,
    )  # fmt: skip
    volume = a * (e * i - f * h) - b * (d * i - f * g) + c * (d * h - e * g)
    # False for NaN too.
    return max(errors) < 9e-4 and min(errors) > -9e-4 and volume > 0


def look_at(
    eye: Float[Tensor, "*b 3"], target: Float[Tensor, "*b 3"], up: Float[Tensor, "3"] | None = None
) -> Float[Tensor, "*b 4 4"]:
    """`world_from_camera` (OpenCV axes) of a camera at `eye` that looks at `target`; `up` defaults to +z.

    Raises:
        ValueError: eye and target coincide, or `up` is zero.
    """
    up = eye.new_tensor([0.0, 0.0, 1.0]) if up is None else torch.nn.functional.normalize(up.to(eye), dim=0)
    if not bool(up.any()):
        raise ValueError("expected an up direction of non-zero length, got 0 0 0")
    forward = target - eye
    if bool((forward.norm(dim=-1) == 0).any()):
        raise ValueError("expected a target away from the eye, got the same point twice")
    forward = torch.nn.functional.normalize(forward, dim=-1)
    right = torch.linalg.cross(forward, up.expand_as(forward))
    # Looking straight along `up` leaves the roll free: any axis across it will do.
    across = torch.nn.functional.one_hot(up.abs().argmin(), 3).to(up)
    fallback = torch.linalg.cross(forward, across.expand_as(forward))
    right = torch.where(right.norm(dim=-1, keepdim=True) < 1e-6, fallback, right)
    right = torch.nn.functional.normalize(right, dim=-1)
    return pose_from(torch.stack([right, torch.linalg.cross(forward, right), forward], dim=-1), eye)
