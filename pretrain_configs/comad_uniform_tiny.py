"""Ablation of CoMAD: every teacher that sees a patch weighs the same.

    tools/pretrain.sh comad_uniform
    tools/pretrain.sh comad_uniform --sample

Hardware and time: as comad_tiny; not yet measured. Figure to reach: not published; it is what the
gate has to beat.
"""

_base_ = './comad_tiny.py'

model = dict(gate='uniform')
