"""What a student is worth: probes, fine-tuning and k-NN on ImageNet, and fast dense metrics."""

from .coco import encode_masks
from .feature_bank import FeatureBankLoop
from .features import POOLS, WIDTHS, FrozenFeatures, pooled_features
from .finetune import ImageClassifier
from .iou import class_areas
from .knn import KNNTestLoop, weighted_votes
from .lars import Lars
from .linear import LinearProbe
from .linear_loop import LinearProbeLoop
from .lowshot import LowShotTestLoop
from .metrics import Accuracy, gather_in_order, sample_predictions
from .online_probe import OnlineProbeHook
from .per_class import PerClassHook

__all__ = [
    'POOLS',
    'WIDTHS',
    'Accuracy',
    'FeatureBankLoop',
    'FrozenFeatures',
    'ImageClassifier',
    'KNNTestLoop',
    'Lars',
    'LinearProbe',
    'LinearProbeLoop',
    'LowShotTestLoop',
    'OnlineProbeHook',
    'PerClassHook',
    'class_areas',
    'encode_masks',
    'gather_in_order',
    'pooled_features',
    'sample_predictions',
    'weighted_votes',
]
