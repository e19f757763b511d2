"""Check of ImageNet, in class folders or tar shards."""

import os
from pathlib import Path

import numpy as np

from comad.data.check.findings import Check, File, Findings
from comad.data.shards import TarShards, shard_files
from comad.data.storage import ImageFiles, Storage, class_names, loose_images, open_class_folders

SPLITS = ('train', 'val')


class ImageNetCheck(Check):
    """Splits, classes, counts, images in the wrong class folder.

    Args:
        root, expected, prefix: see `Check`; also ``val images per class``.
        wnids: the classes; default timm's list of ImageNet-1k.
    """

    name = 'imagenet'
    official = {
        'train images': 1_281_167,
        'val images': 50_000,
        'val images per class': 50,
        'train classes': 1000,
        'val classes': 1000,
    }
    layout = 'train/<class>/*.JPEG and val/<class>/*.JPEG, or train/*.tar and val/*.tar'

    def __init__(
        self,
        root: str | Path,
        expected: dict[str, int] | None = None,
        prefix: str = '',
        wnids: list[str] | None = None,
    ) -> None:
        super().__init__(root, expected, prefix)
        self.wnids = wnids

    def list_files(self, findings: Findings) -> list[File]:
        wnids = imagenet_wnids() if self.wnids is None else self.wnids
        findings.checks += ['folders', 'class names (timm)', 'counts', 'file names']
        files: list[File] = []
        for split in SPLITS:
            if folder := self.folder(findings, split):
                storage = self._open(folder, findings)
                if storage is not None:
                    self._compare_classes(split, storage.classes, wnids, findings)
                    self._count(split, storage, findings)
                    files += self._files(split, storage)
        return files

    def _open(self, folder: Path, findings: Findings) -> Storage | None:
        try:
            classes = class_names(self.root, folder.name)
            if not classes:
                empty = f'{folder}: neither class folders nor tar files; expected {self.layout}'
                count = loose_images(folder)
                findings.add('layout', unsorted_line(folder, count) if count else empty)
                return None
            return TarShards(folder) if shard_files(folder) else open_class_folders(folder)
        except (OSError, ValueError) as error:
            findings.add('layout', str(error))
            return None

    def _compare_classes(
        self, split: str, classes: tuple[str, ...], wnids: list[str], findings: Findings
    ) -> None:
        self.count(findings, f'{split} classes', len(classes))
        for name in sorted(set(wnids) - set(classes)):
            findings.add('missing class', f'{self.prefix}{split}: no class {name}')
        for name in sorted(set(classes) - set(wnids)):
            findings.add('unknown class', f'{self.prefix}{split}: {name} is no class of the set')
        order = 'class order'
        if list(classes) != sorted(classes) and order not in findings.problems:
            line = 'not sorted: labels differ from those of class folders'
            findings.add(order, f'{self.root}/classes.txt: {line}')

    def _count(self, split: str, storage: Storage, findings: Findings) -> None:
        findings.notes.append(f'{self.prefix}{split}: {storage.kind}')
        if isinstance(storage, TarShards) and storage.images:
            findings.notes.append(
                f'{self.prefix}{split}: re-encoded ({storage.images}): '
                'its digest is not that of the original files'
            )
        self.count(findings, f'{split} images', len(storage))
        each = self.expected.get(f'{split} images per class')
        for label, found in enumerate(np.bincount(storage.labels).tolist()):
            if each is not None and found != each:
                name = f'{self.prefix}{split}/{storage.classes[label]}'
                findings.add('wrong count', f'{name}: {found:,} images, expected {each:,}')
        if split != 'train':
            return
        # Training images are named after their class.
        owners = [name.partition(b'_')[0] for name in storage.names.tolist()]
        classes = [os.fsencode(name) for name in storage.classes]
        known = set(classes)
        for index, (owner, label) in enumerate(zip(owners, storage.labels.tolist(), strict=True)):
            if owner != classes[label] and owner in known:
                findings.add(
                    'image of another class', f'{self._name(split, storage, index)}: by its name'
                )

    def _files(self, split: str, storage: Storage) -> list[File]:
        names = (self._name(split, storage, index) for index in range(len(storage)))
        if isinstance(storage, ImageFiles):
            return [File(name, storage.path(index)) for index, name in enumerate(names)]
        index = storage.index
        paths = [str(storage.folder / name) for name in index.files.tolist()]
        columns = (index.shards.tolist(), index.offsets.tolist(), index.sizes.tolist())
        return [
            File(name, paths[shard], 'image', offset, size)
            for name, shard, offset, size in zip(names, *columns, strict=True)
        ]

    def _name(self, split: str, storage: Storage, index: int) -> str:
        """The same for both storages, so that equal data have equal digests."""
        file = os.fsdecode(bytes(storage.names[index]))
        return f'{self.prefix}{split}/{storage.classes[storage.labels[index]]}/{file}'


def imagenet_wnids() -> list[str]:
    """The 1,000 classes of ImageNet-1k, from the list that timm ships."""
    from timm.data import ImageNetInfo

    return ImageNetInfo().label_names()


def unsorted_line(folder: Path, count: int) -> str:
    """What to do with a validation archive that was unpacked as it is."""
    root = folder.parent
    return (
        f'{folder}: {count:,} images directly in the folder, without class folders; remove it, put '
        f'ILSVRC2012_img_{folder.name}.tar and ILSVRC2012_devkit_t12.tar.gz into {root} and run: '
        'python -c "from torchvision.datasets import ImageNet; '
        f"ImageNet('{root}', '{folder.name}')\""
    )
