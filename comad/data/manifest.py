"""What is kept beside data: ``manifest.json``, what was checked and the digest that records cite,
and ``shards.json``, how a split's shards were made.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from backbones.files import read_json, write_json

MANIFEST = 'manifest.json'
PROBLEMS = 'check.txt'
SHARDS = 'shards.json'
FORMAT = 1
LEVELS = 3
DATA_KEYS = ('root', 'data_root')
QUICK = ' (names and sizes only)'


def digest_lines(files: Iterable[tuple[str, int, str | None]]) -> str:
    """sha256 over the sorted lines 'name, size, sha256' of files; '-' without a content hash."""
    lines = sorted(f'{name}\0{size}\0{content or "-"}\n' for name, size, content in files)
    digest = hashlib.sha256()
    for line in lines:
        digest.update(line.encode('utf-8', errors='surrogateescape'))
    return digest.hexdigest()


def read_manifest(path: Path) -> dict[str, Any] | None:
    """A manifest, also the embedded sample's; None if there is none that can be read."""
    try:
        return read_json(path)
    except (OSError, ValueError):
        return None


def is_sample(manifest: Mapping[str, Any] | None) -> bool:
    """Whether it is the manifest of the embedded sample."""
    return manifest is not None and {'seed', 'version', 'sha256'} <= manifest.keys()


def check_writable(root: Path) -> None:
    """Refuse roots whose manifest is not ours to write, before hours of reading.

    Raises:
        FileExistsError: another program's manifest.json.
        ValueError: the folder belongs to the embedded sample, which has a manifest.
    """
    for folder in (root, *root.parents[:LEVELS]):
        if is_sample(read_manifest(folder / MANIFEST)):
            raise ValueError(
                f'{root} belongs to the embedded sample in {folder}: use the name sample, '
                'and no folder inside of it for anything else'
            )
    path = root / MANIFEST
    manifest = read_manifest(path)
    if path.exists() and (manifest is None or not {'name', 'format', 'digest'} <= manifest.keys()):
        raise FileExistsError(f'{path}: was not written by this command; move it away')


def write_manifest(root: Path, manifest: Mapping[str, Any]) -> bool:
    """Write a manifest atomically, format and time added.

    A quick one does not replace a full one without problems of the same names and sizes.

    Returns:
        Whether it was written.
    """
    path = root / MANIFEST
    old = read_manifest(path)
    if (
        old is not None
        and not manifest['content_hashed']
        and old.get('content_hashed')
        and (old.get('problems'), manifest['problems']) == (0, 0)
        and old.get('names_digest') == manifest['names_digest']
    ):
        return False
    time = datetime.now(timezone.utc).isoformat(timespec='seconds')
    content = {'format': FORMAT, 'time': time, **manifest}
    write_json(path, content, ensure_ascii=False)
    return True


def cited_digest(root: str | Path) -> str | None:
    """Digest of the manifest at a data set's root or above, three levels and `data` at most.

    Without content hashes it ends in '(names and sizes only)'. Shards that were never checked are
    cited by the digest of their own manifests, '(shards.json)'; images that were made smaller for
    them are named as such in either case. None where there is no manifest.
    """
    root = Path(root)
    cited, made = _digest_of(find_manifest(root)), ''
    if folders := sorted(path.parent for path in root.glob(f'*/{SHARDS}')):
        try:
            digests = [shards_digest(folder) or '' for folder in folders]
            images = dict.fromkeys(filter(None, map(describe_images, folders)))
        except ValueError:
            return cited
        if cited is None:
            cited = hashlib.sha256('\n'.join(digests).encode()).hexdigest() + f' ({SHARDS})'
        made = f' (re-encoded: {"; ".join(images)})' if images else ''
    return None if cited is None else cited + made


def find_manifest(root: str | Path) -> dict[str, Any] | None:
    """The manifest at a data set's root or above, three levels and `data` at most; None without."""
    root = Path(root)
    for folder in (root, *root.parents)[:LEVELS]:
        if folder.name in ('', 'data'):
            return None
        if (manifest := read_manifest(folder / MANIFEST)) is not None:
            return manifest
    return None


def _digest_of(manifest: dict[str, Any] | None) -> str | None:
    if manifest is None:
        return None
    digest = manifest.get('sha256' if is_sample(manifest) else 'digest')
    if not isinstance(digest, str) or not re.fullmatch('[0-9a-f]{64}', digest):
        return None
    return digest + ('' if is_sample(manifest) or manifest.get('content_hashed') else QUICK)


def data_manifest(config: Mapping[str, Any]) -> str | None:
    """What a run record cites: the digest of the data that the run read.

    Args:
        config: resolved, as plain Python. A training reads its training and validation data, a
            test-only run the bank of k-NN and its test data.

    Returns:
        The digests, joined by '+' if the loaders read several data sets; None if any of them has
        no manifest.
    """
    if config.get('train_cfg') is not None:
        loaders = [config.get('train_dataloader'), config.get('val_dataloader')]
    else:
        bank = (config.get('test_cfg') or {}).get('bank_dataloader')
        loaders = [bank, config.get('test_dataloader')]
    from comad.data.own import cite_own

    roots: list[tuple[str, bool]] = []
    _collect_roots(loaders, roots)
    digests = list(
        dict.fromkeys(cite_own(root)[0] if own else cited_digest(root) for root, own in roots)
    )
    return None if not digests or None in digests else '+'.join(map(str, digests))


def _collect_roots(node: Any, roots: list[tuple[str, bool]]) -> None:
    if isinstance(node, Mapping) and isinstance(node.get('own'), Mapping):
        roots.append((node['own'].get('root') or node['root'], True))
    elif isinstance(node, Mapping):
        for key, value in node.items():
            if key in DATA_KEYS and isinstance(value, str):
                roots.append((value, False))
            else:
                _collect_roots(value, roots)
    elif isinstance(node, (list, tuple)):
        for value in node:
            _collect_roots(value, roots)


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
