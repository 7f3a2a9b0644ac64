"""World and action to future: particles, physics, learned models, planning."""
