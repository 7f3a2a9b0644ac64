"""Datasets of LeRobot, versions 2.0 to 3.0: their states, actions and videos become episodes."""
