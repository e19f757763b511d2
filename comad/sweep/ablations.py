"""The grid of CoMAD's ablations on the embedded sample: one difference per cell, paired seeds."""

from pathlib import Path

from comad.sweep.grids import paired, pretrain, teacher_steps
from comad.sweep.step import Step

DEFAULT = 'comad_tiny'
KIND = 'linear'
# Student -> its one difference from the default; each is a leaf of pretrain_configs/.
CELLS = {
    'comad_only_mae_tiny': 'MAE is the only teacher',
    'comad_only_mocov3_tiny': 'MoCo v3 is the only teacher',
    'comad_only_ibot_tiny': 'iBOT is the only teacher',
    'comad_uniform_tiny': "gate='uniform' instead of 'sum'",
    'comad_affinity_tiny': "gate='affinity_only' instead of 'sum'",
    'comad_agreement_tiny': "gate='agreement_only' instead of 'sum'",
    'comad_pca_tiny': "align='pca' instead of 'procrustes'",
    'comad_student_subset_tiny': "masks='student_subset' instead of 'chain'",
    'comad_no_map_tiny': 'map_weight=0 instead of 1',
    'comad_channel_tiny': "map_axis='channel' instead of 'spatial'",
}


def ablations(root: Path, seeds: int) -> list[Step]:
    """Return the steps: teachers, then default and cells with every seed, each probed linearly.

    Seed S of every cell starts from the student and the order of images of seed S of the default,
    and mostly from its crops and masks too, so differences are taken within a seed.
    """
    steps = teacher_steps(root)
    for seed in range(seeds):
        for student in (DEFAULT, *CELLS):
            steps += [pretrain(root, student, seed), paired(root, KIND, student, seed)]
    return steps
