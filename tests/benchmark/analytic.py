"""GFLOP of a vision transformer by formula, to hold counted ones against."""

from torch import nn

from backbones.contract import BlockNetwork
from comad.methods.parts.decoder import MaskedDecoder


def vit_gflop(
    tokens: int, patches: int, width: int, depth: int, patch_size: int = 16, mlp_ratio: float = 4.0
) -> float:
    """GFLOP (2 per multiply-add) of one image's forward pass; norms and activations left out.

    Args:
        tokens: T, cls token included, that go through the blocks.
        patches: how many are embedded.
        width: D.
        depth: blocks.
        patch_size: edge in pixels.
        mlp_ratio: hidden width of the MLP over D.
    """
    embedding = 2 * patches * 3 * patch_size**2 * width
    linear = (8 + 4 * mlp_ratio) * tokens * width**2
    attention = 4 * tokens**2 * width
    return (embedding + depth * (linear + attention)) / 1e9


def network_gflop(network: BlockNetwork, kept: int | None = None) -> float:
    """GFLOP of a network's forward pass on ``kept`` patches, by default all."""
    kept = network.num_patches if kept is None else kept
    return vit_gflop(1 + kept, kept, network.embed_dim, network.depth, network.patch_size)


def decoder_gflop(decoder: MaskedDecoder, in_dim: int, out_dim: int, kept: int) -> float:
    """GFLOP of a decoder's forward pass from ``kept`` patches to all."""
    width, tokens = decoder.embed.out_features, decoder.positions.shape[1]
    blocks = vit_gflop(tokens, 0, width, len(decoder.blocks))
    return blocks + 2 * ((1 + kept) * in_dim + tokens * out_dim) * width / 1e9


def comad_gflop(model: nn.Module) -> float:
    """GFLOP per image of a CoMAD step: teachers once, student and decoder with their backward pass.

    Alignment, gate and losses are left out.
    """
    patches = model.backbone.num_patches
    kept = round((1 - model.mask_ratio) * patches)
    teachers = sum(
        network_gflop(network, round((1 - ratio) * patches))
        for network, ratio in zip(model.teacher_networks, model.teacher_ratios, strict=True)
    )
    width = model.backbone.embed_dim
    trained = network_gflop(model.backbone, kept)
    # Images need no gradient: the backward pass of the patch embedding is one product, not two.
    embedding = 2 * kept * 3 * model.backbone.patch_size**2 * width / 1e9
    return teachers + 3 * (trained + decoder_gflop(model.decoder, width, width, kept)) - embedding
