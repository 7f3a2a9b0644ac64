"""A first look at a USD file in a process of its own: usd-core crashes or never ends on some damaged ones."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def look(path: Path, splats: str) -> str | None:
    """Open a stage and read all that `usd` will read.

    Args:
        path: the file.
        splats: the type of prim whose attributes are read.

    Returns:
        What is wrong with it, to go on "expected ..."; None when nothing is.
    """
    try:
        from pxr import Sdf, Usd, UsdGeom

        layer = Sdf.Layer.FindOrOpen(str(path))  # pyright: ignore[reportAttributeAccessIssue]
        if layer is None:
            return "a USD file, got something else; export it again"
        for asset in _elsewhere(layer, path.parent.resolve()):
            return f"files that are there, in its own folder, got {asset!r:.80}; copy it beside"
        stage = Usd.Stage.Open(layer)  # pyright: ignore[reportAttributeAccessIssue]
        matrices = UsdGeom.XformCache()  # pyright: ignore[reportAttributeAccessIssue]
        every = Usd.TraverseInstanceProxies()  # pyright: ignore[reportAttributeAccessIssue]
        for prim in Usd.PrimRange.Stage(stage, every):  # pyright: ignore[reportAttributeAccessIssue]
            prim.GetCustomData()
            whole = prim.GetTypeName() == splats
            for attribute in prim.GetAttributes():
                if whole or attribute.GetName().startswith(("xformOp", "visibility")):
                    attribute.Get()
                    for time in attribute.GetTimeSamples():
                        attribute.Get(time)
            matrices.GetLocalToWorldTransform(prim)
    except Exception as error:  # Of any kind: USD throws what it likes, and this process is for that.
        return f"a whole USD file, got: {first_complaint(error)}; export it again"
    return None


def first_complaint(error: Exception) -> str:
    """What USD complains of first, without the place in its source."""
    try:
        lines = [line for line in str(error).splitlines() if line.strip()]
    except UnicodeError:
        lines = ["a text that is no UTF-8"]
    found = lines[0].rpartition(" : ")[2].strip().strip("'") if lines else type(error).__name__
    return found.encode("ascii", "replace").decode("ascii")[:160]


def limit_memory(size: int) -> None:
    """Let this process take some room and 16 times the file: what asks for more is no honest file."""
    try:
        import resource
    except ImportError:
        return  # Windows: there only the time is limited.
    limit = (2 << 30) + 16 * size
    resource.setrlimit(resource.RLIMIT_DATA, (limit, resource.RLIM_INFINITY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _elsewhere(layer: Any, folder: Path) -> Iterator[str]:
    """Sublayers, references and payloads that are missing, or lie outside the folder."""
    from pxr import Sdf

    waiting, seen = [layer], set[str]()
    while waiting:
        current = waiting.pop()
        for asset in current.GetCompositionAssetDependencies():
            place = current.ComputeAbsolutePath(asset)
            # References without a file are to prims of the same one.
            if not asset or place in seen:
                continue
            seen.add(place)
            # A file inside a package is written package.usdz[inner.usda].
            outer = Path(place.partition("[")[0]).resolve()
            if "://" in asset or not outer.is_relative_to(folder) or not outer.is_file():
                yield asset
                continue
            waiting.append(Sdf.Layer.FindOrOpen(place))  # pyright: ignore[reportAttributeAccessIssue]


if __name__ == "__main__":
    file = Path(sys.argv[1])
    limit_memory(file.stat().st_size)
    if wrong := look(file, sys.argv[2]):
        sys.stdout.write(wrong)
        sys.exit(1)
