"""Mutated COCO files, label maps, class folders and tar shards, read as runs and tools do."""

import json
import random
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from mmengine.registry import METRICS, DefaultScope

import comad.engine.register  # noqa: F401
from comad.data.check.ade20k import ADE20KCheck
from comad.data.check.coco import COCOCheck
from comad.data.check.imagenet import ImageNetCheck
from comad.data.check.run import check_dataset
from comad.data.faults import CheckedImages
from comad.data.pack import Reencoding, write_shards
from comad.data.sample.write import SampleSizes, write_sample
from comad.data.shards import scan_shard
from comad.evaluation.iou import class_areas
from tests.data.check.examples import WNIDS
from tests.fuzz.mutations import ODD, harm_bytes, harm_image, harm_json
from tests.fuzz.outcome import Kind
from tests.resolved import resolved_config

SIZES = SampleSizes(imagenet_train=10, imagenet_val=10, scenes_train=4, scenes_val=3)
SHARE = 0.3  # of the training images that may be bad


class DataKind(Kind):
    """A copy of a part of the sample for each case."""

    part: str

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        write_sample(folder / 'sample', 1, SIZES)
        self.original = folder / 'sample' / self.part

    def prepare(self, draw: random.Random, case: Path) -> tuple[str, Callable[[], None]]:
        root = shutil.copytree(self.original, case / 'data', symlinks=True)
        words = [self._harmed(draw, root) for _ in range(draw.choice([1, 1, 2, 3]))]
        return '; '.join(words), self.attempt(draw, root)

    def _harmed(self, draw: random.Random, root: Path) -> str:
        try:
            return self.harm(draw, root)
        except (OSError, ValueError, IndexError, tarfile.TarError) as error:
            return f'no harm after the one before ({error})'

    def harm(self, draw: random.Random, root: Path) -> str:
        """Spoil one thing below root and say what; abstract, each kind of data has its own."""
        raise NotImplementedError

    def attempt(self, draw: random.Random, root: Path) -> Callable[[], None]:
        """What is then tried on the data; abstract, each kind of data has its own."""
        raise NotImplementedError


class Dense(DataKind):
    """Data sets of mmseg and mmdet; ``leaf`` has their config."""

    leaf: str
    check_of: Callable[[Path], Any]

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.config = resolved_config(self.leaf, True)

    def attempt(self, draw: random.Random, root: Path) -> Callable[[], None]:
        check, split = draw.random() < 0.3, draw.choice(['train', 'val'])
        seed = draw.randrange(2**30)

        def attempt() -> None:
            if check:
                check_dataset(type(self).check_of(root))
                return
            torch.manual_seed(seed)
            dataset = self.build(root, split)
            samples = [dataset[index]['data_samples'] for index in range(len(dataset))]
            if split == 'val':
                self.score(root, samples)

        return attempt

    def build(self, root: Path, split: str) -> CheckedImages:
        config = self.config[f'{split}_dataloader'].dataset.to_dict()
        # Serialising collects garbage, which takes a second.
        config |= dict(data_root=str(root), indices=None, serialize_data=False)
        listing = dict(listing=root / 'bad.txt', max_bad_share=SHARE) if split == 'train' else {}
        with DefaultScope.overwrite_default_scope(self.config.default_scope):
            return CheckedImages(config, **listing)

    def score(self, root: Path, samples: list[Any]) -> None:
        raise NotImplementedError


class Coco(Dense):
    """Annotations, now and then an image."""

    name, part, leaf = 'coco', 'coco', 'det_configs/mask_rcnn_comad_tiny.py'
    check_of = COCOCheck

    def harm(self, draw: random.Random, root: Path) -> str:
        if draw.random() < 0.15:
            images = [path for path in sorted(root.glob('*2017/*')) if path.is_file()]
            return harm_image(draw, draw.choice(images))
        path = draw.choice(sorted((root / 'annotations').iterdir()))
        if draw.random() < 0.05:
            return harm_bytes(draw, path)
        content = json.loads(path.read_bytes())
        words = harm_json(draw, content)
        if draw.random() < 0.3 and isinstance(content, dict):
            words += self._harm_every(draw, content)
        path.write_text(json.dumps(content))
        return f'{path.name}: {words}'

    def _harm_every(self, draw: random.Random, content: dict[str, Any]) -> str:
        """The same key of all entries, as exporters do."""
        entries = content.get(draw.choice(['images', 'annotations', 'categories']))
        if not isinstance(entries, list) or not entries or not isinstance(entries[0], dict):
            return ''
        key, value = draw.choice([*entries[0], 'x']), draw.choice([*ODD, 'delete'])
        for entry in entries:
            if isinstance(entry, dict):
                entry[key] = value
                if value == 'delete':
                    del entry[key]
        return f'; {key!r} of all is {value!r:.40}'

    def score(self, root: Path, samples: list[Any]) -> None:
        file = str(root / 'annotations/instances_val2017.json')
        with DefaultScope.overwrite_default_scope('mmdet'):
            metric = METRICS.build(dict(type='ColumnCocoMetric', ann_file=file, metric='bbox'))
        metric.dataset_meta = dict(classes=tuple('0123456789'))
        for sample in samples:
            truth = sample.gt_instances
            found = dict(
                bboxes=truth.bboxes.tensor,
                labels=truth.labels,
                scores=torch.ones(len(truth)),
            )
            entry = dict(img_id=sample.img_id, ori_shape=(64, 64), pred_instances=found)
            metric.process({}, [entry])
        metric.evaluate(len(samples))


class Masks(Dense):
    """Label maps and images of segmentation."""

    name, part = 'masks', 'ade/ADEChallengeData2016'
    leaf = 'seg_configs/upernet_comad_tiny.py'
    check_of = ADE20KCheck

    def harm(self, draw: random.Random, root: Path) -> str:
        kind = draw.choice(['annotations', 'annotations', 'images'])
        files = [path for path in sorted((root / kind).glob('*/*')) if path.is_file()]
        return harm_image(draw, draw.choice(files))

    def score(self, root: Path, samples: list[Any]) -> None:
        for sample in samples:
            truth = sample.gt_sem_seg.data.squeeze()
            right, union, *_ = class_areas(truth.where(truth != 255, 0), truth, 11, 255)
            assert bool((right <= union).all())


class Folders(DataKind):
    """Class folders: read, checked, packed into shards."""

    name, part = 'folders', 'imagenet'

    def harm(self, draw: random.Random, root: Path) -> str:
        images = [path for path in sorted(root.glob('*/*/*')) if path.is_file()]
        classes = [path for path in sorted(root.glob('*/*')) if path.is_dir()]
        if draw.random() < 0.5:
            return harm_image(draw, draw.choice(images))
        image, folder = draw.choice(images), draw.choice(classes)
        way = draw.choice(['rename', 'class', 'loose', 'empty', 'inside', 'other', 'no class'])
        names = ('a.b.JPEG', 'x', '.x.JPEG', 'ä ü.jpeg', 'a\nb.PNG', b'\xff.jpg', 'a.webp')
        name = draw.choice(names)
        name = name.decode(errors='surrogateescape') if isinstance(name, bytes) else name
        if way == 'rename':
            image.rename(image.with_name(name))
        elif way == 'class':
            folder.rename(folder.with_name(name.partition('.')[0] or 'x'))
        elif way == 'loose':
            shutil.copy(image, folder.parent / name)
        elif way == 'empty':
            folder.with_name('zzz').mkdir(exist_ok=True)
        elif way == 'inside':
            folder.joinpath('inside').mkdir(exist_ok=True)
        elif way == 'other':
            shutil.copy(image, folder / name)
        else:
            shutil.rmtree(folder)
        return f'{way} {name!r} {folder.name}'

    def attempt(self, draw: random.Random, root: Path) -> Callable[[], None]:
        way = draw.choice(['read', 'read', 'check', 'shard', 'list'])
        split, decode = draw.choice(['train', 'val']), draw.choice(['pillow', 'opencv'])
        reencoding = draw.choice([None, Reencoding(short_side=32)])
        lines = draw.choice(['n00000000_1.JPEG', '\ufeff', 'a\0b', '\udcff', ''])

        def attempt() -> None:
            if way == 'check':
                check_dataset(ImageNetCheck(root, wnids=WNIDS))
            elif way == 'shard':
                write_shards(root, root.parent / 'out', split, 4, reencoding=reencoding)
            else:
                subset = None
                if way == 'list':
                    (root.parent / 'list.txt').write_bytes(lines.encode(errors='surrogateescape'))
                    subset = dict(list=str(root.parent / 'list.txt'))
                read(root, split, decode, subset)

        return attempt

    def check(self, case: Path, error: BaseException | None) -> str | None:
        for path in case.glob('out/*/*.tar'):
            scan_shard(path)
        return super().check(case, error)


class Shards(DataKind):
    """Tar shards, their list of classes, manifest and index."""

    name, part = 'shards', '../shards'

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        for split in ('train', 'val'):
            write_shards(folder / 'sample/imagenet', folder / 'shards', split, 6)

    def harm(self, draw: random.Random, root: Path) -> str:
        path = draw.choice([path for path in sorted(root.glob('**/*')) if path.is_file()])
        if path.suffix == '.json' and draw.random() < 0.7:
            content = json.loads(path.read_bytes())
            words = harm_json(draw, content)
            path.write_text(json.dumps(content))
            return words
        if path.suffix == '.tar' and draw.random() < 0.5:
            return self._add_member(draw, path)
        if draw.random() < 0.1 and path.name != 'classes.txt':
            path.unlink()
            return f'no {path.name}'
        return harm_bytes(draw, path)

    def _add_member(self, draw: random.Random, path: Path) -> str:
        names = ('/etc/x.jpg', '../x.jpg', 'a/b.jpg', 'a/b.cls', 'n/.x', 'a/b.txt', 'x.jpg', '')
        member = tarfile.TarInfo(draw.choice(names))
        member.type = draw.choice(
            [tarfile.REGTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.DIRTYPE]
        )
        member.linkname = '/etc/passwd'
        with tarfile.open(path, 'a') as tar:
            tar.addfile(member)
        return f'{path.name}: member {member.name!r} of type {member.type!r}'

    def attempt(self, draw: random.Random, root: Path) -> Callable[[], None]:
        split, check = draw.choice(['train', 'val']), draw.random() < 0.3
        if draw.random() < 0.5:
            (root / split / 'index.npz').unlink(missing_ok=True)

        def attempt() -> None:
            if check:
                check_dataset(ImageNetCheck(root, wnids=WNIDS))
            else:
                read(root, split, 'pillow')

        return attempt


def read(root: Path, split: str, decode: str, subset: dict[str, Any] | None = None) -> None:
    """Every image as a run reads it, those of a training replaced up to a share."""
    views = dict(type='CenterCrop', size=32, resize=32)
    config = dict(type='ImageNetFolder', root=str(root), split=split, views=views)
    listing = dict(listing=root / 'bad.txt', max_bad_share=SHARE) if split == 'train' else {}
    dataset = CheckedImages({**config, 'decode': decode, 'subset': subset}, **listing)
    for index in range(len(dataset)):
        sample = dataset[index]
        assert sample['inputs'].shape == (3, 32, 32) and sample['inputs'].dtype == torch.uint8
