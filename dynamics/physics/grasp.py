"""What a closing gripper holds: decided when both fingers touch, frozen until it opens."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from gaussworld.pose import invert_quats
from gaussworld.state import State

from .bodies import Frame, Motion
from .motion import product, rotations
from .touch import Surroundings, ToolMotion
from .web import Web

#: How much less closed a tool is asked to be before it counts as opening.
_OPENING = 0.02
#: Factor on the masses of what is held: nothing that it meets can stop it.
_FIRM = 1e4


#: [m] from a closed gripper's tip to the one particle that it takes where none is between its fingers.
_REACH = 0.02


@dataclass(frozen=True, eq=False)
class Scene:
    """Where everything is that a tool could close on."""

    frames: dict[int, Frame]
    web: Web | None
    positions: Tensor | None
    """(n, B, 3) of particles that bend."""
    tool_poses: Tensor
    """(B, a, 7)"""


@dataclass(frozen=True, eq=False)
class Grip:
    """The tools' grips over one control step, and what they hold."""

    first: Tensor
    """(B, a) at the start."""
    target: Tensor
    """(B, a) at the end, while nothing stops the fingers."""
    grip: Tensor
    """(B, a) at the end: less than the target where something is held."""
    grasped: Tensor
    """(B, a, p) bool"""
    any: bool
    """Whether some tool may hold something in some sample."""

    @classmethod
    def start(cls, around: Surroundings, state: State, target: Tensor) -> "Grip":
        opening = target < state.grip - _OPENING
        grasped = state.grasped & ~opening[..., None]
        holding = grasped.any(-1)
        target = torch.where(holding, state.grip, target)
        able = any(len(fingers) > 1 for fingers in around.tools.fingers)
        return cls(state.grip, target, target, grasped, able and bool(grasped.any() | (target > 0).any()))

    def ways(self, count: int) -> Tensor:
        """(count + 1, B, a) grips at the ends of the substeps."""
        times = torch.linspace(0, 1, count + 1, dtype=self.first.dtype, device=self.first.device)
        return self.first + times[:, None, None] * (self.target - self.first)

    def closed(self, around: Surroundings, scene: Scene, tools: ToolMotion, grip: Tensor) -> "Grip":
        """Holding also what both fingers of a closing tool touch now."""
        if not self.any:
            return self
        points, parts = around.tools, around.bodies.matter.parts
        closing = (self.target > 0) & (self.target >= self.first - 1e-6) & ~self.grasped.any(-1)
        if not bool(closing.any()):
            return self
        grasped, count = self.grasped, self.grasped.shape[-1]
        for tool, fingers in enumerate(points.fingers):
            if len(fingers) < 2:
                continue
            for row in (*around.bodies.rigid, *around.bodies.jointed):
                both = _touched(around, scene.frames[row], row, tools, fingers)
                held = both[:, None] & _rows(parts[row].rows, count, both.device)
                grasped = self._taken(grasped, held, tool, closing)
            if scene.web is not None and scene.positions is not None:
                for row, mine in scene.web.parts:
                    held = _pinched(around, scene, tool, mine, grip[:, tool])
                    wide = torch.zeros(len(held), count, dtype=torch.bool, device=held.device)
                    wide[:, parts[row].rows] = held
                    grasped = self._taken(grasped, wide, tool, closing)
        new = grasped.any(-1) & ~self.grasped.any(-1)
        return replace(self, grasped=grasped, grip=torch.where(new, grip, self.grip))

    def _taken(self, grasped: Tensor, held: Tensor, tool: int, closing: Tensor) -> Tensor:
        """What is grasped with particles (B, p) that a tool takes where it closes and holds nothing."""
        new = (closing[:, tool] & ~grasped[:, tool].any(-1))[:, None] & held
        mine = torch.arange(grasped.shape[1], device=grasped.device) == tool
        return grasped | (new[:, None] & mine[:, None])

    def of(self, around: Surroundings, row: int) -> Tensor:
        """(B, a) which tools hold a part."""
        return self.grasped[..., around.bodies.matter.parts[row].rows].any(-1)

    def free(self, around: Surroundings, row: int) -> Tensor | None:
        """(B, k) 0 for the points of tools that hold the part, which do not push it, else 1."""
        if not self.any:
            return None
        return (~self.of(around, row)).to(self.grip)[:, around.tools.tools]

    def hold(
        self,
        around: Surroundings,
        motion: Motion,
        frames: dict[int, Frame],
        matrix: Tensor,
        start: Tensor,
        speeds: Tensor,
        before: Tensor,
        after: Tensor,
        h: float,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Masses (B, d, d) and speeds (B, d) with those of held parts as the tools command them."""
        if not self.any:
            return matrix, start, speeds
        rigid = len(around.bodies.rigid)
        factors, wanted, holds = [], [], []
        for k, row in enumerate(around.bodies.rigid):
            held = self.of(around, row)
            twist = _followed(motion.centers[:, k], held, before, after, h)
            factors.append(held.any(-1)[:, None].expand(-1, 6))
            wanted.append(twist)
        joints = start[:, 6 * rigid :]
        if joints.shape[-1]:
            along = torch.zeros_like(joints)
            held_joints = torch.zeros_like(joints, dtype=torch.bool)
            for row in around.bodies.jointed:
                held, spread = self.of(around, row), frames[row].spread
                if spread is None:
                    continue
                tool = held.to(start) / held.sum(-1, keepdim=True).clamp(min=1)
                tip = (tool[..., None] * before[..., :3]).sum(1)
                way = ((tool[..., None] * (after - before)[..., :3]).sum(1)) / h
                arm = torch.linalg.cross(
                    spread[:, 3:, 6 * rigid :].transpose(-1, -2),
                    (tip - frames[row].center)[:, None].expand(-1, joints.shape[-1], 3),
                )
                columns = spread[:, :3, 6 * rigid :].transpose(-1, -2) + arm
                rate = (columns * way[:, None]).sum(-1) / (columns.square().sum(-1) + 1e-6)
                mine = held.any(-1)[:, None] & (columns.square().sum(-1) > 1e-6)
                along = torch.where(mine, rate, along)
                held_joints = held_joints | mine
            factors.append(held_joints)
            wanted.append(along)
        holds = torch.cat(factors, -1)
        speed = torch.cat(wanted, -1)
        scale = 1 + (_FIRM - 1) * holds.to(matrix)
        # The same factor on rows and columns keeps the matrix symmetric.
        scale = scale.sqrt()
        matrix = matrix * scale[:, None] * scale[..., None]
        return matrix, torch.where(holds, speed, start), torch.where(holds, speed, speeds)


def _rows(rows: slice, count: int, device: torch.device) -> Tensor:
    mask = torch.zeros(count, dtype=torch.bool, device=device)
    mask[rows] = True
    return mask


def _touched(
    around: Surroundings, frame: Frame, row: int, tools: ToolMotion, fingers: tuple[int, ...]
) -> Tensor:
    """(B) whether two fingers touch a part."""
    distance, _ = around.fields(row, frame.local(tools.points))
    gaps = distance - around.tools.radii
    nearest = torch.stack([gaps[:, around.tools.boxes == box].amin(-1) for box in fingers], -1)
    return (nearest < around.config.grasp_tolerance).sum(-1) > 1


def _pinched(around: Surroundings, scene: Scene, tool: int, mine: slice, grip: Tensor) -> Tensor:
    """(B, n) which particles of a part that bends are between fingers that touch it, or have closed."""
    assert scene.positions is not None and scene.web is not None
    shape, pose = around.shapes[tool], scene.tool_poses[:, tool]
    local = (scene.positions[mine].detach().transpose(0, 1) - pose[:, None, :3]) @ rotations(pose[:, 3:])
    fingers = (shape.travel != 0).any(-1).to(local.device)
    gaps = shape.distance(local, grip)[..., fingers] - scene.web.radii[mine, None]
    touched = (gaps < around.config.grasp_tolerance).any(1).sum(-1) > 1
    boxes = shape.boxes(grip)[:, fingers]
    halves = (shape.halves + shape.radii[:, None]).to(local)[fingers]
    low, high = (boxes - halves).amin(1)[:, None], (boxes + halves).amax(1)[:, None]
    between = ((local >= low) & (local <= high)).all(-1)
    closed = grip > 0.95
    away = local.norm(dim=-1)
    nearest = (away == away.amin(-1, keepdim=True)) & (away < _REACH)
    alone = closed[:, None] & ~between.any(-1, keepdim=True)
    return (between & (touched | closed)[:, None]) | (nearest & alone)


def _followed(points: Tensor, held: Tensor, before: Tensor, after: Tensor, h: float) -> Tensor:
    """(B, 6) mean twist of points (B, 3) that are rigidly attached to the tools (B, a) that hold them."""
    tool = held.to(points) / held.sum(-1, keepdim=True).clamp(min=1)
    place, turn = _moved(points, before, after)
    place = (tool[..., None] * (place - points[:, None])).sum(1)
    turn = (tool[..., None] * (2 * turn[..., 1:] * turn[..., :1].sign())).sum(1)
    return torch.cat([place, turn], -1) / h


def _moved(points: Tensor, before: Tensor, after: Tensor) -> tuple[Tensor, Tensor]:
    """Where points (B, 3) go with each tool (B, a, 3), and the tools' turns (B, a, 4)."""
    turn = product(after[..., 3:], invert_quats(before[..., 3:]))
    arms = points[:, None] - before[..., :3]
    return after[..., :3] + (rotations(turn) @ arms[..., None])[..., 0], turn


def held_motion(
    around: Surroundings, hand: Grip, old: Motion, new: Motion, before: Tensor, after: Tensor
) -> Motion:
    """The motion with what is held exactly where its tool carries it."""
    if not hand.any or not around.bodies.rigid:
        return new
    centers, turns = list(new.centers.unbind(1)), list(new.turns.unbind(1))
    for k, row in enumerate(around.bodies.rigid):
        held = hand.of(around, row)
        place, turn = _moved(old.centers[:, k], before, after)
        for tool in range(held.shape[-1]):
            mine = held[:, tool, None]
            centers[k] = torch.where(mine, place[:, tool], centers[k])
            turns[k] = torch.where(mine, product(turn[:, tool], old.turns[:, k]), turns[k])
    after_turns = torch.stack(turns, 1)
    return replace(new, centers=torch.stack(centers, 1), turns=after_turns, rotations=rotations(after_turns))
