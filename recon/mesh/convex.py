"""Convex parts of a mesh, which simulators collide: one hull where that is near enough, else CoACD's."""

import logging
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from gaussworld.errors import MissingDependency
from gaussworld.shape import Mesh, is_closed

from .open3d_mesh import decimated
from .split import cut_parts

logger = logging.getLogger(__name__)

Method = Literal["cuts", "coacd"]

#: Faces of the mesh that is decomposed: enough for hulls of a few dozen vertices.
_FACES = 1000
#: Vertices of a part at most; simulators search them all at every contact.
_VERTICES = 64


def hull(points: Float[Tensor, "v 3"], most: int = _VERTICES) -> Mesh | None:
    """The convex hull of points, with at most `most` vertices; None where they lie in a plane.

    Vertices beyond the most are left out in the order of how far they stick out, so the hull is never larger
    than the whole one.
    """
    from scipy.spatial import ConvexHull, QhullError

    places = points.detach().double().numpy()
    if len(places) < 4:
        return None
    try:
        whole = ConvexHull(places)
        corners = places[whole.vertices]
        if len(corners) > most:
            corners = corners[_spread(corners, most)]
            whole = ConvexHull(corners)
        else:
            whole = ConvexHull(corners)
    except (QhullError, ValueError):
        return None
    # Qhull does not wind its triangles alike; its planes' normals look outwards.
    faces = whole.simplices.copy()
    a, b, c = (corners[faces[:, i]] for i in range(3))
    inward = (np.cross(b - a, c - a) * whole.equations[:, :3]).sum(1) < 0
    faces[inward] = faces[inward][:, [0, 2, 1]]
    mesh = Mesh(torch.from_numpy(corners.astype(np.float32)), torch.from_numpy(faces.astype(np.int32)))
    return mesh if mesh.volume > 0 else None


def convex_parts(
    mesh: Mesh,
    method: Method = "cuts",
    threshold: float = 0.05,
    most: int = 12,
    seed: int = 0,
    seconds: float = 20.0,
) -> tuple[Mesh, ...]:
    """Closed convex meshes whose union stands for the mesh.

    One hull where it holds little more than the mesh, and where the mesh is open. Where CoACD (Wei et al.
    2022, "Approximate convex decomposition for 3D meshes with collision-aware concavity and tree search")
    takes longer than it may or fails, which is logged, plane cuts must do.

    Args:
        mesh: any; its own frame is kept.
        method: "cuts" along the axes of the smallest box take about a second and are the same on every
            machine; "coacd" searches for better ones and takes many times as long.
        threshold: cuts: share of the mesh's volume that a part may waste; coacd: its concavity, in units of
            the mesh scaled to [-1, 1]. Smaller means more parts.
        most: so many parts at most.
        seed: of CoACD's search.
        seconds: how long CoACD may take.

    Raises:
        MissingDependency: coacd is asked for and not installed.
    """
    whole = hull(mesh.vertices)
    if whole is None:
        return ()
    if most <= 1 or not is_closed(mesh) or mesh.volume > (1 - threshold) * whole.volume:
        return (whole,)
    bare, found = Mesh(mesh.vertices, mesh.faces), []
    if method == "coacd":
        found = _coacd(decimated(bare, _FACES), threshold, most, seed, seconds)
    found = found or [torch.from_numpy(points).float() for points in cut_parts(bare, threshold, most)]
    return tuple(part for each in found if (part := hull(each)) is not None) or (whole,)


def _spread(points: np.ndarray, count: int) -> np.ndarray:
    """Rows of points far from each other: farthest point sampling, the outermost one first."""
    chosen = [int(((points - points.mean(0)) ** 2).sum(1).argmax())]
    nearest = ((points - points[chosen[0]]) ** 2).sum(1)
    while len(chosen) < count:
        chosen.append(int(nearest.argmax()))
        nearest = np.minimum(nearest, ((points - points[chosen[-1]]) ** 2).sum(1))
    return np.array(chosen)


def _coacd(mesh: Mesh, threshold: float, most: int, seed: int, seconds: float) -> list[Tensor]:
    """Vertices of CoACD's parts; nothing where it fails. A process of its own can be ended in time."""
    _require_coacd()
    with tempfile.TemporaryDirectory(prefix="gaussworld-convex-") as folder:
        source, target = Path(folder) / "in.npz", Path(folder) / "out.npz"
        np.savez(source, vertices=mesh.vertices.double().numpy(), faces=mesh.faces.numpy())
        script = Path(__file__).with_name("coacd_process.py")
        command = [
            sys.executable,
            str(script),
            str(source),
            str(target),
            str(threshold),
            str(most),
            str(seed),
        ]
        try:
            done = subprocess.run(
                command, capture_output=True, timeout=seconds, env=_few_threads(), check=False
            )
        except subprocess.TimeoutExpired:
            logger.warning("CoACD took longer than %g s: the object is cut by planes instead", seconds)
            return []
        if done.returncode or not target.is_file():
            said = done.stderr.decode(errors="replace").strip().splitlines()[-1:] or [
                f"exit {done.returncode}"
            ]
            logger.warning("CoACD failed (%s): the object is cut by planes instead", said[0][:200])
            return []
        with np.load(target) as arrays:
            return [torch.from_numpy(arrays[name]).float() for name in sorted(arrays.files)]


def _few_threads() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": str(max(1, torch.get_num_threads()))}


def _require_coacd() -> None:
    from importlib.util import find_spec

    if find_spec("coacd") is None:
        raise MissingDependency(
            "expected coacd to make convex parts, found none; run `pip install coacd`, or use --convex cuts"
        )
