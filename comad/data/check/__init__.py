"""Checks of whole data sets: layout, counts, classes, every file; and the manifest they leave.

One file per data set; `run.py` goes through their files. Nothing here imports torch, except where
class names are compared with timm's or mmdet's.
"""
