"""What a data set is, told by what was read of it: name, split, subset, manifest, counts.

Plain Python: run records and cards hold it, and tables are made without importing torch.
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from msgspec import Meta, Struct

from comad.data.manifest import cited_digest, describe_images, find_manifest, is_sample

IMAGENET, ADE20K, COCO, CIFAR100, SAMPLE, KINETICS400, SSV2 = NAMES = (
    *('imagenet-1k', 'ade20k', 'coco', 'cifar-100', 'sample', 'kinetics-400', 'ssv2'),
)
# Where they lie, by the names that `tools/data.py check` knows.
ROOTS = {
    'imagenet': 'data/imagenet',
    'ade20k': 'data/ade/ADEChallengeData2016',
    'coco': 'data/coco',
    'cifar100': 'data/cifar-100-binary',
    'kinetics400': 'data/kinetics400',
    'ssv2': 'data/ssv2',
    'sample': 'data/sample',
}
# The 100 classes of CMC (arXiv:1906.05849, imagenet100.txt of its code) and their images.
IMAGENET100, IMAGENET100_IMAGES = 'imagenet-100', {'train': 126_689, 'val': 5_000}
# Of the 118,287 training images of COCO 2017 the others show no object: mmdet leaves them out.
COCO_WITH_OBJECTS = 117_266
SPLITS = {
    'training': 'train',
    'validation': 'val',
    **{f'{split}2017': split for split in ('train', 'val')},
}
Count = Annotated[int, Meta(ge=0)]


class DataIdentity(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One split of a data set as a run read it.

    Args:
        name: ``imagenet-1k``, ``imagenet-100``, ``ade20k``, ``coco`` or ``cifar-100`` for data of
            exactly their classes and number of images, ``kinetics-400`` or ``ssv2`` also for what a
            check found left, ``sample`` for those with the embedded sample's manifest; else the
            name of the data's folder.
        split: Which part, ``train`` or ``val`` mostly.
        subset: What was taken of the split, None for all of it.
        images: Number of images that were read, after ``subset``.
        classes: Number of classes that the data name.
        reencoded: How the images were made smaller, in words; None for original files.
        manifest: What `comad.data.manifest.cited_digest` cites; None without a manifest.
        problems: How many problems the check behind the manifest found; None where none was made.
    """

    name: str
    split: str
    subset: str | None = None
    images: Count
    classes: Count
    reencoded: str | None = None
    manifest: str | None = None
    problems: Count | None = None

    @property
    def text(self) -> str:
        """Name, subset and re-encoding, as a table's cell shows them."""
        return ', '.join(part for part in (self.name, self.subset, self.reencoded) if part)


def identify(dataset: Any) -> DataIdentity:
    """Tell what a data set is by what it has read; wrappers around it are looked through.

    Args:
        dataset: `comad.data.imagenet.ImageNetFolder`, a data set of mmseg or mmdet, or any other
            with a length; of those ``root``, ``split`` and ``classes`` are read if they are there.
    """
    while 'dataset' in vars(dataset):
        dataset = dataset.dataset
    if getattr(dataset, 'own', None) is not None:
        return _of_own(dataset)
    if hasattr(dataset, 'storage'):
        return _of_imagenet_layout(dataset)
    if hasattr(dataset, 'data_prefix'):
        return _of_openmmlab(dataset)
    if hasattr(dataset, 'videos'):
        return _of_video_list(dataset)
    classes = getattr(dataset, 'metainfo', {}).get('classes') or getattr(dataset, 'classes', ())
    split, root = str(getattr(dataset, 'split', 'unknown')), getattr(dataset, 'root', None)
    if root is None:
        counts = {'images': len(dataset), 'classes': len(classes)}
        return DataIdentity(name=type(dataset).__name__, split=split, **counts)
    name = getattr(dataset, 'official_name', None)
    return _with_manifest(name, Path(root), split, None, len(dataset), len(classes))


def slug(name: str) -> str:
    """The name as part of a student's or folder's name: ``my_photos`` of 'My photos'."""
    return re.sub('[^a-z0-9]+', '_', name.lower()).strip('_') or 'data'


def _of_imagenet_layout(dataset: Any) -> DataIdentity:
    from comad.data.check.imagenet import ImageNetCheck, imagenet_wnids
    from comad.data.subset import read_classes_of

    storage, split = dataset.storage, dataset.split
    name = None
    if len(storage) == ImageNetCheck.official.get(f'{split} images'):
        name = IMAGENET if list(storage.classes) == sorted(imagenet_wnids()) else None
    elif len(storage) == IMAGENET100_IMAGES.get(split):
        name = IMAGENET100 if list(storage.classes) == read_classes_of(IMAGENET100) else None
    return _with_manifest(
        name,
        Path(dataset.root),
        split,
        _subset(dataset),
        len(dataset),
        len(storage.classes),
        describe_images(storage.folder),
    )


def _of_own(dataset: Any) -> DataIdentity:
    """Named after its folder or file, whatever it holds."""
    from comad.data.own import cite_own, own_name

    described = hasattr(dataset, 'data_prefix')
    root = dataset.own['root'] if described else dataset.root
    manifest, problems = cite_own(root)
    return DataIdentity(
        name=_own_name(own_name(root)),
        split=dataset.own['split'] if described else dataset.split,
        subset=_slice(dataset._indices) if described else _subset(dataset),
        images=len(dataset),
        classes=len(_classes(dataset) if described else dataset.storage.classes),
        manifest=manifest,
        problems=problems,
    )


def _of_video_list(dataset: Any) -> DataIdentity:
    """Named after a set on video by its counts, or by a check that accepted what is missing."""
    from comad.data.check.video import VIDEO_CHECKS

    count, classes, split = len(dataset), len(dataset.metainfo['classes']), dataset.split
    checked, name = find_manifest(dataset.root) or {}, None
    for check in VIDEO_CHECKS:
        whole = count == check.official.get(f'{split} videos')
        accepted = (
            checked.get('name') == check.name
            and checked.get('problems') == 0
            and checked.get('counts', {}).get(f'{split} videos') == count
        )
        if classes == check.classes and (whole or accepted):
            name = check.title
    return _with_manifest(name, Path(dataset.root), split, None, count, classes)


def _of_openmmlab(dataset: Any) -> DataIdentity:
    prefixes = [prefix for prefix in dataset.data_prefix.values() if prefix]
    folder, root = Path(prefixes[0]), Path(dataset.data_root or '')
    # Other places than data_root may be given for either: the manifest is then not theirs.
    places = [Path(place) for place in (*prefixes, dataset.ann_file) if place]
    if not all(place.is_relative_to(root) for place in places):
        root = folder
    split, images, classes = SPLITS.get(folder.name, folder.name), len(dataset), _classes(dataset)
    whole = dataset._indices is None and root != folder
    name = _official(dataset, split, images, len(classes)) if whole else None
    return _with_manifest(name, root, split, _slice(dataset._indices), images, len(classes))


def _official(dataset: Any, split: str, images: int, classes: int) -> str | None:
    """The name of the mm* data set that has these counts and the names of its own classes."""
    from comad.data.check.ade20k import ADE20KCheck
    from comad.data.check.coco import COCOCheck

    kind, own = type(dataset).__name__, getattr(type(dataset), 'METAINFO', {}).get('classes', ())
    if tuple(dataset.metainfo.get('classes', ())) != tuple(own):
        return None
    if kind == 'ADE20KDataset' and classes == 150:
        return ADE20K if images == ADE20KCheck.official.get(f'{split} images') else None
    if kind == 'CocoDataset' and classes == COCOCheck.official.get(f'{split} categories'):
        whole = {COCOCheck.official[f'{split} images'], split == 'train' and COCO_WITH_OBJECTS}
        return COCO if images in whole else None
    return None


def _with_manifest(
    name: str | None,
    root: Path,
    split: str,
    subset: str | None,
    images: int,
    classes: int,
    reencoded: str | None = None,
) -> DataIdentity:
    manifest = find_manifest(root)
    if is_sample(manifest):
        name, problems = SAMPLE, 0
    else:
        problems = manifest.get('problems') if manifest else None
    return DataIdentity(
        name=name or _own_name(root.absolute().name),
        split=split,
        subset=subset,
        images=images,
        classes=classes,
        reencoded=reencoded,
        manifest=cited_digest(root),
        problems=problems if isinstance(problems, int) and problems >= 0 else None,
    )


def own_slug(name: str) -> str:
    """The `slug` of the name that data of one's own have."""
    return slug(_own_name(name))


def _own_name(name: str) -> str:
    """The folder's name; it does not make other data one of the known sets."""
    return f'{name} (other data)' if name in (*NAMES, IMAGENET100) else name


def _classes(dataset: Any) -> Sequence[Any]:
    # mmdet names all classes of its list; those that the annotations have are among the ids.
    return getattr(dataset, 'cat_ids', None) or dataset.metainfo.get('classes') or ()


def _subset(dataset: Any) -> str | None:
    """A drawn share by its options, a list by the images that it names."""
    subset: Mapping[str, Any] | None = dataset.subset
    if subset is None:
        return None
    if 'list' not in subset:
        return f'share {subset["share"]}, seed {subset.get("seed", 0)}'
    names = dataset.storage.names[dataset.indices].tolist()
    return f'{len(names)} listed images #{_short_digest(names)}'


def _slice(indices: int | Sequence[int] | None) -> str | None:
    if indices is None:
        return None
    if isinstance(indices, int):
        return f'{"first" if indices >= 0 else "last"} {abs(indices)}'
    return f'{len(indices)} indices #{_short_digest(str(index).encode() for index in indices)}'


def _short_digest(names: Any) -> str:
    return hashlib.sha256(b'\n'.join(names)).hexdigest()[:12]
