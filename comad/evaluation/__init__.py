"""What a student is worth: probes, fine-tuning and k-NN on ImageNet, and fast dense metrics."""

from comad.evaluation.coco import encode_masks
from comad.evaluation.feature_bank import FeatureBankLoop
from comad.evaluation.features import POOLS, WIDTHS, FrozenFeatures, pooled_features
from comad.evaluation.finetune import ImageClassifier
from comad.evaluation.iou import class_areas
from comad.evaluation.knn import KNNTestLoop, weighted_votes
from comad.evaluation.lars import Lars
from comad.evaluation.linear import LinearProbe
from comad.evaluation.lowshot import LowShotTestLoop
from comad.evaluation.metrics import Accuracy, gather_in_order, sample_predictions
from comad.evaluation.video import VideoClassifier

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
    'VideoClassifier',
    'LowShotTestLoop',
    'class_areas',
    'encode_masks',
    'gather_in_order',
    'pooled_features',
    'sample_predictions',
    'weighted_votes',
]
