"""usd-core behind one door: the import, what it would print, stages opened safely and written whole."""

import logging
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache, lru_cache
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from ..errors import FileFormatError, GaussWorldError, MissingDependency
from .atomic import replacing
from .usd_probe import first_complaint

logger = logging.getLogger(__name__)

#: The schema's type; usd-core knows it from 26.3 on.
SPLATS = "ParticleField3DGaussianSplat"
#: [s] How long a file may take that is not large.
_PATIENCE = 60.0
_MODULES = ("Gf", "Sdf", "Tf", "Usd", "UsdGeom", "UsdPhysics", "UsdShade", "UsdUtils", "UsdVol", "Vt")


@cache
def pxr() -> Any:
    """USD's modules as attributes: `pxr().UsdGeom`; they have no stubs.

    Raises:
        MissingDependency: usd-core is not installed, or too old to know the schema.
    """
    advice = "expected usd-core 26.3 or newer for USD files, got {}; run `pip install 'gaussworld[usd]'`"
    try:
        modules = {name: import_module(f"pxr.{name}") for name in _MODULES}
    except ImportError as error:
        raise MissingDependency(advice.format("none")) from error
    if not hasattr(modules["UsdVol"], SPLATS):
        raise MissingDependency(advice.format("an older one"))
    return SimpleNamespace(**modules)


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    """The stage of a file; whatever is wrong with it is told in one sentence, while it is in use too.

    Raises:
        FileFormatError: not USD, broken, or composed of files outside its folder or not there.
        MissingDependency: usd-core is not installed, or too old to know the schema.
    """
    with quiet(path):
        about = path.stat()
        if about.st_size == 0:
            raise FileFormatError(f"{path}: expected a USD file, got an empty one; fetch it again")
        _check(path.absolute(), about.st_size, about.st_mtime_ns)
        yield pxr().Usd.Stage.Open(_layer(path))


@contextmanager
def quiet(path: Path) -> Iterator[None]:
    """Log what USD would print to stderr, and turn its errors into one sentence about the file.

    Raises:
        FileFormatError: USD finds an error while the block runs.
        MissingDependency: usd-core is not installed, or too old to know the schema.
    """
    usd = pxr()
    listening = usd.UsdUtils.CoalescingDiagnosticDelegate()
    try:
        yield
    except (usd.Tf.ErrorException, usd.Tf.CppException, UnicodeError) as error:
        raise FileFormatError(f"{path}: expected a whole USD file, got: {first_complaint(error)}") from error
    finally:
        for diagnostic in listening.TakeUncoalescedDiagnostics():
            with suppress(UnicodeError):
                logger.debug("%s: %s", path, diagnostic.commentary)


def export(stage: Any, path: Path) -> None:
    """Write a stage through a hidden folder beside the file: USD chooses the encoding by the suffix.

    Raises:
        GaussWorldError: the file system refuses.
    """
    usd, suffix = pxr(), path.suffix.lower()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent) as folder:
            made = Path(folder) / f"world{'.usdc' if suffix == '.usdz' else suffix}"
            done = stage.GetRootLayer().Export(str(made))
            if done and suffix == ".usdz":
                packed = made.with_suffix(".usdz")
                done = usd.UsdUtils.CreateNewUsdzPackage(usd.Sdf.AssetPath(str(made)), str(packed))
                made = packed
            if not done:
                raise OSError("USD could not export it")
            with made.open("rb") as source, replacing(path) as file:
                shutil.copyfileobj(source, file, 1 << 20)
    except (OSError, usd.Tf.ErrorException) as error:
        why = error.strerror if isinstance(error, OSError) and error.strerror else first_complaint(error)
        raise GaussWorldError(f"could not write {path}: {why}; choose another place or make room") from error


def _layer(path: Path) -> Any:
    """A layer as it is on disk now: USD keeps those that somebody still holds, and would give an old one."""
    layer = pxr().Sdf.Layer.FindOrOpen(str(path))
    if layer is not None and not layer.dirty:
        layer.Reload()
    return layer


@lru_cache(maxsize=16)
def _check(path: Path, size: int, _changed: int) -> None:
    """Read the file elsewhere first: usd-core crashes on some damaged ones, or takes all memory, or for ever.

    What was found good once is not looked at again until it changes.
    """
    seconds = _PATIENCE + size / 5e6
    command = [sys.executable, "-P", str(Path(__file__).with_name("usd_probe.py")), str(path), SPLATS]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    try:
        done = subprocess.run(
            command,
            check=False,
            capture_output=True,
            timeout=seconds,
            env=environment,
            stdin=subprocess.DEVNULL,
        )
    except subprocess.TimeoutExpired as error:
        raise FileFormatError(
            f"{path}: expected a USD file that can be read in {seconds:.0f} s, got none; export it again"
        ) from error
    if done.returncode:
        told = done.stdout.decode("utf-8", "replace").strip() if done.returncode == 1 else ""
        told = told or "a whole USD file, got one on which usd-core fails; export it again"
        raise FileFormatError(f"{path}: expected {told}")
