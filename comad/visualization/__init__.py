"""Pictures of what dense models predict, and of how a pretraining went."""

from comad.visualization.hook import PredictionFigureHook
from comad.visualization.predictions import draw_predictions, draw_rows
from comad.visualization.pretrain_hook import PretrainFigureHook

__all__ = ['PredictionFigureHook', 'PretrainFigureHook', 'draw_predictions', 'draw_rows']
