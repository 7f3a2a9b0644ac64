"""Images to world: structure from motion, training, meshes, objects."""
