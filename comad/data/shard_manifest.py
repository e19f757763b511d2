"""``shards.json`` beside the shards of a split: how they were made, and a sha256 of each."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from backbones.files import read_json, write_json

SHARDS = 'shards.json'
FORMAT = 1


@dataclass
class ShardManifest:
    """What is known of the shards of one split.

    Args:
        settings: what decides the content of the shards.
        libraries: name -> version of what made it; empty for original bytes.
        shards: file name -> ``images``, ``bytes``, ``sha256``, and ``source``, the digest of the
            names and sizes of the files that were packed.
    """

    settings: dict[str, Any]
    libraries: dict[str, str]
    shards: dict[str, dict[str, Any]] = field(default_factory=dict)

    def write(self, folder: Path) -> None:
        """Write the file atomically, shards sorted."""
        entries = {name: self.shards[name] for name in sorted(self.shards)}
        content = {
            'format': FORMAT,
            'settings': self.settings,
            'libraries': self.libraries,
            'images': sum(entry['images'] for entry in entries.values()),
            'shards': entries,
        }
        write_json(folder / SHARDS, content, indent=1)


def read_shard_manifest(folder: Path) -> ShardManifest | None:
    """The manifest of a split's shards; None where there is none.

    Raises:
        ValueError: it is not what `ShardManifest.write` writes.
    """
    path = folder / SHARDS
    try:
        content = read_json(path)
        if content['format'] != FORMAT or not isinstance(content['settings']['images'], str):
            raise ValueError(f'format {content["format"]!r}')
        return ShardManifest(
            dict(content['settings']), dict(content['libraries']), dict(content['shards'])
        )
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f'{path}: not written by the shard command ({error!r})') from None


def check_same(
    folder: Path, name: str, found: Mapping[str, Any], wanted: Mapping[str, Any]
) -> None:
    """Compare settings with those of the shards that are there.

    Raises:
        FileExistsError: the first that differs, both values named.
    """
    for key in sorted({*found, *wanted}):
        if found.get(key) != wanted.get(key):
            raise FileExistsError(
                f'{folder / SHARDS}: {name} {key}={found.get(key)!r}, this run has '
                f'{key}={wanted.get(key)!r}; use the same or choose another --out'
            )


def describe_images(folder: Path) -> str | None:
    """How the images of a split were made smaller, in words; None for original bytes.

    Raises:
        ValueError: a malformed manifest.
    """
    manifest = read_shard_manifest(folder)
    if manifest is None or 'short_side' not in manifest.settings:
        return None
    settings = manifest.settings
    return f'short side {settings["short_side"]} px, JPEG quality {settings["quality"]}'


def shards_digest(folder: Path) -> str | None:
    """sha256 over the names and digests of a split's shards; None without a manifest.

    Raises:
        ValueError: a malformed manifest.
    """
    manifest = read_shard_manifest(folder)
    if manifest is None:
        return None
    lines = (f'{name}\0{entry["sha256"]}\n' for name, entry in sorted(manifest.shards.items()))
    return hashlib.sha256(''.join(lines).encode()).hexdigest()
