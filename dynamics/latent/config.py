"""`LatentConfig`: how large the latent model is, and how it is trained."""

from dataclasses import dataclass

from gaussworld.errors import ConfigError


@dataclass(frozen=True)
class LatentConfig:
    """Sizes of the latent model, and weights of what it learns from; the defaults are for a CPU."""

    anchors: int = 32
    """Places on each object at which its Gaussians are gathered into a local code."""
    neighbors: int = 12
    """Gaussians that are gathered at each anchor."""
    token: int = 64
    """Numbers of an object's token, the state of the latent space."""
    hidden: int = 48
    """Numbers of a code at an anchor, and of what passes from a tool to it."""
    layers: int = 2
    """Of the transformer."""
    heads: int = 4
    """Of its attention."""
    windows: int = 64
    """Windows of all recordings of a slice together while they are short; longer ones are fewer."""
    longest: int = 16
    """Steps of the longest window that is trained on."""
    noise: float = 0.0025
    """[m] standard deviation by which objects stand elsewhere at a window's beginning; they turn 1 degree."""
    latent: float = 0.05
    """Weight of the distance between predicted tokens and those of what really came."""
    spread: float = 0.1
    """Weight of what keeps tokens apart, so that they cannot collapse."""

    def __post_init__(self) -> None:
        least = {"anchors": 8, "neighbors": 1, "token": 8, "hidden": 8, "layers": 1, "heads": 1, "windows": 1,
                 "longest": 1}  # fmt: skip
        for name, value in least.items():
            if getattr(self, name) < value:
                raise ConfigError(f"{name}: expected at least {value}, got {getattr(self, name)}")
        if self.token % self.heads or self.hidden % self.heads:
            raise ConfigError(
                f"heads: expected a divisor of token {self.token} and hidden {self.hidden}, got {self.heads}"
            )
        for name in ("noise", "latent", "spread"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise ConfigError(
                    f"{name}: expected a finite number of at least 0, got {getattr(self, name)}"
                )


#: By name: for two cores, and for a GPU with hundreds of thousands of windows.
SIZES = {
    "small": LatentConfig(),
    "large": LatentConfig(anchors=96, neighbors=24, token=384, hidden=192, layers=6, heads=8, windows=512),
}
