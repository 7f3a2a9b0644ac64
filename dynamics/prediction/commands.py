"""The verb `predict`."""

import json as json_text
from pathlib import Path
from typing import Annotated, Any

import tyro

from gaussworld.errors import ConfigError
from gaussworld.facts import finite
from gaussworld.log import follow, part

from ..models import MODELS, known_model
from .outcome import (
    ROLLOUT,
    SAMPLES,
    SCENE,
    VIDEO,
    ShowConfig,
    Written,
    check_cameras,
    check_out,
    write_prediction,
)
from .predict import PredictConfig, predicting
from .question import ask, check_no_set, is_episode

_PREDICT, _SHOW = PredictConfig(), ShowConfig()


def predict(
    world: Annotated[Path, tyro.conf.arg(metavar="WORLD")],
    /,
    *,
    out: Annotated[Path, tyro.conf.arg(aliases=["-o"])],
    actions: Annotated[Path | None, tyro.conf.arg(aliases=["-a"])] = None,
    model: str = "prior",
    tool: tuple[str, ...] = (),
    steps: int | None = None,
    force: bool = False,
    json: bool = False,
    show: Annotated[ShowConfig, tyro.conf.arg(name="")] = _SHOW,
    config: PredictConfig = _PREDICT,
) -> None:
    """Predict what a world will look like if tools do this: states, a 4D world, a video, a summary.

    OUT becomes a folder: rollout.safetensors (states), rollout.usdc (the world in 4D), prediction.mp4 (beside
    the truth where a recording has it), summary.json. docs/prediction.md tells how actions are written.

    Args:
        world: a stored world, a run, a file of a scene, or an episode.
        out: a new folder.
        actions: a file of actions (.json, .csv, .safetensors, .npz), or an episode in which they were done;
            default: those of WORLD, where it is an episode.
        model: prior (physics), persistence (nothing moves) or constant-velocity.
        tool: what acts, in place of what the actions say: pusher, gripper, or a JSON file; one for each tool.
        steps: predict only the first so many steps.
        force: replace an earlier prediction in OUT.
        json: print the summary as JSON.
        show: what is drawn.
        config: samples, and what is refused.
    """
    check_out(out, force)
    known_model(model)
    check_no_set(world)
    if actions is None and not is_episode(world):
        raise ConfigError("expected --actions, a file of actions or an episode, got none; add it")
    question = ask(world, actions or world, list(tool) or None, config.max_speed).first(steps)
    check_cameras(question.world, show)

    def work() -> Any:
        predicted = yield from part(predicting(question, model, config), "Predicting")
        yield from write_prediction(predicted, out, model, config.seed, show, predicted.posed(), force)

    written: Written = follow(work(), "Predicting").result
    print(json_text.dumps(finite(written.summary), indent=2) if json else told(written))


def told(written: Written) -> str:
    """A summary in a few lines."""
    facts = written.summary
    timing = facts["timing"]
    rate = f"{timing['steps_per_s']:.0f} steps/s"
    lines = [f"{facts['steps']} steps of {facts['dt']:g} s by {facts['model']}, {rate}:"]
    width = max([len(each["name"]) for each in facts["objects"]], default=0)
    for each in facts["objects"]:
        line = (
            f"  {each['name']:<{width}}  moved {each['moved_m']:.3f} m, turned {each['turned_deg']:.1f} deg"
        )
        if "joint_final" in each:
            line += f", joint {each['joint_start']:.3f} to {each['joint_final']:.3f}"
        if "spread_m" in each:
            line += f", spread {each['spread_m']:.3f} m"
        lines.append(line)
    lines += [f"  {e['object']} {e['kind']} at {e['time_s']:.1f} s" for e in facts["events"][:8]]
    if facts["truth"] is not None:
        off, rested = (1000 * facts["truth"][key] for key in ("final_m", "final_if_nothing_moved_m"))
        lines.append(f"  off the recording by {off:.1f} mm at the end, where things went {rested:.1f} mm")
    lines += [f"Careful: {text}" for text in facts["warnings"]]
    lines += [f"Wrote {written.folder}:"]
    meaning = {
        ROLLOUT: "all states",
        SAMPLES: "all states of all samples",
        SCENE: "the world in 4D, for programs that play USD",
        VIDEO: "what it looks like",
    }
    lines += [f"  {file.name}  {meaning.get(file.name, '')}".rstrip() for file in written.files]
    return "\n".join(lines)


__all__ = ["MODELS", "predict", "told"]
