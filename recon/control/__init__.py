"""Depth, normals, edges and segments along a camera path, as videos that steer video models."""
