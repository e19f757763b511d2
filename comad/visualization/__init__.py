"""Pictures of what dense models predict, and of how a pretraining went."""

from comad.visualization.predictions import draw_predictions, draw_rows

__all__ = ['draw_predictions', 'draw_rows']
