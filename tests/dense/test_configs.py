"""Dense configs resolve, build under their scopes, and a foreign config needs `backbones` alone."""

import subprocess
import sys

import cv2
import numpy as np
import pytest
import torch
from mmengine.registry import MODELS, TRANSFORMS, DefaultScope
from PIL import Image
from torch import nn

import comad.engine.register  # noqa: F401
from backbones import MaskedViT, check_strides, save_student
from comad.engine.options import RunOptions
from comad.engine.run_config import load_run_config, parse_leaf_name
from comad.runs.place import FILES
from comad.tasks.task import get_task
from tests.resolved import leaves, resolved_config


@pytest.mark.parametrize('path', leaves('seg', 'det'), ids=lambda path: path.stem)
def test_every_leaf_names_its_own_student(path):
    cfg = resolved_config(path)
    leaf = parse_leaf_name(path)
    assert cfg.model.backbone.init_cfg.student == leaf.student
    assert cfg.default_scope == {'seg': 'mmseg', 'det': 'mmdet'}[leaf.folder]


def test_full_scale_recipes_are_the_stated_ones():
    seg = resolved_config('seg_configs/upernet_comad_tiny.py')
    assert seg.train_dataloader.batch_size * 8 == seg.auto_scale_lr.base_batch_size == 16
    assert seg.train_cfg.max_iters == 160_000
    assert seg.model.backbone.out_indices == (3, 5, 7, 11)
    assert (seg.model.test_cfg.mode, seg.model.test_cfg.stride) == ('slide', (341, 341))
    assert seg.optim_wrapper.paramwise_cfg.decay_rate == 0.65
    det = resolved_config('det_configs/mask_rcnn_comad_tiny.py')
    assert det.train_dataloader.batch_size * 8 == det.auto_scale_lr.base_batch_size == 64
    assert det.train_cfg.max_iters == 184_375
    assert det.param_scheduler[1].milestones == [163_889, 177_546]
    assert det.model.backbone.global_blocks == (2, 5, 8, 11)
    assert det.model.backbone.with_cls is False
    assert det.optim_wrapper.optimizer.weight_decay == 0.05


def test_other_papers_recipes_are_the_stated_ones():
    tinymim = resolved_config('seg_configs/tinymim_upernet_comad_tiny.py')
    assert tinymim.optim_wrapper.optimizer.lr == 1e-4
    assert tinymim.optim_wrapper.paramwise_cfg == dict(decay_rate=0.8)
    assert tinymim.model.decode_head.channels == tinymim.model.neck.out_channels == 768
    linear = resolved_config('seg_configs/ibot_seg_linear_comad_tiny.py')
    assert linear.optim_wrapper.optimizer.lr == 8e-4
    assert linear.model.backbone.frozen and linear.model.backbone.out_norm
    assert linear.model.neck is linear.model.auxiliary_head is None
    assert linear.model.decode_head.num_convs == 0 and linear.train_cfg.max_iters == 160_000
    assert linear.model.backbone.pos_size == tinymim.model.backbone.pos_size == 512
    lite = resolved_config('det_configs/mae_lite_mask_rcnn_comad_tiny.py')
    assert lite.param_scheduler[1].milestones == [163_888, 177_546]
    assert lite.train_dataloader.batch_size * 8 == lite.auto_scale_lr.base_batch_size == 64
    assert lite.optim_wrapper.paramwise_cfg.decay_rate == 1.0
    assert lite.model.backbone.drop_path_rate == 0.0
    assert lite.model.data_preprocessor.pad_size_divisor == 640
    for loader in (lite.train_dataloader, lite.val_dataloader, lite.test_dataloader):
        scales = [step.scale for step in loader.dataset.pipeline if 'scale' in step]
        assert scales == [(640, 640)]
    once = resolved_config('det_configs/mask_rcnn_1x_comad_tiny.py')
    assert once.train_dataloader.batch_size * 8 == once.auto_scale_lr.base_batch_size == 16
    epochs = once.train_cfg.max_iters * 16 / 117_266
    drops = [step * 16 / 117_266 for step in once.param_scheduler[1].milestones]
    assert (epochs, *drops) == pytest.approx((12, 8, 11), abs=1e-3)
    assert once.model == lite.model.to_dict()


# The 12-epoch detector is MAE-Lite's.
BUILT = (
    'seg_configs/upernet',
    'seg_configs/tinymim_upernet',
    'seg_configs/ibot_seg_linear',
    'det_configs/mask_rcnn',
    'det_configs/mae_lite_mask_rcnn',
)


def build(cfg):
    """The model of a config, in its scope, its strides checked."""
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        model = MODELS.build(cfg.model)
    check_strides(model)
    return model


@pytest.mark.parametrize('name', BUILT)
@pytest.mark.parametrize('sample', [False, True], ids=['full', 'sample'])
def test_models_build_with_agreeing_strides(name, sample):
    cfg = resolved_config(f'{name}_comad_tiny.py', sample)
    cfg.model.backbone.init_cfg = None
    norms = [module for module in build(cfg).modules() if isinstance(module, nn.LayerNorm)]
    assert {norm.eps for norm in norms} == {1e-6}


@pytest.mark.parametrize('name', BUILT)
def test_a_teacher_of_another_width_runs_through_every_dense_task(name):
    """Its rows stand in the students' group: the recipe, heads included, is theirs.

    Only a linear layer is as wide as what it reads, and its record says so.
    """
    path = str(FILES / f'{name}_comad_tiny.py')
    options = RunOptions(path, student='scratch_base', track='sample')
    cfg = load_run_config(options, check=False)
    assert cfg.model.backbone.arch == 'sample_base'
    task = get_task(cfg.run.kind)
    fields = [
        task.read_protocol(c._cfg_dict.to_dict()) for c in (cfg, resolved_config(path, sample=True))
    ]
    differing = {key for key in fields[0] if fields[0][key] != fields[1][key]}
    assert differing == ({'head'} if 'linear' in name else set())
    cfg.model.backbone.init_cfg = None
    model = build(cfg).eval()
    maps = model.extract_feat(torch.zeros(1, 3, 64, 64))
    if cfg.default_scope == 'mmseg':
        scores = model.decode_head.forward(maps)
        assert scores.shape[:2] == (1, 11)
        if model.with_auxiliary_head:
            assert model.auxiliary_head.forward(maps).shape[:2] == (1, 11)
    else:
        assert {one.shape[1] for one in maps} == {64}
        model.rpn_head.forward(maps)


def test_maps_of_a_deeper_network_lie_at_the_same_share_of_its_blocks():
    def load(name):
        path = str(FILES / f'{name}_comad_tiny.py')
        return load_run_config(RunOptions(path, student='scratch_large'), check=False).model

    assert load('seg_configs/upernet').backbone.out_indices == (7, 11, 15, 23)  # as MAE's ViT-L
    assert load('seg_configs/upernet').decode_head.in_channels == [1024] * 4
    detector = load('det_configs/mask_rcnn')
    assert detector.backbone.global_blocks == (5, 11, 17, 23)  # as ViTDet's ViT-L
    assert (detector.neck.in_channels, detector.neck.out_channels) == (1024, 256)


def test_a_wrong_roi_stride_stops_the_real_detector():
    cfg = resolved_config('det_configs/mask_rcnn_comad_tiny.py')
    cfg.model.roi_head.mask_roi_extractor.featmap_strides = [8, 16, 32, 64]
    named = r'mask_roi_extractor are \(8, 16, 32, 64\).*\(4, 8, 16, 32\)'
    with pytest.raises(ValueError, match=named):
        build(cfg)


FOREIGN = """
_base_ = ['mmseg::_base_/models/upernet_mae.py']
custom_imports = dict(imports=['backbones'])
model = dict(
    data_preprocessor=dict(size=(64, 64)),
    backbone=dict(
        _delete_=True, type='MaskedViT', arch='sample_tiny', out_indices=(0, 1, 2, 3),
        init_cfg=dict(type='StudentWeights', checkpoint='{student}', track='sample')),
    neck=dict(_delete_=True, type='MultiLevelPyramid', in_channels=64, patch_size=8),
    decode_head=dict(in_channels=[64] * 4, channels=16, num_classes=5),
    auxiliary_head=dict(in_channels=64, channels=16, num_classes=5))
"""
USE = """
import sys
import torch
from mmengine.config import Config
from mmseg.registry import MODELS
from mmseg.utils import register_all_modules
register_all_modules()
model = MODELS.build(Config.fromfile(sys.argv[1]).model)
model.init_weights()
model.eval()
from safetensors.torch import load_file
stored = load_file(sys.argv[2])
assert all(torch.equal(t, stored[n]) for n, t in model.backbone.state_dict().items())
assert not any(name.split('.')[0] == 'comad' for name in sys.modules)
out = model.encode_decode(torch.zeros(1, 3, 64, 64), [dict(ori_shape=(64, 64), img_shape=(64, 64))])
print('shape', tuple(out.shape))
"""


def test_a_foreign_mmseg_config_builds_the_student(tmp_path):
    student = save_student(
        tmp_path, MaskedViT('sample_tiny'), dict(name='toy_tiny', track='sample')
    )
    config = tmp_path / 'foreign.py'
    config.write_text(FOREIGN.format(student=student))
    run = [sys.executable, '-W', 'ignore', '-c', USE, str(config), str(student)]
    result = subprocess.run(run, cwd=FILES, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr[-2000:]
    assert 'shape (1, 5, 64, 64)' in result.stdout


def test_detection_heads_start_as_the_field_says():
    """mmdet's; Detectron2's are at std 0.001 and 0.0089."""
    cfg = resolved_config('det_configs/mask_rcnn_comad_tiny.py')
    cfg.model.backbone.init_cfg = None
    torch.manual_seed(0)
    model = build(cfg)
    model.init_weights()
    head = model.roi_head
    assert float(head.mask_head.conv_logits.weight.detach().std()) == pytest.approx(0.158, rel=0.03)
    layer = head.bbox_head.shared_fcs[0].weight.detach()
    assert float(layer.std()) == pytest.approx(0.0121, rel=0.01)
    fields = get_task('mask_rcnn').read_protocol(cfg._cfg_dict.to_dict())
    assert fields['head_start'] == 'mask predictor Kaiming normal, box layer Xavier uniform'
    assert fields['resize_filter'] == 'cv2, bilinear, no antialias'


def test_images_become_smaller_as_the_field_says():
    """OpenCV's skip pixels; Pillow's, which Detectron2 takes, are averages."""
    cfg = resolved_config('det_configs/mask_rcnn_comad_tiny.py')
    (step,) = [s for s in cfg.train_dataloader.dataset.pipeline if s.type == 'RandomResize']
    step.update(scale=(256, 256), ratio_range=(0.25, 0.25))
    image = np.random.default_rng(0).integers(0, 256, (256, 256, 3), np.uint8)
    wanted = {
        'cv2': cv2.resize(image, (64, 64), interpolation=cv2.INTER_LINEAR),
        'pillow': np.asarray(Image.fromarray(image).resize((64, 64), Image.Resampling.BILINEAR)),
    }
    for backend, pixels in wanted.items():
        with DefaultScope.overwrite_default_scope('mmdet'):
            resize = TRANSFORMS.build({**step, 'backend': backend})
        assert (resize(dict(img=image, img_shape=(256, 256)))['img'] == pixels).all(), backend
    apart = np.abs(wanted['cv2'].astype(int) - wanted['pillow']).mean()
    assert apart > 15
    cfg.train_dataloader.dataset.pipeline[3].backend = 'pillow'
    fields = get_task('mask_rcnn').read_protocol(cfg._cfg_dict.to_dict())
    assert fields['resize_filter'] == 'pillow, bilinear, antialias'
