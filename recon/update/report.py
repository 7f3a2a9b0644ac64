"""What an update found, for people and for programs: sentences, JSON, and a strip of pictures."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from gaussworld.edit.plain import to_plain
from gaussworld.pose import rotvec_from_rotation
from gaussworld.render import render
from gaussworld.world import World

from .changes import compared
from .moves import Move
from .relocalise import Registration, Shot
from .run import Updated

_STRIPS, _STRIP_WIDTH = 3, 400
_MARKED = (1.0, 0.25, 0.2)


def facts(before: World, updated: Updated) -> dict[str, Any]:
    """All of it as plain values, for JSON and for the history."""
    renewal = updated.renewal
    return {
        "pictures": [_picture(each) for each in updated.registrations],
        "unreadable": [{"name": name, "reason": reason} for name, reason in updated.left_out],
        "objects": [_object(before, move) for move in updated.moves],
        "edits": [{"name": edit.name, **to_plain(edit)} for edit in updated.edits],
        "refit": None if renewal is None or not renewal.changed else {
            "gaussians_added": renewal.added,
            "gaussians_erased": renewal.erased,
            "new_objects": [
                {"id": number, "name": updated.world.find(number).name} for number in renewal.new_objects
            ],
            "psnr_before": round(renewal.psnr_before, 2),
            "psnr_after": round(renewal.psnr_after, 2),
        },
        "changed": updated.changed,
        "seconds": {name: round(value, 1) for name, value in updated.seconds.items()},
    }  # fmt: skip


def sentences(before: World, updated: Updated, dry: bool) -> list[str]:
    """What a person wants to know."""
    found = updated.registrations
    good = [each for each in found if each.shot is not None]
    error = sorted(each.reprojection_error for each in good)[len(good) // 2]
    lines = [f"{len(good)} of {len(found)} pictures found their place, {error:.2f} px beside the landmarks."]
    lines += [f"  {each.name} {each.problem}" for each in found if each.shot is None]
    unit = "m" if before.metres_per_unit == 1 else "units"
    for move in updated.moves:
        lines.append(f"  {_sentence(before, move, unit)}")
    renewal = updated.renewal
    if renewal is not None and renewal.changed:
        lines.append(
            f"  Fitted anew where nothing explained the pictures: {renewal.added:,} Gaussians came,"
            f" {renewal.erased:,} went, {renewal.psnr_before:.1f} dB became {renewal.psnr_after:.1f} dB."
        )
        lines += [f"  New: {number} ({updated.world.find(number).name})." for number in renewal.new_objects]
    if not updated.changed:
        lines.append("Nothing has changed.")
    elif dry:
        lines.append("Nothing was written (--dry-run).")
    return lines


def _sentence(before: World, move: Move, unit: str) -> str:
    item = before.find(move.object_id)
    name = f"{item.id} ({item.name})"
    if move.verdict == "gone":
        return f"{name} is gone: it is hidden; `gaussworld world edit` hide brings it back, or delete it."
    if move.verdict == "stays":
        return f"{name} looked changed and stays where it was: nothing explains the pictures better."
    shift, turn = travel(before, move)
    gain = f"{move.psnr_before:.1f} dB became {move.psnr_after:.1f} dB there"
    return f"{name} moved by {shift:.3g} {unit} and {math.degrees(turn):.0f} degrees; {gain}."


def travel(before: World, move: Move) -> tuple[float, float]:
    """How far an object's origin went [unit of the world], and the angle it turned by [rad]."""
    origin = before.find(move.object_id).world_from_object[:3, 3]
    there = move.motion[:3, :3] @ origin + move.motion[:3, 3]
    return float((there - origin).norm()), float(rotvec_from_rotation(move.motion[:3, :3]).norm())


def _picture(each: Registration) -> dict[str, Any]:
    row: dict[str, Any] = {"name": each.name, "registered": each.shot is not None, "inliers": each.inliers}
    row["matches"] = each.matches
    if each.shot is None:
        return {**row, "problem": each.problem}
    pose = [[round(float(v), 6) for v in line] for line in each.shot.camera.world_from_camera]
    return {**row, "reprojection_error": round(each.reprojection_error, 3), "world_from_camera": pose}


def _object(before: World, move: Move) -> dict[str, Any]:
    row: dict[str, Any] = {
        "id": move.object_id,
        "name": before.find(move.object_id).name,
        "verdict": move.verdict,
        "costs": {name: round(value, 4) for name, value in move.costs.items()},
    }
    if move.verdict == "moved":
        shift, turn = travel(before, move)
        row |= {"shift": round(shift, 5), "turn_deg": round(math.degrees(turn), 2)}
        row |= {"psnr_before": round(move.psnr_before, 2), "psnr_after": round(move.psnr_after, 2)}
    return row


@torch.no_grad()
def strip(before: World, updated: Updated) -> Float[Tensor, "h w 3"]:
    """The pictures that changed most: picture, what differed, the world before, the world now."""
    worst = sorted(updated.differences, key=lambda each: -float(each.changed.float().mean()))[:_STRIPS]
    old, new = before.shown(), updated.world.shown()
    rows = []
    for each in worst:
        shot = _narrowed(each.shot)
        (small,) = compared(old, [shot])
        marked = shot.view.image.clone()
        marked[small.changed] = 0.4 * marked[small.changed] + 0.6 * torch.tensor(_MARKED)
        now = shot.exposure(render(new, shot.camera).rgb).clamp(0, 1)
        rows.append(torch.cat([shot.view.image, marked, small.rgb, now], dim=1))
    return torch.cat(_of_one_width(rows))


def _narrowed(shot: Shot) -> Shot:
    factor = max(1, round(shot.camera.width / _STRIP_WIDTH))
    return shot.shrunk(factor) if factor > 1 else shot


def _of_one_width(rows: Sequence[Tensor]) -> list[Tensor]:
    width = max(row.shape[1] for row in rows)
    return [torch.nn.functional.pad(row, (0, 0, 0, width - row.shape[1])) for row in rows]
