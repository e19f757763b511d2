"""Pretraining methods; importing this package registers them in MMEngine's MODELS."""

from comad.methods.amd import AMD
from comad.methods.base import PretrainMethod
from comad.methods.comad import CoMAD
from comad.methods.hybrid_distill import HybridDistill
from comad.methods.ibot import IBOT
from comad.methods.mae import MAE
from comad.methods.mocov3 import MoCoV3

__all__ = ['AMD', 'IBOT', 'MAE', 'CoMAD', 'HybridDistill', 'MoCoV3', 'PretrainMethod']
