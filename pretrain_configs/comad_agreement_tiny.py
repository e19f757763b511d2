"""Ablation of CoMAD: the gate weighs teachers by their agreement with the others alone.

    tools/pretrain.sh comad_agreement
    tools/pretrain.sh comad_agreement --sample

Hardware and time: as comad_tiny; not yet measured. Figure to reach: not published; it does not ask
the student.
"""

_base_ = './comad_tiny.py'

model = dict(gate='agreement_only')
