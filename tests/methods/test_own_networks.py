"""Anyone's teachers and students: the command line, CNNs as students, three kinds of teachers."""

import argparse

import pytest
import timm
import torch
from mmengine.registry import MODELS
from safetensors.torch import save_file

import comad.methods  # noqa: F401
from backbones import StagedClassifier, load_student, save_student
from backbones.networks import build_network
from comad.engine.options import ConfigError, RunOptions, add_options
from comad.engine.own_networks import mask_ratios
from comad.engine.paths import check_paths
from comad.engine.run_config import load_run_config
from comad.runs.place import CALLER, HOME, get_track
from comad.weights import export_timm

LEAF = 'pretrain_configs/comad_tiny.py'


@pytest.fixture
def teachers(tmp_path):
    """A DINOv3, a ConvNeXt and a ResNet, tiny, as entries of a config."""
    entries = []
    for model, options in (
        ('vit_base_patch16_dinov3', dict(depth=2, embed_dim=64, num_heads=2, img_size=64)),
        ('convnext_atto', dict(depths=(1, 1, 1, 1), dims=(8, 16, 32, 64))),
        ('resnet18', dict(layers=(1, 1, 1, 1), channels=(8, 16, 32, 64))),
    ):
        file = tmp_path / f'{model}.safetensors'
        save_file(timm.create_model(model, **options).state_dict(), file)
        entries.append(dict(family='timm', model=model, checkpoint=str(file), **options))
    return entries


@pytest.mark.parametrize(
    'student', ['sample_tiny', 'sample_resnet18', 'convnext_atto', 'repvit_m1']
)
@pytest.mark.parametrize('method', ['CoMAD', 'DMT'])
def test_every_parameter_of_any_student_is_trained(method, student, teachers):
    vit = student == 'sample_tiny'
    backbone = dict(type='MaskedViT' if vit else 'StagedClassifier', arch=student, img_size=64)
    if method == 'CoMAD':
        teachers = [dict(t, mask_ratio=r) for t, r in zip(teachers, mask_ratios(3), strict=True)]
    options = (
        dict(decoder=dict(arch='sample_tiny'), align='orthogonal') if method == 'CoMAD' else {}
    )
    model = MODELS.build(
        dict(type=method, backbone=backbone, teachers=teachers, positions='learned', **options)
    )
    model.fit(iter([torch.randn(8, 3, 64, 64)]))
    losses = model.loss(torch.randn(4, 3, 64, 64))
    sum(value for name, value in losses.items() if 'loss' in name).backward()
    lost = [n for n, p in model.backbone.named_parameters() if p.requires_grad and p.grad is None]
    assert lost == [] and len(model.teacher_cards) == 3


@pytest.mark.parametrize('method', ['MAE', 'MoCoV3', 'IBOT', 'AMD', 'HybridDistill', 'DMAELite'])
def test_other_methods_refuse_a_student_without_blocks(method):
    options = dict(teachers=[]) if method in ('AMD', 'HybridDistill', 'DMAELite') else {}
    backbone = dict(type='StagedClassifier', arch='sample_resnet18')
    line = f'student sample_resnet18 has no blocks: {method} trains ViTs only; CoMAD and DMT'
    with pytest.raises(ValueError, match=line):
        MODELS.build(dict(type=method, backbone=backbone, **options))


def test_amd_refuses_a_teacher_without_blocks(teachers):
    backbone = dict(type='MaskedViT', arch='sample_tiny', img_size=64)
    for teacher in teachers[1:]:
        with pytest.raises(ValueError, match='read after its last stage only: AMD learns from the'):
            MODELS.build(
                dict(type='AMD', backbone=backbone, teachers=[dict(teacher, mask_ratio=0.5)])
            )


@torch.no_grad()
def test_hidden_cells_are_grey_before_the_network():
    network = StagedClassifier(arch='sample_resnet18').eval()
    images, keep = torch.randn(2, 3, 64, 64), torch.tensor([[3], [0]])
    found = network.tokens(images, keep)
    grey = torch.zeros_like(images)
    grey[0, :, 32:, 32:], grey[1, :, :32, :32] = images[0, :, 32:, 32:], images[1, :, :32, :32]
    whole = network.tokens(grey)[:, 1:]
    torch.testing.assert_close(found[:, 1:], torch.stack([whole[0, 3:], whole[1, :1]]))
    torch.testing.assert_close(network.features(images)['mean'], network.tokens(images)[:, 0])


@pytest.mark.parametrize('arch', ['sample_resnet18', 'convnext_atto', 'repvit_m1'])
def test_a_student_without_classifier_comes_back_and_opens_in_timm(arch, tmp_path):
    network = StagedClassifier(arch=arch, img_size=64).eval()
    path = save_student(tmp_path / 'x', network, dict(name=f'comad_{arch}', arch=arch))
    images = torch.randn(2, 3, 64, 64)
    again = load_student(path).eval()
    assert torch.equal(again.features(images)['mean'], network.features(images)['mean'])
    export_timm(path, tmp_path / 'timm')  # compares features itself
    opened = timm.create_model(f'local-dir:{tmp_path / "timm"}', pretrained=True).eval()
    assert torch.equal(opened(images), network.features(images)['mean'])


def test_a_missing_student_is_told_with_the_command_that_makes_it():
    options = RunOptions(config='cls_configs/knn_comad_tiny.py', student='comad_from_a_b_resnet18')
    cfg = load_run_config(options, check=False)
    assert cfg.model.pools == ('mean',) and cfg.model.backbone.arch == 'resnet18'
    cfg.test_dataloader.dataset.root = cfg.test_cfg.bank_dataloader.dataset.root = '.'
    with pytest.raises(ConfigError, match='comad --teachers NAME=FILE ... --student-arch resnet18'):
        check_paths(cfg, get_track('full'))


def config(**options):
    return load_run_config(RunOptions(config=LEAF, **options), check=False)


def test_the_command_line_names_teachers_and_student(tmp_path, monkeypatch):
    cfg = config(teachers=['mae_small=m.pth', 'dinov3_vitb16=d.pth', 'resnet50=r.pth'])
    assert [t['mask_ratio'] for t in cfg.model.teachers] == [0.6, 0.4, 0.2]
    assert cfg.model.teachers[0] == dict(
        family='mae', checkpoint='m.pth', arch='small', mask_ratio=0.6
    )
    assert cfg.model.teachers[1].family == 'dinov3_vitb16'
    assert cfg.model.teachers[2].model == 'resnet50'
    assert cfg.run.student == 'comad_from_mae_small_dinov3_vitb16_resnet50_tiny'
    (tmp_path / 'config.json').write_text('{}')
    (teacher,) = config(teachers=[f'mine={tmp_path}']).model.teachers
    assert teacher == dict(family='timm', checkpoint=str(tmp_path), name='mine', mask_ratio=0.6)
    # On the sample files of others keep their size, where its own teachers are small.
    cfg = config(teachers=['mae=m.pth', 'mae_small=n.pth'], track='sample')
    sizes = dict(embed_dim=384, depth=12, num_heads=6)
    assert 'arch' not in cfg.model.teachers[0] and sizes == {
        k: cfg.model.teachers[1][k] for k in sizes
    }
    own = 'work_dirs/sample/pretrain/mae_base/seed0/mae_pretrain_vit_base.pth'
    cfg = config(teachers=[f'mae={own}'], track='sample')
    assert cfg.model.teachers[0].arch == 'sample_base'
    parser = argparse.ArgumentParser()
    add_options(parser, 'teachers')
    monkeypatch.setenv(HOME, str(tmp_path))
    monkeypatch.setenv(CALLER, str(tmp_path / 'sub'))  # files are seen from where they were typed
    told = parser.parse_args(['--teachers', 'mae=x.pth', 'mae']).teachers
    assert told == ['mae=sub/x.pth', 'mae']
    monkeypatch.delenv(HOME)
    cfg = config(student_arch='resnet18', track='sample')
    assert cfg.model.backbone == dict(type='StagedClassifier', arch='sample_resnet18')
    assert cfg.run.student == 'comad_resnet18' and cfg.run.arch == 'resnet18'
    assert config(student_arch='vit_small').model.backbone.arch == 'small'


def test_students_have_any_name_of_known_modules_of_timm():
    cfg = config(student_arch='convnextv2_tiny')
    assert cfg.model.backbone == dict(type='StagedClassifier', arch='convnextv2_tiny')
    assert cfg.run.student == 'comad_convnextv2_tiny'  # and not tiny of comad_convnextv2
    options = RunOptions('cls_configs/knn_comad_tiny.py', student=f'{cfg.run.student}:2')
    cfg = load_run_config(options, check=False)
    assert (cfg.run.method, cfg.run.arch) == ('comad', 'convnextv2_tiny')
    assert cfg.model.pools == ('mean',)
    options = RunOptions('seg_configs/upernet_comad_tiny.py', student='comad_test_efficientnet')
    cfg = load_run_config(options, check=False)
    assert cfg.model.decode_head.in_channels == [24, 32, 48, 256]


@pytest.mark.parametrize(
    'arch', ['test_efficientnet', 'convnextv2_atto', 'resnet14t', 'repvit_m0_9', 'mnasnet_small']
)
def test_stages_of_any_name_are_the_network_of_timm(arch):
    network = build_network(arch, num_classes=5, img_size=64).eval()
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.equal(network.logits(images), network.net(images))
        maps = network.maps(images)
        assert tuple(x.shape[1] for x in maps) == network.widths
        assert network.tokens(images, torch.tensor([[0, 3]] * 2)).shape == (2, 3, maps[-1].shape[1])
    assert network.strides == (4, 8, 16, 32)
    assert network.architecture()['model'] == arch


@pytest.mark.parametrize(
    ('leaf', 'options', 'said'),
    [
        (LEAF, dict(teachers=['mae']), '--teachers mae: expected NAME=FILE'),
        (
            LEAF,
            dict(student_arch='resnet43.a1_in1k'),
            r'\.a1_in1k: no such network \(did you mean resnet34 or .*\?\); expected one of tiny',
        ),
        (
            LEAF,
            dict(student_arch='regnety_004'),
            'timm has it in regnet, where no stages are known; students are tiny, ',
        ),
        (LEAF, dict(student_arch='resnet34', track='sample'), "'resnet34' has no stand-in of its"),
        (
            'pretrain_configs/mae_tiny.py',
            dict(student_arch='resnet18'),
            'MAE trains ViTs only; CoMAD and DMT train any network',
        ),
        ('pretrain_configs/mae_tiny.py', dict(teachers=['a=b']), 'CoMAD and DMT take any'),
        ('cls_configs/knn_comad_tiny.py', dict(teachers=['a=b']), 'belong to pretraining'),
    ],
)
def test_what_cannot_be_is_one_line(leaf, options, said):
    with pytest.raises(ConfigError, match=said) as caught:
        load_run_config(RunOptions(config=leaf, **options), check=False)
    assert '\n' not in str(caught.value)
