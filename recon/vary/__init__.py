"""Randomised copies of a world: things placed so that they rest, colours, light, cameras; with labels."""
