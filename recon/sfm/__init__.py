"""Structure from motion: cameras and sparse points of photographs or a video's frames, with COLMAP."""

from .ladder import structure_from_motion
from .settings import Attempt, SfmConfig, SfmResult

__all__ = ["Attempt", "SfmConfig", "SfmResult", "structure_from_motion"]
