"""Rollouts as USD time samples: a world whose objects move, for every program that plays USD."""

from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from ..errors import FileFormatError
from ..gaussians import Gaussians
from ..pose import pose7_from_pose, pose_from_pose7
from ..state import Rollout
from ..world import World
from .framing import Framing
from .linear import shown
from .scene_nodes import facts_of, local_poses
from .usd import new_stage, objects_of, set_pose, set_splats, splats_of
from .usd_stage import opened, pxr


def write_rollout(
    world: World,
    rollout: Rollout,
    path: Path | str,
    *,
    fps: float | None = None,
    shapes: Mapping[int, Iterable[Gaussians]] | None = None,
) -> None:
    """Write a world as `save_world` does, and on top of it where its objects are at each time of a rollout.

    Args:
        world: the world that the rollout started from.
        rollout: unbatched; state i is at i * dt seconds. Objects it does not mention rest.
        path: a .usda, .usdc, .usd or .usdz.
        fps: time codes in a second; the rollout's own rate by default, so that a step is a time code.
        shapes: object id -> its Gaussians, in the object's frame and order, at each of the states: what a
            deformable object becomes. Positions and orientations are written.

    Raises:
        ValueError: a batch, an object that the world has not, or shapes of another number of steps or rows.
        GaussWorldError: the file system refuses.
        MissingDependency: usd-core is not installed, or too old to know the schema.
    """
    states, path = rollout.states, Path(path)
    if path.suffix.lower() not in (".usd", ".usda", ".usdc", ".usdz"):
        raise ValueError(f"{path}: expected a suffix among .usd, .usda, .usdc, .usdz, got {path.suffix!r}")
    if len(states.batch_shape) != 1:
        raise ValueError(f"expected one rollout, got a batch of shape {states.batch_shape[1:]}; index it")
    if unknown := (set(states.object_ids) | set(shapes or {})) - set(world.objects):
        raise ValueError(f"expected a rollout of this world's objects, got others: {sorted(unknown)}")
    rate = 1 / rollout.dt if fps is None else fps
    if not 0 < rate < float("inf"):
        raise ValueError(f"expected a positive number of frames per second, got {fps}")
    codes = [round(step * rollout.dt * rate, 9) for step in range(len(states))]
    framing = Framing(None, world.up, world.metres_per_unit)
    with new_stage(world, facts_of(framing, world.world_from_source), path) as (stage, prims):
        stage.SetTimeCodesPerSecond(rate)
        stage.SetFramesPerSecond(rate)
        stage.SetStartTimeCode(codes[0])
        stage.SetEndTimeCode(codes[-1])
        moved = set(states.object_ids) | {n for n, item in world.objects.items() if item.parent is not None}
        for code, poses in zip(codes, pose_from_pose7(states.object_poses.detach().cpu().double())):
            local = local_poses(world, dict(zip(states.object_ids, poses)))
            for number in moved:
                set_pose(prims[number], local[number], code)
        for number, steps in (shapes or {}).items():
            _write_shapes(splats_of(stage, prims[number]), world, number, steps, codes, path)


def read_rollout_poses(
    path: Path | str,
) -> tuple[Float[Tensor, " t"], dict[int, Float[Tensor, "t 7"]]]:
    """The times [s] that a file states, and by object id where each object is then: x y z, w x y z.

    Poses are in the world's frame and unit.

    Raises:
        FileFormatError: not a USD file of ours, or nothing moves in it.
        MissingDependency: usd-core is not installed, or too old to know the schema.
    """
    path = Path(path)
    with opened(path) as stage:
        objects = [(prim, record.get("id")) for prim, record in objects_of(stage)]
        ops = [op for prim, _ in objects for op in pxr().UsdGeom.Xformable(prim).GetOrderedXformOps()]
        codes = sorted({code for op in ops for code in op.GetTimeSamples()})
        if not codes:
            raise FileFormatError(f"{path}: expected a rollout, got a file in which no object of ours moves")
        start = stage.GetStartTimeCode() if stage.HasAuthoredTimeCodeRange() else codes[0]
        rate, root = stage.GetTimeCodesPerSecond(), stage.GetDefaultPrim()
        poses: dict[int, list[Tensor]] = {number: [] for _, number in objects if isinstance(number, int)}
        for code in codes:
            cache = pxr().UsdGeom.XformCache(code)
            world_from_stage = cache.GetLocalToWorldTransform(root).GetInverse()
            for prim, number in objects:
                if number in poses:
                    # Gf multiplies row vectors from the left.
                    matrix = cache.GetLocalToWorldTransform(prim) * world_from_stage
                    rows = [[float(value) for value in row] for row in matrix]
                    poses[number].append(torch.tensor(rows, dtype=torch.float64).T.contiguous())
    times = torch.tensor([(code - start) / rate for code in codes], dtype=torch.float64)
    return times, {number: pose7_from_pose(torch.stack(steps)).float() for number, steps in poses.items()}


def _write_shapes(
    part: object, world: World, number: int, steps: Iterable[Gaussians], codes: list[float], path: Path
) -> None:
    written, rows = 0, len(shown(world.objects[number].gaussians))
    for gaussians in steps:
        gaussians = shown(gaussians)
        if len(gaussians) != rows or written == len(codes):
            raise ValueError(
                f"shapes of object {number}: expected {len(codes)} steps of {rows} Gaussians, got"
                f" {len(gaussians)} in step {written}"
            )
        if rows:
            set_splats(part, gaussians, path, codes[written])
        written += 1
    if written != len(codes):
        raise ValueError(f"shapes of object {number}: expected {len(codes)} steps, got {written}")
