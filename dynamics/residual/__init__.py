"""A learned correction of physics: impulses along contacts and edges, gated, with an honest uncertainty."""
