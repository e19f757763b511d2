"""Networks and their weights.

A foreign MMEngine config needs ``custom_imports = dict(imports=['backbones'])`` and nothing else
to build `MaskedViT` and the pyramids under any default scope. mmcv's operators come with it where
none are compiled, see `mmcv_finder`.
"""

from .checkpoints import CheckpointError, read_checkpoint
from .mmcv_finder import provide_operators
from .pyramid import MultiLevelPyramid, SimpleFeaturePyramid, check_strides
from .student import StudentWeights, load_student, save_student
from .teachers import FAMILIES, Teacher, build_teacher, untrained_teachers
from .vit import ARCHITECTURES, MaskedViT

provide_operators()

__all__ = [
    'ARCHITECTURES',
    'FAMILIES',
    'CheckpointError',
    'MaskedViT',
    'MultiLevelPyramid',
    'SimpleFeaturePyramid',
    'StudentWeights',
    'Teacher',
    'build_teacher',
    'check_strides',
    'load_student',
    'read_checkpoint',
    'save_student',
    'untrained_teachers',
]
