"""Measurements of speed: of a training step and of the data."""
