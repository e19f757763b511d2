"""A small study for the tests of this folder: records, and the runs' folders beside them."""

import json
import math
from pathlib import Path
from typing import Any

import msgspec
from PIL import Image, ImageDraw

from comad.leaderboard.tables import Leaderboards, make_leaderboards
from comad.runs.record import seal, write_record
from tests.leaderboard.examples import make_card, make_config, make_record

HOSTILE = '<script>document.title=`owned`</script><img src=x onerror=alert(1)>'
# Student -> top-1 of each seed, GFLOP per image of its pretraining; None: never pretrained.
STUDENTS: dict[str, tuple[tuple[float, ...], float | None]] = {
    'comad_tiny': ((61.2, 62.0, 61.6), 61.234),
    'dmt_tiny': ((60.9, 61.9, 61.5), 48.0),
    'mae_tiny': ((54.0, 55.1, 54.4), 9.8),
    'ibot_tiny': ((58.3, 57.2), 30.5),
    'scratch_tiny': ((41.0, 42.2, 41.5), None),
}
PUBLISHED = """method,student,heads,params_m,teachers,pretrain_data,pretrain_epochs,task,dataset,\
protocol,protocol_detail,resolution,metric,value,source,evidence,note
CoMAD,ViT-Tiny,,,,,,classification,imagenet-1k,,,,top1,75.4,arXiv:2508.04816 abstract,abstract,note
Other,ViT-Small,,22,,,300,classification,imagenet-1k,finetune,,224,top1,9.5,a README,repository,
{third},ViT-Small,,,,,,classification,imagenet-1k,finetune,,224,top1,82.1,a summary,secondary,
"""


def make_study(root: Path, name: str = 'Third') -> Path:
    """Write a study of linear probes and detections below ``root``; return the records' folder.

    Args:
        root: Folder that gets records, published.csv and work_dirs.
        name: Method of a published row, licence of mae_tiny and class of detections, such as a
            hostile one.
    """
    folder = root / 'records'
    for student, (values, gflop) in STUDENTS.items():
        for seed, value in enumerate(values):
            metrics = {'top1_cls': value - 3.5, 'top1_mean': value}
            _write(root, folder, 'linear', student, seed, metrics, gflop, name)
            if student in ('comad_tiny', 'scratch_tiny'):
                maps = {
                    'bbox_mAP': value / 160,
                    'bbox_mAP_50': value / 110,
                    'segm_mAP': value / 170,
                    'segm_mAP_50': value / 115,
                }
                _write(root, folder, 'mask_rcnn', student, seed, maps, gflop, name)
            if gflop is not None:
                _pretrain(root, student, seed)
    (root / 'published.csv').write_text(PUBLISHED.replace('{third}', name))
    return folder


def boards_of(root: Path) -> Leaderboards:
    """The leaderboards of a study."""
    return make_leaderboards('full', root / 'records', published=root / 'published.csv')


def log(folder: Path, lines: list[dict[str, Any]], run: str = '20260101_000000') -> None:
    """Write lines as a run logs its scalars."""
    path = folder / run / 'vis_data' / 'scalars.json'
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(''.join(json.dumps(line) + '\n' for line in lines))


def _write(
    root: Path,
    folder: Path,
    kind: str,
    student: str,
    seed: int,
    metrics: dict[str, float],
    gflop: float | None,
    name: str,
) -> None:
    config = make_config(kind, student, seed, seed)
    config['work_dir'] = f'work_dirs/{kind}/{student}/pretrain{seed}_seed{seed}'
    facts = dict(pretrain_gflop_per_image=gflop, images_seen=384_000_000)
    if student == 'mae_tiny':
        facts['licence'] = name
    card = make_card(student, seed, **facts)
    record = make_record(metrics, kind, student, seed, seed, config, card)
    if gflop is None:  # never pretrained: nothing but the architecture is known
        names = ('name', 'method', 'arch', 'architecture', 'params_m')
        known = {name: getattr(record.student, name) for name in names}
        record = seal({**msgspec.to_builtins(record), 'student': known})
    write_record(folder, record)
    run = root / config['work_dir']
    steps = range(50, 1001, 50)
    lines = [
        {'loss': 2.5 - step / 700 + seed / 30, 'epoch': 1 + step // 100, 'iter': step, 'step': step}
        for step in steps
    ]
    for epoch in (1, 2, 3) if kind == 'linear' else (3,):
        lines.append({**{k: v * (0.7 + epoch / 10) for k, v in metrics.items()}, 'step': epoch})
    log(run, lines)
    if kind == 'mask_rcnn':
        classes = {str(digit): round(100 * metrics['bbox_mAP'] + digit, 1) for digit in range(10)}
        classes['9'] = classes[name] = None
        (run / 'per_class.json').write_text(json.dumps({'metrics': {'bbox_mAP': classes}}))
        picture = Image.new('RGB', (1000, 700), 'white')
        draw = ImageDraw.Draw(picture)
        for number in range(40):
            corner = (number * 37 % 900, number * 91 % 600)
            size = (corner[0] + 60, corner[1] + 60)
            draw.rectangle((*corner, *size), fill=(number * 6, 90, 240 - number * 6))
        picture.save(run / 'predictions.png')


def _pretrain(root: Path, student: str, seed: int) -> None:
    lines = []
    for step in range(50, 5001, 50):
        line = {'loss': 0.4 + 2 * math.exp(-step / 900) + seed / 50, 'iter': step, 'step': step}
        if student == 'comad_tiny':
            line |= {'loss_token': line['loss'] * 0.7, 'loss_map': line['loss'] * 0.3}
            line |= {'share_mae': 0.3, 'share_ibot': 0.45 + step / 50_000, 'share_mocov3': 0.2}
            line |= {'gate_entropy': 1.05 - step / 20_000, 'target_rank': 8.0, 'student_rank': 5.0}
        lines.append(line)
    lines += [{'probe_knn_mean': 20 + step / 300, 'step': step} for step in (1000, 3000, 5000)]
    log(root / 'work_dirs/pretrain' / student / f'seed{seed}', lines)
