"""Physical consistency: checks against closed forms that anybody can run on a model of their own."""

from .check import Check, Found
from .predictor import Future, OfDynamics, Predictor, of_dynamics, predictor_named
from .suite import CHECKS, Report, Result, consistency

__all__ = [
    "CHECKS", "Check", "Found", "Future", "OfDynamics", "Predictor", "Report", "Result", "consistency",
    "of_dynamics", "predictor_named",
]  # fmt: skip
