"""Categories of substances, and materials that keep apart what is known from what is assumed."""

from dataclasses import replace

import pytest
import torch

from gaussworld.gaussians import Gaussians
from gaussworld.shape import Mesh, Shape
from gaussworld.substances import SUBSTANCES, category_named, physical
from gaussworld.world import World
from gaussworld.world_object import Material, ObjectKind, WorldObject


def _world(material: Material | None = None, shape: bool = True) -> World:
    """A tetrahedron of 1/6 of a cubic metre."""
    corners = torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]])
    mesh = Mesh(corners, torch.tensor([[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]]))
    one = torch.ones(1)
    gaussians = Gaussians.from_activated(
        torch.zeros(1, 3), torch.eye(4)[:1], torch.ones(1, 3), one, torch.ones(1, 3)
    )
    item = WorldObject(1, "thing", gaussians, ObjectKind.RIGID, material=material or Material())
    return World({1: replace(item, shape=Shape(mesh) if shape else None)})


def test_every_substance_is_a_material_within_its_own_range():
    """The table can be stored as it is, and each density lies between the usual extremes."""
    for name, substance in SUBSTANCES.items():
        assert category_named(name) == name
        assert substance.densities[0] <= substance.density <= substance.densities[1]
        Material().with_values("category", **substance.numbers())


def test_words_of_other_people():
    """Upper case, blanks and common synonyms; what is unknown lists what is known."""
    assert category_named(" Aluminum ") == "aluminium"
    assert category_named("carton") == "cardboard"
    with pytest.raises(ValueError, match=r"expected a category among aluminium, .* got 'unobtainium'"):
        category_named("unobtainium")


def test_volume_and_centre_are_the_shapes_and_density_the_categorys():
    """Each number says where it is from."""
    material = physical(_world(), {1: "wood"})[1]
    assert material.volume == pytest.approx(1 / 6)
    assert material.center_of_mass == pytest.approx((0.25, 0.25, 0.25))
    assert material.mass == pytest.approx(100.0)
    assert material.category == "wood"
    assert material.sources["volume"] == material.sources["center_of_mass"] == "shape"
    assert material.sources["friction"] == "category"


def test_what_somebody_knows_is_never_covered():
    """Measured, identified and user's values stay, each by itself."""
    known = Material().with_values("measured", density=321.0).with_values("user", volume=2.0)
    known = known.with_values("identified", friction=0.77)
    material = physical(_world(known), {1: "steel"})[1]
    assert (material.density, material.volume, material.friction) == (321.0, 2.0, 0.77)
    assert material.stiffness == SUBSTANCES["steel"].stiffness
    assert material.sources["density"] == "measured"


def test_a_new_category_covers_an_old_one_and_nothing_new_is_nothing():
    """Only what differs is given back."""
    wood = physical(_world(), {1: "wood"})[1]
    assert physical(_world(wood)) == {}
    assert physical(_world(wood), {1: "glass"})[1].density == SUBSTANCES["glass"].density


def test_without_a_shape_only_the_category_tells():
    """No volume is invented, and a word that no table knows changes nothing."""
    material = physical(_world(shape=False), {1: "foam"})[1]
    assert material.volume is None and material.mass is None and material.density == 30
    assert physical(_world(Material(category="my alloy"), shape=False)) == {}


def test_an_object_that_is_not_there():
    """The message lists those there are."""
    with pytest.raises(ValueError, match=r"expected the id of an object .* got 7"):
        physical(_world(), {7: "wood"})
