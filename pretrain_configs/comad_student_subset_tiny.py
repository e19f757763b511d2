"""Ablation of CoMAD: each teacher sees the student's patches and extras of its own.

    tools/pretrain.sh comad_student_subset
    tools/pretrain.sh comad_student_subset --sample

Hardware and time: as comad_tiny; not yet measured. Figure to reach: not published; fewer hidden
patches are seen by several teachers than in a chain.
"""

_base_ = './comad_tiny.py'

model = dict(masks='student_subset')
