"""The house is free of ViTs: a network that is none goes the whole way from one entry."""

import json

import pytest
import torch
from mmengine.model import BaseModel
from torch.utils.flop_counter import FlopCounterMode

from backbones import CheckpointError, MaskedViT, build_network, load_student, save_student
from backbones.contract import (
    Backbone,
    BlockNetwork,
    Classifier,
    MapNetwork,
    TokenNetwork,
    check_offers,
    offered,
)
from backbones.teachers import TimmTeacher, build_teacher, untrained_teachers
from comad.engine.flops import backbone_gflop
from comad.engine.options import ConfigError
from comad.engine.run_config import parse_leaf_name, parse_student
from comad.evaluation.features import FrozenFeatures
from comad.methods.base import PretrainMethod
from comad.methods.parts.teacher_set import TeacherSet
from comad.weights import export_onnx, export_timm
from tests.backbones.toy_networks import images, registered
from tests.leaderboard.examples import make_card, make_record, rows_of


@pytest.fixture(autouse=True)
def toys():
    with registered():
        yield


@pytest.fixture
def student(tmp_path):
    torch.manual_seed(0)
    network = build_network('cnn3_head').eval()
    card = dict(name='plain_cnn3_head', licence='ours', data='toy')
    return network, save_student(tmp_path / 'student', network, card)


@pytest.mark.parametrize(
    ('build', 'kinds', 'reads'),
    [
        (lambda: MaskedViT('sample_tiny'), (Backbone, TokenNetwork, BlockNetwork), ['tokens']),
        (lambda: build_network('cnn3'), (Backbone, MapNetwork), ['maps']),
        (
            lambda: build_network('cnn3_head'),
            (Backbone, MapNetwork, Classifier),
            ['maps', 'logits'],
        ),
        (lambda: TimmTeacher('vit_tiny_patch16_224'), (TokenNetwork,), ['tokens']),
    ],
)
def test_networks_are_what_they_offer(build, kinds, reads):
    network = build()
    every = (Backbone, TokenNetwork, BlockNetwork, MapNetwork, Classifier)
    assert [kind for kind in every if isinstance(network, kind)] == list(kinds)
    assert offered(network) == reads


def test_maps_have_their_strides():
    network = build_network('cnn3')
    for stride, found in zip(network.strides, network.maps(images(2, 16)), strict=True):
        assert found.shape[2:] == (16 // stride, 16 // stride)


def test_a_student_of_another_kind_is_saved_and_loaded(student):
    network, path = student
    card = json.loads(path.with_name('student.json').read_text())
    assert card['architecture'] == dict(type='ToyClassifier', width=8, num_classes=5)
    again = load_student(path).eval()
    assert again.loaded and torch.equal(again.logits(images()), network.logits(images()))
    card['architecture']['type'] = 'Nowhere'
    path.with_name('student.json').write_text(json.dumps(card))
    with pytest.raises(CheckpointError, match="network type 'Nowhere' is unknown"):
        load_student(path)


def test_init_cfg_fills_it_and_another_shape_is_refused(student):
    network, path = student
    init_cfg = dict(type='StudentWeights', checkpoint=str(path))
    again = build_network('cnn3_head', init_cfg=init_cfg)
    again.load_weights()
    assert torch.equal(again.head.weight, network.head.weight)
    with pytest.raises(CheckpointError, match='width 8 in the card, 4 in the config'):
        build_network('cnn3_head', init_cfg=init_cfg, width=4).load_weights()


@pytest.mark.parametrize('needs', ['maps', 'logits'])
def test_it_is_a_frozen_teacher_of_a_method_that_reads_it(student, needs):
    network, path = student
    entry = dict(family='student', checkpoint=str(path), arch='cnn3_head')
    teachers = TeacherSet([entry], needs=needs)
    (teacher,) = teachers
    found, expected = (getattr(x, needs)(images()) for x in (teacher, network))
    pairs = [(found, expected)] if needs == 'logits' else zip(found, expected, strict=True)
    assert all(torch.equal(x, y.detach()) and not x.requires_grad for x, y in pairs)
    assert teachers.dims == [16] and teachers.depths == []
    assert teachers.cards[0]['family'] == 'student' and teachers.cards[0]['licence'] == 'ours'
    assert not torch.nn.ModuleDict(dict(held=teachers)).state_dict()
    assert teacher.unchanged() and not teacher.train().inner.training
    held = torch.nn.ModuleDict(dict(held=teachers))
    held.load_state_dict(held.state_dict(), strict=True)
    assert teacher.unchanged()
    teacher.inner.stem[1].running_mean.add_(1)
    assert not teacher.unchanged()


def test_a_frozen_teacher_computes_in_autocasts_type_and_gives_gradients_to_others(student):
    _, path = student
    teacher = build_teacher('student', path, 'cnn3_head')
    with torch.autocast('cpu', torch.bfloat16):
        scores = teacher.logits(images())
    assert scores.dtype == torch.bfloat16 and teacher.unchanged()
    weight = torch.ones(5, requires_grad=True)
    (scores.float() @ weight).sum().backward()
    assert weight.grad is not None


def test_without_a_file_it_costs_what_it_costs():
    with untrained_teachers():
        teacher = build_teacher('student', 'nowhere', 'cnn3')
    assert teacher.card['untrained']


@pytest.mark.parametrize(
    ('arch', 'needs', 'said'),
    [
        ('cnn3', 'logits', 'teacher student offers maps, but this method reads logits'),
        (
            'cnn3_head',
            'tokens',
            'teacher student offers maps and logits, but this method reads tok',
        ),
        ('sample_tiny', 'maps', 'teacher student offers tokens, but this method reads maps'),
        ('cnn3', 'colours', "needs='colours': expected one of tokens, maps, logits"),
    ],
)
def test_a_teacher_that_cannot_give_it_is_one_line(arch, needs, said):
    with untrained_teachers(), pytest.raises(ValueError, match=said) as error:
        TeacherSet([dict(family='student', checkpoint='x', arch=arch)], (8, 8), needs=needs)
    assert '\n' not in str(error.value)


def test_a_network_that_timm_lacks_is_one_line_with_those_like_it():
    with pytest.raises(
        ValueError, match="model='esnet18': no such name \\(did you mean resnet18 or"
    ) as error:
        TimmTeacher('esnet18')
    assert '\n' not in str(error.value)


def test_it_is_exported_for_onnxruntime_and_refused_where_timm_has_none(student, tmp_path):
    _, path = student
    assert export_onnx(path, tmp_path / 'onnx') < 1e-4
    assert '`map` is the last feature map' in (tmp_path / 'onnx/README.md').read_text()
    with pytest.raises(CheckpointError, match='ToyClassifier has no form in timm'):
        export_timm(path, tmp_path / 'timm')


def test_its_forward_pass_is_counted_at_sizes_that_fit():
    network = build_network('cnn3')
    with FlopCounterMode(display=False) as counter:
        network(torch.zeros(1, 3, 20, 16))
    assert backbone_gflop(network, 17, 16) == counter.get_total_flops() / 1e9 > 0


def test_a_probe_reads_its_features():
    probe = FrozenFeatures(dict(type='ToyMaps'), pools=('mean',))
    expected = probe.backbone.maps(images())[-1].mean((2, 3))
    assert torch.equal(probe.features(images())['mean'], expected)
    with pytest.raises(ValueError, match='pool cls: ToyMaps has mean'):
        FrozenFeatures(dict(type='ToyMaps'), pools=('cls',)).features(images())
    with pytest.raises(ValueError, match='pool cls4 needs 4 blocks, the backbone has none'):
        FrozenFeatures(dict(type='ToyMaps'), pools=('cls4',)).features(images())


def test_its_row_is_ranked_under_its_title():
    architecture = dict(type='ToyMaps', width=8)
    records = [
        make_record(
            {'top1_mean': 50.0 + seed},
            student='kd_cnn3',
            pretrain_seed=seed,
            seed=seed,
            card=make_card('kd_cnn3', seed, architecture=architecture),
        )
        for seed in range(3)
    ]
    (row,) = rows_of('classification', records)
    assert row['rank'] == '1' and row['details']['not_ranked'] == []
    assert (row['student'], row['heads']) == ('CNN-3', '')


def test_names_of_configs_and_students_may_end_in_it():
    assert parse_student('kd_cnn3_head:2') == ('kd', 'cnn3_head', 2)
    leaf = parse_leaf_name('cls_configs/linear_kd_cnn3.py')
    assert (leaf.kind, leaf.method, leaf.arch) == ('linear', 'kd', 'cnn3')
    with pytest.raises(ConfigError, match='arch is one of tiny, small'):
        parse_leaf_name('cls_configs/linear_kd_cnn4.py')


class Supervised(PretrainMethod):
    needs, reads_labels = 'logits', True

    def loss(self, inputs, labels):
        return {
            'loss_class': torch.nn.functional.cross_entropy(self.backbone.logits(inputs), labels)
        }

    def predict(self, inputs, labels=None):
        return [dict(label=int(k)) for k in self.backbone.logits(inputs).argmax(1)]


class Blind(PretrainMethod):
    def loss(self, inputs):
        return {'loss_size': inputs.square().mean()}


def test_labels_reach_the_loss_of_a_method_that_reads_them():
    model = Supervised(dict(type='ToyClassifier'))
    assert isinstance(model, BaseModel)
    labels = torch.tensor([1, 3])
    scores = model(images(), labels, mode='tensor')
    expected = torch.nn.functional.cross_entropy(scores, labels)
    assert torch.equal(model(images(), labels)['loss_class'], expected)
    found = model(images(), labels, mode='predict')
    assert [one['label'] for one in found] == scores.argmax(1).tolist()


def test_other_methods_do_not_see_them_and_predict_nothing():
    model = Blind(dict(type='MaskedViT', arch='sample_tiny'))
    assert model(images(), torch.tensor([0, 1]))['loss_size'] > 0
    with pytest.raises(ValueError, match='Blind trains no classifier'):
        model(images(), mode='predict')


def test_a_student_that_cannot_give_what_the_method_reads_is_one_line():
    with pytest.raises(ValueError, match='student ToyMaps offers maps, but this method reads tok'):
        Blind(dict(type='ToyMaps'))
    check_offers(build_network('cnn3'), 'maps', 'it')
