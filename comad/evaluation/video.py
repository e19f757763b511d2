"""`VideoClassifier`: a network on video fine-tuned as in VideoMAE, tested on several views."""

from collections.abc import Mapping
from typing import Any

import torch
from mmengine.registry import MODELS
from torch import Tensor

from backbones.checkpoints import fill_completely, read_checkpoint
from backbones.video_files import read_video_classifier
from comad.evaluation.finetune import ImageClassifier
from comad.evaluation.metrics import sample_predictions


@MODELS.register_module()
class VideoClassifier(ImageClassifier):
    """The mean of the cube tokens through a norm of its own and a linear head.

    Mixup and cutmix take a clip for an image of 3 T channels. A test averages the probabilities of
    a video's views.

    Args:
        backbone, num_classes, label_smoothing, data_preprocessor: see `ImageClassifier`.
        mixup: Arguments of `timm.data.Mixup`; None for plain labels.
        head_scale: Factor on the head's truncated normal initialisation of 0.02.
        frozen_frame: Test a second time on clips of one frame, the middle one, over and over: what
            the network knows without motion. Scores named ``frozen``.
        official: A fine-tuned file of the official code that fills all of it, for a test; None.

    Raises:
        CheckpointError: the official file is no complete match.
    """

    def __init__(
        self,
        backbone: dict[str, Any],
        num_classes: int = 400,
        mixup: Mapping[str, Any] | None = None,
        label_smoothing: float = 0.0,
        head_scale: float = 0.001,
        frozen_frame: bool = False,
        official: str | None = None,
        data_preprocessor: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(
            backbone,
            num_classes,
            'mean',
            mixup,
            label_smoothing,
            0.02 * head_scale,
            data_preprocessor,
        )
        if not hasattr(self.backbone, 'frames'):
            raise ValueError(
                f'backbone {type(self.backbone).__name__} sees single images: expected a network '
                'on video, such as MaskedVideoViT'
            )
        self.frozen_frame = frozen_frame
        if official is not None:
            self.load_official(official)

    def load_official(self, path: str) -> None:
        """Fill backbone, norm and head from a fine-tuned file of VideoMAE or AMD."""
        tensors = read_video_classifier(read_checkpoint(path), path)
        own = ('fc_norm.', 'head.')
        named = {k if k.startswith(own) else f'backbone.{k}': v for k, v in tensors.items()}
        unused = [f'backbone.norm.{kind}' for kind in ('weight', 'bias')]
        buffers = [name for name in self.state_dict() if name.startswith('data_preprocessor')]
        fill_completely(self, named, path, [*unused, *buffers])

    def forward(
        self, inputs: Tensor, labels: Tensor | None = None, mode: str = 'tensor'
    ) -> dict[str, Tensor] | list[dict[str, Any]] | Tensor:
        """Class scores of clips (B, 3, T, H, W), or of the views (B, V, 3, T, H, W) of videos.

        Returns:
            ``loss``: ``loss_class``; ``predict``: see `sample_predictions`, scores being the mean
            over the views of their probabilities; ``tensor``: (B, C).
        """
        if mode == 'loss':
            if self.mixup is not None:
                mixed, labels = self.mixup(inputs.flatten(1, 2), labels)
                inputs = mixed.view_as(inputs)
            return {'loss_class': self.loss(self._scores(inputs), labels)}
        if mode == 'predict':
            views = inputs.unsqueeze(1) if inputs.dim() == 5 else inputs
            scores = {self.pool: self._averaged(views)}
            if self.frozen_frame:
                middle = views.shape[3] // 2
                still = views[:, :, :, middle : middle + 1].expand_as(views)
                scores['frozen'] = self._averaged(still)
            return sample_predictions(scores, labels)
        return self._scores(inputs)

    def _averaged(self, views: Tensor) -> Tensor:
        """Mean probabilities (B, C) of (B, V, 3, T, H, W), a video at a time to save memory."""
        return torch.stack([self._scores(clips).float().softmax(1).mean(0) for clips in views])
