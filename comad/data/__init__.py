"""Data sets, their views, and the embedded sample.

Importing the package is cheap; ``imagenet`` and ``preprocessor`` register with MMEngine.
"""
