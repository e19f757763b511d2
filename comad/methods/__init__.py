"""Pretraining methods; importing this package registers them in MMEngine's MODELS."""

from comad.methods.amd import AMD
from comad.methods.amd_video import AMDVideo
from comad.methods.base import PretrainMethod
from comad.methods.comad import CoMAD
from comad.methods.d_mae_lite import DMAELite
from comad.methods.dmt import DMT
from comad.methods.hybrid_distill import HybridDistill
from comad.methods.ibot import IBOT
from comad.methods.mae import MAE
from comad.methods.mocov3 import MoCoV3
from comad.methods.videomae import VideoMAE

__all__ = [
    'AMD',
    'DMT',
    'IBOT',
    'MAE',
    'AMDVideo',
    'CoMAD',
    'DMAELite',
    'HybridDistill',
    'MoCoV3',
    'PretrainMethod',
    'VideoMAE',
]
