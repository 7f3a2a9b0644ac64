"""`Truth`: what really happened in an episode, in the frames and particles of the world that is judged."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from gaussworld.state import State
from gaussworld.world import World

from ..episodes import Episode
from ..learning.recording import recording_of
from ..matter import Matter
from ..matter.parts import Part, PartKind
from ..skinning import Skin
from .errors import Followed, followed_points

#: [m] an episode in which no followed point goes farther from its start has nothing to predict.
STILL_M = 1e-3


@dataclass(frozen=True, eq=False)
class Truth:
    """An episode and the world in which models predict it."""

    episode: Episode
    world: World
    matter: Matter
    states: State
    """All u = t + 1, with the matter's particles where the truth has them; time is the batch axis."""

    @classmethod
    def of(cls, episode: Episode, world: World) -> "Truth":
        """Put together what happened, for a world as the episode begins, perhaps a little off.

        Raises:
            CaptureError: nothing that can move was followed.
            FileFormatError: the episode's files are damaged.
        """
        recording = recording_of(episode, world=world)
        truth = cls(episode, world, recording.matter, recording.states)
        # Said now, and not in the middle of judging.
        _ = truth.followed
        return truth

    @cached_property
    def skin(self) -> Skin:
        """The Gaussians of the world, bound to its matter."""
        return Skin.bind(self.matter, self.world)

    @cached_property
    def followed(self) -> Followed:
        """The points that count.

        Raises:
            CaptureError: nothing that can move was followed.
        """
        return followed_points(self.world, self.matter, self.episode, skin=self.skin)

    @cached_property
    def parts(self) -> tuple[Part, ...]:
        """What can move and was followed, in the order of `followed.objects`."""
        known = {part.object_id: part for part in self.matter.parts}
        return tuple(known[number] for number in self.followed.objects)

    @property
    def farthest(self) -> float:
        """[m] that any followed point was from where it began."""
        points = self.followed.points
        return float((points - points[:1]).norm(dim=-1).max())

    @property
    def still(self) -> bool:
        """Whether there is nothing to predict."""
        return self.farthest <= STILL_M


def turning(parts: Sequence[Part]) -> list[int]:
    """Rows of the states' objects that have a turn: what bends has none."""
    return [part.row for part in parts if part.kind in (PartKind.RIGID, PartKind.JOINT)]
