"""Relations between the tokens of an image: how queries, keys or values of a block compare.

Shape letters: B images, H heads of a network, A relation heads, T tokens, n kept patches, c width
of a head, D = H * c width of the network.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

QKV = tuple[Tensor, Tensor, Tensor]


def regroup(x: Tensor, relation_heads: int) -> Tensor:
    """Cut concatenated heads into others: (B, H, T, c) -> (B, A, T, D / A).

    Networks of different widths and head counts then have equally many relations (MiniLMv2,
    arXiv:2012.15828), and none has to change its own heads.

    Raises:
        ValueError: if A does not divide D.
    """
    B, H, T, c = x.shape
    check_relation_heads(relation_heads, H * c)
    return x.transpose(1, 2).reshape(B, T, relation_heads, -1).transpose(1, 2)


def check_relation_heads(relation_heads: int, width: int) -> None:
    """Stop unless a network of this width can be cut into so many relation heads.

    Raises:
        ValueError: names both numbers.
    """
    if relation_heads < 1 or width % relation_heads:
        raise ValueError(
            f'relation_heads={relation_heads}: expected a divisor of the width {width}'
        )


def select_tokens(x: Tensor, keep: Tensor) -> Tensor:
    """The class token and the kept patches (B, n) of (..., 1 + N, c), between B and T any axes."""
    index = torch.cat([keep.new_zeros(len(keep), 1), keep + 1], dim=1)
    index = index.view(len(keep), *[1] * (x.ndim - 3), -1, 1)
    return x.gather(-2, index.expand(*x.shape[:-2], -1, x.shape[-1]))


def relation_logits(x: Tensor, y: Tensor) -> Tensor:
    """x y^T / sqrt(c): (B, A, T, c) twice -> (B, A, T, T), in float32."""
    return x.float() @ y.float().transpose(-1, -2) * x.shape[-1] ** -0.5


def relation_kl(target: QKV, student: QKV, relation_heads: int) -> Tensor:
    """KL(teacher || student) of the query-key relations plus that of the value-value relations.

    A relation is a softmax over the tokens given. Cut the teacher's tokens to those of the student
    first (:func:`select_tokens`): a softmax over the rest is the whole one restricted to them and
    renormalised. Mean over images, relation heads and tokens.

    Args:
        target: the teacher's q, k and v, each (B, H_t, T, c_t).
        student: the student's, each (B, H_s, T, c_s), of the same tokens in the same order.
        relation_heads: A, a divisor of both widths.
    """
    q, k, v = (regroup(x, relation_heads) for x in student)
    target_q, target_k, target_v = (regroup(x, relation_heads) for x in target)
    query_key = _kl(relation_logits(target_q, target_k), relation_logits(q, k))
    return query_key + _kl(relation_logits(target_v, target_v), relation_logits(v, v))


def _kl(target: Tensor, student: Tensor) -> Tensor:
    terms = F.kl_div(
        student.log_softmax(-1), target.log_softmax(-1), log_target=True, reduction='none'
    )
    return terms.sum(-1).mean()
