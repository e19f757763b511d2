"""Small configs, cards and records for the tests of this folder."""

import copy
import hashlib
import json
from collections.abc import Iterable
from typing import Any

import msgspec
from pandas import DataFrame

from comad.data.identity import DataIdentity
from comad.leaderboard.tables import build_tables, figures
from comad.runs.card import StudentCard
from comad.runs.card import make_card as checked_card
from comad.runs.record import Record, seal
from comad.tasks.recording import build_record
from comad.tasks.task import get_task

VIEWS = {'type': 'CenterCrop', 'size': 224, 'resize': 256}
LINEAR: dict[str, Any] = {
    'protocol': {'name': 'mae_linear', 'version': 1},
    'model': {'type': 'LinearProbe', 'backbone': {'type': 'MaskedViT', 'arch': 'tiny'}},
    'train_dataloader': {
        'batch_size': 128,
        'num_workers': 4,
        'dataset': {'type': 'ImageNetFolder', 'root': 'data/imagenet', 'views': {'size': 224}},
    },
    'val_dataloader': {'dataset': {'type': 'ImageNetFolder', 'views': VIEWS}},
    'optim_wrapper': {
        'type': 'OptimWrapper',
        'optimizer': {'type': 'Lars', 'lr': 6.4, 'weight_decay': 0.0},
    },
    'param_scheduler': [{'type': 'CosineAnnealingLR'}],
    'train_cfg': {'max_epochs': 90},
}
DETECTION: dict[str, Any] = {
    **LINEAR,
    'protocol': {'name': 'mask_rcnn_vitdet_coco', 'version': 1},
    'train_cfg': {'max_iters': 184_375},
    'val_dataloader': {
        'dataset': {
            'type': 'CocoDataset',
            'pipeline': [{'type': 'LoadImageFromFile'}, {'type': 'Resize', 'scale': (1333, 800)}],
        }
    },
}
CONFIGS = {'linear': LINEAR, 'finetune': LINEAR, 'mask_rcnn': DETECTION, 'cifar100': LINEAR}
ARCHITECTURE = {'img_size': 224, 'patch_size': 16, 'embed_dim': 192, 'depth': 12, 'num_heads': 3}
ENVIRONMENT = {
    'versions': {'torch': '2.11.0', 'timm': '1.0.31', 'mmengine': '0.10.7'},
    'device': 'cpu',
    'cpu': 'a processor',
    'git_commit': 'c' * 40,
    'git_dirty': False,
}


def digest(*parts: Any) -> str:
    """A sha256 that differs as the parts do."""
    return hashlib.sha256(repr(parts).encode()).hexdigest()


def make_data(name: str = 'imagenet-1k', split: str = 'val', **changes: Any) -> DataIdentity:
    """What a run read: a checked data set of full scale."""
    facts = dict(images=50_000, classes=1000, manifest='d' * 64, problems=0)
    return DataIdentity(name=name, split=split, **{**facts, **changes})


def make_card(student: str, pretrain_seed: int = 0, **changes: Any) -> StudentCard:
    """A student card as pretraining writes it; every student and seed has a file of its own."""
    card = {
        'name': student,
        'method': student.rsplit('_', 1)[0],
        'method_version': '1',
        'arch': student.rsplit('_', 1)[1],
        'architecture': ARCHITECTURE,
        'params_m': 5.5244,
        'config_digest': digest('pretraining', student),
        'epochs': 300,
        'iterations': 1000,
        'images_seen': 64000,
        'seed': pretrain_seed,
        'data': make_data(split='train', images=1_281_167),
        'track': 'full',
        'teachers': [{'family': 'mae', 'file': 'm.pth', 'digest': 'd1', 'licence': 'CC-BY-NC-4.0'}],
        'licence': 'CC-BY-NC-4.0',
        'pretrain_seconds': 7200.0,
        'pretrain_gflop_per_image': 61.234,
        'git_commit': 'c' * 40,
        'versions': {},
        'sha256': digest('student', student, pretrain_seed),
    }
    return checked_card({**card, **changes})


def make_config(
    kind: str = 'linear', student: str = 'comad_tiny', pretrain_seed: int = 0, seed: int = 0
) -> dict[str, Any]:
    """A resolved config as plain Python, with its ``run`` section."""
    method, arch = student.rsplit('_', 1)
    run = {
        'config': f'cls_configs/{kind}_{student}.py',
        'kind': kind,
        'student': student,
        'method': method,
        'arch': arch,
        'seed': seed,
        'pretrain_seed': pretrain_seed,
        'track': 'full',
        'digest': digest(kind, student, pretrain_seed),
    }
    return {**copy.deepcopy(CONFIGS[kind]), 'run': run}


def make_record(
    metrics: dict[str, Any],
    kind: str = 'linear',
    student: str = 'comad_tiny',
    pretrain_seed: int = 0,
    seed: int = 0,
    config: dict[str, Any] | None = None,
    card: StudentCard | None = None,
) -> Record:
    """A record, not written anywhere."""
    dataset = make_data(get_task(kind).dataset)
    return build_record(
        config or make_config(kind, student, pretrain_seed, seed),
        metrics,
        card or make_card(student, pretrain_seed),
        ENVIRONMENT,
        dataset=dataset,
        train_dataset=make_data(dataset.name, 'train'),
        wall_seconds=12.5,
        images_seen=1000,
        checkpoint={
            'file': 'epoch_90.pth',
            'sha256': digest('checkpoint', kind, student, pretrain_seed, seed),
        },
        resolved_sha256=digest('resolved', kind, student, pretrain_seed, seed),
        gflops=2.5,
    )


def table_of(name: str, records: Iterable[Record], published: DataFrame | None = None) -> DataFrame:
    """One of the tables made of these records."""
    return build_tables(figures(records), published)[name]


def rows_of(*arguments: Any) -> list[dict[str, Any]]:
    """The rows of `table_of`."""
    return table_of(*arguments).to_dict('records')


def changed(record: Record, **changes: Any) -> Record:
    """A copy with entries replaced by dotted path, ``__`` for the dot, and a digest that fits."""
    contents = msgspec.to_builtins(record)
    for path, value in changes.items():
        *parents, last = path.split('__')
        node = contents
        for parent in parents:
            node = node[int(parent) if parent.isdigit() else parent]
        node[last] = value
    return seal(contents)


def forge(contents: dict[str, Any]) -> bytes:
    """The file of any contents, as a record's are written and with a digest that fits."""

    def content(digest: str) -> bytes:
        text = json.dumps({**contents, 'digest': digest}, indent=1, ensure_ascii=False)
        return (text + '\n').encode()

    return content(hashlib.sha256(content('')).hexdigest())
