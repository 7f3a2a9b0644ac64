"""The compiled CPU kernels: finding and loading the shared library, and mirrors of its C structures."""

import ctypes
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from ctypes import POINTER, c_char_p, c_double, c_float, c_int, c_int32, c_int64, c_void_p
from functools import cache
from pathlib import Path
from typing import ClassVar

import torch

from ...errors import MissingDependency

VARIANTS = ("v4", "v3", "v1", "neon")
"""AVX-512, AVX2 and SSE2 on x86-64; NEON on 64-bit Arm."""

PROJECTION_TENSORS = ("means", "quats", "log_scales", "opacity_logits", "sh", "colors")

OK, BAD_ROW, OUT_OF_MEMORY, TOO_MANY, FAILED = range(5)


class ProjectionInput(ctypes.Structure):
    """Mirror of `ProjectionInput` in projection.h."""

    _fields_ = [
        ("n", c_int64),
        *((name, c_void_p) for name in PROJECTION_TENSORS),
        *((name, c_int32) for name in ("sh_stride", "sh_count", "width", "height", "antialiased", "padding")),
        ("rotation", c_float * 9),
        ("translation", c_float * 3),
        ("center", c_float * 3),
        *((name, c_float) for name in ("fx", "fy", "cx", "cy", "near", "far", "eps2d", "radius_clip")),
        ("max_alpha", c_float),
        ("max_log_scale", c_float),
    ]


class ProjectionGradient(ctypes.Structure):
    """Mirror of `ProjectionGradient` in projection_backward.h."""

    _fields_ = [
        *(
            (name, c_void_p)
            for name in ("means2d", "means", "quats", "log_scales", "opacity_logits", "sh", "colors")
        ),
        ("camera", c_double * 15),
    ]


class ProjectedInput(ctypes.Structure):
    """Mirror of `ProjectedInput` in projected.h."""

    _fields_ = [
        ("n", c_int64),
        *((name, c_void_p) for name in ("means2d", "conics", "depths", "opacities", "colors", "radii")),
        ("width", c_int32),
        ("height", c_int32),
        ("max_alpha", c_float),
        ("padding", c_float),
    ]


class SkinInput(ctypes.Structure):
    """Mirror of `SkinInput` in skinning.cpp."""

    _fields_ = [
        ("n", c_int64),
        *((name, c_void_p) for name in ("points", "axes", "quats", "rows", "weights", "carriers")),
        *((name, c_int32) for name in ("holds", "sweeps")),
        *((name, c_float) for name in ("round", "tiny")),
    ]


class SkinOutput(ctypes.Structure):
    """Mirror of `SkinOutput` in skinning.cpp."""

    _fields_ = [(name, c_void_p) for name in ("means", "quats", "log_scales", "turns")]


class ColorInput(ctypes.Structure):
    """Mirror of `ColorInput` in skinning.cpp."""

    _fields_ = [
        ("n", c_int64),
        *((name, c_void_p) for name in ("means", "turns", "sh")),
        ("count", c_int32),
        ("center", c_float * 3),
    ]


class ContactWorld(ctypes.Structure):
    """Mirror of `ContactWorld` in contact.cpp."""

    _fields_ = [
        *((name, c_void_p) for name in ("volumes", "low", "high", "masses", "frictions", "tool_frictions")),
        *((name, c_void_p) for name in ("patches", "heights", "grounds", "outlines", "planes")),
        *((name, c_void_p) for name in ("radii", "owners")),
        *((name, c_int32) for name in ("parts", "guesses", "tools", "patch_count", "resolution", "points")),
        *((name, c_float) for name in ("depth", "sunk", "stiffness", "stick", "recovery", "settled")),
        *((name, c_int32) for name in ("iterations", "rounds")),
    ]


class ContactFrame(ctypes.Structure):
    """Mirror of `ContactFrame` in contact.cpp."""

    _fields_ = [
        *((name, c_void_p) for name in ("pose", "center", "spread", "arms")),
        ("count", c_int64),
        ("first", c_int32),
        ("slot", c_int32),
    ]


class ContactList(ctypes.Structure):
    """Mirror of `ContactList` in contact.cpp."""

    _fields_ = [
        *((name, c_void_p) for name in ("near", "share")),
        ("count", c_int64),
        *((name, c_int32) for name in ("kind", "part", "other", "pushes_other")),
    ]


class ContactStep(ctypes.Structure):
    """Mirror of `ContactStep` in contact.cpp."""

    _fields_ = [
        ("batch", c_int64),
        *((name, c_void_p) for name in ("matrix", "start", "guess", "points", "drifts")),
        ("frames", POINTER(ContactFrame)),
        ("lists", POINTER(ContactList)),
        *((name, c_void_p) for name in ("extras", "speeds", "touched")),
        *((name, c_int32) for name in ("size", "count", "rigid")),
        ("h", c_float),
    ]


class FlightStep(ctypes.Structure):
    """Mirror of `FlightStep` in contact.cpp."""

    _fields_ = [
        ("batch", c_int64),
        *((name, c_void_p) for name in ("centers", "turns", "twists", "rotations", "speeds", "touched")),
        *((name, c_void_p) for name in ("inertias", "inverses")),
        *((f"new_{name}", c_void_p) for name in ("centers", "turns", "twists", "rotations")),
        *((name, c_int32) for name in ("rigid", "size")),
        ("h", c_float),
    ]


_SIGNATURES: dict[str, tuple[object, list[object]]] = {
    "gw_instruction_set": (c_char_p, []),
    "gw_best_variant": (c_char_p, []),
    "gw_threads": (c_int, []),
    "gw_set_threads": (None, [c_int]),
    "gw_multiply_adds": (c_float, [c_int64]),
    "gw_frame_create": (c_void_p, []),
    "gw_frame_destroy": (None, [c_void_p]),
    "gw_frame_bad_row": (c_int64, [c_void_p]),
    "gw_frame_visible": (c_int64, [c_void_p]),
    "gw_frame_intersections": (c_int64, [c_void_p]),
    "gw_frame_bytes": (c_int64, [c_void_p]),
    "gw_frame_capacity": (c_int64, [c_void_p]),
    "gw_frame_contributions": (c_int64, [c_void_p]),
    "gw_project": (c_int, [c_void_p, POINTER(ProjectionInput), c_void_p, c_void_p]),
    "gw_load_projected": (c_int, [c_void_p, POINTER(ProjectedInput)]),
    "gw_sort": (c_int, [c_void_p]),
    "gw_bin": (c_int, [c_void_p, c_int]),
    "gw_blend": (c_int, [c_void_p] * 6),
    "gw_blend_backward": (c_int, [*[c_void_p] * 4, c_int, c_void_p, c_void_p, c_int64, c_void_p]),
    "gw_blend_features": (c_int, [c_void_p, c_void_p, c_int64, c_void_p]),
    "gw_dominant_ids": (c_int, [c_void_p, c_void_p]),
    "gw_clear_moments": (c_int, [c_void_p]),
    "gw_screen_gradients": (c_int, [c_void_p] * 3),
    "gw_projected_gradients": (c_int, [c_void_p] * 5),
    "gw_project_backward": (c_int, [c_void_p, POINTER(ProjectionInput), POINTER(ProjectionGradient)]),
    "gw_photometric_loss": (
        c_int,
        [c_void_p, c_void_p, c_int32, c_int32, c_float, POINTER(c_double), c_void_p],
    ),
    "gw_cells_sort": (c_int, [c_void_p, c_int64, c_double, *[c_void_p] * 7]),
    "gw_cells_parts": (c_int, [c_void_p] * 2),
    "gw_cells_reach": (c_int, [c_void_p] * 3),
    "gw_skin": (c_int, [POINTER(SkinInput), POINTER(SkinOutput)]),
    "gw_seen_colors": (c_int, [POINTER(ColorInput), c_void_p]),
    "gw_flight": (c_int, [POINTER(FlightStep)]),
    "gw_contacts": (c_int, [POINTER(ContactWorld), POINTER(ContactStep)]),
}


def _folders() -> list[Path]:
    """Beside this file; after an editable install the sources are here and the libraries in site-packages."""
    installed = (Path(entry, "gaussworld", "render", "kernels") for entry in sys.path)
    return [Path(__file__).parent, *installed]


@cache
def _open(variant: str) -> ctypes.CDLL | None:
    suffixes = (f"libgaussworld_kernels_{variant}.so", f"libgaussworld_kernels_{variant}.dylib")
    for folder in _folders():
        for name in (*suffixes, f"gaussworld_kernels_{variant}.dll"):
            if (folder / name).exists():
                library = ctypes.CDLL(str(folder / name))
                for function, (result, arguments) in _SIGNATURES.items():
                    getattr(library, function).restype = result
                    getattr(library, function).argtypes = arguments
                library.gw_set_threads(torch.get_num_threads())
                return library
    return None


@cache
def _best() -> ctypes.CDLL | None:
    """The widest variant that is installed and that this processor runs."""
    narrow = _open("v1") or _open("neon")
    if narrow is None:
        return None
    best = narrow.gw_best_variant().decode()
    return next((lib for v in VARIANTS[VARIANTS.index(best) :] if (lib := _open(v)) is not None), narrow)


_chosen: list[ctypes.CDLL] = []


def library() -> ctypes.CDLL:
    """The kernels in use.

    Raises:
        MissingDependency: the package was installed without a compiler.
    """
    found = _chosen[-1] if _chosen else _best()
    if found is None:
        raise MissingDependency(
            "the CPU kernels are not compiled: expected libgaussworld_kernels_*.so in "
            "gaussworld/render/kernels, found none; install a C++17 compiler and run "
            "`pip install --force-reinstall --no-deps .`"
        )
    return found


def available() -> bool:
    """Whether compiled kernels can be loaded on this machine."""
    return _best() is not None


def variants() -> list[str]:
    """The variants that are installed and that this processor runs, widest first."""
    best = _best()
    if best is None:
        return []
    runnable = VARIANTS[VARIANTS.index(best.gw_best_variant().decode()) :]
    return [v for v in runnable if _open(v) is not None]


@contextmanager
def using(variant: str) -> Iterator[None]:
    """Use one variant of the kernels inside a `with` block; for tests and benchmarks."""
    chosen = _open(variant)
    if chosen is None:
        raise MissingDependency(f"expected kernels among {', '.join(variants())}, got {variant!r}")
    _chosen.append(chosen)
    try:
        yield
    finally:
        _chosen.pop()


def set_threads(count: int) -> None:
    """Let the kernels use `count` threads (the default is torch's number); results do not depend on it."""
    if count < 1:
        raise ValueError(f"expected at least one thread, got {count}")
    for variant in VARIANTS:
        if (loaded := _open(variant)) is not None:
            loaded.gw_set_threads(count)


def threads() -> int:
    """The number of threads the kernels use."""
    return int(library().gw_threads())


def check(status: int) -> None:
    """Turn a kernel's status into an exception; BAD_ROW is the caller's to explain."""
    if status == OUT_OF_MEMORY:
        raise MemoryError("the rasterizer ran out of memory; render fewer Gaussians or a smaller picture")
    if status == FAILED:
        raise RuntimeError("the rasterizer's threads could not be started; use fewer: kernels.set_threads(1)")
    if status == TOO_MANY:
        raise ValueError(
            "expected fewer than 2^32 tile intersections; render a smaller picture or fewer huge Gaussians"
        )


class Frame:
    """One rendering's workspace in the library; dropped frames are reused, so memory does not grow."""

    _idle: ClassVar[dict[int, list[int]]] = {}

    def __init__(self) -> None:
        self.library = library()
        idle = self._idle.setdefault(id(self.library), [])
        try:
            self.handle = idle.pop()
        except IndexError:
            self.handle = self.library.gw_frame_create()
            if not self.handle:
                raise MemoryError("the rasterizer ran out of memory") from None

    def __del__(self) -> None:
        if handle := getattr(self, "handle", None):
            self._idle[id(self.library)].append(handle)

    def call(self, function: str, *arguments: object) -> int:
        """Call `function(frame, *arguments)`; tensors stand for their data pointer, None for null."""
        raw = [a.data_ptr() if isinstance(a, torch.Tensor) else a for a in arguments]
        status = getattr(self.library, function)(self.handle, *raw)
        check(status)
        return status


def environment() -> str:
    """One line about the kernels in use, for reports."""
    if not available():
        return "PyTorch reference (kernels not compiled)"
    return f"{library().gw_instruction_set().decode()}, {threads()} of {os.cpu_count()} threads"
