"""GaussWorld: capture -> world -> prediction with 3D Gaussians. The public names, resolved at first use.

`import gaussworld as gw` is instant; torch is imported by the first name that needs it.
"""

import sys
from collections.abc import Callable
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

from .verbs import resolve

__version__ = "0.1.0"

if TYPE_CHECKING:
    from . import edit
    from .camera import Camera, CameraModel
    from .capture import Capture, Frame
    from .errors import ConflictError, EditError, GaussWorldError, StoreError, UnknownScale
    from .gaussians import Gaussians, cat
    from .io import load, load_capture, load_framing, load_world, save, save_cameras, save_world
    from .metrics import psnr, ssim
    from .pose import look_at
    from .render import Rendering, RenderSettings, render
    from .session import Session
    from .state import Action, ActionSpec, Dynamics, Rollout, State
    from .world import World
    from .world_object import Joint, Material, ObjectKind, WorldObject

    # Spokes are not imported here, not even for types: see the functions that _SPOKES names.
    fit: Callable[..., Any]
    predict: Callable[..., Any]
    reconstruct: Callable[..., Any]

__all__ = [
    "Action",
    "ActionSpec",
    "Camera",
    "CameraModel",
    "Capture",
    "ConflictError",
    "Dynamics",
    "EditError",
    "Frame",
    "GaussWorldError",
    "Gaussians",
    "Joint",
    "Material",
    "ObjectKind",
    "RenderSettings",
    "Rendering",
    "Rollout",
    "Session",
    "State",
    "StoreError",
    "UnknownScale",
    "World",
    "WorldObject",
    "__version__",
    "cat",
    "edit",
    "fit",
    "load",
    "load_capture",
    "load_framing",
    "load_world",
    "look_at",
    "predict",
    "psnr",
    "reconstruct",
    "render",
    "save",
    "save_cameras",
    "save_world",
    "ssim",
]

#: Verbs of the spokes, named as strings so that the hub imports none of them.
_SPOKES = {
    "fit": "dynamics.learning.fit:fit",
    "predict": "dynamics.prediction.predict:predict",
    "reconstruct": "recon.reconstruct:reconstruct",
}

_HOMES = {
    "Action": "state",
    "ActionSpec": "state",
    "Camera": "camera",
    "CameraModel": "camera",
    "Capture": "capture",
    "ConflictError": "errors",
    "Dynamics": "state",
    "EditError": "errors",
    "Frame": "capture",
    "GaussWorldError": "errors",
    "Gaussians": "gaussians",
    "Joint": "world_object",
    "Material": "world_object",
    "ObjectKind": "world_object",
    "RenderSettings": "render",
    "Rendering": "render",
    "Rollout": "state",
    "Session": "session",
    "State": "state",
    "StoreError": "errors",
    "UnknownScale": "errors",
    "World": "world",
    "WorldObject": "world_object",
    "cat": "gaussians",
    "edit": "edit",
    "load": "io",
    "load_capture": "io",
    "load_framing": "io",
    "load_world": "io",
    "look_at": "pose",
    "psnr": "metrics",
    "render": "render",
    "save": "io",
    "save_cameras": "io",
    "save_world": "io",
    "ssim": "metrics",
}


class _Package(ModuleType):
    """Keeps the verb `render` callable, although a folder of that name is imported sooner or later."""

    def __getattr__(self, name: str) -> Any:
        if name in _SPOKES:
            setattr(self, name, resolve(_SPOKES[name]))
            return getattr(self, name)
        if name not in _HOMES:
            raise AttributeError(f"module 'gaussworld' has no attribute {name!r}")
        home = import_module(f".{_HOMES[name]}", __name__)
        if name != _HOMES[name]:
            setattr(self, name, getattr(home, name))
        return getattr(self, name)

    def __setattr__(self, name: str, value: Any) -> None:
        # Python binds a subpackage to its parent when it is imported, which would hide the function.
        if name == "render" and isinstance(value, ModuleType):
            value.__class__ = _CallableFolder
        super().__setattr__(name, value)

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *__all__})


class _CallableFolder(ModuleType):
    # `gaussworld.render` is a folder of modules and, called or asked for help, the function in it.

    def __call__(self, *args: Any, **keywords: Any) -> Any:
        return self.render(*args, **keywords)

    @property
    def __signature__(self) -> Any:
        import inspect

        return inspect.signature(self.render)

    @property
    def __doc__(self) -> str | None:  # pyright: ignore[reportIncompatibleVariableOverride]
        function = self.__dict__.get("render")
        return function.__doc__ if function else self.__dict__.get("__doc__")


sys.modules[__name__].__class__ = _Package
