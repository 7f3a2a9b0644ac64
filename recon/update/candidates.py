"""Where an object may have gone: by its features in the new pictures, and by where pictures changed."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from gaussworld.gaussians import Gaussians
from gaussworld.pose import invert_pose, pose_from, rotation_from_rotvec, transform_points

from .changes import Difference, widened
from .explain import Backdrop, placed, total_cost
from .landmarks import Features, Landmarks, Matches, find_features, match
from .relocalise import solved

#: Matches that a pose from one picture needs, and their error [px] in it and in the others, per 640 px.
_FEWEST, _ERROR = 5, 4.0
_POINTS, _SPOTS, _YAWS, _KEPT = 150, 6, 12, 3
#: Places are this share of the object's size apart, and at most so many along a side.
_SPACING, _MOST_ALONG = 0.25, 60


@dataclass(frozen=True, eq=False)
class Ground:
    """Which way is up, and the surfaces things may stand on."""

    up: Float[Tensor, "3"]
    along: Float[Tensor, "2 3"]
    """Two directions across it."""
    points: Float[Tensor, "m 3"]
    """Places that the world shows behind the objects in question."""

    @classmethod
    def of(cls, up: Float[Tensor, "3"], views: Sequence[Backdrop], stride: int = 3) -> "Ground":
        """From what the world shows without the objects in question."""
        points = []
        for view in views:
            grid = torch.zeros_like(view.known)
            grid[::stride, ::stride] = True
            there = grid & (view.depth > 0) & (view.known | view.vacated)
            points.append(view.camera.unproject(view.camera.pixel_centers()[there], view.depth[there]))
        across = torch.linalg.svd(up[None]).Vh[1:]
        return cls(up, across, torch.cat(points))


@dataclass(frozen=True, eq=False)
class Clues:
    """What new pictures say about where things have gone."""

    differences: tuple[Difference, ...]
    features: tuple[Features, ...]
    """Those keypoints of each picture that lie where it has changed."""

    @classmethod
    def of(cls, differences: Sequence[Difference]) -> "Clues":
        """From pictures that were compared with the world."""
        features = []
        for each in differences:
            found = find_features(each.shot.view.image)
            pixel = each.shot.camera.width / 640
            x, y = found.pixels.long().unbind(1)
            near = widened(each.changed | (each.alpha < 0.5), round(6 * pixel))[y, x]
            features.append(Features(found.pixels[near], found.descriptors[near]))
        return cls(tuple(differences), tuple(features))


def object_matches(object_id: int, known: Landmarks, clues: Clues) -> list[Matches]:
    """What of an object's landmarks each picture seems to show."""
    mine = _of_object(known, object_id)
    return [match(features, mine, ratio=0.85) for features in clues.features]


def by_features(matches: Sequence[Matches], clues: Clues) -> list[Float[Tensor, "4 4"]]:
    """Motions that take an object's landmarks to where pictures show them, those that most bear out first."""
    motions = []
    for difference, found in zip(clues.differences, matches):
        camera = difference.shot.camera
        pixel = max(camera.width, camera.height) / 640
        pose = solved(found, camera, _ERROR * pixel)
        if pose is not None and pose[1] >= _FEWEST:
            motions.append(camera.world_from_camera @ invert_pose(pose[0]))
    motions = [_pooled(motion, clues, matches) for motion in motions]
    scored = sorted(motions, key=lambda motion: -support(motion, clues, matches))
    return scored[:_KEPT]


def _pooled(motion: Tensor, clues: Clues, matches: Sequence[Matches]) -> Float[Tensor, "4 4"]:
    """A motion that suits the matches of all pictures: one picture alone tells distance badly.

    Gauss-Newton on the reprojection errors of those that nearly fit, nearer in each round.
    """
    points = torch.cat([found.points for found in matches]).double()
    pixels = torch.cat([found.pixels for found in matches]).double()
    cameras = [each.shot.camera for each in clues.differences]
    counts = [len(found.points) for found in matches]
    views = torch.cat(
        [camera.camera_from_world.double().expand(n, 4, 4) for camera, n in zip(cameras, counts)]
    )
    K = torch.cat([camera.K.double().expand(n, 3, 3) for camera, n in zip(cameras, counts)])
    pixel = max(cameras[0].width, cameras[0].height) / 640
    found = motion.double()
    for reach in (40.0, 25.0, 15.0, 10.0, 6.0, 6.0, 6.0):
        there = transform_points(found, points)
        seen = (views[:, :3, :3] @ there[..., None])[..., 0] + views[:, :3, 3]
        x, y, z = seen.unbind(1)
        fx, fy = K[:, 0, 0], K[:, 1, 1]
        error = torch.stack([fx * x / z + K[:, 0, 2], fy * y / z + K[:, 1, 2]], 1) - pixels
        near = (error.norm(dim=1) < reach * pixel) & (z > 0)
        if int(near.sum()) < _FEWEST:
            break
        zero = torch.zeros_like(z)
        slope = torch.stack([fx / z, zero, -fx * x / z**2, zero, fy / z, -fy * y / z**2], 1).reshape(-1, 2, 3)
        middle = there[near].mean(0)
        rows = (slope @ views[:, :3, :3])[near]
        # A small turn about the middle moves a point by the cross product with its arm.
        turns = -rows @ _skew(there[near] - middle)
        jacobian = torch.cat([turns, rows], 2).reshape(-1, 6)
        damped = jacobian.T @ jacobian + 1e-6 * torch.eye(6).double() * float(jacobian.square().sum() / 6)
        step = -torch.linalg.solve(damped, jacobian.T @ error[near].reshape(-1))
        rotation = rotation_from_rotvec(step[:3])
        found = pose_from(rotation, middle - rotation @ middle + step[3:]) @ found
    return found.to(motion)


def _skew(vectors: Tensor) -> Tensor:
    x, y, z = vectors.unbind(-1)
    o = torch.zeros_like(x)
    return torch.stack([o, -z, y, z, o, -x, -y, x, o], -1).reshape(-1, 3, 3)


def _of_object(known: Landmarks, object_id: int) -> Landmarks:
    mine = known.object_ids == object_id
    counts = [int(mine[a:b].sum()) for a, b in zip(known.starts, known.starts[1:])]
    starts = [0]
    for count in counts:
        starts.append(starts[-1] + count)
    return Landmarks(known.points[mine], known.descriptors[mine], known.object_ids[mine], tuple(starts))


def support(motion: Float[Tensor, "4 4"], clues: Clues, matches: Sequence[Matches]) -> int:
    """Matches in all pictures that a motion explains."""
    count = 0
    for difference, found in zip(clues.differences, matches):
        camera = difference.shot.camera
        at, depth = camera.project(transform_points(motion, found.points))
        error = (at - found.pixels).norm(dim=1) * 640 / max(camera.width, camera.height)
        count += int(((error < _ERROR) & (depth > 0)).sum())
    return count


def by_search(
    item: Gaussians, clues: Clues, ground: Ground, views: Sequence[Backdrop]
) -> list[Float[Tensor, "4 4"]]:
    """Motions over the surfaces of the world that put an object where pictures have changed, best first.

    Args:
        item: the object where it was, in the world frame.
        clues: where pictures have changed.
        ground: surfaces.
        views: small pictures on which motions are tried.
    """
    points = _sample(item)
    spots = _spots(points, clues, ground)
    tried = []
    for spot in spots:
        for yaw in range(_YAWS):
            motion = _standing(points, spot, 2 * math.pi * yaw / _YAWS, ground.up)
            tried.append((total_cost(views, placed(item, motion)), len(tried), motion))
    return [motion for _, _, motion in sorted(tried)[:_KEPT]]


def _sample(item: Gaussians) -> Float[Tensor, "m 3"]:
    """Some of an object's points."""
    means = item.means[item.opacities > 0.3] if bool((item.opacities > 0.3).any()) else item.means
    return means[:: max(1, len(means) // _POINTS)]


def _spots(points: Tensor, clues: Clues, ground: Ground) -> list[Tensor]:
    """Shifts of an object to places that look changed all over, the surest first, onto what is there."""
    middle, size = points.mean(0), float((points - points.mean(0)).norm(dim=1).quantile(0.9))
    seeds = _changed_places(clues)
    if not len(seeds) or size <= 0:
        return [torch.zeros(3)]
    flat = (seeds - middle) @ ground.along.T
    low, high = flat.quantile(0.01, dim=0), flat.quantile(0.99, dim=0)
    sides = [
        torch.linspace(float(a), float(b), min(_MOST_ALONG, 2 + int((b - a) / (_SPACING * size))))
        for a, b in zip(low, high)
    ]
    grid = torch.cartesian_prod(*sides) @ ground.along
    scores = _covered(points, grid, [each.changed for each in clues.differences], clues)
    found: list[Tensor] = []
    for row in scores.argsort(descending=True).tolist():
        if len(found) >= _SPOTS or float(scores[row]) < 0.3:
            break
        if all(float((grid[row] - other).norm()) > 0.5 * size for other in found):
            found.append(grid[row])
    shifts = [torch.zeros(3)]
    for spot in found:
        drop = _drop(points, spot, ground)
        shifts.append(spot)
        if abs(drop) > 0.05 * size:
            shifts.append(spot + drop * ground.up)
    return shifts


def _changed_places(clues: Clues) -> Float[Tensor, "m 3"]:
    """Where in space changed pixels are, if what changed lies on the surface behind."""
    places = []
    for each in clues.differences:
        rows = (each.changed & (each.depth > 0)).flatten().nonzero()[:, 0]
        rows = rows[:: max(1, len(rows) // 300)]
        pixels = each.shot.camera.pixel_centers().reshape(-1, 2)[rows]
        places.append(each.shot.camera.unproject(pixels, each.depth.flatten()[rows]))
    return torch.cat(places) if places else torch.zeros(0, 3)


def _covered(
    points: Tensor, shifts: Tensor, masks: Sequence[Bool[Tensor, "h w"]], clues: Clues
) -> Float[Tensor, " s"]:
    """Which share of an object would lie on changed pixels, for each shift; a low quantile over pictures."""
    shares = []
    for mask, each in zip(masks, clues.differences):
        camera = each.shot.camera
        everywhere = (points[None] + shifts[:, None]).reshape(-1, 3)
        at, depth = camera.project(everywhere)
        x, y = at.floor().long().unbind(1)
        inside = (depth > 0) & (x >= 0) & (y >= 0) & (x < camera.width) & (y < camera.height)
        # The backdrop that nothing is known of may hide anything.
        free = mask | (each.alpha < 0.5)
        hit = torch.zeros(len(everywhere))
        hit[inside] = free[y[inside], x[inside]].float()
        counted = inside.reshape(len(shifts), -1).float().sum(1)
        share = hit.reshape(len(shifts), -1).sum(1) / counted.clamp(min=1)
        shares.append(torch.where(counted > 0.5 * len(points), share, torch.nan))
    stacked = torch.stack(shares)
    enough = (~stacked.isnan()).sum(0) >= min(3, len(shares))
    return torch.where(enough, stacked.nanquantile(0.25, dim=0), 0.0).nan_to_num(0)


def _drop(points: Tensor, shift: Tensor, ground: Ground) -> float:
    """How far an object must rise to stand on what is at a place."""
    there = (points + shift) @ ground.along.T
    middle, radius = there.mean(0), float((there - there.mean(0)).norm(dim=1).quantile(0.8))
    flat = ground.points @ ground.along.T
    below = (flat - middle).norm(dim=1) < max(radius, 1e-6)
    if int(below.sum()) < 8:
        return 0.0
    heights = ground.points[below] @ ground.up
    bottom = float(((points + shift) @ ground.up).quantile(0.03))
    return float(heights.quantile(0.9)) - bottom


def _standing(points: Tensor, shift: Tensor, yaw: float, up: Tensor) -> Float[Tensor, "4 4"]:
    """A turn about the vertical through an object's middle, then a shift."""
    rotation, middle = rotation_from_rotvec(up * yaw), points.mean(0)
    return pose_from(rotation, middle - rotation @ middle + shift)
