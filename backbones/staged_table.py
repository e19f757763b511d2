"""Classifiers that are cut into four stages: timm's names, widths, and how images are tested.

The cuts are OFA-KD's (arXiv:2310.19444 and its code); `stage_cuts` says where they fall. Other
networks of the same modules of timm are students by timm's names, without an entry. Nothing here
imports torch.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

STAGED = 'StagedClassifier'
CNN, TOKEN = 'cnn', 'token'
STRIDES = (4, 8, 16, 32)
# Modules of timm all of whose networks have four known stages, with arguments of their own.
MODULES: dict[str, dict[str, Any]] = {
    'resnet': {},
    'efficientnet': {},
    'convnext': {},
    'repvit': {'distillation': False},
    'swin_transformer': {},
}


@dataclass(frozen=True)
class Entry:
    """A network of timm.

    Args:
        title: What tables print.
        model: timm's name with the tag of its weights, whose default changes between versions.
        family: ``cnn`` (maps) or ``token`` (attention and MLPs), which decides recipe and exits.
        widths: Of the four stages; none where the network has to tell them.
        crop: Share of the shorter edge that a test sees: it is resized to size / crop.
        interpolation: Of that resize.
        img_size: Edge of its images in pixels.
        pyramid: Whether its stages have the strides 4, 8, 16 and 32.
        changes: Further arguments of timm's constructor.
    """

    title: str
    model: str
    family: str
    widths: tuple[int, ...]
    crop: float = 0.875
    interpolation: str = 'bicubic'
    img_size: int = 224
    pyramid: bool = True
    changes: dict[str, Any] = field(default_factory=dict)

    def architecture(self) -> dict[str, Any]:
        """The entry among the suite's architectures."""
        network = {'type': STAGED, 'title': self.title, 'model': self.model}
        return {**network, 'img_size': self.img_size, **self.changes}


def _swin(width: int, heads: int, depths: tuple[int, ...] = (2, 2, 2, 2)) -> dict[str, Any]:
    steps = range(4)
    return {
        'embed_dim': width,
        'depths': list(depths),
        'num_heads': [heads * 2**step for step in steps],
    }


_SWIN = 'swin_tiny_patch4_window7_224.ms_in1k'
# Crops and interpolations are those that OFA-KD's timm 0.6.5 had for the names.
NETWORKS: dict[str, Entry] = {
    'resnet18': Entry(
        'ResNet-18', 'resnet18.tv_in1k', CNN, (64, 128, 256, 512), interpolation='bilinear'
    ),
    'resnet50': Entry('ResNet-50', 'resnet50.a1_in1k', CNN, (256, 512, 1024, 2048), crop=0.95),
    'mobilenetv2': Entry('MobileNetV2', 'mobilenetv2_100.ra_in1k', CNN, (24, 32, 96, 1280)),
    'convnext_tiny': Entry('ConvNeXt-T', 'convnext_tiny.fb_in1k', CNN, (96, 192, 384, 768)),
    'convnext_atto': Entry('ConvNeXt-A', 'convnext_atto.d2_in1k', CNN, (40, 80, 160, 320)),
    'repvit_m1': Entry(
        *('RepViT-M1', 'repvit_m1.dist_in1k', CNN, (48, 96, 192, 384)),
        crop=0.95,
        changes={'distillation': False},
    ),
    'deit_tiny': Entry(
        'DeiT-T', 'deit_tiny_patch16_224.fb_in1k', TOKEN, (192,) * 4, crop=0.9, pyramid=False
    ),
    'vit_small': Entry(
        *('ViT-S', 'vit_small_patch16_224.augreg_in21k_ft_in1k', TOKEN, (384,) * 4),
        crop=0.9,
        pyramid=False,
    ),
    'swin_tiny': Entry('Swin-T', _SWIN, TOKEN, (96, 192, 384, 768), crop=0.9),
    # OFA-KD's own sizes, which have no name in timm.
    'swin_nano': Entry('Swin-N', _SWIN, TOKEN, (64, 128, 256, 512), crop=0.9, changes=_swin(64, 2)),
    'swin_pico': Entry('Swin-P', _SWIN, TOKEN, (48, 96, 192, 384), crop=0.9, changes=_swin(48, 2)),
    'mixer_base': Entry(
        'Mixer-B/16', 'mixer_b16_224.goog_in21k_ft_in1k', TOKEN, (768,) * 4, pyramid=False
    ),
    'resmlp_small': Entry('ResMLP-S12', 'resmlp_12_224.fb_in1k', TOKEN, (384,) * 4, pyramid=False),
}


def _sample(name: str, widths: tuple[int, int, int, int], **changes: Any) -> Entry:
    """A stand-in for 64 px images, minutes on a CPU."""
    entry = NETWORKS[name]
    return Entry(
        title=entry.title,
        model=entry.model,
        family=entry.family,
        widths=widths,
        crop=1.0,
        img_size=64,
        pyramid=entry.pyramid,
        changes=changes,
    )


_TINY_CNN = {'layers': [1, 1, 1, 1], 'channels': [16, 32, 64, 128]}
_TINY_CONVNEXT = {'depths': [1, 1, 1, 1], 'dims': [16, 32, 64, 128]}
_TINY_SWIN = {**_swin(24, 1, (1, 1, 1, 1)), 'window_size': 4}
_SAMPLES: dict[str, Entry] = {
    'resnet18': _sample('resnet18', (16, 32, 64, 128), **_TINY_CNN),
    'convnext_tiny': _sample('convnext_tiny', (16, 32, 64, 128), **_TINY_CONVNEXT),
    'swin_tiny': _sample('swin_tiny', (24, 48, 96, 192), **_TINY_SWIN),
    'swin_pico': _sample('swin_pico', (24, 48, 96, 192), **_TINY_SWIN),
    'deit_tiny': _sample('deit_tiny', (64,) * 4, embed_dim=64, depth=4, num_heads=2),
    # timm's named Mixers have fixed sizes: its class is built by itself.
    'mixer_base': replace(
        _sample('mixer_base', (64,) * 4, patch_size=16, embed_dim=64, num_blocks=4),
        model='MlpMixer',
    ),
}


@cache
def timm_modules() -> Mapping[str, str]:
    """Every network of timm -> the module that defines it; read from its files, not imported."""
    folder = Path(find_spec('timm').origin).parent / 'models'
    defined = re.compile(r'^@register_model\s+def (\w+)\(', re.MULTILINE)
    return {
        name: path.stem
        for path in sorted(folder.glob('*.py'))
        for name in defined.findall(path.read_text(encoding='utf-8'))
    }


def entry_of(arch: str) -> Entry | None:
    """The entry of an architecture, ``sample_`` ones included; None for one of another kind.

    Networks of ``MODULES`` without an entry are tested as most of timm's are.
    """
    if arch.startswith('sample_'):
        return _SAMPLES.get(arch.removeprefix('sample_'))
    if arch in NETWORKS or (module := timm_modules().get(arch)) not in MODULES:
        return NETWORKS.get(arch)
    family = TOKEN if module == 'swin_transformer' else CNN
    return Entry(arch, arch, family, (), changes=MODULES[module])


def evaluation_view(arch: str) -> dict[str, Any]:
    """``size``, ``resize`` and ``interpolation`` of a network's test images."""
    entry = entry_of(arch)
    resize = int(entry.img_size / entry.crop)  # rounded down, as timm does
    return {'size': entry.img_size, 'resize': resize, 'interpolation': entry.interpolation}


STAGED_ARCHITECTURES: dict[str, dict[str, Any]] = {
    **{name: entry.architecture() for name, entry in NETWORKS.items()},
    **{f'sample_{name}': entry.architecture() for name, entry in _SAMPLES.items()},
}
