"""Distillation of a classifier with labels; importing this package registers its methods.

`ls` shows the methods, one file each; what they share is in `base`, the modules that learn between
student and teacher in `exits` and `fusion`.
"""

from comad.distill.base import Distiller
from comad.distill.cc import CC
from comad.distill.crd import CRD
from comad.distill.dist import DIST
from comad.distill.dkd import DKD
from comad.distill.fbt import FBT
from comad.distill.fitnet import FitNet
from comad.distill.kd import KD
from comad.distill.ofa import OFA
from comad.distill.plain import Plain
from comad.distill.rkd import RKD
from comad.distill.schedule import TimmSchedule

__all__ = [
    'CC',
    'CRD',
    'DIST',
    'DKD',
    'FBT',
    'KD',
    'OFA',
    'RKD',
    'Distiller',
    'FitNet',
    'Plain',
    'TimmSchedule',
]
