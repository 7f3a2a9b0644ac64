"""MuJoCo draws off screen: it reads this once, when the first test imports it."""

import os
import sys

if sys.platform.startswith("linux"):
    os.environ.setdefault("MUJOCO_GL", "egl")
