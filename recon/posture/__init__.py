"""Joint positions of a robot from masks of it in calibrated pictures of one moment."""

from .fit import JointFit, fit_joints
from .silhouettes import RobotView

__all__ = ["JointFit", "RobotView", "fit_joints"]
