"""Pulling a state to what is observed - points, or pictures through the rasterizer - and tracking with it."""
