"""A track's overlay in a resolved config, and the values that a track has its own way."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from backbones.architectures import NAMES, VIT, architecture_of, network_type, sample_name
from comad.engine.config_keys import RUNNER_KEYS
from comad.engine.options import ConfigError
from comad.engine.paths import SAMPLE_ROOTS, SAMPLE_TEACHERS, VIDEO_TEACHERS
from comad.runs.place import FILES, pretrain_dir, pretrain_root
from comad.runs.track import FULL, Track
from comad.tasks.task import TASKS

if TYPE_CHECKING:
    from mmengine.config import Config

PRETRAIN = 'pretrain'


def apply_track(cfg: Config, leaf: Any, track: Track, leaf_part: dict | None) -> None:
    """Merge the overlay of the leaf's folder, its parts for the task, then the leaf's own part.

    At last comes the overlay's part for one run, ``<method>_<arch>``. Pretraining on video has an
    overlay of its own.

    Raises:
        ConfigError: The track has none for these leaves, or rules the task out by a part None.
    """
    from comad.engine.run_config import parse_config

    video = leaf.folder == PRETRAIN and network_type(leaf.arch) != VIT
    name = f'{leaf.folder}_video' if video else leaf.folder
    overlay = FILES / track.overlay(name)
    parts = () if leaf.folder == PRETRAIN else TASKS[leaf.kind].overlay_parts
    content = parse_config(overlay)._cfg_dict.to_dict() if overlay.is_file() else None
    if content is None or any(content.get(part, ...) is None for part in parts):
        raise ConfigError(
            f'--track {track.name}: {track.title} has no {leaf.kind} ({track.overlay(name)})'
        )
    own = [content.get(part) for part in parts]
    run = content.get(f'{leaf.method}_{leaf.arch}')
    # Helper variables of the overlay and the parts of its other kinds stay behind.
    content = {key: value for key, value in content.items() if key in RUNNER_KEYS}
    for part in (content, *own, leaf_part, run):
        if part:
            cfg.merge_from_dict(dict(part), allow_list_keys=False)


def track_value(track: Track, key: str, value: Any, own: str | None = None) -> Any:
    """A config's value as it is on a track: places of runs, and stand-ins where it has those.

    Args:
        track: The track.
        key: The value's.
        value: Of a config.
        own: Data of the user's own, which have no stand-in.

    Raises:
        ConfigError: A network that has no stand-in.
    """
    if not isinstance(value, str) or (own and value.startswith(own)):
        return value
    if not track.stand_ins:
        full, root = pretrain_root(FULL), pretrain_root(track.name)
        is_run = key == 'checkpoint' and value.startswith(f'{full}/')
        return value.replace(full, root, 1) if is_run else value
    if key == 'arch' and architecture_of(value) and not value.startswith('sample_'):
        if sample_name(value) is None:
            known = ', '.join(name for name in NAMES if sample_name(name))
            raise ConfigError(
                f'{track.option.strip()}: {value!r} has no stand-in of its size; {known} have'
            )
        return sample_name(value)
    if key in ('sha256', 'md5'):
        return None  # pins of the real teachers' files
    if run := (SAMPLE_TEACHERS | VIDEO_TEACHERS).get(value):
        return str(pretrain_dir(track.name, run, 0) / Path(value).name)
    if value.startswith('data/') and not value.startswith(SAMPLE_ROOTS):
        return 'data/sample/' + value.removeprefix('data/')
    return value
