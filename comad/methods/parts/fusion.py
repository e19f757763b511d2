"""Consensus gating: how much each teacher is trusted at each token, without any parameter."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from comad.methods.parts.losses import normalize

GATES = ('sum', 'affinity_only', 'agreement_only', 'uniform')


class Gate(NamedTuple):
    """Outcome of the gate, both (B, K, N) float32 and zero where a teacher does not look.

    Attributes:
        weights: sum to one over the teachers that see a token.
        agreement: mean cosine to the other teachers that see the token.
    """

    weights: Tensor
    agreement: Tensor


class Consensus(NamedTuple):
    """What student and teachers make of a batch; all but ``teacher_tokens`` is normalised.

    Attributes:
        teacher_tokens: per teacher (B, 1 + n_k, D_k), before the alignment.
        cls: (B, 1, d) student cls token.
        student: (B, n_S, d) student tokens.
        rebuilt: (B, N, d) map rebuilt by the decoder.
        visible: (B, K, N) bool, which teacher sees what.
        gate: weights and agreement, (B, K, N).
        target: (B, N, d) what the teachers agree on, zero where none of them looked.
    """

    teacher_tokens: list[Tensor]
    cls: Tensor
    student: Tensor
    rebuilt: Tensor
    visible: Tensor
    gate: Gate
    target: Tensor


class ConsensusGate:
    """Weights from student-teacher affinity and inter-teacher agreement.

    Stated by the abstract of arXiv:2508.04816: per token and teacher, cosine affinity with the
    student is combined with inter-teacher agreement, parameter-free. The formula is our choice:

        alpha_k = cos(a_k, q)                         affinity to the student's token q
        beta_k  = mean over other seeing teachers j of cos(a_k, a_j)      agreement
        w       = softmax over the teachers that see the token of
                  (balance * alpha + (1 - balance) * beta) / tau

    Args:
        mode: 'sum' as above; 'affinity_only' and 'agreement_only' keep one of the two terms;
            'uniform' is the naive average that the abstract argues against.
        balance: share of affinity in the sum, our choice.
        tau: temperature, our choice; at 1 the weights are nearly uniform.

    Raises:
        ValueError: if the mode is unknown, tau is not positive or balance is outside [0, 1].
    """

    def __init__(self, mode: str = 'sum', balance: float = 0.5, tau: float = 0.1) -> None:
        if mode not in GATES:
            raise ValueError(f'gate={mode!r}: expected one of {", ".join(GATES)}')
        if tau <= 0:
            raise ValueError(f'tau={tau}: expected a positive temperature')
        if not 0 <= balance <= 1:
            raise ValueError(f'balance={balance}: expected a share between 0 and 1')
        self.mode = mode
        self.balance = {'affinity_only': 1.0, 'agreement_only': 0.0}.get(mode, balance)
        self.tau = tau

    @torch.no_grad()
    def __call__(self, aligned: Tensor, visible: Tensor, query: Tensor) -> Gate:
        """Weigh the teachers; no gradient passes.

        Args:
            aligned: (B, K, N, d) teacher tokens in the common space.
            visible: (B, K, N) bool, which teacher sees which position.
            query: (B, N, d) the student's view of each position.
        """
        unit = F.normalize(aligned.float(), dim=-1) * visible.unsqueeze(-1)
        agreement = self._agreement(unit, visible)
        if self.mode == 'uniform':
            scores = torch.zeros_like(agreement)
        else:
            affinity = torch.einsum('bknd,bnd->bkn', unit, F.normalize(query.float(), dim=-1))
            scores = self.balance * affinity + (1 - self.balance) * agreement
        scores = (scores / self.tau).masked_fill(~visible, -torch.inf)
        # A position that no teacher sees has only -inf scores: softmax gives nan there, we want 0.
        weights = scores.softmax(dim=1).masked_fill(~visible, 0.0)
        return Gate(weights, agreement)

    @staticmethod
    def _agreement(unit: Tensor, visible: Tensor) -> Tensor:
        """Mean cosine to the other seeing teachers; 0 where there is no other."""
        total = unit.sum(dim=1, keepdim=True)
        # Cosines to all seeing teachers, less the one to itself (1 where it sees).
        to_others = (unit * (total - unit)).sum(-1)
        others = visible.sum(dim=1, keepdim=True) - 1
        return to_others / others.clamp(min=1) * visible


def fuse(aligned: Tensor, weights: Tensor) -> Tensor:
    """LN(sum_k w_k a_k): (B, K, N, d), (B, K, N) -> (B, N, d) float32; zero where nobody looked.

    The LayerNorm is our choice: without it the length of the aggregate tells how many teachers
    saw the token.
    """
    return normalize(torch.einsum('bkn,bknd->bnd', weights, aligned.float()))
