"""Ablation of CoMAD: no loss on the reconstructed map.

    tools/pretrain.sh comad_no_map
    tools/pretrain.sh comad_no_map --sample

Hardware and time: as comad_tiny; not yet measured. Figure to reach: not published; the decoder
still runs and gets no gradient.
"""

_base_ = './comad_tiny.py'

model = dict(map_weight=0.0)
