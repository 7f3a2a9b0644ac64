"""What hangs together, and touching things taken apart."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from recon.objects.clusters import hanging_together, taken_apart, with_crumbs, with_floors

STEP = 0.006


def faces(low: tuple[float, ...], size: float) -> tuple[Float[Tensor, "m 3"], Float[Tensor, "m 3"]]:
    """Points and normals of the top and the sides of a cube."""
    a = torch.arange(STEP / 2, size, STEP)
    grid, points, normals = torch.cartesian_prod(a, a), [], []
    for axis, end in ((0, 0.0), (0, size), (1, 0.0), (1, size), (2, size)):
        others = [i for i in range(3) if i != axis]
        part, normal = torch.zeros(len(grid), 3), torch.zeros(len(grid), 3)
        part[:, others[0]], part[:, others[1]], part[:, axis] = grid[:, 0], grid[:, 1], end
        normal[:, axis] = 1.0 if end else -1.0
        points.append(part + torch.tensor(low))
        normals.append(normal)
    return torch.cat(points), torch.cat(normals)


def parts_of(upper: tuple[float, ...], same_color: bool = False) -> tuple[Int[Tensor, " m"], int]:
    """Names of the points of a cube of 10 cm and one of 6 cm on it, and how many belong to the first."""
    (p, n), (q, m) = faces((0.0, 0.0, 0.0), 0.1), faces(upper, 0.06)
    # What the upper cube covers of the lower one's top is not seen.
    inside = (p[:, 2] > 0.099) & ((p[:, :2] - torch.tensor(upper[:2]) - 0.03).abs() < 0.03).all(1)
    p, n = p[~inside], n[~inside]
    points, normals = torch.cat([p, q]), torch.cat([n, m])
    colors = torch.zeros(len(points), 3)
    colors[len(p) :, 1] = 0.0 if same_color else 0.3
    pieces, edges, spacing = hanging_together(points)
    names = taken_apart(pieces, edges, spacing, points, normals, colors, torch.ones(len(points)))
    return names, len(p)


def test_one_thing_on_another() -> None:
    """The crease between them is hollow and the colour changes: two things, cleanly."""
    names, count = parts_of((0.02, 0.02, 0.1))
    assert int(names.max()) == 1
    lower, upper = names[:count].mode().values, names[count:].mode().values
    assert lower != upper
    assert float((names[:count] == lower).float().mean()) > 0.98
    assert float((names[count:] == upper).float().mean()) > 0.98


def test_one_colour_is_one_thing() -> None:
    """A step in a thing of one colour is its form."""
    assert int(parts_of((0.02, 0.02, 0.1), same_color=True)[0].max()) == 0


def test_a_pattern_is_no_border() -> None:
    """Checks of two colours on a cube leave it one: nothing is hollow there."""
    points, normals = faces((0.0, 0.0, 0.0), 0.1)
    colors = torch.zeros(len(points), 3)
    colors[:, 1] = 0.4 * ((points / 0.025).floor().sum(1) % 2)
    pieces, edges, spacing = hanging_together(points)
    names = taken_apart(pieces, edges, spacing, points, normals, colors, torch.ones(len(points)))
    assert int(names.max()) == 0


def test_things_apart_are_pieces() -> None:
    """A gap of a few spacings parts them, whatever spacing each has."""
    (p, _), (q, _) = faces((0.0, 0.0, 0.0), 0.1), faces((0.13, 0.0, 0.0), 0.06)
    pieces, _, spacing = hanging_together(torch.cat([p, q[::2]]))
    assert spacing < 2 * STEP
    assert int(pieces.max()) == 1 and len(pieces[: len(p)].unique()) == 1


def test_hardly_any_points() -> None:
    """Fewer points than neighbours are one piece without edges."""
    pieces, edges, _ = hanging_together(torch.rand(3, 3))
    assert pieces.tolist() == [0, 0, 0] and len(edges) == 0


def test_a_bowls_floor_belongs_to_it_and_what_lies_in_it_does_not():
    """A flat, low disc inside a ring goes to the ring; a ball there, and a disc beside it, stay."""
    g = torch.Generator().manual_seed(0)
    turn = torch.rand(400, generator=g) * 6.283
    ring = torch.stack([turn.cos(), turn.sin()], 1) * 0.1
    disc = (torch.rand(60, 2, generator=g) - 0.5) * 0.08
    places = torch.cat([ring, disc, disc, disc + torch.tensor([0.3, 0.0])])
    heights = torch.cat([torch.rand(400, generator=g) * 0.08, torch.full((60,), 0.01)])
    heights = torch.cat([heights, torch.rand(60, generator=g) * 0.06 + 0.01, torch.full((60,), 0.01)])
    parts = torch.cat([torch.full((n,), i) for i, n in enumerate((400, 60, 60, 60))])
    found = with_floors(parts, places, heights, torch.ones(len(parts)))
    assert found.unique_consecutive().tolist() == [0, 2, 3]


def test_crumbs_go_to_the_thing_beside_them():
    """A bit right beside a large thing is its own; one farther away, or as large, is not."""
    g = torch.Generator().manual_seed(1)
    large = torch.rand(500, 3, generator=g) * 0.1
    crumb = torch.rand(20, 3, generator=g) * 0.01 + torch.tensor([0.11, 0.05, 0.05])
    far = torch.rand(20, 3, generator=g) * 0.01 + torch.tensor([0.3, 0.05, 0.05])
    equal = torch.rand(400, 3, generator=g) * 0.1 + torch.tensor([0.0, 0.11, 0.0])
    points = torch.cat([large, crumb, far, equal])
    parts = torch.cat([torch.full((n,), i) for i, n in enumerate((500, 20, 20, 400))])
    found = with_crumbs(parts, points, torch.ones(len(parts)), 0.005)
    assert found.unique_consecutive().tolist() == [0, 2, 3]
