"""``--teachers`` and ``--student-arch``: a pretraining with other networks than its leaf's.

Nothing here imports torch: what a name cannot tell is found out when the teacher is built.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from backbones.architectures import ARCHITECTURES, NAMES, VIT, architecture_of, network_type
from backbones.families import FAMILIES, TIMM_NETWORKS
from backbones.names import meant
from backbones.staged_table import MODULES, STAGED, timm_modules
from comad.engine.options import ConfigError
from comad.runs.place import runs_folder
from comad.runs.track import Track

if TYPE_CHECKING:
    from mmengine.config import Config

# Methods that read tokens alone, of teachers and students of any kind.
ANY_NETWORK = ('CoMAD', 'DMT')
# CoMAD's teachers see progressively more; the ends are those of comad_tiny (our choice).
HEAVIEST, LIGHTEST = 0.6, 0.2
TEACHER = re.compile(r'([a-z0-9][a-z0-9_.]*)=(.+)')


def put_networks(
    cfg: Config, leaf: Any, teachers: list[str] | None, arch: str | None, track: Track
) -> Any:
    """Put teachers and student of the command line into a config; returns the leaf's new name.

    Args:
        cfg: Of a pretraining, changed in place.
        leaf: What the leaf's file name says.
        teachers: ``NAME=FILE`` each; None leaves the leaf's.
        arch: The student's architecture; None leaves the leaf's.
        track: Of the run. Where networks have stand-ins, files of others are read at full size.

    Raises:
        ConfigError: another folder's leaf, a method that cannot, or a name that is none.
    """
    if not teachers and not arch:
        return leaf
    if leaf is None or leaf.folder != 'pretrain':
        raise ConfigError('--teachers and --student-arch belong to pretraining')
    kind = cfg.model.type
    if teachers:
        if kind not in ANY_NETWORK:
            raise ConfigError(f'--teachers: {kind} has none of its own; {_those()} take any')
        entries = [_entry(text, track) for text in teachers]
        if kind == 'CoMAD':
            for entry, ratio in zip(entries, mask_ratios(len(entries)), strict=True):
                entry['mask_ratio'] = ratio
        cfg.model.teachers = entries
        names = [re.sub(r'\W', '_', text.partition('=')[0]) for text in teachers]
        leaf = replace(leaf, method='_'.join([leaf.method, 'from', *names]))
    if arch:
        name = arch.removeprefix('vit_') if arch.removeprefix('vit_') in _vits() else arch
        if not architecture_of(name) or network_type(name) not in (VIT, STAGED):
            raise ConfigError(_no_student(arch))
        if network_type(name) != VIT:
            if kind not in ANY_NETWORK:
                raise ConfigError(
                    f'--student-arch {arch}: {kind} trains ViTs only; {_those()} train any network'
                )
            probe = cfg.get('default_hooks', {}).get('online_probe')
            if probe:
                probe.pools = ('mean',)  # there is no class token
        cfg.model.backbone = dict(type=network_type(name), arch=name)
        leaf = replace(leaf, arch=name)
    return leaf


def _no_student(arch: str) -> str:
    """Why a name is none of a student, and which ones are."""
    known = [name for name in NAMES if network_type(name) in (VIT, STAGED)]
    modules = timm_modules()
    if arch in modules:
        return (
            f'--student-arch {arch}: timm has it in {modules[arch]}, where no stages are known; '
            f"students are {', '.join(known)} and all networks of timm's {', '.join(MODULES)}"
        )
    others = [name for name, module in modules.items() if module in MODULES]
    near = meant(arch.partition('.')[0], (*known, *others))
    return (
        f'--student-arch {arch}: no such network{near}; expected one of {", ".join(known)}, or '
        f"timm's name of one in {', '.join(MODULES)}"
    )


def mask_ratios(count: int) -> list[float]:
    """Shares hidden from CoMAD's teachers, in their order: 0.6, 0.4, 0.2 of three (our choice)."""
    step = (HEAVIEST - LIGHTEST) / max(count - 1, 1)
    return [round(HEAVIEST - k * step, 3) for k in range(count)]


def own_command(method: str, arch: str) -> str | None:
    """The command that makes a student with other networks than its leaf's; None if none does."""
    leaf, _, teachers = method.partition('_from_')
    if leaf.lower() not in map(str.lower, ANY_NETWORK):
        return None
    words = ['tools/pretrain.sh', leaf]
    words += ['--teachers NAME=FILE ...'] if teachers else []
    words += ['--student-arch', arch] if arch != 'tiny' else []
    return ' '.join(words)


def _entry(text: str, track: Track) -> dict[str, Any]:
    """A teacher's entry in a config; `build_teacher` explains its keys."""
    match = TEACHER.fullmatch(text)
    if match is None:
        raise ConfigError(
            f'--teachers {text}: expected NAME=FILE, such as dinov3_vitb16=FILE or siglip2=DIR'
        )
    name, file = match.groups()
    family, _, arch = name.partition('_')
    if family in FAMILIES and (not arch or arch in _vits()):
        entry = dict(family=family, checkpoint=file)
        if not track.stand_ins or Path(file).is_relative_to(runs_folder(track.name)):
            return entry | dict(arch=arch or 'base')
        shape = ARCHITECTURES[arch or 'base']  # by its sizes, for which nothing stands in
        return entry | {key: shape[key] for key in ('embed_dim', 'depth', 'num_heads')}
    if name in TIMM_NETWORKS:
        return dict(family=name, checkpoint=file)
    folder = Path(file) if Path(file).is_dir() else Path(file).parent
    if (folder / 'config.json').is_file():
        return dict(family='timm', checkpoint=file, name=name)
    if (bare := name.partition('.')[0]) not in timm_modules():
        own = (*FAMILIES, *(f'{known}_{vit}' for known in FAMILIES for vit in _vits()))
        near = meant(bare, (*own, *TIMM_NETWORKS, *timm_modules()))
        raise ConfigError(
            f'--teachers {text}: no family and no network of timm is called {name}{near}; families '
            f'are {", ".join((*FAMILIES, *TIMM_NETWORKS))}'
        )
    return dict(family='timm', checkpoint=file, model=name, name=name)


def _vits() -> list[str]:
    return [name for name in NAMES if network_type(name) == VIT]


def _those() -> str:
    return ' and '.join(ANY_NETWORK)
