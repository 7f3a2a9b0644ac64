"""What things are made of: density, friction and elasticity by category, and objects' materials from it.

Densities and Young's moduli are round values inside the ranges of M. F. Ashby, *Materials Selection in
Mechanical Design*, 4th ed. (2011), appendix A; wood is the air-dry middle of the USDA *Wood Handbook*
(FPL-GTR-282, 2021, chapters 4 and 5); foams are of Gibson and Ashby, *Cellular Solids*, 2nd ed. (1997); foods
of the *ASHRAE Handbook: Refrigeration* (2018, chapter 19); paper and corrugated board of K. Niskanen (ed.),
*Mechanics of Paper Products* (2012). Friction is sliding and dry against wood or a painted table, after
*Marks' Standard Handbook for Mechanical Engineers*, 11th ed. (2007), table 3.2.1. Restitution and damping are
orders of magnitude: no handbook has them for things as they stand on tables. All are where identification
begins, not where it ends.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from .world import World
from .world_object import Material, Source

#: Numbers with one of these sources are known better than a category or a shape can tell.
KNOWN: frozenset[Source] = frozenset({"measured", "identified", "user"})


@dataclass(frozen=True)
class Substance:
    """One category: what `Material` becomes where nothing better is known."""

    density: float
    """[kg/m^3] of the solid, pores included."""
    densities: tuple[float, float]
    """[kg/m^3] what is usual for the category, from the lightest to the heaviest."""
    friction: float
    """Coulomb coefficient."""
    restitution: float
    """Share of the closing speed that a bounce gives back."""
    stiffness: float
    """[Pa] Young's modulus."""
    damping: float = 1.0
    """[1/s]"""

    def numbers(self) -> dict[str, float]:
        """The fields that a `Material` has too."""
        return {name: getattr(self, name) for name in _NUMBERS}


_NUMBERS = ("density", "friction", "restitution", "stiffness", "damping")

#: By category; the names are stored in worlds.
SUBSTANCES: dict[str, Substance] = {
    "aluminium": Substance(2700.0, (2500.0, 2900.0), 0.45, 0.5, 70e9),
    "board": Substance(720.0, (500.0, 900.0), 0.4, 0.4, 3.5e9),
    "brass": Substance(8500.0, (8300.0, 8800.0), 0.4, 0.5, 100e9),
    "cardboard": Substance(140.0, (100.0, 250.0), 0.45, 0.2, 1e8),
    "ceramic": Substance(2300.0, (1900.0, 2700.0), 0.4, 0.5, 70e9),
    "concrete": Substance(2300.0, (2000.0, 2600.0), 0.6, 0.2, 30e9),
    "cork": Substance(180.0, (120.0, 240.0), 0.5, 0.5, 2e7, 5.0),
    "fabric": Substance(350.0, (150.0, 700.0), 0.5, 0.05, 1e6, 5.0),
    "foam": Substance(30.0, (15.0, 70.0), 0.6, 0.3, 1e5, 10.0),
    "food": Substance(950.0, (500.0, 1100.0), 0.4, 0.2, 2e6, 10.0),
    "glass": Substance(2500.0, (2200.0, 2600.0), 0.4, 0.6, 70e9),
    "leather": Substance(900.0, (800.0, 1050.0), 0.6, 0.2, 3e8, 5.0),
    "liquid": Substance(1000.0, (800.0, 1300.0), 0.35, 0.2, 2e9, 5.0),
    "metal": Substance(7800.0, (2500.0, 8900.0), 0.45, 0.5, 200e9),
    "paper": Substance(800.0, (600.0, 1150.0), 0.4, 0.1, 3e9),
    "plastic": Substance(1050.0, (880.0, 1400.0), 0.35, 0.5, 2e9),
    "rubber": Substance(1100.0, (920.0, 1300.0), 0.9, 0.7, 5e6, 2.0),
    "steel": Substance(7800.0, (7600.0, 8100.0), 0.45, 0.6, 200e9),
    "stone": Substance(2600.0, (2200.0, 2900.0), 0.6, 0.3, 50e9),
    "styrofoam": Substance(30.0, (15.0, 60.0), 0.45, 0.3, 6e6),
    "wood": Substance(600.0, (350.0, 800.0), 0.4, 0.4, 10e9),
}

#: Other words for them.
_ALSO = {
    "aluminum": "aluminium", "carton": "cardboard", "chipboard": "board", "cloth": "fabric",
    "fruit": "food", "iron": "steel", "mdf": "board", "plywood": "wood", "polystyrene": "plastic",
    "porcelain": "ceramic", "sponge": "foam", "textile": "fabric", "tin": "steel", "water": "liquid",
}  # fmt: skip


def category_named(name: str) -> str:
    """The key of `SUBSTANCES` that a word stands for, whatever its case.

    Raises:
        ValueError: no such category; the message lists those there are.
    """
    word = name.strip().lower()
    word = _ALSO.get(word, word)
    if word not in SUBSTANCES:
        raise ValueError(f"expected a category among {', '.join(SUBSTANCES)}, got {name!r:.80}")
    return word


def physical(world: World, categories: Mapping[int, str] | None = None) -> dict[int, Material]:
    """What objects are made of, as far as their shapes and categories tell; numbers known better stay.

    Volume and centre of mass are those of the shape, **evenly filled**: a cup whose inside was scanned is
    right, a closed carton or bottle is taken for a solid block and comes out too heavy. Measure its mass, and
    set it: `edit.SetMaterial(values={"mass": 0.35})`.

    Args:
        world: its shapes give volumes in its unit, cubed.
        categories: object id -> category, for those that have another one than `Material.category` says.

    Returns:
        Object id -> its material: those that differ from what the world has.

    Raises:
        ValueError: no such object or category.
    """
    given = {world.find(number).id: category_named(name) for number, name in (categories or {}).items()}
    found: dict[int, Material] = {}
    for number, item in world.objects.items():
        material = item.material
        if item.shape is not None and (volume := item.shape.volume) > 0:
            x, y, z = item.shape.center_of_mass.tolist()
            material = _completed(material, "shape", {"volume": volume, "center_of_mass": (x, y, z)})
        category = given.get(number, material.category)
        # A word of the user's own that no table knows stays a word.
        if category in SUBSTANCES:
            material = _completed(material, "category", SUBSTANCES[category].numbers())
            material = _categorised(material, category)
        if material != item.material:
            found[number] = material
    return found


def _completed(material: Material, source: Source, values: Mapping[str, float | tuple]) -> Material:
    """New values where nobody knows better; those that are the same already are left."""
    free = {
        name: value
        for name, value in values.items()
        if material.sources[name] not in KNOWN
        and (material.sources[name], getattr(material, name)) != (source, value)
    }
    return material.with_values(source, **free) if free else material


def _categorised(material: Material, category: str) -> Material:
    return material if material.category == category else replace(material, category=category)
