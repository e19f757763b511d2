"""Pictures of what dense models predict."""

from comad.visualization.hook import PredictionFigureHook
from comad.visualization.predictions import draw_predictions, draw_rows

__all__ = ['PredictionFigureHook', 'draw_predictions', 'draw_rows']
