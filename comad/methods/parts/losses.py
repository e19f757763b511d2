"""The two levels of CoMAD's distillation: KL on visible tokens and on reconstructed maps.

The abstract of arXiv:2508.04816 states "dual-level KL divergence" on visible tokens and on
reconstructed feature maps; axes, temperature and the direction of the KL are our choice.
Everything is computed in float32, whatever precision the tokens come in. A target passes a gradient
only if it carries one: frozen alignments give none, a jointly trained one does.
"""

import torch.nn.functional as F
from torch import Tensor

MAP_AXES = ('spatial', 'channel')


def normalize(tokens: Tensor) -> Tensor:
    """LayerNorm over the last axis in float32, without affine part: (..., D) -> (..., D)."""
    return F.layer_norm(tokens.float(), tokens.shape[-1:], eps=1e-6)


def _kl(target_logits: Tensor, logits: Tensor, dim: int) -> Tensor:
    """KL(softmax(target) || softmax(logits)) along ``dim``, which is summed away."""
    log_target = F.log_softmax(target_logits.float(), dim=dim)
    log_prediction = F.log_softmax(logits.float(), dim=dim)
    return (log_target.exp() * (log_target - log_prediction)).sum(dim)


def token_kl(target: Tensor, student: Tensor, temperature: float = 1.0) -> Tensor:
    """T^2 * mean over tokens of KL(softmax(target/T) || softmax(student/T)) over channels.

    Args:
        target: (B, n, D) normalised consensus at the student's visible patches.
        student: (B, n, D) normalised student tokens.
        temperature: T.
    """
    kl = _kl(target / temperature, student / temperature, dim=-1)
    return temperature**2 * kl.mean()


def map_kl(
    target: Tensor,
    prediction: Tensor,
    visible: Tensor,
    axis: str = 'spatial',
    temperature: float = 1.0,
) -> Tensor:
    """KL between the consensus map and the reconstructed map where at least one teacher looked.

    ``spatial`` compares, per image and channel, the distributions over positions;
    ``channel`` compares, per position, the distributions over channels. Both are averaged within
    an image first, so that the loss of a batch is the mean of its images' losses.

    Args:
        target: (B, N, D) normalised consensus.
        prediction: (B, N, D) normalised decoder output.
        visible: (B, N) bool, positions with a target; at least one per image.
        axis: 'spatial' or 'channel'.
        temperature: T; the result carries the factor T^2.

    Raises:
        ValueError: if the axis is unknown.
    """
    target = target / temperature
    prediction = prediction / temperature
    seen = visible.unsqueeze(-1)
    if axis == 'spatial':
        # Not -inf but a large number: its probability is exactly 0, and 0 * inf is avoided.
        kl = _kl(target.masked_fill(~seen, -1e9), prediction.masked_fill(~seen, -1e9), dim=1)
        return temperature**2 * kl.mean()
    if axis == 'channel':
        kl = _kl(target, prediction, dim=-1) * visible
        return temperature**2 * (kl.sum(1) / visible.sum(1)).mean()
    raise ValueError(f'map_axis={axis!r}: expected one of {", ".join(MAP_AXES)}')
