"""The Gaussians of a robot, by the meshes of its links."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from gaussworld.gaussians import Gaussians, cat
from gaussworld.shape import Mesh
from gaussworld.world_object import ObjectKind
from recon.objects import Found, lift, mesh_pictures, near_meshes, with_robot

LOW, HIGH = (-0.2, -0.1, 0.0), (-0.08, 0.02, 0.1)
FACES = torch.tensor(
    [
        [0, 2, 1], [1, 2, 3], [4, 5, 6], [5, 7, 6], [0, 1, 4], [1, 5, 4],
        [2, 6, 3], [3, 6, 7], [0, 4, 2], [2, 4, 6], [1, 3, 5], [3, 7, 5],
    ]
)  # fmt: skip


def box_mesh(low: tuple[float, ...], high: tuple[float, ...]) -> Mesh:
    """A closed box."""
    corners = [
        [(low, high)[i][0], (low, high)[j][1], (low, high)[k][2]]
        for k in (0, 1)
        for j in (0, 1)
        for i in (0, 1)
    ]
    return Mesh(torch.tensor(corners), FACES)


def test_gaussians_on_a_link_are_its_own(scene: Any) -> None:
    """The red box is a link: its Gaussians get an object of kind ROBOT, the rest stays."""
    before = Found(
        torch.where(scene.ids == 2, 0, scene.ids), torch.full((len(scene.ids),), 99, dtype=torch.uint8)
    )
    found = with_robot(scene.gaussians, {"hand": box_mesh(LOW, HIGH)}, 0.004, before)
    assert found.names == {4: "hand"} and found.kinds == {4: ObjectKind.ROBOT}
    red = scene.ids == 2
    assert float((found.ids[red] == 4).float().mean()) == 1.0
    assert torch.equal(found.ids[~red & (found.ids != 4)], before.ids[~red & (found.ids != 4)])
    assert int((found.ids == 4).sum()) < 1.2 * int(red.sum()) + 150


def test_a_wrong_calibration_is_forgiven(scene: Any) -> None:
    """A mesh 8 mm off still finds its Gaussians, less surely."""
    off = torch.eye(4)
    off[:3, 3] = torch.tensor([0.008, 0.0, 0.0])
    right, wrong = box_mesh(LOW, HIGH), box_mesh(LOW, HIGH).transformed(off)
    sure = [near_meshes(scene.gaussians, [mesh], 0.01) for mesh in (right, wrong)]
    red = scene.ids == 2
    assert bool((sure[1][0][red] == 0).all())
    assert float(sure[1][1][red].mean()) < float(sure[0][1][red].mean())


def test_the_nearest_of_two_links_wins(box: Callable[..., Gaussians]) -> None:
    """Where tolerances overlap, the closer mesh has the Gaussian; what is inside belongs too."""
    left, right = box_mesh((0.0, 0.0, 0.0), (0.1, 0.1, 0.1)), box_mesh((0.102, 0.0, 0.0), (0.2, 0.1, 0.1))
    parts = [box((0.0, 0.0, 0.0), (0.1, 0.1, 0.1), (1.0, 0.0, 0.0), 0.02)]
    parts.append(box((0.02, 0.02, 0.02), (0.08, 0.08, 0.08), (1.0, 0.0, 0.0), 0.02))
    parts.append(box((0.102, 0.0, 0.0), (0.2, 0.1, 0.1), (0.0, 1.0, 0.0), 0.02))
    truth = torch.cat([torch.full((len(part),), i // 2) for i, part in enumerate(parts)])
    links, sure = near_meshes(cat(parts), [left, right], 0.01)
    assert torch.equal(links, truth) and float(sure.min()) > 0.9


def test_far_away_and_empty_meshes(scene: Any) -> None:
    """A robot that is elsewhere has no Gaussians; a link without faces neither; tolerances are positive."""
    away = box_mesh((5.0, 5.0, 5.0), (6.0, 6.0, 6.0))
    empty = Mesh(torch.zeros(0, 3), torch.zeros(0, 3, dtype=torch.int32))
    links, _ = near_meshes(scene.gaussians, [away, empty], 0.01)
    assert int(links.max()) == -1
    assert with_robot(scene.gaussians, {"arm": away}, 0.01).numbers == []
    with pytest.raises(ValueError, match="positive tolerance"):
        near_meshes(scene.gaussians, [away], 0.0)


def test_masks_drawn_of_meshes_lift_as_well(scene: Any) -> None:
    """Ray-cast meshes are masks like others."""
    pictures = mesh_pictures([box_mesh(LOW, HIGH)], scene.cameras)
    lifted = lift(scene.gaussians, scene.cameras, pictures)
    sure = lifted.confidences > 64
    red = sure & (scene.ids == 2)
    assert float((lifted.ids[red] == 1).float().mean()) > 0.95
