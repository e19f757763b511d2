"""The fixed run records that all tables are compared on, and how they were made.

Twenty-one at full scale and seven of the sample: several tasks, students and seeds, a tie, a
student with too few seeds, one never pretrained, a repeated transfer, a protocol under two lengths,
a metric without a figure, a working tree with changes, another data set, and an edited record.
"""

import copy
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from comad.data.identity import DataIdentity
from comad.runs.card import StudentCard, make_card
from comad.runs.record import Record, encode
from comad.tasks.recording import build_record

FOLDERS = {False: 'results/records', True: 'results/sample/records'}
FILE = Path(__file__).with_name('records.jsonl')

CLASSIFICATION: dict[str, Any] = {
    'protocol': {'name': 'mae_linear', 'version': 1},
    'model': {'type': 'LinearProbe', 'backbone': {'type': 'MaskedViT', 'arch': 'tiny'}},
    'train_dataloader': {
        'batch_size': 128,
        'dataset': {'type': 'ImageNetFolder', 'root': 'data/imagenet', 'views': {'size': 224}},
    },
    'val_dataloader': {
        'dataset': {
            'type': 'ImageNetFolder',
            'root': 'data/imagenet',
            'views': {'type': 'CenterCrop', 'size': 224, 'resize': 256},
        }
    },
    'optim_wrapper': {
        'type': 'OptimWrapper',
        'optimizer': {'type': 'Lars', 'lr': 6.4, 'weight_decay': 0.0},
    },
    'param_scheduler': [{'type': 'CosineAnnealingLR'}],
    'train_cfg': {'max_epochs': 90},
}
NEIGHBOURS: dict[str, Any] = {
    'protocol': {'name': 'dino_knn', 'version': 1},
    'model': CLASSIFICATION['model'],
    'test_dataloader': CLASSIFICATION['val_dataloader'],
    'test_cfg': {
        'report_k': 20,
        'temperature': 0.07,
        'bank_dataloader': CLASSIFICATION['val_dataloader'],
    },
}
DENSE: dict[str, Any] = {
    **CLASSIFICATION,
    'protocol': {'name': 'upernet_ade20k', 'version': 2},
    'train_dataloader': {
        'batch_size': 2,
        'dataset': {
            'type': 'ADE20KDataset',
            'data_root': 'data/ade',
            'pipeline': [{'type': 'RandomCrop', 'crop_size': (512, 512)}],
        },
    },
    'train_cfg': {'max_iters': 160_000},
}
DETECTION: dict[str, Any] = {
    **DENSE,
    'protocol': {'name': 'mask_rcnn_vitdet_coco', 'version': 1},
    'train_cfg': {'max_iters': 184_375},
    'val_dataloader': {
        'dataset': {
            'type': 'CocoDataset',
            'data_root': 'data/coco',
            'pipeline': [{'type': 'LoadImageFromFile'}, {'type': 'Resize', 'scale': (1333, 800)}],
        }
    },
}
CONFIGS = {
    'linear': CLASSIFICATION,
    'knn': NEIGHBOURS,
    'finetune': {**CLASSIFICATION, 'protocol': {'name': 'tiny_finetune', 'version': 3}},
    'upernet': DENSE,
    'mask_rcnn': DETECTION,
}
IMAGENET = ('imagenet-1k', 1000, {'train': 1_281_167, 'val': 50_000})
# Kind -> name, classes and images of its data.
DATA: dict[str, tuple[str, int, dict[str, int]]] = {
    **dict.fromkeys(('linear', 'knn', 'finetune'), IMAGENET),
    'upernet': ('ade20k', 150, {'train': 20_210, 'val': 2000}),
    'mask_rcnn': ('coco', 80, {'train': 117_266, 'val': 5000}),
}
SIZES = {
    'tiny': ({'img_size': 224, 'patch_size': 16, 'embed_dim': 192, 'depth': 12}, 3, 5.5244),
    'small': ({'img_size': 224, 'patch_size': 16, 'embed_dim': 384, 'depth': 12}, 6, 21.6656),
}
TEACHERS = {
    'mae': ('teachers/mae_pretrain_vit_base.pth', 'CC-BY-NC-4.0'),
    'mocov3': ('teachers/vit-b-300ep.pth.tar', 'CC-BY-NC-4.0'),
    'ibot': ('teachers/vitb_16/checkpoint_teacher.pth', 'Apache-2.0'),
}
# Method -> teachers, GFLOP per image and hours of its pretraining.
METHODS: dict[str, tuple[tuple[str, ...], float, float]] = {
    'comad': (('mae', 'mocov3', 'ibot'), 61.234, 26.5),
    'comad_uniform': (('mae', 'mocov3', 'ibot'), 61.23, 26.25),
    'dmt': (('mae', 'mocov3', 'ibot'), 109.5, 41.0),
    'mae': ((), 2.9312, 9.125),
    'ibot': ((), 30.1, 60.0),
}
ENVIRONMENT: dict[str, Any] = {
    'versions': {'torch': '2.11.0', 'timm': '1.0.31', 'mmengine': '0.10.7', 'numpy': '2.4.0'},
    'device': 'NVIDIA H100 80GB HBM3',
    'cpu': 'a processor',
    'world_size': 8,
    'git_commit': 'c0ffee' * 6 + 'c0de',
    'git_dirty': False,
}
# Kind -> wall seconds and training images of one transfer.
TRANSFERS = {
    'linear': (7200.0, 115_304_940),
    'knn': (95.0, 0),
    'finetune': (36000.5, 128_116_700),
    'upernet': (21600.0, 2_560_000),
    'mask_rcnn': (90000.0, 11_800_000),
}


def digest(*parts: Any) -> str:
    """A sha256 that differs as the parts do."""
    return hashlib.sha256(repr(parts).encode()).hexdigest()


def make_records() -> list[dict[str, Any]]:
    """All records, as ``build_record`` makes them; the last one is then edited by hand."""
    records = [*_classification(), *_dense(), *_sample()]
    edited = _record('linear', 'mae_tiny', {'top1_cls': 40.0, 'top1_mean': 49.5}, 9)
    edited = msgspec.to_builtins(edited)
    edited['metrics']['top1_mean'] = 94.5
    return [*(json.loads(encode(record)) for record in records), edited]


def write_records(root: Path) -> list[dict[str, Any]]:
    """Write the stored records below ``root`` where the suite looks for them; return them."""
    records = [json.loads(line) for line in FILE.read_text().splitlines()]
    for record in records:
        folder = root / FOLDERS[record['sample']]
        folder.mkdir(parents=True, exist_ok=True)
        (folder / file_name(record)).write_text(json.dumps(record, indent=1) + '\n')
    return records


def file_name(record: dict[str, Any]) -> str:
    """Name of a record's file."""
    student, seeds = record['student']['name'], record['seeds']
    return f'{record["task"]}_{student}_p{seeds["pretrain"]}_s{seeds["transfer"]}.json'


def data_of(kind: str, sample: bool, split: str = 'val') -> DataIdentity:
    """What a run of that kind read."""
    name, classes, images = DATA[kind]
    return DataIdentity(
        name='sample' if sample else name,
        split=split,
        images=images[split] // (500 if sample else 1),
        classes=10 if sample else classes,
        manifest=digest('data', kind, sample),
        problems=0,
    )


def _classification() -> Iterator[Record]:
    # 61.9 and 61.4 tie; mae is apart; ibot lacks seeds.
    means = {
        'comad_tiny': (61.23, 62.04, 62.456),
        'dmt_tiny': (60.98, 61.871, 61.35),
        'mae_tiny': (54.0, 55.125, 54.41),
        'ibot_tiny': (58.3,),
    }
    for student, values in means.items():
        for seed, value in enumerate(values):
            metrics = {'top1_cls': value - 3.5 - seed, 'top1_mean': value, 'val/top5_mean': 80.5}
            yield _record('linear', student, metrics, seed)
    yield _record('linear', 'scratch_tiny', {'top1_cls': 6.125, 'top1_mean': 7.5}, 0)
    for seed in (0, 1):  # a repeat of the transfer is no second pretraining
        metrics = {'top1_cls': 41.5, 'top1_mean': 44.0 + seed}
        yield _record('knn', 'comad_tiny', metrics, 0, seed)
    yield _record('finetune', 'comad_small', {'top1_mean': 79.995}, 0, git_dirty=True)


def _dense() -> Iterator[Record]:
    for seed in range(3):
        yield _record('upernet', 'comad_tiny', {'mIoU': 38.2 + seed / 8, 'aAcc': 79.1}, seed)
    yield _record('upernet', 'mae_tiny', {'mIoU': float('nan')}, 0)
    for seed, masks in ((0, 0.3512), (1, -1.0)):  # -1: nothing was found
        boxes = {'bbox_mAP': 0.3911, 'bbox_mAP_50': 0.6104}
        metrics = {**boxes, 'segm_mAP': masks, 'segm_mAP_50': 0.5749}
        yield _record('mask_rcnn', 'comad_tiny', {f'coco/{k}': v for k, v in metrics.items()}, seed)
    shorter = {'train_cfg': {'max_iters': 92_187}}
    metrics = {'bbox_mAP': 0.3456, 'bbox_mAP_50': 0.55, 'segm_mAP': 0.31, 'segm_mAP_50': 0.52}
    yield _record('mask_rcnn', 'mae_tiny', metrics, 0, config=shorter)


def _sample() -> Iterator[Record]:
    means = {'comad': (45.0, 45.125, 46.3), 'comad_uniform': (43.5, 44.04), 'mae': (40.255,)}
    for method, values in means.items():
        for seed, value in enumerate(values):
            metrics = {'top1_cls': value - 4 + seed / 3, 'top1_mean': value}
            yield _record('linear', f'{method}_tiny', metrics, seed, sample=True)
    yield _record('upernet', 'comad_tiny', {'mIoU': 31.415}, 0, sample=True)
    metrics = {'bbox_mAP': 0.2025, 'bbox_mAP_50': 0.4535, 'segm_mAP': 0.19, 'segm_mAP_50': 0.41}
    yield _record('mask_rcnn', 'comad_tiny', metrics, 0, sample=True)


def _record(
    kind: str,
    student: str,
    metrics: dict[str, float],
    pretrain_seed: int,
    seed: int | None = None,
    *,
    sample: bool = False,
    config: dict[str, Any] | None = None,
    **environment: Any,
) -> Record:
    seed = pretrain_seed if seed is None else seed
    method, arch = student.rsplit('_', 1)
    shape, heads, params = SIZES[arch]
    architecture = {**shape, 'num_heads': heads}
    place = 'work_dirs/sample' if sample else 'work_dirs'
    run = {
        'config': f'configs/{kind}_{student}.py',
        'kind': kind,
        'student': student,
        'method': method,
        'arch': arch,
        'seed': seed,
        'pretrain_seed': pretrain_seed,
        'track': 'sample' if sample else 'full',
        'digest': digest('config', kind, student, pretrain_seed, sample),
        'source': f'"""{kind} of {student}."""\n',
    }
    content = {**copy.deepcopy(CONFIGS[kind]), **(config or {}), 'run': run}
    content['work_dir'] = f'{place}/{kind}/{student}/pretrain{pretrain_seed}_seed{seed}'
    seconds, images = TRANSFERS[kind]
    card = _card(student, architecture, params, pretrain_seed, sample)
    weights = {'file': 'last.pth', 'sha256': digest('weights', kind, student, pretrain_seed, seed)}
    machine = {**ENVIRONMENT, **environment}
    if sample:
        machine |= {'device': 'cpu', 'world_size': 1}
    return build_record(
        content,
        metrics,
        card,
        machine,
        dataset=data_of(kind, sample),
        train_dataset=data_of(kind, sample, 'train'),
        wall_seconds=seconds + 60 * seed,
        images_seen=images,
        architecture=architecture,
        params_m=params,
        checkpoint=weights if images else None,
        resolved_sha256=digest('resolved', kind, student, pretrain_seed, seed),
        gflops=2.5135 if arch == 'tiny' else 9.2032,
    )


def _card(
    student: str, architecture: dict[str, int], params: float, seed: int, sample: bool
) -> StudentCard | None:
    method, arch = student.rsplit('_', 1)
    if method == 'scratch':
        return None
    families, gflop, hours = METHODS[method]
    teachers = [
        {'family': name, 'file': file, 'digest': digest(name), 'licence': licence}
        for name, (file, licence) in TEACHERS.items()
        if name in families
    ]
    facts = {
        'name': student,
        'method': method,
        'method_version': '2' if method.startswith('comad') else '1',
        'arch': arch,
        'architecture': architecture,
        'params_m': params,
        'config_digest': digest('pretraining', student, sample),
        'epochs': 2 if sample else 300,
        'iterations': 186 if sample else 93_750,
        'images_seen': 12_000 if sample else 384_000_000,
        'seed': seed,
        'data': data_of('linear', sample, 'train'),
        'track': 'sample' if sample else 'full',
        'teachers': teachers,
        'licence': 'CC-BY-NC-4.0' if teachers else 'Apache-2.0',
        'pretrain_seconds': 68.25 if sample else 3600 * hours + 90 * seed,
        'pretrain_gflop_per_image': gflop,
        'git_commit': ENVIRONMENT['git_commit'],
        'versions': {},
        'sha256': digest('student', student, seed, sample),
    }
    return make_card(facts)
