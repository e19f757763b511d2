"""Another network as the backbone of a leaf that was written for one ViT.

ViTs of another size keep the leaf's adapters and heads, which take their width. Maps of students in
four stages already have the strides 4, 8, 16 and 32: UperNet reads them as they are, Mask R-CNN
through a plain feature pyramid. Nothing here imports torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from backbones.architectures import ARCHITECTURES, VIT, network_type, sample_name
from backbones.staged_table import CNN, STAGED, Entry, entry_of
from comad.engine.options import ConfigError

if TYPE_CHECKING:
    from mmengine.config import Config

# Options of a leaf's backbone that any network has; the others are a ViT's.
SHARED = ('type', 'arch', 'init_cfg', 'frozen', 'drop_path_rate')
STAGES = (0, 1, 2, 3)


def fit_vit(cfg: Config, named: str, arch: str, small: bool) -> None:
    """Let adapters and heads of a dense task read a ViT of another size than the leaf names.

    What reads the backbone or its adapter takes the new width; the widths inside of the heads stay,
    they belong to the recipe. Maps and windows of a network of another depth lie at the same share
    of its blocks (MAE's ViT-L: after blocks 8, 12, 16 and 24 where ViT-B has 4, 6, 8 and 12).
    Students of another kind leave the config as it is.

    Args:
        cfg: Of a transfer, changed in place.
        named: The architecture that the leaf names.
        arch: The student's.
        small: Whether their stand-ins are meant.
    """
    if {network_type(named), network_type(arch)} != {VIT}:
        return
    old, new = (ARCHITECTURES[(small and sample_name(name)) or name] for name in (named, arch))
    model = cfg.model
    neck = model.get('neck') or {}
    if neck.get('in_channels') == old['embed_dim']:
        neck.update(in_channels=new['embed_dim'], patch_size=new['patch_size'])
    if not neck.get('out_channels'):  # the heads read maps as wide as the backbone
        for head in (model.get('decode_head'), model.get('auxiliary_head')):
            if head:
                several = isinstance(head.in_channels, (list, tuple))
                maps = len(head.in_channels) if several else 1
                head.in_channels = [new['embed_dim']] * maps if several else new['embed_dim']
                if head.get('num_convs') == 0:  # a linear layer is as wide as what it reads
                    head.channels = maps * new['embed_dim']
    for key in ('out_indices', 'global_blocks'):
        if key in model.backbone and old['depth'] != new['depth']:
            ends = ((index + 1) * new['depth'] / old['depth'] for index in model.backbone[key])
            model.backbone[key] = tuple(round(end) - 1 for end in ends)


def fit_staged(cfg: Config, arch: str, small: bool) -> None:
    """Take a ViT's options and adapters out of a config, and put widths and strides in.

    Students of another kind leave the config as it is.

    Args:
        cfg: Of a transfer, changed in place.
        arch: The student's.
        small: Whether its stand-in is meant.

    Raises:
        ConfigError: a network of one grid for a dense task, or a head of other maps.
    """
    if network_type(arch) != STAGED:
        return
    entry = entry_of(sample_name(arch) or arch if small else arch)
    model, name = cfg.model, cfg.get('protocol', {}).get('name', 'this config')
    for key in set(model.backbone) - set(SHARED):
        del model.backbone[key]
    wrapper = cfg.get('optim_wrapper', {})
    if wrapper.get('paramwise_cfg', {}).get('decay_rate', 1.0) != 1.0:
        wrapper.paramwise_cfg.decay_rate = 1.0  # layers are counted in blocks of a ViT
    if not _has_class_token(entry):
        _read_means(cfg, name, entry.title)
    dense = 'decode_head' in model or 'roi_head' in model
    if not dense:
        return
    if not entry.pyramid:
        raise ConfigError(
            f'{name} needs maps at strides 4, 8, 16 and 32; {entry.title} has one grid: take a '
            'CNN or a Swin'
        )
    model.backbone.out_indices = STAGES
    widths = list(entry.widths or _measured(arch))
    if 'roi_head' in model:
        strides = len(model.neck.get('strides', ())) or 5
        width = model.neck.out_channels
        model.neck = dict(type='FPN', in_channels=widths, out_channels=width, num_outs=strides)
        return
    if not isinstance(model.decode_head.get('in_channels'), (list, tuple)) or 'neck' not in model:
        raise ConfigError(f'{name} reads one map; of students in stages UperNet alone is known')
    del model['neck']
    model.decode_head.in_channels = widths
    if 'auxiliary_head' in model:
        model.auxiliary_head.in_channels = widths[model.auxiliary_head.get('in_index', 2)]


def _measured(arch: str) -> tuple[int, ...]:
    """Widths of a network that has no entry, which only timm can tell."""
    from backbones.staged import StagedClassifier

    return StagedClassifier(arch=arch).widths


def _has_class_token(entry: Entry) -> bool:
    return entry.family != CNN and not entry.pyramid


def _read_means(cfg: Config, name: str, title: str) -> None:
    """Probe the mean over the map alone, where a task would probe class tokens too.

    Raises:
        ConfigError: a task that reads class tokens and nothing else.
    """
    probes = [(cfg.model, ('LinearProbe', 'FrozenFeatures'))]
    probes.append((cfg.get('test_cfg') or {}, ('KNNTestLoop', 'LowShotTestLoop')))
    for part, kinds in probes:
        if part.get('type') not in kinds and 'pools' not in part:
            continue
        if 'mean' not in part.get('pools', ('mean',)):
            raise ConfigError(f'{name} reads class tokens, of which {title} has none')
        part.pools = ('mean',)
