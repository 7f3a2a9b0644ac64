"""The one table of verbs: name -> "module:function", the only way from hub, viewer and API to a spoke's work.

Spokes are named as strings and imported at use, so that the hub depends on none of them. A verb's function
takes its inputs as parameters, prints its result and raises on failure; a parameter called `config` is a
frozen dataclass whose fields become flags and for which `--config PRESET` loads a TOML preset.
"""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any


@dataclass(frozen=True)
class Verb:
    """One command."""

    target: str
    """`module:function`."""
    help: str
    """One line for `gaussworld --help`."""
    group: str = "Files and pictures"


VERBS: dict[str, Verb] = {
    "demo": Verb(
        "recon.demo:main", "Fit Gaussians to a small tabletop scene and show the result.", "Start here"
    ),
    "recon": Verb(
        "recon.commands:recon",
        "Turn photographs, video, RGB-D or a calibrated rig into Gaussians.",
        "Reconstruction",
    ),
    "sfm": Verb("recon.commands:sfm", "Find the cameras of photographs or videos.", "Reconstruction"),
    "splat": Verb(
        "recon.commands:splat", "Fit Gaussians to pictures whose cameras are known.", "Reconstruction"
    ),
    "score": Verb("recon.commands:score", "Compare Gaussians with pictures.", "Reconstruction"),
    "objects": Verb("recon.objects.commands:objects", "Find the objects in a world.", "Objects"),
    "mesh": Verb(
        "recon.mesh.commands:mesh", "Make meshes and collision shapes of a world's objects.", "Objects"
    ),
    "physics": Verb(
        "recon.physics.commands:physics", "Work out masses, friction and what rests on what.", "Objects"
    ),
    "from-mesh": Verb(
        "gaussworld.surface.commands:from_mesh",
        "Make Gaussians of a mesh, a URDF or a layout of boxes.",
        "Objects",
    ),
    "update": Verb("recon.update.commands:update", "Bring a world up to date with new pictures.", "Objects"),
    "vary": Verb("recon.vary.commands:vary", "Make randomised copies of a world, with labels.", "Objects"),
    "generate": Verb(
        "dynamics.generate.commands:generate",
        "Simulate manipulation, or a scene at rest, with known truth.",
        "Dynamics",
    ),
    "import episode": Verb(
        "dynamics.episodes.commands:import_episode",
        "Make a world of an episode's first moment.",
        "Dynamics",
    ),
    "import lerobot": Verb(
        "dynamics.lerobot.commands:import_lerobot", "Make episodes of a LeRobot dataset.", "Dynamics"
    ),
    "fit": Verb("dynamics.learning.commands:fit", "Learn from episodes how things move.", "Dynamics"),
    "evaluate": Verb(
        "dynamics.evaluation.commands:evaluate",
        "Judge models on recorded episodes, with curves, tables and videos.",
        "Dynamics",
    ),
    "consistency": Verb(
        "dynamics.consistency.commands:consistency",
        "Test whether a model's futures are physically possible.",
        "Dynamics",
    ),
    "predict": Verb(
        "dynamics.prediction.commands:predict",
        "Predict what a world will look like if tools do this.",
        "Dynamics",
    ),
    "identify": Verb(
        "dynamics.identify.commands:identify_verb",
        "Find materials with which physics fits a recording.",
        "Dynamics",
    ),
    **{
        f"world {name}": Verb(
            f"gaussworld.store.commands:{name.replace('list', 'list_objects')}", text, "Worlds"
        )
        for name, text in {
            "create": "Make a stored world of a run, a splat file or a scene.",
            "list": "List the objects of a world, or the worlds in a folder.",
            "log": "Show a world's history.",
            "diff": "Say what differs between two revisions.",
            "edit": "Do one edit, given as JSON.",
            "edits": "List the edits, or the fields of one.",
            "undo": "Go back, one revision or several.",
            "redo": "Go forward again.",
            "branch": "List branches, or begin one.",
            "tag": "List tags, or name a revision.",
            "checkout": "Choose the branch that opens.",
            "verify": "Read everything again and name what is damaged.",
            "gc": "Forget what no branch or tag leads to, and free its room.",
            "pack": "Write a world with its history as one .worldz file.",
            "unpack": "Make a world of a .worldz file.",
        }.items()
    },
    "info": Verb("gaussworld.commands:info", "Say what a splat file or a capture holds."),
    "convert": Verb("gaussworld.commands:convert", "Write Gaussians in another format."),
    "export": Verb("gaussworld.io.commands:export", "Write a world for MuJoCo, URDF tools or nerfstudio."),
    "import nerfstudio": Verb(
        "gaussworld.io.nerfstudio.commands:import_run", "Make a world of a run of nerfstudio."
    ),
    "render": Verb("gaussworld.commands:render", "Draw Gaussians as a picture or a turntable video."),
    "control": Verb(
        "recon.control.commands:control", "Draw depth, normals, edges and objects as videos of a camera path."
    ),
}

#: The dataclass behind each folder of presets.
PRESET_TYPES: dict[str, str] = {
    "fit": "dynamics.learning.fit:FitConfig",
    "dynamics": "dynamics.physics.settings:PriorConfig",
    "lerobot": "dynamics.lerobot.config:LeRobotConfig",
    "render": "gaussworld.render.contract:RenderSettings",
    "scenes": "dynamics.generate.episodes_config:GenerateConfig",
    "train": "recon.fit:TrainConfig",
}


def resolve(target: str) -> Callable[..., Any]:
    """Import what `module:name` names."""
    module, name = target.split(":")
    return getattr(import_module(module), name)
