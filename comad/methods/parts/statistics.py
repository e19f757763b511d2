"""Statistics of teacher tokens over training images, found once before the first step."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

FLOOR = 1e-3  # of the largest deviation: a dead channel is not blown up to noise


class TokenMoments:
    """Running first and second moments of teacher tokens, in float64.

    Each teacher's own moments use all tokens that it sees; the cross moments of a pair use the
    patches that both see.

    Args:
        dims: widths D_k of the teachers.
    """

    def __init__(self, dims: Sequence[int]) -> None:
        self.dims = tuple(dims)
        zeros = torch.zeros
        self.count = [0 for _ in dims]
        self.sum = [zeros(D, dtype=torch.float64) for D in dims]
        self.square = [zeros(D, D, dtype=torch.float64) for D in dims]
        self.pairs = [(j, k) for k in range(len(dims)) for j in range(k)]
        self.pair_count = dict.fromkeys(self.pairs, 0)
        self.pair_sum = {
            (j, k): (zeros(dims[j], dtype=torch.float64), zeros(dims[k], dtype=torch.float64))
            for j, k in self.pairs
        }
        self.pair_product = {
            (j, k): zeros(dims[j], dims[k], dtype=torch.float64) for j, k in self.pairs
        }

    def update(self, tokens: Sequence[Tensor], visible: Tensor) -> None:
        """Add a batch.

        Args:
            tokens: per teacher (B, N, D_k) in raster order; values at unseen patches are ignored.
            visible: (B, K, N) bool.
        """
        tokens = [x.double() for x in tokens]
        for k, x in enumerate(tokens):
            seen = x[visible[:, k]]
            self.count[k] += len(seen)
            self.sum[k] = self.sum[k] + seen.sum(0).cpu()
            self.square[k] = self.square[k] + (seen.T @ seen).cpu()
        for j, k in self.pairs:
            both = visible[:, j] & visible[:, k]
            x, y = tokens[j][both], tokens[k][both]
            self.pair_count[j, k] += len(x)
            sums = self.pair_sum[j, k]
            self.pair_sum[j, k] = (sums[0] + x.sum(0).cpu(), sums[1] + y.sum(0).cpu())
            self.pair_product[j, k] = self.pair_product[j, k] + (x.T @ y).cpu()

    def mean(self, k: int) -> Tensor:
        """(D_k,) mean of teacher k's tokens."""
        return self.sum[k] / self.count[k]

    def covariance(self, k: int) -> Tensor:
        """(D_k, D_k) covariance of teacher k's tokens."""
        mean = self.mean(k)
        return self.square[k] / self.count[k] - torch.outer(mean, mean)

    def cross_covariance(self, j: int, k: int) -> Tensor:
        """(D_j, D_k) mean of (t_j - mean_j)(t_k - mean_k)^T over the patches that both see."""
        if j > k:
            return self.cross_covariance(k, j).T
        count = max(self.pair_count[j, k], 1)
        left, right = (total / count for total in self.pair_sum[j, k])
        mean_j, mean_k = self.mean(j), self.mean(k)
        cross = self.pair_product[j, k] / count - torch.outer(left, mean_k)
        return cross - torch.outer(mean_j, right) + torch.outer(mean_j, mean_k)


class ChannelStandard(nn.Module):
    """Mean and standard deviation per channel, found once and saved with the model.

    Most of a pretrained token is what all tokens of that network share: after a LayerNorm alone the
    cosine of two random patches of the sample's MoCo v3 or iBOT teacher is above 0.9, and a student
    that predicts a constant is nearly perfect.

    Args:
        dim: D, channels.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.register_buffer('mean', torch.zeros(dim))
        self.register_buffer('deviation', torch.ones(dim))
        self.register_buffer('fitted', torch.tensor(False))
        self._ready = False
        self._count, self._sum, self._square = 0, 0.0, 0.0

    @torch.no_grad()
    def update(self, tokens: Tensor) -> None:
        """Add tokens (..., D) to the sums, in float64."""
        rows = tokens.reshape(-1, tokens.shape[-1]).double()
        self._count += len(rows)
        self._sum = self._sum + rows.sum(0).cpu()
        self._square = self._square + rows.square().sum(0).cpu()

    @torch.no_grad()
    def finish(self) -> None:
        """Take mean and deviation from the sums, which begin anew.

        Raises:
            RuntimeError: without tokens.
        """
        if not self._count:
            raise RuntimeError('no tokens were given to find means and deviations from')
        mean = self._sum / self._count
        deviation = (self._square / self._count - mean.square()).clamp(min=0).sqrt()
        self.mean.copy_(mean)
        self.deviation.copy_(deviation.clamp(min=FLOOR * float(deviation.max())))
        self.fitted.fill_(True)
        self._count, self._sum, self._square = 0, 0.0, 0.0

    def forward(self, tokens: Tensor) -> Tensor:
        """(..., D) -> (..., D) float32.

        Raises:
            RuntimeError: if nothing was fitted or loaded.
        """
        # Asked on the device only until the answer is yes, to spare a synchronisation per step.
        self._ready = self._ready or bool(self.fitted)
        if not self._ready:
            raise RuntimeError('targets are not fitted: prepare() or a checkpoint comes first')
        return (tokens.float() - self.mean) / self.deviation
