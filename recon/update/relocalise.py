"""Where in a known world new pictures were taken: landmarks, PnP, then the picture itself by gradient."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from gaussworld.camera import Camera
from gaussworld.gaussians import Gaussians
from gaussworld.log import Done, Event, Progress
from gaussworld.pose import invert_pose, pose_from, rotation_from_rotvec
from gaussworld.render import render
from gaussworld.threads import one_torch_thread

from ..adam import Learnt
from ..frames import View
from .exposure_match import Exposure, matched_exposure
from .landmarks import Landmarks, Matches, drawn, find_features, landmarks, match, opencv, sized, with_pose
from .pictures import Picture

#: [px] reprojection error of an inlier, first and once a rendering from nearby was looked at, per 640 px.
_LOOSE, _TIGHT = 6.0, 2.5
_TRIES = 2000
#: Pictures on which lenses are tried when several may have taken them.
_PROBES = 3
#: Photometric steps, and what a pose may change in each: [rad], and shares of the distance to the scene.
_STEPS, _RATE = 24, 1.5e-3
#: Colour differences beyond this are changes, not errors of the pose.
_ROBUST = 0.1
#: A correction by gradient beyond these is no correction: [rad], share of the distance.
_MOST_TURN, _MOST_SHIFT = 0.02, 0.03


@dataclass(frozen=True, eq=False)
class Shot:
    """A new picture that found its place."""

    name: str
    view: View
    """Its camera stands where it was found to."""
    exposure: Exposure
    """How this picture shows the world's colours."""

    @property
    def camera(self) -> Camera:
        return self.view.camera

    def shrunk(self, factor: int) -> "Shot":
        """The same with fewer pixels."""
        return replace(self, view=self.view.shrunk(factor))


@dataclass(frozen=True, eq=False)
class Registration:
    """What became of one picture."""

    name: str
    inliers: int = 0
    """Landmarks that the pose explains."""
    matches: int = 0
    reprojection_error: float = math.nan
    """[px] median over the inliers."""
    problem: str = ""
    """Why it has no place; empty when it has."""
    shot: Shot | None = None


@dataclass(frozen=True, eq=False)
class _Found:
    camera: Camera
    inliers: int
    error: float


def relocalised(
    gaussians: Gaussians,
    cameras: Sequence[Camera],
    pictures: Sequence[Picture],
    *,
    longest: int = 640,
    renderings: int = 24,
    fewest_inliers: int = 15,
) -> Iterator[Event[tuple[Registration, ...]]]:
    """Find the cameras of new pictures in a world.

    Features of renderings of the world have a place in space; a picture that shows enough of them gets a pose
    by RANSAC (Fischler and Bolles 1981), from whose rendering features are matched again, many and exactly,
    and the last correction makes picture and rendering alike by gradient, blind to what has changed.

    Args:
        gaussians: what is shown of the world, in the world frame.
        cameras: the world's own.
        pictures: where from?
        longest: [px] longer side at which all are compared.
        renderings: how many of the world's cameras to look from.
        fewest_inliers: a picture with fewer has no place.

    Yields:
        `Progress` in pictures, `Done` with one registration for each picture.

    Raises:
        CaptureError: a world without cameras, or without anything that could be recognised.
    """
    known = landmarks(gaussians, cameras, longest, renderings)
    lens, found = None, []
    for picture in pictures:
        if len(picture.lenses) > 1 and lens is None:
            lens = _likeliest_lens(pictures[:_PROBES], known, longest)
        chosen = min(lens or 0, len(picture.lenses) - 1)
        with one_torch_thread():
            found.append(_registered(picture, chosen, gaussians, known, longest, fewest_inliers))
        yield Progress(len(found), len(pictures), message=f"finding the place of {picture.name}")
    yield Done(tuple(found))


def _likeliest_lens(pictures: Sequence[Picture], known: Landmarks, longest: int) -> int:
    """The lens with which most landmarks fit."""
    scores: dict[int, int] = {}
    for picture in pictures:
        for number, lens in enumerate(picture.lenses):
            view = picture.view(lens, longest)
            pose = solved(match(find_features(view.image), known), view.camera, _LOOSE)
            scores[number] = scores.get(number, 0) + (pose[1] if pose is not None else 0)
    # The first of equals is the likeliest by itself.
    return max(scores, key=lambda number: (scores[number], -number)) if scores else 0


def _registered(
    picture: Picture, lens: int, gaussians: Gaussians, known: Landmarks, longest: int, fewest: int
) -> Registration:
    view = picture.view(picture.lenses[lens], longest)
    features = find_features(view.image)
    if len(features.pixels) < fewest:
        problem = f"shows only {len(features.pixels)} features; is it blurred or of something plain?"
        return Registration(picture.name, problem=problem)
    matches = match(features, known)
    pixel = max(view.camera.width, view.camera.height) / 640
    found = _by_given_pose(view, features, gaussians, pixel, fewest) if picture.posed else None
    if found is None:
        pose = solved(matches, view.camera, _LOOSE * pixel)
        if pose is None or pose[1] < fewest:
            count = 0 if pose is None else pose[1]
            problem = (
                f"fits only {count} landmarks of the world, {fewest} are needed; does it show this place?"
            )
            return Registration(picture.name, count, len(matches.points), problem=problem)
        found = _looked_again(with_pose(view.camera, pose[0]), features, gaussians, pixel, fewest)
    if found is None:
        problem = "looks unlike the world from where its features say it is"
        return Registration(picture.name, 0, len(matches.points), problem=problem)
    view = replace(view, camera=_refined(view, found.camera, gaussians))
    drawing = render(gaussians, view.camera)
    shot = Shot(picture.name, view, matched_exposure(drawing.rgb, view.image, drawing.alpha))
    return Registration(picture.name, found.inliers, len(matches.points), found.error, shot=shot)


def _by_given_pose(
    view: View, features: object, gaussians: Gaussians, pixel: float, fewest: int
) -> _Found | None:
    """A pose that came with the picture, if the world looks that way from there."""
    return _looked_again(view.camera, features, gaussians, pixel, 2 * fewest)


def _looked_again(
    camera: Camera, features: object, gaussians: Gaussians, pixel: float, fewest: int
) -> _Found | None:
    """The pose after matching with a rendering from it, which sees the same things under the same angles."""
    known = landmarks(gaussians, [camera], max(camera.width, camera.height), 1)
    matches = match(features, known, ratio=0.9)  # pyright: ignore[reportArgumentType]
    near = (camera.project(matches.points)[0] - matches.pixels).norm(dim=1) < 30 * pixel
    matches = Matches(matches.pixels[near], matches.points[near], matches.object_ids[near])
    pose = solved(matches, camera, _TIGHT * pixel)
    if pose is None or pose[1] < fewest:
        return None
    return _Found(with_pose(camera, pose[0]), pose[1], pose[2])


def solved(
    matches: Matches, camera: Camera, threshold: float
) -> tuple[Float[Tensor, "4 4"], int, float] | None:
    """A camera's pose by RANSAC over matches with points, or None.

    Args:
        matches: pixels and points.
        camera: a pinhole camera; its pose does not matter.
        threshold: [px] error of an inlier.

    Returns:
        `world_from_camera`, how many matches are inliers, and their median error [px].
    """
    if len(matches.points) < 6:
        return None
    cv2 = opencv()
    # OpenCV's first pixel has its centre at 0.
    pixels, points = (matches.pixels - 0.5).double().numpy(), matches.points.double().numpy()
    K = camera.K.double().clone()
    K[:2, 2] -= 0.5
    cv2.setRNGSeed(0)
    try:
        good, turn, shift, inliers = cv2.solvePnPRansac(
            points, pixels, K.numpy(), None, iterationsCount=_TRIES, reprojectionError=threshold,
            confidence=0.9999, flags=cv2.SOLVEPNP_SQPNP,
        )  # fmt: skip
    except cv2.error:
        # Points that all lie in one place.
        return None
    if not good or inliers is None or len(inliers) < 4:
        return None
    rows = inliers[:, 0]
    turn, shift = cv2.solvePnPRefineLM(points[rows], pixels[rows], K.numpy(), None, turn, shift)
    rotation = rotation_from_rotvec(torch.from_numpy(turn[:, 0]))
    pose = invert_pose(pose_from(rotation, torch.from_numpy(shift[:, 0]))).to(camera.world_from_camera)
    if not bool(torch.isfinite(pose).all()):
        return None
    at, depth = with_pose(camera, pose).project(matches.points)
    error = (at - matches.pixels).norm(dim=1)
    fits = (error < threshold) & (depth > 0)
    if not bool(fits.any()):
        return None
    # One keypoint may match the same place in several renderings: places count, not matches.
    places = (matches.pixels[fits] / 2).round().unique(dim=0)
    return pose, len(places), float(error[fits].median())


def _refined(view: View, camera: Camera, gaussians: Gaussians) -> Camera:
    """The pose that makes rendering and picture most alike, blind to what has changed."""
    small = replace(view, camera=camera).shrunk(2)
    drawing = drawn(gaussians, small.camera)
    assert drawing.depth is not None
    hit = drawing.depth[drawing.alpha > 0.5]
    if len(hit) < 100:
        return camera
    distance, target = float(hit.median()), small.image
    exposure = matched_exposure(drawing.rgb, target, drawing.alpha)
    before = _unlikeness(drawing.rgb, drawing.alpha, target, exposure)
    delta = Learnt(torch.zeros(6))
    for step in range(_STEPS):
        moved = _nudged(small.camera, delta.value, distance)
        drawing = render(gaussians, moved)
        loss = _unlikeness(drawing.rgb, drawing.alpha.detach(), target, exposure)
        loss.backward()
        delta.step(_RATE * 0.1 ** (step / _STEPS))
    nudged = _nudged(small.camera, delta.value.detach(), distance)
    drawing = drawn(gaussians, nudged)
    after = _unlikeness(drawing.rgb, drawing.alpha, target, exposure)
    turn, shift = (float(part.norm()) for part in delta.value.detach().split(3))
    if float(after) >= float(before) or turn > _MOST_TURN or shift > _MOST_SHIFT:
        return camera
    return with_pose(camera, nudged.world_from_camera)


def _nudged(camera: Camera, delta: Tensor, distance: float) -> Camera:
    """Turned and shifted in the camera's own axes; differentiable."""
    change = pose_from(rotation_from_rotvec(delta[:3]), delta[3:] * distance)
    return with_pose(camera, camera.world_from_camera @ change)


def _unlikeness(rgb: Tensor, alpha: Tensor, target: Tensor, exposure: Exposure) -> Tensor:
    """Mean of a bounded error (Geman and McClure 1985) where the world has something to show."""
    error = (exposure(rgb) - target).square().mean(-1)
    weight = (alpha > 0.9).float()
    return (error / (error + _ROBUST**2) * weight).sum() / weight.sum().clamp(min=1)


__all__ = ["Registration", "Shot", "relocalised", "sized", "solved"]
