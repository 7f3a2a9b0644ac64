"""Joint positions of a robot from masks of it in calibrated pictures of one moment."""

from .fit import Effort, JointFit, fit_joints
from .silhouettes import RobotView

__all__ = ["Effort", "JointFit", "RobotView", "fit_joints"]
