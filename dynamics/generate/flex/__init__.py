"""Ropes, cloths and soft blocks in MuJoCo: what they are, how they are simulated, held and drawn."""
