"""Ablation of CoMAD: the map loss compares channels per position, not positions per channel.

    tools/pretrain.sh comad_channel
    tools/pretrain.sh comad_channel --sample

Hardware and time: as comad_tiny; not yet measured. Figure to reach: not published; neither axis is
stated.
"""

_base_ = './comad_tiny.py'

model = dict(map_axis='channel')
