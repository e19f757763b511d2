"""Bringing teachers of different origin and width into one space of the student's width.

"Inter-teacher agreement" means nothing unless equal directions mean equal things: with one PCA
per teacher, the cosine of the same patch in two teachers is no better than that of two random
patches. The abstract of arXiv:2508.04816 states a linear adapter and a LayerNorm per teacher and
not how the adapter is found: every way here is our choice.

Every alignment maps tokens and names the losses that train it, so that a method need not know
which one it holds. Closed forms come first, then maps that are trained, ablations of them: their
parameters are part of the model, saved in checkpoints, trained by the method's optimizer, left
behind at export. Every parameter takes part in every step, as DistributedDataParallel wants.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from mmengine.logging import MMLogger
from torch import Tensor, nn

from comad.methods.parts.losses import normalize
from comad.methods.parts.statistics import TokenMoments


class Alignment(nn.Module, ABC):
    """One linear map and one LayerNorm per teacher, into a space of the student's width.

    Args:
        dims: widths D_k of the teachers.
        width: d, the student's width.
        whiten: scale all kept directions of a PCA to unit variance; other kinds ignore it.

    Attributes:
        needs_fit: whether moments of training tokens have to be given to :meth:`fit` first.
    """

    needs_fit = False

    def __init__(self, dims: Sequence[int], width: int, whiten: bool = True) -> None:
        super().__init__()
        self.dims, self.width, self.whiten = tuple(dims), width, whiten

    def fit(self, moments: TokenMoments) -> None:
        """Find the maps from the moments of the teachers' tokens, if the kind needs any."""

    def check(self) -> None:  # noqa: B027 (most kinds are ready at once)
        """Stop if the maps cannot be used yet.

        Raises:
            RuntimeError: they were neither fitted nor loaded.
        """

    @abstractmethod
    def forward(self, tokens: Sequence[Tensor]) -> list[Tensor]:
        """Per teacher (..., D_k) -> (..., d), normalised, float32.

        The result carries a gradient only if the distillation loss is meant to train the map.
        """

    def losses(self, tokens: Sequence[Tensor]) -> dict[str, Tensor]:
        """Losses that train the maps besides the distillation, by name; none for a frozen map."""
        return {}


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


class FrozenAlignment(Alignment):
    """A mean and a map per teacher in buffers: saved with the model, never trained."""

    def __init__(self, dims: Sequence[int], width: int, whiten: bool = True) -> None:
        super().__init__(dims, width, whiten)
        for k, dim in enumerate(self.dims):
            self.register_buffer(f'mean_{k}', torch.zeros(dim))
            self.register_buffer(f'map_{k}', torch.zeros(dim, width))
        self.register_buffer('fitted', torch.tensor(False))
        self._ready = False

    def check(self) -> None:
        """Stop if the maps were neither fitted nor loaded; asked before what is compiled runs."""
        # Asked on the device only until the answer is yes, to spare a synchronisation per step.
        self._ready = self._ready or bool(self.fitted)
        if not self._ready:
            raise RuntimeError('the alignment is not fitted: prepare() or a checkpoint comes first')

    def forward(self, tokens: Sequence[Tensor]) -> list[Tensor]:
        """Per teacher (..., D_k) -> (..., d), normalised, float32, without a graph.

        Raises:
            RuntimeError: if the maps were neither fitted nor loaded.
        """
        self.check()
        return [
            normalize((x.float() - getattr(self, f'mean_{k}')) @ getattr(self, f'map_{k}'))
            for k, x in enumerate(tokens)
        ]


class PCAAlignment(FrozenAlignment):
    """One (whitened) PCA per teacher: same width, but no common meaning. An ablation.

    Whitening is our choice.
    """

    needs_fit = True

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


class OrthogonalAlignment(FrozenAlignment):
    """A random (semi-)orthogonal map per teacher that looks at no data. An ablation.

    Lengths and angles survive as well as d directions allow; directions of two teachers have
    nothing to do with each other, so their cosines carry no meaning.
    """

    def __init__(self, dims: Sequence[int], width: int, whiten: bool = True) -> None:
        super().__init__(dims, width, whiten)
        for k, dim in enumerate(self.dims):
            getattr(self, f'map_{k}').copy_(semi_orthogonal(dim, width, seed=k))
        self.fitted.fill_(True)


def semi_orthogonal(rows: int, columns: int, seed: int) -> Tensor:
    """(rows, columns) float32 with orthonormal columns, or rows if those are fewer.

    Equal on every process, whatever the state of the global generator.
    """
    generator = torch.Generator().manual_seed(seed)
    shape = max(rows, columns), min(rows, columns)
    basis, upper = torch.linalg.qr(torch.randn(shape, generator=generator, dtype=torch.float64))
    basis = basis * upper.diagonal().sign()
    return (basis if rows >= columns else basis.T).float()


class ReconstructAlignment(Alignment):
    """The map from which a second linear map rebuilds the teacher's token best.

    ``losses`` holds the mean over teachers, tokens and channels of (U_k a_k - t_k)^2. It alone
    trains the maps; what the student is compared with is detached. The mean over channels, which
    lets teachers of different width count alike, and the orthogonal start are our choice. As with
    ``pca``, nothing brings equal directions of two teachers together.
    """

    def __init__(self, dims: Sequence[int], width: int, whiten: bool = True) -> None:
        super().__init__(dims, width, whiten)
        self.adapters = _adapters(self.dims, width)
        self.rebuilders = nn.ModuleList(nn.Linear(width, dim) for dim in self.dims)

    def forward(self, tokens: Sequence[Tensor]) -> list[Tensor]:
        """Per teacher (..., D_k) -> (..., d), normalised, float32, detached."""
        return [x.detach() for x in self._aligned(tokens)]

    def losses(self, tokens: Sequence[Tensor]) -> dict[str, Tensor]:
        """``loss_align``, see the class."""
        triples = zip(self.rebuilders, self._aligned(tokens), tokens, strict=True)
        terms = [(rebuild(a) - x.detach().float()).square().mean() for rebuild, a, x in triples]
        return {'loss_align': sum(terms) / len(terms)}

    def _aligned(self, tokens: Sequence[Tensor]) -> list[Tensor]:
        pairs = zip(self.adapters, tokens, strict=True)
        return [normalize(adapter(x.detach().float())) for adapter, x in pairs]


class JointAlignment(Alignment):
    """A map that the distillation loss trains together with the student.

    The loss can reach zero without any learning: all maps and the student become one constant.
    Watch the effective ranks in the log. The orthogonal start is our choice.
    """

    def __init__(self, dims: Sequence[int], width: int, whiten: bool = True) -> None:
        super().__init__(dims, width, whiten)
        self.adapters = _adapters(self.dims, width)
        MMLogger.get_current_instance().warning(
            "align='joint' lets the targets move with the student, and a constant target makes the "
            'loss zero: trust the run only while target_rank and student_rank stay up'
        )

    def forward(self, tokens: Sequence[Tensor]) -> list[Tensor]:
        """Per teacher (..., D_k) -> (..., d), normalised, float32, with a graph to the map."""
        pairs = zip(self.adapters, tokens, strict=True)
        return [normalize(adapter(x.detach().float())) for adapter, x in pairs]


def _adapters(dims: Sequence[int], width: int) -> nn.ModuleList:
    adapters = nn.ModuleList(nn.Linear(dim, width) for dim in dims)
    for k, adapter in enumerate(adapters):
        adapter.weight.data.copy_(semi_orthogonal(dims[k], width, seed=k).T)
        nn.init.zeros_(adapter.bias)
    return adapters


ALIGNMENTS: dict[str, type[Alignment]] = {
    'procrustes': ProcrustesAlignment,
    'pca': PCAAlignment,
    'orthogonal': OrthogonalAlignment,
    'reconstruct': ReconstructAlignment,
    'joint': JointAlignment,
}
