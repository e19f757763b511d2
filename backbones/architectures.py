"""Architectures by name: the one registry of what students and teachers may be.

An entry holds the arguments of its network. ``type``, the class in MMEngine's registry that takes
them, is left out for `MaskedViT`; ``title`` is what tables print of any other network. Adding an
architecture is adding an entry. Nothing here imports torch, so that names and cards can be checked
before anything is built.
"""

from collections.abc import Mapping
from typing import Any

from .names import meant
from .staged_table import STAGED_ARCHITECTURES, entry_of

VIT = 'MaskedViT'
# Stand-ins for the embedded sample: 64-px images, 8-px patches, minutes on a CPU.
SAMPLE = 'sample_'


def _video(letter: str, **sizes: int) -> dict[str, Any]:
    usual = dict(img_size=224, frames=16, patch_size=16, tubelet=2)
    return dict(type='MaskedVideoViT', title=f'Video-ViT-{letter}/16', **(usual | sizes))


# Four frames of 64 px: 2 slots of 64 cubes. Of 16 larger cubes a mask of 0.9 leaves two places,
# from which a short pretraining learns nothing.
_SAMPLE_CLIP = dict(img_size=64, frames=4, patch_size=8)

ARCHITECTURES: dict[str, dict[str, Any]] = {
    'tiny': dict(img_size=224, patch_size=16, embed_dim=192, depth=12, num_heads=3),
    'small': dict(img_size=224, patch_size=16, embed_dim=384, depth=12, num_heads=6),
    'base': dict(img_size=224, patch_size=16, embed_dim=768, depth=12, num_heads=12),
    # As MAE, iBOT and timm have them; 'huge' has patches of 14 px (arXiv:2010.11929, table 1).
    'large': dict(img_size=224, patch_size=16, embed_dim=1024, depth=24, num_heads=16),
    'huge': dict(img_size=224, patch_size=14, embed_dim=1280, depth=32, num_heads=16),
    # VideoMAE's networks on cubes of 2 x 16 x 16 (arXiv:2203.12602).
    'video_small': _video('S', embed_dim=384, depth=12, num_heads=6),
    'video_base': _video('B', embed_dim=768, depth=12, num_heads=12),
    'video_large': _video('L', embed_dim=1024, depth=24, num_heads=16),
    f'{SAMPLE}tiny': dict(img_size=64, patch_size=8, embed_dim=64, depth=4, num_heads=2),
    f'{SAMPLE}base': dict(img_size=64, patch_size=8, embed_dim=128, depth=4, num_heads=4),
    **{
        f'{SAMPLE}video_{name}': _video(letter, **_SAMPLE_CLIP, depth=4, **sizes)
        for name, letter, sizes in (
            ('small', 'S', dict(embed_dim=64, num_heads=2)),
            ('base', 'B', dict(embed_dim=128, num_heads=4)),
            ('large', 'L', dict(embed_dim=128, num_heads=4)),
        )
    },
    **STAGED_ARCHITECTURES,
}
# What configs and students may be named after.
NAMES = tuple(name for name in ARCHITECTURES if not name.startswith(SAMPLE))
# What a ViT's architecture has to state for its row to be ranked.
SIZES = ('embed_dim', 'depth', 'num_heads', 'patch_size')
LETTERS = {'tiny': 'T', 'small': 'S', 'base': 'B', 'large': 'L', 'huge': 'H'}


def network_type(arch: str, architecture: Mapping[str, Any] | None = None) -> str:
    """Class of a network: what its architecture states, else what is registered, else a ViT."""
    return (architecture or {}).get('type') or architecture_of(arch).get('type', VIT)


def architecture_of(arch: str) -> Mapping[str, Any]:
    """The entry of an architecture, or what timm's name of one stands for; empty for no name."""
    if arch in ARCHITECTURES or (entry := entry_of(arch)) is None:
        return ARCHITECTURES.get(arch, {})
    return entry.architecture()


def network_config(arch: str) -> dict[str, Any]:
    """``type`` and arguments that MMEngine's registry builds the network from.

    Raises:
        ValueError: no such architecture.
    """
    if not (known := architecture_of(arch)):
        near = meant(arch, ARCHITECTURES)
        raise ValueError(f'arch {arch!r} is unknown{near}; known: {", ".join(ARCHITECTURES)}')
    arguments = {key: value for key, value in known.items() if key != 'title'}
    return {'type': VIT, **arguments}


def vits() -> dict[str, dict[str, int]]:
    """The sizes of `MaskedViT`."""
    return {name: entry for name, entry in ARCHITECTURES.items() if network_type(name) == VIT}


def split_name(student: str) -> tuple[str, str] | None:
    """Method and architecture of ``<method>_<arch>``, the longest name that fits; None if none."""
    words = student.split('_')
    for first in range(1, len(words)):
        method, arch = '_'.join(words[:first]), '_'.join(words[first:])
        if method and not arch.startswith(SAMPLE) and architecture_of(arch):
            return method, arch
    return None


def sample_name(arch: str) -> str | None:
    """The architecture that stands for another one on the embedded sample; None if none does."""
    return f'{SAMPLE}{arch}' if f'{SAMPLE}{arch}' in ARCHITECTURES else None


def timm_name(architecture: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """timm's name of a ViT and the arguments that differ from what the name stands for."""
    width = architecture['embed_dim']
    fitting = [name for name, entry in vits().items() if entry['embed_dim'] == width]
    arch = next((name for name in fitting if not name.startswith(SAMPLE)), 'tiny')
    usual = ARCHITECTURES[arch]
    changed = {key: value for key, value in architecture.items() if usual.get(key) != value}
    return f'vit_{arch}_patch{usual["patch_size"]}_{usual["img_size"]}', changed


def missing_sizes(arch: str, architecture: Mapping[str, Any] | None) -> list[str]:
    """What an architecture has to state and does not: a ViT its sizes, others their type."""
    stated = architecture or {}
    if network_type(arch, architecture) != VIT:
        return [] if stated.get('type') else ['type']
    return [key for key in SIZES if not (isinstance(stated.get(key), int) and stated[key] > 0)]


def display_name(
    arch: str, architecture: Mapping[str, Any] | None = None, sample: bool = False
) -> str:
    """An architecture as tables show it: ``ViT-Tiny/16``, ``ViT-Sample-Tiny/8``, or its title."""
    name = arch.removeprefix(SAMPLE)
    if network_type(arch, architecture) != VIT:
        title = ARCHITECTURES.get(arch, {}).get('title', name)
        return f'Sample-{title}' if sample else title
    words = [*(['sample'] if sample else []), *name.split('_')]
    shown = 'ViT-' + '-'.join(word.capitalize() for word in words)
    patch = (architecture or {}).get('patch_size')
    return f'{shown}/{patch}' if patch else shown


def card_name(backbone: Mapping[str, Any]) -> str:
    """A backbone's config as recipe cards show it: ``ViT-T/16, 3 heads``, or its title."""
    arch = backbone.get('arch', 'tiny')
    if backbone.get('type', VIT) != VIT:
        return ARCHITECTURES.get(arch, {}).get('title', arch)
    shape = ARCHITECTURES[arch] | {k: v for k, v in backbone.items() if v is not None}
    return f'ViT-{LETTERS.get(arch, arch)}/{shape["patch_size"]}, {shape["num_heads"]} heads'
