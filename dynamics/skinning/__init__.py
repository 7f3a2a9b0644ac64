"""Gaussians that follow objects and particles: exact where things are rigid, stretched where they bend."""

from .skin import Posed, Skin

__all__ = ["Posed", "Skin"]
