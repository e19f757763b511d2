"""Ablation of CoMAD: one PCA per teacher instead of a common space.

    tools/pretrain.sh comad_pca
    tools/pretrain.sh comad_pca --sample

Hardware and time: as comad_tiny; not yet measured. Figure to reach: not published; cosines between
teachers, and so the gate, then mean little.
"""

_base_ = './comad_tiny.py'

model = dict(align='pca')
