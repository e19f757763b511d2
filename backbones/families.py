"""Families of official weight files: what is in them, by whose rules. Imports no torch.

Adding a family whose files have timm's tensor names under a known wrapper is adding an entry.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Family:
    """How one family of checkpoints is read.

    Attributes:
        networks: Names of the networks to take, first choice first, see `find_networks`.
        pos_interpolation: The rule of the official code for other grid sizes.
        layout: What a readable file holds, for the error line.
        licence: Licence of the official weights.
        options: Further arguments of the network that the family's ViT-B needs.
    """

    networks: tuple[str, ...]
    pos_interpolation: str
    layout: str
    licence: str
    options: Mapping[str, Any] = field(default_factory=dict)


FAMILIES: dict[str, Family] = {
    'mae': Family(
        ('model', 'file', 'transformers'), 'bicubic', "{'model': tensors}", 'CC-BY-NC 4.0'
    ),
    'mocov3': Family(
        ('base_encoder', 'file'),
        'bicubic',
        "{'state_dict': module.base_encoder.* tensors}",
        'CC-BY-NC 4.0',
    ),
    'ibot': Family(
        ('teacher', 'state_dict', 'file'),
        'bicubic_offset',
        "{'teacher': backbone.* tensors} or {'state_dict': tensors}",
        'Apache-2.0',
    ),
    'dino': Family(
        ('teacher', 'file', 'transformers'),
        'bicubic_offset',
        "bare tensors or {'teacher': backbone.* tensors}",
        'Apache-2.0',
    ),
    'dinov2': Family(
        ('file', 'teacher', 'transformers'),
        'bicubic_offset',
        'bare tensors with blocks.*.ls1.gamma',
        'Apache-2.0',
        dict(patch_size=14, img_size=518, layer_scale=1.0),
    ),
}

# Networks of timm by the short names of their families; any other one is named by timm's own.
TIMM_NETWORKS: dict[str, str] = {
    'dinov3': 'vit_base_patch16_dinov3',
    'dinov3_vits16': 'vit_small_patch16_dinov3',
    'dinov3_vitb16': 'vit_base_patch16_dinov3',
    'dinov3_vitl16': 'vit_large_patch16_dinov3',
    'dinov3_convnext_tiny': 'convnext_tiny.dinov3_lvd1689m',
    'dinov3_convnext_small': 'convnext_small.dinov3_lvd1689m',
    'dinov3_convnext_base': 'convnext_base.dinov3_lvd1689m',
    'siglip2': 'vit_base_patch16_siglip_224.v2_webli',
    'siglip2_vitb16': 'vit_base_patch16_siglip_224.v2_webli',
    'siglip2_vitl16': 'vit_large_patch16_siglip_256.v2_webli',
    'siglip2_so400m': 'vit_so400m_patch14_siglip_224.v2_webli',
    'clip_vitb16': 'vit_base_patch16_clip_quickgelu_224.openai',
    'clip_vitl14': 'vit_large_patch14_clip_quickgelu_224.openai',
    'eva02_vitb14': 'eva02_base_patch14_224.mim_in22k',
    'eva02_vitl14': 'eva02_large_patch14_224.mim_in22k',
}


@dataclass(frozen=True)
class VideoFamily:
    """How one family of files of networks on video is read, see `video_files`.

    Attributes:
        parts: Start of a tensor's name below the wrappers -> what it is; none of the encoder.
        proof: Start of a name that every pretraining file of the family has.
        licence: Of the official weights.
    """

    parts: Mapping[str, str]
    proof: str
    licence: str


VIDEO_PARTS = {
    r'decoder\.': "VideoMAE's decoder",
    r'encoder_to_decoder\.': "VideoMAE's decoder",
    r'mask_token$': 'mask token of pretraining',
}
VIDEO_FAMILIES: dict[str, VideoFamily] = {
    'amd_video': VideoFamily(
        {
            **VIDEO_PARTS,
            r'projection_heads\.': "AMD's maps to the teacher",
            r'generators\.': "AMD's generators",
        },
        'generators.',
        'not stated',
    ),
    # Fine-tuned files have no norm of the encoder.
    'videomae': VideoFamily(VIDEO_PARTS, 'norm.', 'CC-BY-NC 4.0'),
}
