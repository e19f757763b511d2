"""The record of every kind of task: a leaf as ``--sample`` resolves it, and fixed figures."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from comad.data.identity import DataIdentity
from comad.engine.multi_scale import use_multi_scale
from comad.engine.options import RunOptions
from comad.engine.run_config import load_run_config
from comad.runs.card import make_card
from comad.tasks.recording import build_record
from tests.golden.records import ENVIRONMENT, digest
from tests.resolved import VIDEO_STUDENTS

FILE = Path(__file__).with_name('tasks.json')
POOLS = {'accuracy/top1_cls': 41.23456789, 'accuracy/top1_mean': 45.5, 'top5_mean': 80.25}
MAPS = {'mIoU': 38.2, 'aAcc': 79.125, 'mAcc': 50.5}
BOXES = {'coco/bbox_mAP': 0.391, 'coco/bbox_mAP_50': 0.61, 'coco/bbox_mAP_75': 0.42}
# segm_mAP_50 found nothing.
MASKS = {'coco/segm_mAP': 0.351, 'coco/segm_mAP_50': -1.0, 'coco/segm_mAP_s': 0.125}
CLIPS = {'top1_mean': 45.5, 'top5_mean': 80.25, 'top1_frozen': 12.5, 'top5_frozen': 60.0}
# Kind -> folder of its leaf, figures that its evaluation reports.
KINDS: dict[str, tuple[str, dict[str, float]]] = {
    **dict.fromkeys(
        (
            'linear',
            'mocov3_linear',
            'knn',
            'lowshot_1pct',
            'lowshot_10pct',
            'finetune',
            'mae_finetune',
            'tinymim_finetune',
            'ibot_finetune',
        ),
        ('cls_configs', POOLS),
    ),
    'ibot_linear': ('cls_configs', {'top1_cls4': 44.5, 'top1_cls_mean': float('nan')}),
    **dict.fromkeys(('upernet', 'tinymim_upernet', 'ibot_seg_linear'), ('seg_configs', MAPS)),
    **dict.fromkeys(
        ('upernet_ms', 'tinymim_upernet_ms', 'ibot_seg_linear_ms'), ('seg_configs', MAPS)
    ),
    **dict.fromkeys(
        ('mask_rcnn', 'mask_rcnn_1x', 'mae_lite_mask_rcnn'), ('det_configs', BOXES | MASKS)
    ),
    **dict.fromkeys(('cifar100', 'imagenet'), ('distill_configs', {'top1_student': 57.25})),
    **dict.fromkeys(VIDEO_STUDENTS, ('video_configs', CLIPS)),
}
COMMON = 'every kind'
SCALES = '_ms'
UNTRAINED = ('knn', 'lowshot_1pct', 'lowshot_10pct', 'k400_knn', 'ssv2_knn')
ARCHITECTURE = {'img_size': 64, 'patch_size': 8, 'embed_dim': 64, 'depth': 4, 'num_heads': 2}
DATA = DataIdentity(
    name='sample', split='val', images=4000, classes=10, manifest=digest('data'), problems=0
)
CARD = {
    'name': 'comad_tiny',
    'method': 'CoMAD',
    'method_version': '2',
    'arch': 'sample_tiny',
    'architecture': ARCHITECTURE,
    'params_m': 0.2179,
    'config_digest': digest('pretraining'),
    'epochs': 2,
    'iterations': 186,
    'images_seen': 12_000,
    'seed': 1,
    'data': DATA,
    'sample': True,
    'teachers': [{'family': 'mae', 'file': 'm.pth', 'digest': digest('m'), 'licence': 'ours'}],
    'licence': 'ours',
    'pretrain_seconds': 68.25,
    'pretrain_gflop_per_image': 0.2612,
    'git_commit': ENVIRONMENT['git_commit'],
    'versions': {},
    'sha256': digest('student'),
}


def read_fields() -> dict[str, dict[str, Any]]:
    """Kind -> the stored record, path of a field -> value."""
    stored = json.loads(FILE.read_text())
    common = stored.pop(COMMON)
    return {kind: {**common, **fields} for kind, fields in stored.items()}


def write_fields(records: dict[str, dict[str, Any]]) -> None:
    """Store the records, fields that are equal in all of them once."""
    first, *others = records.values()
    common = {
        path: value
        for path, value in first.items()
        if all(path in fields and fields[path] == value for fields in others)
    }
    stored = {COMMON: common}
    for kind, fields in records.items():
        stored[kind] = {path: value for path, value in fields.items() if path not in common}
    FILE.write_text(json.dumps(stored, indent=1) + '\n')


def make_fields(kind: str) -> dict[str, Any]:
    """Path of a field -> value of the record of CoMAD's leaf: pretraining seed 1, transfer seed 2.

    Left out, since a test compares them with their source: the digests of the config, which any
    hook that is renamed changes, and of the record; and the leaf's text.
    """
    folder, metrics = KINDS[kind]
    several = kind.endswith(SCALES)
    student = VIDEO_STUDENTS.get(kind, 'comad_tiny')
    if folder == 'distill_configs':  # the training is the evaluation: no student from elsewhere
        leaf = f'{folder}/{kind}_fbt_swin_tiny_resnet18.py'
        options = RunOptions(leaf, track='sample', seed=2)
    else:
        leaf = f'{folder}/{kind.removesuffix(SCALES)}_{student}.py'
        options = RunOptions(leaf, track='sample', seed=2, student=f'{student}:1')
    config = load_run_config(options, check=False)
    if several:
        use_multi_scale(config)
    trained = kind not in UNTRAINED
    made = build_record(
        config._cfg_dict.to_dict(),
        metrics,
        make_card({**CARD, 'name': config.run.student, 'seed': config.run.pretrain_seed}),
        {**ENVIRONMENT, 'device': 'cpu', 'world_size': 2},
        dataset=DATA,
        train_dataset=msgspec.structs.replace(DATA, split='train', images=6000),
        wall_seconds=123.456,
        images_seen=12_345 if trained else 0,
        architecture=ARCHITECTURE,
        params_m=0.2179,
        trained_fields={'length': 'that of the training'} if several else None,
        checkpoint={'file': 'last.pth', 'sha256': digest('weights')} if trained else None,
        resolved_sha256=digest('resolved'),
        processes=4 if several else None,
        gflops=0.01234567,
    )
    record = msgspec.to_builtins(made)
    assert record['config'].pop('source') == Path(leaf).read_text()
    assert record['config'].pop('digest') == config.run.digest
    del record['digest']
    return dict(sorted(_flat(record)))


def _flat(node: Any, path: str = '') -> Iterator[tuple[str, Any]]:
    if isinstance(node, dict) and node:
        for key, value in node.items():
            yield from _flat(value, f'{path}.{key}' if path else key)
    else:
        yield path, node
