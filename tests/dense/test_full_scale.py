"""The full-scale dense models take one training step in which every trainable tensor takes part."""

import numpy as np
import pytest
import torch
from mmengine.registry import MODELS, OPTIM_WRAPPER_CONSTRUCTORS, DefaultScope
from mmengine.structures import InstanceData, PixelData

import comad.engine.register  # noqa: F401
from backbones import check_strides
from tests.resolved import resolved_config


def segmented():
    """Two crops with labels."""
    from mmseg.structures import SegDataSample

    shape = dict(img_shape=(512, 512), ori_shape=(512, 512))
    inputs = [torch.randint(0, 256, (3, 512, 512), dtype=torch.uint8) for _ in range(2)]
    labels = [torch.randint(0, 150, (1, 512, 512)) for _ in inputs]
    samples = [SegDataSample(gt_sem_seg=PixelData(data=label), metainfo=shape) for label in labels]
    return dict(inputs=inputs, data_samples=samples)


def detected(height):
    """An image of two objects, to be padded to a square."""
    from mmdet.structures import DetDataSample
    from mmdet.structures.mask import BitmapMasks

    width = 500
    shape = dict(img_shape=(height, width), ori_shape=(height, width), img_id=0)
    inputs = [torch.randint(0, 256, (3, height, width), dtype=torch.uint8)]
    boxes = torch.tensor([[50.0, 60, 250, 300], [10, 10, 60, 80]])
    masks = np.zeros((2, height, width), np.uint8)
    for mask, (left, top, right, bottom) in zip(masks, boxes.int().tolist(), strict=True):
        mask[top:bottom, left:right] = 1
    instances = InstanceData(
        bboxes=boxes, labels=torch.tensor([3, 17]), masks=BitmapMasks(masks, height, width)
    )
    return dict(inputs=inputs, data_samples=[DetDataSample(gt_instances=instances, metainfo=shape)])


# A minute on one core at full size; every second row and column train the same tensors.
HEAVY = ('tinymim_upernet',)


@pytest.mark.slow
@pytest.mark.parametrize(
    ('kind', 'config', 'change', 'shape', 'millions'),
    [
        ('seg', 'upernet', {}, (2, 3, 512, 512), 10.9),
        ('seg', 'tinymim_upernet', {}, (2, 3, 512, 512), 76.5),
        ('seg', 'ibot_seg_linear', {}, (2, 3, 512, 512), 5.8),
        ('det', 'mask_rcnn', {}, (1, 3, 1024, 1024), 27.6),
        ('det', 'mae_lite_mask_rcnn', {}, (1, 3, 640, 640), 27.6),
        ('det', 'mask_rcnn_1x', dict(rel_pos=True), (1, 3, 640, 640), 27.7),
    ],
)
def test_one_full_scale_step_trains_every_tensor(kind, config, change, shape, millions):
    torch.manual_seed(0)
    cfg = resolved_config(f'{kind}_configs/{config}_comad_tiny.py')
    cfg.model.backbone.init_cfg = None
    cfg.model.backbone.update(change)
    cfg.model.backbone.drop_path_rate = 0.0  # with one image a dropped block has no gradient at all
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        model = MODELS.build(cfg.model)
        model.init_weights()
        check_strides(model)
        constructor = OPTIM_WRAPPER_CONSTRUCTORS.get(cfg.optim_wrapper.pop('constructor'))
        paramwise = cfg.optim_wrapper.pop('paramwise_cfg')
        wrapper = constructor(cfg.optim_wrapper, paramwise)(model)
        model.train()
        named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
        before = {name: p.detach().clone() for name, p in named}
        batch = segmented() if kind == 'seg' else detected(shape[-1])
        data = model.data_preprocessor(batch, True)
        assert tuple(data['inputs'].shape) == shape
        if config in HEAVY:
            data['inputs'] = data['inputs'][..., ::2, ::2]
            for sample in data['data_samples']:
                sample.gt_sem_seg = PixelData(data=sample.gt_sem_seg.data[..., ::2, ::2])
        loss, _ = model.parse_losses(model(**data, mode='loss'))
        loss.backward()
    assert [name for name, p in named if p.grad is None] == []
    assert loss.isfinite() and all(p.grad.isfinite().all() for _, p in named)
    wrapper.step()
    assert [name for name, p in named if torch.equal(p, before[name])] == []
    parameters = sum(p.numel() for p in model.parameters())
    assert parameters / 1e6 == pytest.approx(millions, abs=0.1)
