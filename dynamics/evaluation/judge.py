"""`judge`: one model in one episode - predicted from its beginning, and compared with what happened."""

import inspect
import time
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from gaussworld.errors import ConfigError, FileFormatError, GaussWorldError
from gaussworld.state import Dynamics, Rollout, State

from ..matter import Matter
from ..prediction.predict import check_finite
from ..rollout import Accounts
from .distances import angle_between, chamfer, earth_movers
from .entrants import Entrant
from .errors import first_state
from .judged import Judged, Passage
from .pictures import Gallery
from .settings import EvaluateConfig
from .truth import STILL_M, Truth, turning

#: [s] at which trajectories are judged right or wrong.
PASSAGE_S = 3.0
#: [m/s^2]
_GRAVITY = 9.81
#: Steps whose time is taken.
_TIMED = 20
#: What the recording itself is called, where the same is measured of it.
RECORDING = "recording"


def judge(truth: Truth, entrant: Entrant, config: EvaluateConfig, gallery: Gallery | None = None) -> Judged:
    """Everything that is said of one model in one episode.

    What goes wrong in the model is its failure in this episode: it is told, and no figure is given.

    Args:
        truth: of the episode.
        entrant: the model.
        config: what is measured.
        gallery: draws and compares; None: no pictures.

    Raises:
        ConfigError: the model is for another rate or kind of action.
        FileFormatError: the model's folder is damaged.
    """
    episode, begun = truth.episode, blank(truth, entrant.name)
    try:
        model = entrant.made(truth.world, truth.matter, episode.tools, episode.spec.rate_hz)
        model.action_spec.check(episode.actions)
        with torch.no_grad():
            start = first_state(model, truth.world, episode)
            rollout = model.rollout(start, episode.actions)
            ours = checked(rollout, truth, getattr(model, "matter", truth.matter))
            told = figures(truth, ours, config, gallery)
            surprise = _surprise(model, start, rollout)
            seconds = step_times(model, rollout)
    except (ConfigError, FileFormatError):
        raise
    except (ValueError, ArithmeticError, RuntimeError, GaussWorldError) as error:
        return replace(begun, failed=" ".join(str(error).split()) or type(error).__name__)
    return replace(told, model=entrant.name, surprise=surprise, step_s=seconds)


def reference(truth: Truth, config: EvaluateConfig) -> Judged:
    """The same of the recording itself: what our measures say of motion that really happened."""
    with torch.no_grad():
        rollout = Rollout(truth.states, truth.episode.actions, truth.episode.spec.dt)
        return replace(figures(truth, rollout, config, None), model=RECORDING)


def blank(truth: Truth, model: str) -> Judged:
    """Who is judged in what."""
    episode = truth.episode
    return Judged(
        episode.name, episode.family, episode.seed, episode.shift, episode.policy,
        model, len(episode), episode.spec.dt, truth.still,
    )  # fmt: skip


def checked(rollout: Rollout, truth: Truth, matter: object) -> Rollout:
    """The rollout, if it is one of this episode: finite, as long, of its objects and particles.

    Raises:
        ValueError: it is not.
    """
    check_finite(rollout.states)
    if rollout.spread is not None and not bool(rollout.spread.isfinite().all()):
        raise ValueError("expected a finite spread, got NaN or infinity")
    if len(rollout) != len(truth.episode):
        raise ValueError(f"expected {len(truth.episode)} predicted steps, got {len(rollout)}")
    if rollout.states.object_ids != truth.states.object_ids:
        raise ValueError(f"expected objects {truth.states.object_ids}, got {rollout.states.object_ids}")
    if rollout.states.particle_positions.shape[1] == len(truth.matter.rest) and (
        matter is truth.matter or _alike(matter, truth.matter)
    ):
        return rollout
    if truth.matter.bending:
        raise ValueError("expected the particles of this world's matter for what bends, got others")
    return replace(rollout, states=_placed(rollout.states, truth))


def _alike(matter: object, other: Matter) -> bool:
    return isinstance(matter, Matter) and torch.equal(matter.rest.cpu(), other.rest.cpu())


def _placed(states: State, truth: Truth) -> State:
    """States of a model with particles of its own, where poses say everything."""
    from gaussworld.pose import pose_from_pose7

    poses, like = pose_from_pose7(states.object_poses), truth.states
    rows = [truth.matter.parts[k].row for k in truth.matter.owners.tolist()]
    there = (poses[:, rows, :3, :3] @ truth.matter.rest[..., None])[..., 0] + poses[:, rows, :3, 3]
    speeds = torch.cat([torch.zeros_like(there[:1]), there.diff(dim=0) / truth.episode.spec.dt])
    return replace(
        states, particle_positions=there, particle_velocities=speeds,
        residual=torch.zeros_like(there), grasped=like.grasped,
    )  # fmt: skip


def figures(truth: Truth, rollout: Rollout, config: EvaluateConfig, gallery: Gallery | None) -> Judged:
    """Everything that follows from a rollout and the truth."""
    followed, steps = truth.followed, len(rollout)
    predicted = followed.where(rollout.states)
    apart = (predicted - followed.points).norm(dim=-1)
    curve = followed.by_object(apart).mean(1)
    accounts = Accounts(truth.world, truth.matter, truth.episode.tools)
    depth = accounts.penetration(rollout.states).amax(-1)
    at = {}
    for step in (step for step in config.horizons if step <= steps):
        row = {
            "distance_m": float(curve[step]),
            "moved_m": float(_went(truth, step).mean()),
            "track_m": float(curve[1 : step + 1].mean()),
            "penetration_m": float(depth[1 : step + 1].mean()),
            **_clouds(truth, predicted[step], step),
            **_motion(truth, predicted, step),
            **_places(truth, rollout, step),
            **_promised(truth, rollout, apart[step], step),
        }
        if gallery is not None:
            row |= gallery.compared(rollout.states[step], step)
        at[step] = row
    return replace(
        blank(truth, RECORDING),
        at=at,
        curve=tuple(curve.tolist()),
        passages=_passages(truth, apart),
        energy_gain_j=energy_gain(accounts, truth, rollout),
    )


def _clouds(truth: Truth, predicted: Float[Tensor, "q 3"], step: int) -> dict[str, float]:
    """Chamfer and earth mover's distance of each thing's points, means over things."""
    ids, seen = truth.followed.ids, truth.followed.points[step]
    pairs = [(predicted[ids == number], seen[ids == number]) for number in truth.followed.objects]
    return {
        "chamfer_m": sum(chamfer(a, b) for a, b in pairs) / len(pairs),
        "emd_m": sum(earth_movers(a, b) for a, b in pairs) / len(pairs),
    }


def _motion(truth: Truth, predicted: Float[Tensor, "u q 3"], step: int) -> dict[str, float]:
    """Errors of momentum and energy, from the followed points of the step that ended here."""
    followed, dt = truth.followed, truth.episode.spec.dt
    masses = torch.tensor([part.mass for part in truth.parts])
    energies, momenta = [], []
    for points in (predicted, followed.points):
        here, speed = points[step], (points[step] - points[step - 1]) / dt
        middle = torch.stack([followed.by_object(speed[:, axis]) for axis in range(3)], -1)
        momenta.append(masses[:, None] * middle)
        kinetic = 0.5 * followed.by_object(speed.square().sum(-1))
        energies.append(masses * (kinetic + _GRAVITY * followed.by_object(here[:, 2])))
    return {
        "momentum_kg_m_s": float((momenta[0] - momenta[1]).norm(dim=-1).mean()),
        "energy_j": float((energies[0] - energies[1]).abs().mean()),
    }


def _places(truth: Truth, rollout: Rollout, step: int) -> dict[str, float]:
    """Errors of places and turns."""
    rows = [part.row for part in truth.parts]
    ours, theirs = (
        rollout.states.object_poses[step],
        truth.states.object_poses[step].to(rollout.states.object_poses),
    )
    off = (ours[rows, :3] - theirs[rows, :3]).norm(dim=-1)
    told = {"position_m": float(off.mean())}
    if turns := turning(truth.parts):
        start = rollout.states.object_poses[0, turns, 3:], truth.states.object_poses[0, turns, 3:]
        angles = angle_between(_since(start[0], ours[turns, 3:]), _since(start[1], theirs[turns, 3:]))
        told["angle_deg"] = float(angles.rad2deg().mean())
    return told


def _promised(truth: Truth, rollout: Rollout, apart: Float[Tensor, " q"], step: int) -> dict[str, float]:
    """How often the truth was within the radius that was promised, of all things and of those that had moved.

    Once by the place of a thing's frame, once by the mean distance of its points, which is never less.
    """
    if rollout.spread is None:
        return {}
    rows = [part.row for part in truth.parts]
    radius, states = rollout.spread[step, rows], rollout.states.object_poses[step]
    off = (states[rows, :3] - truth.states.object_poses[step, rows, :3].to(states)).norm(dim=-1)
    placed, near = off <= radius, truth.followed.by_object(apart) <= radius
    moved = _went(truth, step) > STILL_M
    told = {"spread_m": float(radius.mean()), "asked": float(len(rows)), "asked_moved": float(moved.sum())}
    for name, inside in (("placed", placed), ("near", near)):
        told |= {name: float(inside.sum()), f"{name}_moved": float((inside & moved).sum())}
    return told


def _since(start: Float[Tensor, "k 4"], now: Float[Tensor, "k 4"]) -> Float[Tensor, "k 4"]:
    from gaussworld.pose import invert_quats, multiply_quats

    return multiply_quats(now.double(), invert_quats(start.double()))


def _went(truth: Truth, step: int) -> Float[Tensor, " k"]:
    """[m] mean distance of each thing's points from where they began."""
    points = truth.followed.points
    return truth.followed.by_object((points[step] - points[0]).norm(dim=-1))


def _passages(truth: Truth, apart: Float[Tensor, "u q"]) -> tuple[Passage, ...]:
    """What became of each thing that really moved, after 3 s."""
    step = round(PASSAGE_S / truth.episode.spec.dt)
    if step >= len(apart):
        return ()
    followed, episode = truth.followed, truth.episode
    paths = followed.by_object(followed.points[: step + 1].diff(dim=0).norm(dim=-1).sum(0)).tolist()
    errors = followed.by_object(apart[step]).tolist()
    return tuple(
        Passage(episode.objects[number].name, path, error)
        for number, path, error in zip(followed.objects, paths, errors)
        if path > STILL_M
    )


def energy_gain(accounts: Accounts, truth: Truth, rollout: Rollout) -> float:
    """[J] by which kinetic and height energy of what can move rose in steps in which no tool touched it.

    What bends may take some of it from its bending and stretching, which is not counted.
    """
    rows = [part.row for part in truth.parts]
    contacts = rollout.contacts if rollout.contacts is not None else accounts.contacts(rollout.states)
    touched = contacts[..., rows, len(rollout.states.object_ids) :].flatten(1).any(-1)
    energy = accounts.momentum(rollout.states).energy[:, rows].sum(-1)
    free = ~(touched[1:] | touched[:-1])
    return float(energy.diff()[free].clamp(min=0).sum())


def _surprise(model: Dynamics, start: State, rollout: Rollout) -> float | None:
    """The model's own score of a situation: it asks for what it predicted, or for state and actions."""
    asked = getattr(model, "surprise", None)
    if asked is None:
        return None
    alone = len(inspect.signature(asked).parameters) == 1
    return float(asked(rollout) if alone else asked(start, rollout.actions))


def step_times(model: Dynamics, rollout: Rollout) -> tuple[float, ...]:
    """[s] that single steps of an unbatched state take, here and there in a rollout."""
    steps = torch.linspace(0, len(rollout) - 1, min(_TIMED, len(rollout))).round().long().tolist()
    found = []
    for step in steps:
        state, action = rollout.states[step], rollout.actions[step]
        begun = time.perf_counter()
        model.step(state, action)
        found.append(time.perf_counter() - begun)
    return tuple(found)
