"""Ablation of CoMAD: the gate weighs teachers by their affinity to the student alone.

    tools/pretrain.sh comad_affinity
    tools/pretrain.sh comad_affinity --sample

Hardware and time: as comad_tiny; not yet measured. Figure to reach: not published; the term that
feeds itself: watch share_<teacher> in its log.
"""

_base_ = './comad_tiny.py'

model = dict(gate='affinity_only')
