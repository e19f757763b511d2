"""Detectors and segmentors in bfloat16: boxes stay in float32; they train and validate."""

import json
import math

import pytest
import torch

from comad.data.sample.write import SampleSizes, write_sample
from comad.engine.options import RunOptions
from comad.engine.run_config import load_run_config
from comad.runs.place import FILES
from tests.programs import run
from tests.resolved import resolved_config

# The sample's detector on maps of a 1024 px image, with heads that move no box. Prints by how many
# px at most boxes are off, and their types.
GEOMETRY = """
import json, sys, torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from mmengine.structures import InstanceData
from mmdet.structures import DetDataSample
import comad.engine.register
from comad.engine.autocast import keep_geometry
from tests.programs import run

torch.manual_seed(0)
cfg = Config.fromfile(sys.argv[1], import_custom_modules=False)
init_default_scope('mmdet')
model = MODELS.build(cfg.model).eval()
if sys.argv[2] == 'kept':
    keep_geometry(model)
rpn, roi_head, size = model.rpn_head, model.roi_head, 1024
for layer in (rpn.rpn_reg, roi_head.bbox_head.fc_reg):
    torch.nn.init.zeros_(layer.weight), torch.nn.init.zeros_(layer.bias)
sides = [size // stride for stride in (4, 8, 16, 32, 64)]
maps = [torch.randn(1, 64, side, side).bfloat16() for side in sides]
sample = DetDataSample(metainfo=dict(img_shape=(size, size), ori_shape=(size, size)))
grid, used, pooled = rpn.prior_generator.grid_priors, [], []
exact = grid([x.shape[-2:] for x in maps], device='cpu')

def noted(sizes, **options):
    used.extend(grid(sizes, **options))
    return used

rpn.prior_generator.grid_priors = noted
for layer in roi_head.bbox_roi_extractor.roi_layers:
    layer.register_forward_pre_hook(lambda layer, inputs: pooled.append(inputs[1]))
rois = torch.tensor([[1001.3, 777.7, 1019.9, 801.1], [513.2, 7.3, 700.9, 290.1]])

def off(boxes, right):  # each box from the nearest right one
    boxes, right = boxes.double(), right.double()
    return max((right - box).abs().amax(1).min().item() for box in boxes)

with torch.no_grad(), torch.autocast('cpu', torch.bfloat16):
    (proposals,) = rpn.predict(tuple(maps), [sample])
    given = InstanceData(bboxes=rois, scores=torch.ones(2), labels=torch.zeros(2).long())
    (found,) = roi_head.predict_bbox(
        tuple(maps), [sample.metainfo], [given], roi_head.test_cfg, rescale=False)
boxes = dict(
    anchors=(torch.cat(used), torch.cat(exact)),
    proposals=(proposals.bboxes, torch.cat(exact).clamp(0, size)),
    rois=(torch.cat(pooled)[:, 1:], rois),
    boxes=(found.bboxes, rois),
)
print(json.dumps({name: [
    len(pair[0]), str(pair[0].dtype),
    (pair[0].double() - pair[1]).abs().max().item() if name == 'anchors' else off(*pair)
] for name, pair in boxes.items()}))
"""


def geometry(folder, mode):
    cfg = resolved_config('det_configs/mask_rcnn_comad_tiny.py', sample=True)
    cfg.model.backbone.init_cfg = None
    cfg.dump(folder / 'resolved.py')
    (folder / 'geometry.py').write_text(GEOMETRY)
    said = run(folder / 'geometry.py', folder / 'resolved.py', mode, log=folder / 'log').text()
    return json.loads(said.splitlines()[-1])


def test_boxes_stay_in_float32_at_1024_px(tmp_path):
    found = geometry(tmp_path, 'kept')
    assert min(count for count, _, _ in found.values()) >= 2
    assert {kind for _, kind, _ in found.values()} == {'torch.float32'}
    assert found['anchors'][2] == found['rois'][2] == 0
    # Decoded by way of centre and size, whose roundings at 1024 px are 6e-5 px each.
    assert max(found['proposals'][2], found['boxes'][2]) < 3e-4


def test_bfloat16_would_move_them(tmp_path):
    found = geometry(tmp_path, 'as mmdet does')
    assert min(found[name][2] for name in ('anchors', 'proposals', 'rois')) > 1


def test_what_that_costs_small_objects():
    # The figures of docs/running.md: perfect deltas of objects of 16 to 32 px in a 1024 px image.
    from mmdet.models.task_modules.coders import DeltaXYWHBBoxCoder
    from torchvision.ops import box_iou

    draw = torch.Generator().manual_seed(0)
    sides = 16 + 16 * torch.rand(5000, 2, generator=draw)
    corners = (1024 - sides) * torch.rand(5000, 2, generator=draw)
    objects = torch.cat([corners, corners + sides], dim=1)
    centres = ((corners + sides / 2) / 4).round() * 4
    anchors = torch.cat([centres - 16, centres + 16], dim=1)
    coder = DeltaXYWHBBoxCoder()
    deltas = coder.encode(anchors, objects).bfloat16()
    kept = coder.decode(anchors, deltas.float())
    rounded = coder.decode(anchors.bfloat16(), deltas).float()
    overlaps = [box_iou(boxes, objects).diag().mean().item() for boxes in (kept, rounded)]
    assert overlaps == pytest.approx([0.999, 0.86], abs=5e-3)


@pytest.mark.slow
@pytest.mark.parametrize(
    ('leaf', 'layer', 'metric'),
    [
        ('det_configs/mask_rcnn_comad_tiny.py', 'roi_head.bbox_head.fc_cls', 'coco/segm_mAP'),
        ('seg_configs/upernet_comad_tiny.py', 'decode_head.conv_seg', 'mIoU'),
    ],
)
def test_they_train_and_validate_in_bfloat16(leaf, layer, metric, tmp_path, monkeypatch):
    import comad.engine.register  # noqa: F401
    from comad.engine.runner import BenchmarkRunner

    sizes = SampleSizes(imagenet_train=10, imagenet_val=10, scenes_train=24, scenes_val=8)
    write_sample(tmp_path / 'data/sample', seed=3, sizes=sizes)
    monkeypatch.chdir(tmp_path)
    changes = {
        # What --amp does where the hardware has bfloat16; others compute in it more slowly.
        'optim_wrapper.type': 'AutocastOptimWrapper',
        'optim_wrapper.dtype': 'bfloat16',
        'val_cfg.fp16': True,  # MMEngine's autocast, on a CPU in bfloat16
        'param_scheduler': [dict(type='PolyLR', by_epoch=False)],
        'train_cfg.max_iters': 3,
        'train_cfg.val_interval': 3,
        'train_dataloader.batch_size': 4,
        'log_level': 'ERROR',
    }
    if leaf.startswith('det_configs'):  # three steps make no box likely
        changes['model.test_cfg.rcnn.score_thr'] = 0.0
    options = RunOptions(
        str(FILES / leaf), track='sample', student='scratch_tiny', cfg_options=changes
    )
    config = load_run_config(options)
    for name in ('run_record', 'prediction_figure'):
        config.default_hooks.pop(name, None)
    runner = BenchmarkRunner.from_cfg(config)
    types = {True: set(), False: set()}
    runner.model.get_submodule(layer).register_forward_hook(
        lambda layer, inputs, output: types[layer.training].add(output.dtype)
    )
    runner.train()
    assert types == {True: {torch.bfloat16}, False: {torch.bfloat16}}
    scalars = runner.message_hub.log_scalars
    assert len(scalars['train/loss'].data[0]) == 3
    assert all(math.isfinite(loss) for loss in scalars['train/loss'].data[0])
    assert math.isfinite(scalars[f'val/{metric}'].current())
