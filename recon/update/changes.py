"""What new pictures show differently from a world: changed pixels, and the objects they are of."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from gaussworld.gaussians import Gaussians

from .exposure_match import matched_exposure
from .landmarks import drawn, opencv
from .relocalise import Shot

#: [px] how far a rendering may be off, per 640 px of picture, and how wide a change is at least.
_SHIFT, _NARROWEST = 2, 5
#: A colour difference is a change from here on, or from so many times the middle difference on.
_FAINTEST, _ABOVE_NOISE = 0.07, 6.0
_SOLID = 0.8
#: An object has changed where so much of it looks changed, in so many of the pictures that show it well.
_OBJECT_SHARE, _PICTURE_SHARE = 0.3, 0.5
#: [px] A picture shows an object well from here on.
_WELL_SEEN = 60


@dataclass(frozen=True, eq=False)
class Difference:
    """One picture against the world."""

    shot: Shot
    rgb: Float[Tensor, "h w 3"]
    """The world, as this picture would show its colours."""
    alpha: Float[Tensor, "h w"]
    depth: Float[Tensor, "h w"]
    object_ids: Int[Tensor, "h w"]
    """Of what the world shows; -1 where it shows nothing."""
    error: Float[Tensor, "h w"]
    """Colour difference, blind to shifts of a pixel or two."""
    changed: Bool[Tensor, "h w"]
    """Where it cannot be noise."""
    hollow: Bool[Tensor, "h w"]
    """Holes: the world shows little there, and more all around."""


@dataclass(frozen=True)
class Suspect:
    """An object that looks changed."""

    object_id: int
    share: float
    """How much of it looks changed, range [0, 1]: the middle over the pictures that show it well."""
    pictures: int
    """How many show it well."""


def compared(
    gaussians: Gaussians, shots: Sequence[Shot], known: Sequence[Bool[Tensor, "h w"]] | None = None
) -> list[Difference]:
    """Every picture against a world.

    Args:
        gaussians: what is shown of it, with object ids.
        shots: the pictures.
        known: where each picture shows what the world knows well; elsewhere nothing counts as changed.
    """
    found = [_difference(gaussians, shot) for shot in shots]
    if known is None:
        return found
    return [
        replace(each, changed=each.changed & mask, hollow=each.hollow & mask)
        for each, mask in zip(found, known)
    ]


def _difference(gaussians: Gaussians, shot: Shot) -> Difference:
    drawing, picture = drawn(gaussians, shot.camera), shot.view.image
    assert drawing.depth is not None and drawing.ids is not None
    exposure = matched_exposure(drawing.rgb, picture, drawing.alpha)
    rgb = exposure(drawing.rgb).clamp(0, 1)
    error = tolerant_error(rgb, picture)
    solid = drawing.alpha > _SOLID
    noise = float(error[solid].median()) if bool(solid.any()) else 0.0
    rows = drawing.ids.long()
    ids = torch.where(rows >= 0, gaussians.object_ids[rows.clamp(min=0)].long(), -1)
    changed = cleaned((error > max(_FAINTEST, _ABOVE_NOISE * noise)) & solid, shot.camera.width)
    return Difference(shot, rgb, drawing.alpha, drawing.depth, ids, error, changed, _hollow(drawing.alpha))


def _hollow(alpha: Tensor) -> Bool[Tensor, "h w"]:
    """Thin or empty places that do not reach the border of what the world knows."""
    cv2 = opencv()
    thin = alpha < _SOLID
    _, labels = cv2.connectedComponents(thin.to(torch.uint8).numpy())
    pieces = torch.from_numpy(labels).long()
    edge = torch.cat([pieces[0], pieces[-1], pieces[:, 0], pieces[:, -1]]).unique()
    inner = thin & ~torch.isin(pieces, edge)
    return cleaned(inner, alpha.shape[1])


def tolerant_error(rgb: Float[Tensor, "h w 3"], picture: Float[Tensor, "h w 3"]) -> Float[Tensor, "h w"]:
    """Colour difference of each pixel to the most alike pixel around it, in either direction; smooth.

    Renderings are a little soft and a pixel off: edges must not count as changes.
    """
    pixel = max(picture.shape[:2]) / 640
    reach = max(1, round(_SHIFT * pixel))
    one = _nearest(rgb, picture, reach)
    return _smoothed(torch.minimum(one, _nearest(picture, rgb, reach)), 1.5 * pixel)


def _nearest(moving: Tensor, fixed: Tensor, reach: int) -> Tensor:
    padded = torch.nn.functional.pad(moving.permute(2, 0, 1)[None], (reach,) * 4, mode="replicate")[0]
    height, width = fixed.shape[:2]
    best = torch.full((height, width), 10.0)
    target = fixed.permute(2, 0, 1)
    for dy in range(2 * reach + 1):
        for dx in range(2 * reach + 1):
            window = padded[:, dy : dy + height, dx : dx + width]
            best = torch.minimum(best, (window - target).abs().mean(0))
    return best


def _smoothed(values: Tensor, sigma: float) -> Tensor:
    blurred = opencv().GaussianBlur(values.contiguous().numpy(), (0, 0), max(sigma, 0.3))
    return torch.from_numpy(blurred)


def cleaned(mask: Bool[Tensor, "h w"], width: int) -> Bool[Tensor, "h w"]:
    """A mask without specks and without small holes."""
    cv2 = opencv()
    side = max(3, round(_NARROWEST * width / 640) | 1)
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side))
    opened = cv2.morphologyEx(mask.to(torch.uint8).numpy(), cv2.MORPH_OPEN, kernel)
    return torch.from_numpy(cv2.morphologyEx(opened, cv2.MORPH_CLOSE, kernel)) > 0


def widened(mask: Bool[Tensor, "h w"], pixels: int) -> Bool[Tensor, "h w"]:
    """A mask with a margin around it."""
    if pixels < 1:
        return mask
    cv2 = opencv()
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * pixels + 1, 2 * pixels + 1))
    return torch.from_numpy(cv2.dilate(mask.to(torch.uint8).numpy(), kernel)) > 0


def suspects(differences: Sequence[Difference], object_ids: Sequence[int]) -> list[Suspect]:
    """Objects of which much looks changed in many pictures, most changed first.

    One that something stands in front of looks changed too, though seldom from everywhere: it is asked next
    whether it has really moved.
    """
    found = []
    for number in object_ids:
        shares = []
        for difference in differences:
            mine = difference.object_ids == number
            pixel = difference.shot.camera.width / 640
            if int(mine.sum()) >= _WELL_SEEN * pixel**2:
                shares.append(float(difference.changed[mine].float().mean()))
        if not shares:
            continue
        many = sum(share > _OBJECT_SHARE for share in shares) / len(shares)
        if many >= _PICTURE_SHARE and len(shares) >= min(3, len(differences)):
            found.append(Suspect(number, float(torch.tensor(shares).median()), len(shares)))
    return sorted(found, key=lambda suspect: -suspect.share)
