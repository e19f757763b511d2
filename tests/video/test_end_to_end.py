"""From the sample's clips to a row, and back on after a stop: teacher, AMD, fine-tuning.

The teacher that comes with the sample is read; a training of one is stopped and goes on.
"""

import csv
import json

import pytest
import torch

from backbones.teachers import build_teacher
from comad.data.sample.videos import VideoSizes, write_video_sample
from comad.engine.options import RunOptions
from comad.engine.run_config import load_run_config
from comad.engine.shipped import read_shipped
from comad.leaderboard.tables import build_leaderboards
from comad.runs.place import FILES
from comad.runs.record import read_records
from tests.calls import call
from tests.engine.resume_toy import train

pytestmark = pytest.mark.slow
TEACHER, AMD = (
    f'pretrain_configs/{name}.py' for name in ('videomae_video_large', 'amd_video_small')
)
FINETUNE = 'video_configs/ssv2_finetune_amd_video_small.py'
SHORT = ('train_cfg.max_epochs=3', 'train_dataloader.batch_size=4')
RUNS = ('whole', 'part')
SAVE_OFTEN = dict(type='SafeCheckpointHook', by_epoch=False, interval=2, max_keep_ckpts=2)


def start(home, leaf, *options, tool='train'):
    return call(tool, FILES / leaf, '--sample', '--cfg-options', *SHORT, *options, cwd=home)


@pytest.fixture(scope='module')
def home(tmp_path_factory):
    """Twelve clips and six; the teacher comes with the sample."""
    folder = tmp_path_factory.mktemp('home')
    write_video_sample(folder / 'data/sample_video', sizes=VideoSizes(train=12, val=6))
    return folder


def test_commands_of_the_page_make_a_row(home):
    done = start(home, AMD)
    assert done.returncode == 0, done.stderr
    card = json.loads(
        (home / 'work_dirs/sample/pretrain/amd_video_small/seed0/student.json').read_text()
    )
    assert card['unit'] == 'clip' and card['architecture']['type'] == 'MaskedVideoViT'
    assert card['data']['name'] == 'sample' and card['teachers'][0]['family'] == 'videomae'
    file, _ = read_shipped('videomae_video_large', 'sample')
    teacher = build_teacher('videomae', file, arch='sample_video_large')
    assert card['teachers'][0]['digest'] == teacher.card['digest']
    done = start(home, FINETUNE, 'train_cfg.val_interval=3')
    assert done.returncode == 0, done.stderr
    found = read_records(home / 'results/sample/records')
    (record,) = found.accepted
    assert found.refused == [] and not record.missing
    assert set(record.metrics) == {'top1_mean', 'top5_mean', 'top1_frozen'}
    assert record.cost.unit == 'clip' and record.cost.gflops > 0
    assert record.protocol.fields['views'] == '2 clips x 3 crops'
    assert record.dataset.images == 6 and record.student.sha256 == card['sha256']
    build_leaderboards('sample', home / 'results/sample/records', home / 'out')
    rows = list(csv.DictReader((home / 'out/leaderboard_video.csv').open()))
    shown = {row['metric']: float(row['value']) for row in rows}
    wanted = dict(top1='top1_mean', top5='top5_mean', top1_frozen_frame='top1_frozen')
    assert shown.keys() == wanted.keys()
    for name, key in wanted.items():
        assert shown[name] == pytest.approx(record.metrics[key], abs=0.01)
    assert {(row['method'], row['teachers']) for row in rows} == {('amd', 'videomae')}


@pytest.mark.parametrize('kind', ['k400_linear', 'ssv2_linear', 'k400_knn', 'ssv2_knn'])
def test_frozen_features_make_rows_too(kind, home):
    options = ['test_cfg.neighbours=[5]', 'test_cfg.report_k=5']
    if 'linear' in kind:
        options = [
            'train_cfg.max_epochs=21',
            'train_cfg.val_interval=21',
            'train_dataloader.batch_size=12',
        ]
    student = ('--student', 'scratch_video_small')
    leaf = FILES / f'video_configs/{kind}_amd_video_small.py'
    done = call('train', leaf, '--sample', *student, '--cfg-options', *options, cwd=home)
    assert done.returncode == 0, done.stderr
    (record,) = (
        r for r in read_records(home / 'results/sample/records').accepted if r.task == kind
    )
    assert set(record.metrics) == {'top1_mean', 'top5_mean'} and not record.missing
    assert record.protocol.fields['views'] == {
        'k400_linear': '5 clips x 3 crops',
        'ssv2_linear': '2 clips x 3 crops',
    }.get(kind, '1 clips x 1 crops')
    build_leaderboards('sample', home / 'results/sample/records', home / 'out')
    rows = list(csv.DictReader((home / 'out/leaderboard_video.csv').open()))
    assert {(r['pool'], r['metric']) for r in rows if r['protocol'] == kind} == {
        ('mean', 'top1'),
        ('mean', 'top5'),
    }


def config(leaf, folder, **options):
    changes = {
        'train_cfg.max_epochs': 3,
        'train_dataloader.batch_size': 4,
        'default_hooks.checkpoint': SAVE_OFTEN,
        'log_level': 'ERROR',
    }
    if leaf == FINETUNE:
        # What of the recipe draws figures, and the sample leaves out.
        changes |= {
            'train_cfg.val_interval': 3,
            'model.backbone.drop_path_rate': 0.3,
            'train_dataloader.dataset.views.samples': 2,
            'train_dataloader.dataset.views.auto_augment': 'rand-m7-n4-mstd0.5-inc1',
            'train_dataloader.dataset.views.re_prob': 0.5,
        }
        options['student'] = 'scratch_video_small'
    options = dict(track='sample', work_dir=str(folder), cfg_options=changes, **options)
    found = load_run_config(RunOptions(str(FILES / leaf), **options))
    if leaf == FINETUNE:
        found.model.mixup = dict(mixup_alpha=0.8, cutmix_alpha=1.0)
    return found


@pytest.mark.parametrize('leaf', [TEACHER, AMD, FINETUNE])
def test_stopped_and_resumed_equals_whole(leaf, home, tmp_path, monkeypatch):
    """Stopped inside an epoch, after a step that no checkpoint holds."""
    monkeypatch.chdir(home)
    whole, observed = train(config(leaf, tmp_path / 'whole'))
    train(config(leaf, tmp_path / 'part'), stop=7)
    resumed, repeated = train(config(leaf, tmp_path / 'part', resume='auto'))
    assert sorted(repeated.losses) == [6, 7, 8]
    assert repeated.losses == {step: observed.losses[step] for step in repeated.losses}
    for key, tensor in whole.model.state_dict().items():
        assert torch.equal(tensor, resumed.model.state_dict()[key]), key
    if leaf == FINETUNE:
        assert len(repeated.validated) == 1 and repeated.validated == observed.validated
        records = [read_records(tmp_path / run / 'records').accepted for run in RUNS]
        assert records[0][0].metrics == records[1][0].metrics
    else:
        files = [(tmp_path / run / 'student.safetensors').read_bytes() for run in RUNS]
        assert files[0] == files[1]
