"""How far followed points are from where a model predicts them."""

from .errors import Errors, errors_of, first_state, track_errors

__all__ = ["Errors", "errors_of", "first_state", "track_errors"]
