"""The full-scale dense models take one training step in which every trainable tensor takes part."""

import subprocess
import sys

import pytest

from comad.runs.place import FILES

STEP = """
import sys, torch
import numpy as np
from mmengine.config import Config
from mmengine.registry import MODELS, OPTIM_WRAPPER_CONSTRUCTORS, init_default_scope
from mmengine.structures import InstanceData, PixelData
import comad.engine.register
from backbones import check_strides
kind, path, change = sys.argv[1:]
torch.manual_seed(0)
cfg = Config.fromfile(path, import_custom_modules=False)
init_default_scope(cfg.default_scope)
cfg.model.backbone.init_cfg = None
if change:
    name, value = change.split('=')
    cfg.merge_from_dict({'model.' + name: value == 'True'})
cfg.model.backbone.drop_path_rate = 0.0  # with one image a dropped block has no gradient at all
model = MODELS.build(cfg.model)
model.init_weights()
check_strides(model)
if kind == 'seg':
    from mmseg.structures import SegDataSample
    size = 512
    shape = dict(img_shape=(size, size), ori_shape=(size, size))
    inputs = [torch.randint(0, 256, (3, size, size), dtype=torch.uint8) for _ in range(2)]
    labels = [torch.randint(0, 150, (1, size, size)) for _ in inputs]
    samples = [
        SegDataSample(gt_sem_seg=PixelData(data=label), metainfo=shape) for label in labels]
else:
    from mmdet.structures import DetDataSample
    from mmdet.structures.mask import BitmapMasks
    height, width = cfg.model.data_preprocessor.pad_size_divisor, 500
    shape = dict(img_shape=(height, width), ori_shape=(height, width), img_id=0)
    inputs = [torch.randint(0, 256, (3, height, width), dtype=torch.uint8)]
    boxes = torch.tensor([[50.0, 60, 250, 300], [10, 10, 60, 80]])
    masks = np.zeros((2, height, width), np.uint8)
    for mask, (left, top, right, bottom) in zip(masks, boxes.int().tolist()):
        mask[top:bottom, left:right] = 1
    instances = InstanceData(
        bboxes=boxes, labels=torch.tensor([3, 17]), masks=BitmapMasks(masks, height, width))
    samples = [DetDataSample(gt_instances=instances, metainfo=shape)]
constructor = OPTIM_WRAPPER_CONSTRUCTORS.get(cfg.optim_wrapper.constructor)
paramwise = cfg.optim_wrapper.pop('paramwise_cfg')
cfg.optim_wrapper.pop('constructor')
wrapper = constructor(cfg.optim_wrapper, paramwise)(model)
model.train()
before = {name: p.detach().clone() for name, p in model.named_parameters() if p.requires_grad}
data = model.data_preprocessor(dict(inputs=inputs, data_samples=samples), True)
print('input', tuple(data['inputs'].shape))
loss, logs = model.parse_losses(model(**data, mode='loss'))
loss.backward()
named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
print('without gradient', [name for name, p in named if p.grad is None])
print('finite', bool(loss.isfinite()) and all(bool(p.grad.isfinite().all()) for _, p in named))
wrapper.step()
print('unmoved', [name for name, p in named if torch.equal(p, before[name])])
print('parameters', sum(p.numel() for p in model.parameters()))
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ('kind', 'config', 'change', 'shape', 'millions'),
    [
        ('seg', 'upernet', '', (2, 3, 512, 512), 10.7),
        ('seg', 'tinymim_upernet', '', (2, 3, 512, 512), 76.3),
        ('seg', 'ibot_seg_linear', '', (2, 3, 512, 512), 5.6),
        ('det', 'mask_rcnn', '', (1, 3, 1024, 1024), 27.6),
        ('det', 'mae_lite_mask_rcnn', '', (1, 3, 640, 640), 27.6),
        ('det', 'mask_rcnn_1x', 'backbone.rel_pos=True', (1, 3, 640, 640), 27.7),
    ],
)
def test_one_full_scale_step_trains_every_tensor(kind, config, change, shape, millions):
    path = f'{kind}_configs/{config}_comad_tiny.py'
    result = subprocess.run(
        [sys.executable, '-W', 'ignore', '-c', STEP, kind, path, change],
        cwd=FILES,
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert result.returncode == 0, result.stderr[-2000:]
    assert f'input {shape}' in result.stdout
    assert 'without gradient []' in result.stdout
    assert 'finite True' in result.stdout
    assert 'unmoved []' in result.stdout
    parameters = int(result.stdout.rsplit('parameters', 1)[1].split()[0])
    assert parameters / 1e6 == pytest.approx(millions, abs=0.1)
