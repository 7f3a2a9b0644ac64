"""Why pictures are left out or no model came about: measured facts, the likely cause, what to try next."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .database import feature_counts, match_counts
from .pictures import Pictures

#: Fewer features than this in the median picture: blur, darkness or bare walls.
_FEW_FEATURES = 150
#: Pairs with so many matches before verification show something alike, if not the same.
_ALIKE = 40
#: COLMAP's configuration of pairs whose matches one homography explains.
_HOMOGRAPHIES = (4, 5, 6)
_CONNECTED = 15
_MOST, _SHARE_ALIKE = 0.6, 0.3


@dataclass(frozen=True)
class Facts:
    """What can be counted without a model."""

    features: dict[str, int]
    """Of each picture; pictures that could not be decoded are missing."""
    partners: dict[str, set[str]]
    """Names each picture is connected to by verified matches."""
    flat: float
    """Share of the connected pairs whose matches one homography explains: no parallax, range [0, 1]."""
    alike: float
    """Share of the pairs that are not connected though they have many matches, range [0, 1]."""

    @property
    def group(self) -> list[str]:
        """The largest set of pictures that hang together, sorted."""
        return max(_groups(self.partners), key=len, default=[])


def facts_of(database: Path) -> Facts:
    """Count features, connections, and pairs without parallax."""
    features = feature_counts(database)
    partners: dict[str, set[str]] = {name: set() for name in features}
    connected = flat = loose = alike = 0
    for (first, second), (matches, verified, configuration) in match_counts(database).items():
        if verified >= _CONNECTED:
            partners[first].add(second)
            partners[second].add(first)
            connected, flat = connected + 1, flat + (configuration in _HOMOGRAPHIES)
        else:
            loose, alike = loose + 1, alike + (matches >= _ALIKE)
    decoded = {name: count for name, count in features.items() if count is not None}
    return Facts(decoded, partners, flat / max(connected, 1), alike / max(loose, 1))


def _groups(partners: dict[str, set[str]]) -> list[list[str]]:
    groups, seen = [], set()
    for name in partners:
        if name not in seen:
            group, open_ends = set(), [name]
            while open_ends:
                if (each := open_ends.pop()) not in group:
                    group.add(each)
                    open_ends += partners[each]
            seen |= group
            groups.append(sorted(group))
    return groups


def why_left_out(name: str, facts: Facts) -> str:
    """A few words on a picture that is not in the model."""
    if name not in facts.features:
        return "cannot be decoded"
    if facts.features[name] < _FEW_FEATURES / 3:
        return f"only {facts.features[name]} features were found: blurred, dark or without texture"
    if not facts.partners.get(name):
        return "matches no other picture"
    return f"could not be placed; it matches {len(facts.partners[name])} other pictures"


def why_no_model(pictures: Pictures, facts: Facts, registered: int) -> str:
    """One sentence: how many of how many pictures, which hang together, the likely cause, what to try.

    Args:
        pictures: all that were given.
        facts: counted on their features and matches.
        registered: how many the largest model holds.
    """
    cause, advice = _cause(len(pictures), facts)
    return (
        f"{pictures.root}: expected {len(pictures)} pictures of one scene from different places,"
        f" got {registered} placed ({_group_in_words(pictures.names, facts.group)}), probably because"
        f" {cause}; {advice}"
    )


def _group_in_words(names: Sequence[str], group: Sequence[str]) -> str:
    if len(group) < 2:
        return "no two of them connect"
    ordered = [name for name in names if name in set(group)]
    listed = ", ".join(ordered) if len(ordered) <= 4 else f"{ordered[0]}, {ordered[1]}, ... {ordered[-1]}"
    return f"{len(ordered)} of {len(names)} connect: {listed}"


def _cause(count: int, facts: Facts) -> tuple[str, str]:
    median = int(np.median(list(facts.features.values()))) if facts.features else 0
    if len(facts.group) >= _MOST * count and facts.flat >= _MOST:
        return (
            f"there is no parallax ({facts.flat:.0%} of the connected pairs fit a camera that only turns, or"
            " a flat scene)",
            "walk sideways between pictures instead of turning on the spot",
        )
    if median < _FEW_FEATURES:
        return (
            f"they show little to hold on to (the median picture has {median} features: blur, darkness or"
            " bare surfaces)",
            "take sharp, well lit pictures with textured things in view",
        )
    if facts.alike >= _SHARE_ALIKE:
        return (
            f"the scene repeats itself ({facts.alike:.0%} of the pairs have many matches that contradict each"
            " other)",
            "take pictures in small steps, with something unique in view",
        )
    if len(facts.group) < _MOST * count:
        return (
            "they do not overlap enough",
            "take more pictures, each sharing two thirds of its view with the one before",
        )
    return (
        "the views differ by too little or too much to start from",
        "add pictures between those there are, from places a step apart",
    )
