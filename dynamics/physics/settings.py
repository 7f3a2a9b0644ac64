"""`PriorConfig`: how finely the prior computes; presets are in configs/dynamics."""

from dataclasses import dataclass

from gaussworld.errors import ConfigError


@dataclass(frozen=True)
class PriorConfig:
    """How the physics prior computes a control step.

    Raises:
        ConfigError: a value with which nothing could be computed.
    """

    substeps: int = 6
    """Into how many equal parts a control step is cut."""
    iterations: int = 5
    """How often, at most, the contacts of rigid and jointed parts are solved for one bound of friction."""
    rounds: int = 4
    """How often friction is bound anew in a substep, by the pressures found with the bound before.

    With 1 it follows the pressures a substep late, which is too late for what begins to touch.
    """
    bend_iterations: int = 6
    """How often the shape of ropes, cloths and soft bodies is solved in a substep."""
    contact_stiffness: float = 200.0
    """Stiffness of a contact times substep squared over mass: how much harder than inertia contacts are."""
    stick_speed: float = 1e-4
    """[m/s] below this, friction holds in proportion to speed."""
    recovery_speed: float = 0.1
    """[m/s] at most this fast are things pushed out of each other."""
    tool_spacing: float = 0.012
    """[m] between the points at which tools touch rigid things."""
    grasp_tolerance: float = 0.003
    """[m] a thing this near to both fingers of a closing gripper is held."""
    gravity: float = 9.81
    """[m/s^2] downwards."""
    contacts: bool = True
    """Whether rollouts say who touches whom."""
    self_contact: bool = True
    """Whether particles of things that bend keep their distance from each other."""

    def __post_init__(self) -> None:
        for name in ("substeps", "iterations", "rounds", "bend_iterations"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name}: expected at least 1, got {getattr(self, name)}")
        for name in ("contact_stiffness", "stick_speed", "recovery_speed", "tool_spacing", "grasp_tolerance"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"{name}: expected more than 0, got {getattr(self, name)}")
