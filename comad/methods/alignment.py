"""Bringing teachers of different origin and width into one space of the student's width.

"Inter-teacher agreement" means nothing unless equal directions mean equal things: with one PCA
per teacher, the cosine of the same patch in two teachers is no better than that of two random
patches. The abstract of arXiv:2508.04816 states a linear adapter and a LayerNorm per teacher and
not how the adapter is found; the closed forms here are our choice.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from comad.methods.losses import normalize


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


def whitened_pca(covariance: Tensor, width: int, whiten: bool, floor: float = 1e-6) -> Tensor:
    """(D, D) covariance -> (D, width) projection on the leading directions.

    Args:
        covariance: float64.
        width: output columns; columns beyond D are zero.
        whiten: scale every direction to unit variance.
        floor: directions below this share of the largest variance are not blown up further.
    """
    values, vectors = torch.linalg.eigh(covariance)
    values, vectors = values.flip(0)[:width], vectors.flip(1)[:, :width]
    # The sign of an eigenvector is arbitrary; fix it, so that equal data give equal maps.
    largest = vectors.abs().argmax(dim=0, keepdim=True)
    vectors = vectors * vectors.gather(0, largest).sign()
    if whiten:
        vectors = vectors / values.clamp(min=floor * float(values[0])).sqrt()
    padded = vectors.new_zeros(len(covariance), width)
    padded[:, : vectors.shape[1]] = vectors
    return padded


def generalized_procrustes(cross: dict[tuple[int, int], Tensor], count: int) -> list[Tensor]:
    """Rotations R_k that maximise sum_{j != k} tr(R_j^T C_jk R_k), by alternating solutions.

    Each R_k in turn becomes the orthogonal Procrustes solution against the sum of the other
    rotated teachers, which never lowers the objective.

    Args:
        cross: (d, d) cross-covariance C_jk of projected teachers for all j != k.
        count: K.
    """
    width = next(iter(cross.values())).shape[0] if cross else 0
    identity = torch.eye(width, dtype=torch.float64)
    rotations = [identity]
    for k in range(1, count):
        rotations.append(_rotation(cross[k, 0] @ rotations[0]))
    previous = -torch.inf
    for _ in range(200):
        for k in range(count):
            others = sum(cross[k, j] @ rotations[j] for j in range(count) if j != k)
            rotations[k] = _rotation(others)
        value = sum(float((rotations[j] * (cross[j, k] @ rotations[k])).sum()) for j, k in cross)
        if value <= previous * (1 + 1e-9):
            break
        previous = value
    return rotations


def _rotation(target: Tensor) -> Tensor:
    """The orthogonal R that maximises tr(R^T target)."""
    left, _, right = torch.linalg.svd(target)
    return left @ right


class PCAAlignment(nn.Module):
    """One (whitened) PCA per teacher: same width, but no common meaning. An ablation.

    Args:
        dims: widths D_k of the teachers.
        width: d, the student's width.
        whiten: scale all kept directions to unit variance, our choice.
    """

    def __init__(self, dims: Sequence[int], width: int, whiten: bool = True) -> None:
        super().__init__()
        self.dims, self.width, self.whiten = tuple(dims), width, whiten
        for k, dim in enumerate(self.dims):
            self.register_buffer(f'mean_{k}', torch.zeros(dim))
            self.register_buffer(f'map_{k}', torch.zeros(dim, width))
        self.register_buffer('fitted', torch.tensor(False))
        self._ready = False

    def fit(self, moments: TokenMoments) -> None:
        """Fill the maps from the moments of the teachers' tokens."""
        for k, projection in enumerate(self.solve(moments)):
            getattr(self, f'mean_{k}').copy_(moments.mean(k))
            getattr(self, f'map_{k}').copy_(projection)
        self.fitted.fill_(True)

    def solve(self, moments: TokenMoments) -> list[Tensor]:
        """One (D_k, d) float64 map per teacher."""
        return [
            whitened_pca(moments.covariance(k), self.width, self.whiten)
            for k in range(len(self.dims))
        ]

    def forward(self, tokens: Sequence[Tensor]) -> list[Tensor]:
        """Per teacher (..., D_k) -> (..., d), normalised, float32.

        Raises:
            RuntimeError: if the maps were neither fitted nor loaded.
        """
        # Asked on the device only until the answer is yes, to spare a synchronisation per step.
        self._ready = self._ready or bool(self.fitted)
        if not self._ready:
            raise RuntimeError('the alignment is not fitted: prepare() or a checkpoint comes first')
        return [
            normalize((x.float() - getattr(self, f'mean_{k}')) @ getattr(self, f'map_{k}'))
            for k, x in enumerate(tokens)
        ]


class ProcrustesAlignment(PCAAlignment):
    """Whitened PCA per teacher, then rotations that bring all teachers onto their common mean.

    With a single teacher there is nothing to agree with and the rotation is the identity.
    """

    def solve(self, moments: TokenMoments) -> list[Tensor]:
        """One (D_k, d) float64 map per teacher."""
        maps = super().solve(moments)
        if len(maps) == 1:
            return maps
        cross = {
            (j, k): maps[j].T @ moments.cross_covariance(j, k) @ maps[k]
            for j in range(len(maps))
            for k in range(len(maps))
            if j != k
        }
        rotations = generalized_procrustes(cross, len(maps))
        return [projection @ rotation for projection, rotation in zip(maps, rotations, strict=True)]


ALIGNMENTS: dict[str, type[nn.Module]] = {
    'procrustes': ProcrustesAlignment,
    'pca': PCAAlignment,
}
