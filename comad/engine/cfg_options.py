"""``--cfg-options``: merged so that mistakes name their key, and never thrown away. No torch."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

from comad.engine.options import ConfigError, RunOptions
from comad.runs.place import FILES, get_track
from comad.runs.track import track_names

if TYPE_CHECKING:
    from mmengine.config import Config

# Which option decides what --cfg-options cannot.
DECIDED_BY = {
    'randomness.seed': '--seed', 'work_dir': '--work-dir', 'launcher': '--launcher',
    'load_from': '--resume', 'optim_wrapper.type': '--amp', 'optim_wrapper.dtype': '--amp',
    'train_cfg.max_epochs': '--compute-of', 'auto_scale_lr.enable': '--auto-scale-lr',
    'model.backbone.type': '--student', 'model.backbone.arch': '--student',
    'model.backbone.init_cfg.seed': '--student', 'model.backbone.init_cfg.track': '--track',
    'model.backbone.init_cfg.root': '--track',
}  # fmt: skip


def merge(cfg: Config, options: dict[str, Any]) -> None:
    """Merge ``--cfg-options``, whose mistakes name the one of them."""
    try:
        copy.deepcopy(cfg).merge_from_dict(options)
    except Exception:
        for key, value in options.items():
            try:
                copy.deepcopy(cfg).merge_from_dict({key: value})
            except Exception as error:
                reason = ' '.join(str(error.args[0] if error.args else error).split())
                raise ConfigError(f'--cfg-options {key}={value}: {reason}') from error
        raise
    cfg.merge_from_dict(options)


def check_kept(cfg: Config, options: RunOptions) -> None:
    """Refuse options that another one, or the run itself, has written over.

    Raises:
        ConfigError: Key, value, and what decides it.
    """
    config, track = cfg._cfg_dict.to_dict(), get_track(options.track)
    for key, value in options.cfg_options.items():
        if (head := key.partition('.')[0]) in ('run', 'resume', *track_names(FILES)):
            way = (
                'the run writes it'
                if head == 'run'
                else 'the option is ' + ('--resume' if head == 'resume' else '--track')
            )
            raise ConfigError(f'--cfg-options {key}={value}: {way}')
        found: Any = config
        try:
            for part in key.split('.'):
                found = found[int(part) if isinstance(found, (list, tuple)) else part]
        except (KeyError, IndexError, ValueError, TypeError):
            continue  # None switches off
        last = key.rpartition('.')[2]
        stand_in = track.stand_ins and last in ('arch', 'sha256', 'md5', 'checkpoint')
        if not stand_in and not _contains(found, value):
            way = DECIDED_BY.get(key) or (track.option.strip() or 'another option')
            raise ConfigError(f'--cfg-options {key}={value}: {way} makes it {found}')


def _contains(found: Any, given: Any) -> bool:
    """Whether a merged value is what was given."""
    if isinstance(given, dict) and isinstance(found, dict):
        items = ((k, v) for k, v in given.items() if k != '_delete_')
        return all(k in found and _contains(found[k], v) for k, v in items)
    if isinstance(given, (list, tuple)) and isinstance(found, (list, tuple)):
        return len(found) == len(given) and all(map(_contains, found, given))
    return found is given or found == given or (found != found and given != given)
