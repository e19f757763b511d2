"""Tests at several scales: what is averaged, which record they leave, and what is refused."""

import copy
import json
from pathlib import Path

import pytest
from mmengine.config import Config
from mmengine.model import BaseTTAModel
from torch import nn

from backbones.files import sha256_of
from comad.data.sample.write import SampleSizes, write_sample
from comad.engine.hooks import MultiScaleTestHook, RunRecordHook
from comad.engine.models import unwrapped
from comad.engine.multi_scale import use_multi_scale
from comad.engine.options import ConfigError, RunOptions
from comad.engine.run_config import load_run_config
from comad.runs.place import FILES
from comad.runs.record import resolved_name
from comad.tasks.protocol import TEST_FIELDS
from comad.tasks.task import TASKS
from tests.benchmark.analytic import vit_gflop
from tests.programs import run


@pytest.fixture
def resolved(monkeypatch):
    """A leaf's config for a test at several scales, as if all data were there."""
    monkeypatch.setattr('comad.engine.run_config.check_paths', lambda cfg, sample: None)

    def resolve(leaf, **options):
        cfg = load_run_config(RunOptions(leaf, tta=True, **options))
        before = copy.deepcopy(cfg._cfg_dict.to_dict())
        use_multi_scale(cfg)
        return before, cfg._cfg_dict.to_dict()

    return resolve


@pytest.mark.parametrize('kind', ['upernet', 'tinymim_upernet', 'ibot_seg_linear'])
def test_the_run_is_a_kind_of_its_own(resolved, kind):
    before, after = resolved(f'seg_configs/{kind}_comad_tiny.py', seed=2)
    assert after['run']['kind'] == f'{kind}_ms' != before['run']['kind']
    assert after['protocol']['name'] == before['protocol']['name'] + '_ms'
    assert after['work_dir'] == before['work_dir'] + '/multi_scale'
    fields = TASKS[f'{kind}_ms'].read_protocol(after)
    assert fields['test_mode'] == 'slide 512/341, scales 0.5-1.75 + flip'
    assert None not in fields.values()
    single = TASKS[kind].read_protocol(before)
    differing = {name for name in single if single[name] != fields[name]}
    assert differing == {'test_mode', 'other_test_settings'} <= TEST_FIELDS
    untested = TASKS[f'{kind}_ms'].read_protocol(before)
    assert untested['test_mode'] == single['test_mode'] == 'slide 512/341, single scale'


def test_the_sample_keeps_the_ratios_and_mirrors_nothing(resolved):
    _, cfg = resolved('seg_configs/upernet_comad_tiny.py', track='sample')
    fields = TASKS['upernet_ms'].read_protocol(cfg)
    assert fields['test_mode'] == 'slide 64/43, scales 0.5-1.75'


def test_detection_is_refused_in_one_line(resolved):
    with pytest.raises(ConfigError, match='mask_rcnn_comad_tiny.py has no tta_model'):
        resolved('det_configs/mask_rcnn_comad_tiny.py')


class Wrapper(BaseTTAModel):
    def merge_preds(self, data_samples_list):
        return data_samples_list


class Segmentor(nn.Module):
    def test_step(self, data):
        return data


def test_the_bare_model_is_wrapped_and_found_again():
    from mmengine.registry import MODELS

    MODELS.register_module(name='WrapperOfThisTest', module=Wrapper, force=True)
    runner = Config(dict(model=None))
    runner.model = model = Segmentor()
    MultiScaleTestHook(dict(type='WrapperOfThisTest')).before_test(runner)
    assert isinstance(runner.model, Wrapper) and unwrapped(runner.model) is model


@pytest.mark.parametrize('stored', [True, False])
def test_the_record_tells_the_training_of_the_checkpoint(stored):
    hook, written = RunRecordHook(of_test=True), []
    hook._write = lambda runner, *values: written.append(values)
    runner = type('Runner', (), dict(cfg=Config(dict(train_cfg=dict(max_iters=3)))))
    hook.before_run(runner)
    info = dict(train_seconds=4.5, images_seen=48)
    hook.after_load_checkpoint(runner, dict(message_hub=dict(runtime_info=info)) if stored else {})
    hook.after_test_epoch(runner, dict(mIoU=3.0))
    assert written == [(dict(mIoU=3.0), 4.5, 48) if stored else (dict(mIoU=3.0), 0.0, 0)]
    other = RunRecordHook()
    other._write = None  # a plain test of a trained checkpoint writes nothing
    other.before_run(runner)
    other.after_test_epoch(runner, dict(mIoU=3.0))


# The merged map against scales, flips, padding and windows done by hand.
AVERAGE = """
import sys, torch, mmcv, numpy as np
import torch.nn.functional as F
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.registry import MODELS, init_default_scope
import comad.engine.register
cfg = Config.fromfile(sys.argv[1], import_custom_modules=False)
init_default_scope(cfg.default_scope)
from mmseg.datasets.transforms import PackSegInputs
from mmcv.transforms import Compose
torch.manual_seed(0)
model = MODELS.build(cfg.model).eval()
model.decode_head.conv_seg.weight.data.normal_(std=0.5)
image = np.random.default_rng(0).integers(0, 256, (64, 56, 3), dtype=np.uint8)
mmcv.imwrite(image, sys.argv[2])
steps = cfg.tta_pipeline[1].transforms
sizes = [step.scale for step in steps[0]]
steps.insert(1, [dict(type='RandomFlip', prob=0.0), dict(type='RandomFlip', prob=1.0)])
steps[:] = [choice for choice in steps if choice[0]['type'] != 'LoadAnnotations']
item = Compose(cfg.tta_pipeline)(dict(img_path=sys.argv[2]))
print('predictions', len(item['inputs']))
merged = MODELS.build(dict(type='SegTTAModel', module=model))
with torch.no_grad():
    found = merged.test_step(pseudo_collate([item]))[0].pred_sem_seg.data.squeeze()

mean = torch.tensor([123.675, 116.28, 103.53]).view(1, 3, 1, 1)
std = torch.tensor([58.395, 57.12, 57.375]).view(1, 3, 1, 1)
total = 0
for width, height in sizes:
    scaled = mmcv.imrescale(image, (width, height))
    for flip in (False, True):
        pixels = scaled[:, ::-1] if flip else scaled
        x = torch.from_numpy(pixels[..., ::-1].copy()).permute(2, 0, 1)[None].float()
        x = (x - mean) / std
        h, w = x.shape[-2:]
        x = F.pad(x, (0, max(64 - w, 0), 0, max(64 - h, 0)))
        H, W = x.shape[-2:]
        logits, count = torch.zeros(1, 11, H, W), torch.zeros(1, 1, H, W)
        starts = [sorted({min(s, n - 64) for s in range(0, n, 43)}) for n in (H, W)]
        for top in starts[0]:
            for left in starts[1]:
                window = x[..., top : top + 64, left : left + 64]
                with torch.no_grad():
                    out = model.decode_head(model.neck(model.backbone(window)))
                out = F.interpolate(out, (64, 64), mode='bilinear', align_corners=False)
                logits[..., top : top + 64, left : left + 64] += out
                count[..., top : top + 64, left : left + 64] += 1
        logits = (logits / count)[..., :h, :w]
        logits = logits.flip(-1) if flip else logits
        logits = F.interpolate(logits, (64, 56), mode='bilinear', align_corners=False)
        total = total + logits.softmax(1)
expected = total[0].argmax(0)
print('classes', len(expected.unique()))
print('equal', (expected == found).float().mean().item())
"""


def test_scales_flips_and_windows_are_averaged_as_by_hand(resolved, tmp_path):
    cfg = Config(resolved('seg_configs/upernet_comad_tiny.py', track='sample')[0])
    cfg.model.backbone.init_cfg = None
    file = tmp_path / 'resolved.py'
    cfg.dump(file)
    (tmp_path / 'average.py').write_text(AVERAGE)
    said = run(tmp_path / 'average.py', file, tmp_path / 'image.png', log=tmp_path / 'log').text()
    values = dict(line.split() for line in said.splitlines() if len(line.split()) == 2)
    assert values['predictions'] == '12' and int(values['classes']) >= 3
    assert float(values['equal']) > 0.995


@pytest.mark.slow
def test_a_trained_checkpoint_leaves_both_records(tmp_path):
    leaf = [f'{FILES}/seg_configs/ibot_seg_linear_comad_tiny.py', '--sample']
    leaf += ['--student', 'scratch_tiny']
    leaf += ['--work-dir', str(tmp_path / 'run')]
    length = ['--cfg-options', 'train_cfg.max_iters=42', 'train_cfg.val_interval=42']
    sizes = SampleSizes(imagenet_train=10, imagenet_val=10, scenes_train=32, scenes_val=16)
    write_sample(tmp_path / 'data/sample', sizes=sizes)
    for command in (['train.py', *leaf, *length], ['test.py', *leaf, '--tta']):
        program = f'{FILES}/tools/{command[0]}'
        run(program, *command[1:], log=tmp_path / 'log', cwd=tmp_path)
    folder = tmp_path / 'run' / 'records'
    records = {path.name: json.loads(path.read_text()) for path in folder.iterdir()}
    single = records['ibot_seg_linear_scratch_tiny_p0_s0.json']
    several = records['ibot_seg_linear_ms_scratch_tiny_p0_s0.json']
    assert single['images_seen'] == several['images_seen'] == 42 * 16
    # The checkpoint is written just before the last seconds are counted.
    assert 0 < several['wall_seconds'] <= single['wall_seconds']
    assert single['metrics'] != several['metrics']
    fields = several['protocol']['fields']
    assert fields['test_mode'] == 'slide 64/43, scales 0.5-1.75'
    others = single['protocol']['fields']  # the test was not told the length
    differing = {name for name in fields if fields[name] != others[name]}
    assert differing == {'test_mode', 'other_test_settings'}
    assert fields['length'] == '42 iterations'
    assert (tmp_path / 'run/multi_scale/predictions.png').is_file()
    for record in (single, several):
        checkpoint, config = record['checkpoint'], record['config']
        work_dir = Path(config['work_dir'])
        assert sha256_of(work_dir / checkpoint['file']) == checkpoint['sha256']
        assert sha256_of(work_dir / resolved_name(record['task'])) == config['resolved_sha256']
        cost = record['cost']
        assert cost['device_hours'] == pytest.approx(record['wall_seconds'] / 3600, abs=1e-5)
        assert cost['images_per_second'] == pytest.approx(672 / record['wall_seconds'], rel=0.01)
        # 8 x 8 patches of 8 px and a class token, 64 wide, 4 blocks.
        assert cost['gflops'] == pytest.approx(vit_gflop(65, 64, 64, 4, patch_size=8), rel=0.01)
    assert single['checkpoint']['file'] == 'iter_42.pth'
    assert several['checkpoint'] == {**single['checkpoint'], 'file': '../iter_42.pth'}
