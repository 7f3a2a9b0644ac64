"""What no motion explains is fitted anew, and nothing else: traces of what left, and things that are new."""

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool
from torch import Tensor

from gaussworld.gaussians import DELETED, HIDDEN, LOCKED, Gaussians, cat
from gaussworld.log import Done, Event, Progress
from gaussworld.pose import invert_pose
from gaussworld.render import render
from gaussworld.render.loss import photometric_loss
from gaussworld.threads import one_torch_thread
from gaussworld.world import World
from gaussworld.world_object import ObjectKind, WorldObject

from ..optim import LearningRates, Parameters
from .changes import Difference, compared, widened
from .landmarks import drawn
from .relocalise import Shot
from .seeds import Seeds, seeds

#: Share of the pictures that must agree that a Gaussian shows what is gone, and how many must see it.
_AGREE, _SEEN = 0.7, 3
#: [px] Pixels that must be unexplained in so many pictures before anything is fitted, per 640 px of width.
_FEWEST_PIXELS, _FEWEST_PICTURES = 150, 3
#: [dB] What the fit must gain where pictures were not explained.
_WORTH = 1.5
_MARGIN = 12
#: An object that loses more than this share of what is shown of it has another form.
_FORM_SHARE = 0.05
_RATES = LearningRates(means=2e-3)


@dataclass(frozen=True, eq=False)
class Renewal:
    """What was fitted anew."""

    world: World
    changed: bool = False
    added: int = 0
    """Gaussians that are new."""
    erased: int = 0
    """Gaussians marked as deleted, because they show what is no longer there."""
    new_objects: tuple[int, ...] = ()
    """Ids of things that were not there before."""
    psnr_before: float = 0.0
    """[dB] where pictures were not explained."""
    psnr_after: float = 0.0


def renewed(
    world: World, shots: Sequence[Shot], known: Sequence[Bool[Tensor, "h w"]], steps: int, seed: int
) -> Iterator[Event[Renewal]]:
    """Fit what pictures show and the world does not; everything else stays as it is, bit for bit.

    Args:
        world: after all motions.
        shots: pictures that found their place.
        known: where each shows what the world knew well before.
        steps: pictures looked at.
        seed: their order, and the choice of seeds.

    Yields:
        `Progress` in steps, `Done` with the world and what is new in it.
    """
    shown = world.shown()
    differences = compared(shown, shots, known)
    masks = [unexplained(each) for each in differences]
    enough = [int(mask.sum()) > _FEWEST_PIXELS * (mask.shape[1] / 640) ** 2 for mask in masks]
    if sum(enough) < _FEWEST_PICTURES:
        yield Done(Renewal(world))
        return
    generator = torch.Generator().manual_seed(seed)
    stale = _stale(shown, differences, masks)
    kept = shown.select(~stale)
    found = _allowed(seeds(differences, masks, kept, generator), world)
    if not len(found.gaussians):
        yield Done(Renewal(world))
        return
    before = _likeness(shown, shots, masks)
    with one_torch_thread():
        fresh = yield from _fitted(kept, found.gaussians, shots, masks, steps, generator)
    after = _likeness(cat([kept, fresh]), shots, masks)
    if after < before + _WORTH:
        yield Done(Renewal(world, psnr_before=before, psnr_after=after))
        return
    new_world, new_objects = _taken_up(world, stale, fresh, found)
    yield Done(Renewal(new_world, True, len(fresh), int(stale.sum()), new_objects, before, after))


def unexplained(difference: Difference) -> Bool[Tensor, "h w"]:
    """Pixels that show something else than the world does, holes in it too."""
    return difference.changed | difference.hollow


def _stale(
    shown: Gaussians, differences: Sequence[Difference], masks: Sequence[Tensor]
) -> Bool[Tensor, " n"]:
    """Gaussians that most pictures which see them say are no longer there; locked ones stay."""
    seen, against = torch.zeros(len(shown)), torch.zeros(len(shown))
    for each, mask in zip(differences, masks):
        at, z = each.shot.camera.project(shown.means)
        x, y = at.floor().long().unbind(1)
        inside = (z > 0) & (x >= 0) & (y >= 0) & (x < each.shot.camera.width) & (y < each.shot.camera.height)
        rows = inside.nonzero()[:, 0]
        # What lies behind the surface is not seen, unless the surface is only a veil.
        front = z[rows] < each.depth[y[rows], x[rows]] * 1.01
        rows = rows[front]
        seen[rows] += 1
        against[rows] += mask[y[rows], x[rows]].float()
    free = (shown.flags & LOCKED) == 0
    return free & (seen >= _SEEN) & (against >= _AGREE * seen)


def _allowed(found: Seeds, world: World) -> Seeds:
    """Without those that would mend the surface of a locked object."""
    locked = [number for number, item in world.objects.items() if item.locked]
    rows = ~torch.isin(found.owners, torch.tensor(locked, dtype=found.owners.dtype))
    return Seeds(found.gaussians.select(rows), found.owners[rows])


def _fitted(
    kept: Gaussians,
    start: Gaussians,
    shots: Sequence[Shot],
    masks: Sequence[Tensor],
    steps: int,
    generator: torch.Generator,
) -> Generator[Progress, None, Gaussians]:
    """Only the new Gaussians learn; the others are drawn with them."""
    size = float((start.means - start.means.mean(0)).norm(dim=1).quantile(0.9)) + 1e-9
    parameters = Parameters(start.with_sh_degree(0), _RATES, size)
    windows = [_window(mask) for mask in masks]
    usable = [i for i, window in enumerate(windows) if window is not None]
    for step in range(steps):
        i = usable[int(torch.randint(len(usable), (1,), generator=generator))]
        window = windows[i]
        assert window is not None
        left, top, width, height = window
        shot = shots[i]
        rendering = render(cat([kept, parameters.gaussians()]), shot.camera.cropped(left, top, width, height))
        part = (slice(top, top + height), slice(left, left + width))
        target = shot.exposure.undone(shot.view.image[part])
        counts = widened(masks[i], _MARGIN // 2)[part][..., None]
        photometric_loss(torch.where(counts, rendering.rgb, target), target).backward()
        parameters.step(step / steps)
        if step % 10 == 9:
            yield Progress(step + 1, steps, message="fitting what is new")
    return parameters.gaussians().detach()


def _window(mask: Tensor) -> tuple[int, int, int, int] | None:
    """Left, top, width and height of what is true, with a margin."""
    rows, columns = mask.any(1).nonzero()[:, 0], mask.any(0).nonzero()[:, 0]
    if not len(rows):
        return None
    top, left = max(0, int(rows[0]) - _MARGIN), max(0, int(columns[0]) - _MARGIN)
    bottom, right = (
        min(mask.shape[0], int(rows[-1]) + _MARGIN),
        min(mask.shape[1], int(columns[-1]) + _MARGIN),
    )
    return left, top, right - left, bottom - top


@torch.no_grad()
def _likeness(gaussians: Gaussians, shots: Sequence[Shot], masks: Sequence[Tensor]) -> float:
    """[dB] of all pictures together where the masks are true."""
    squared, count = 0.0, 0
    for shot, mask in zip(shots, masks):
        if bool(mask.any()):
            error = shot.exposure(drawn(gaussians, shot.camera).rgb) - shot.view.image
            squared += float(error[mask].square().sum())
            count += 3 * int(mask.sum())
    return float(-10 * torch.tensor(max(squared / max(count, 1), 1e-10)).log10())


def _taken_up(
    world: World, stale: Bool[Tensor, " n"], fresh: Gaussians, found: Seeds
) -> tuple[World, tuple[int, ...]]:
    """The world without what is stale, surfaces mended, and new things as objects of their own."""
    world = _without_stale(world, stale)
    for number, item in world.objects.items():
        appended = found.owners == number
        if bool(appended.any()):
            own = fresh.select(appended).transformed(invert_pose(item.world_from_object))
            ids = torch.full_like(own.object_ids, number)
            gaussians = cat([item.gaussians, replace(own, object_ids=ids)])
            world = world.with_object(replace(item, gaussians=gaussians))
    numbers = []
    for label in found.owners[found.owners < 0].unique().tolist():
        part, number = fresh.select(found.owners == label), world.next_id
        pose = torch.eye(4)
        pose[:3, 3] = part.means.mean(0)
        name = _free_name(world, "new thing")
        ids = torch.full_like(part.object_ids, number)
        rest = replace(part.transformed(invert_pose(pose)), object_ids=ids)
        world = world.with_object(WorldObject(number, name, rest, ObjectKind.RIGID, pose))
        numbers.append(number)
    return world, tuple(numbers)


def _without_stale(world: World, stale: Bool[Tensor, " n"]) -> World:
    """The world with these of its shown Gaussians marked as deleted."""
    # `shown` left rows out; the mask counts them in the order of the objects.
    start = 0
    for item in world.objects.values():
        rows = _shown_rows(item).nonzero()[:, 0]
        mine = stale[start : start + len(rows)]
        start += len(rows)
        if bool(mine.any()):
            flags = item.gaussians.flags.clone()
            flags[rows[mine]] |= DELETED
            rest = replace(item.gaussians, flags=flags)
            # A stain that went away leaves the form as it is; a handle that broke off does not.
            same_form = int(mine.sum()) <= _FORM_SHARE * len(rows)
            world = world.with_object(replace(item, gaussians=rest) if same_form else item.reshaped(rest))
    return world


def _shown_rows(item: WorldObject) -> Bool[Tensor, " n"]:
    if item.hidden:
        return torch.zeros(len(item.gaussians), dtype=torch.bool)
    return (item.gaussians.flags & (DELETED | HIDDEN)) == 0


def _free_name(world: World, name: str) -> str:
    taken, number, free = {item.name for item in world.objects.values()}, 2, name
    while free in taken:
        free, number = f"{name} {number}", number + 1
    return free
