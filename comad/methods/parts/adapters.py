"""Alignments whose maps are trained: ablations of the closed forms in ``alignment``.

Their parameters are part of the model: saved in checkpoints, trained by the method's optimizer,
left behind at export. Every parameter takes part in every step, as DistributedDataParallel wants.
"""

from collections.abc import Sequence

from mmengine.logging import MMLogger
from torch import Tensor, nn

from comad.methods.parts.alignment import (
    Alignment,
    OrthogonalAlignment,
    PCAAlignment,
    ProcrustesAlignment,
    semi_orthogonal,
)
from comad.methods.parts.losses import normalize


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
