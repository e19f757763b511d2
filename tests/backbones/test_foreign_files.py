"""Weight files as other people's code leaves them: read right, or told in one line."""

import argparse
import json
import zipfile

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from backbones import CheckpointError, MaskedViT, build_teacher, load_student, save_student
from backbones.checkpoints import read_checkpoint
from backbones.contents import find_networks
from comad.weights.convert import convert
from comad.weights.inspect import assumed_heads, inspect_file
from tests.backbones.test_families import SMALL, below, in_transformers, network


def chunked(tensors):
    """DINOv2's training code keeps blocks in chunks, their numbers counted through."""
    return {
        name.replace('blocks.', f'blocks.{int(name.split(".")[1]) // 2}.', 1)
        if name.startswith('blocks.')
        else name: tensor
        for name, tensor in tensors.items()
    }


def layouts():
    """Content, the family that is named or told, and the tensors that have to be read."""
    mae, plain, scaled = network('w'), network(), network(layer_scale=0.5)
    compiled = {name.replace('attn.', '_orig_mod.attn.'): t for name, t in mae.items()}
    training = {
        **below('student.backbone.', chunked(plain)),
        **below('teacher.backbone.', chunked(scaled)),
        'teacher.dino_head.last_layer.weight': torch.zeros(2),
    }
    solo = {
        **below('backbone.', plain),
        **below('momentum_backbone.', mae),
        'classifier.weight': torch.zeros(2, 2),
    }
    return {
        'compiled': (dict(model=below('_orig_mod.', mae)), 'auto', mae),
        'parts compiled': (dict(model=compiled), 'auto', mae),
        'compiled in parallel': (below('module._orig_mod.', mae), 'auto', mae),
        'parallel': (dict(state_dict=below('module.', mae)), 'auto', mae),
        'dinov2 training': (dict(model=training, iteration=9), 'auto', scaled),
        'dinov2 teacher': (dict(teacher=below('backbone.', chunked(scaled))), 'auto', scaled),
        'solo-learn': (dict(state_dict=solo, epoch=3), 'mae', plain),
        'lightly': (below('model.backbone.vit.', plain), 'dino', plain),
        'timm': (dict(state_dict=plain, epoch=3), 'ibot', plain),
    }


@pytest.mark.parametrize('layout', layouts())
def test_known_prefixes_are_taken_off(tmp_path, layout):
    content, family, expected = layouts()[layout]
    torch.save(content, tmp_path / 'file.pth')
    scale = dict(patch_size=8, img_size=64) if 'dinov2' in layout else {}
    actual = build_teacher(family, tmp_path / 'file.pth', **SMALL, **scale).state_dict()
    assert actual.keys() == expected.keys()
    assert all(torch.equal(actual[name], expected[name]) for name in expected)


def test_a_prefix_that_nobody_knows_is_named(tmp_path):
    torch.save(dict(model=below('trunk.', network())), tmp_path / 'file.pth')
    with pytest.raises(
        CheckpointError, match="a cls_token stands under 'trunk.', which is no known"
    ):
        inspect_file(tmp_path / 'file.pth')


def test_what_is_beside_a_backbone_is_told(tmp_path):
    content, *_ = layouts()['solo-learn']
    torch.save(content, tmp_path / 'file.pth')
    report = inspect_file(tmp_path / 'file.pth', 'dino')
    assert report.problem is None and report.others == ['momentum_backbone']
    assert report.dropped['classifier.weight'] == 'what is beside the backbone'


def test_a_classifier_of_transformers_is_not_left_out_in_silence(tmp_path):
    tensors = in_transformers(network('w'), 'vit.') | {'classifier.weight': torch.zeros(2, 128)}
    torch.save(tensors, tmp_path / 'file.pth')
    with pytest.raises(CheckpointError, match=r'1 tensors unexpected \(classifier.weight\)'):
        build_teacher('mae', tmp_path / 'file.pth', **SMALL)


@pytest.mark.parametrize('beside', [{}, {'state_dict_ema': network()}, {'model_ema': network()}])
def test_training_checkpoints_of_timm_are_nobodys(tmp_path, beside):
    content = dict(epoch=3, arch='vit', state_dict=network(), optimizer={}, metric=1.0, **beside)
    torch.save(content, tmp_path / 'file.pth')
    named = f'state_dict.*{"".join(beside)}.*name the family'
    with pytest.raises(CheckpointError, match=f'its family cannot be told: .*{named}'):
        build_teacher('auto', tmp_path / 'file.pth', **SMALL)
    assert {'state_dict', *beside} <= find_networks(content).keys()


def parts(folder, tensors, save, name):
    """Tensors in two files and their index, as transformers writes them."""
    names = sorted(tensors)
    places = {}
    for number, own in enumerate((names[::2], names[1::2]), start=1):
        stem, suffix = name.rsplit('.', 1)
        file = f'{stem}-0000{number}-of-00002.{suffix}'
        save({key: tensors[key] for key in own}, folder / file)
        places |= dict.fromkeys(own, file)
    index = folder / f'{name}.index.json'
    index.write_text(json.dumps(dict(metadata={}, weight_map=places)))
    return index


@pytest.mark.parametrize(
    ('name', 'save'), [('model.safetensors', save_file), ('pytorch_model.bin', torch.save)]
)
def test_weights_in_several_files_are_read_by_their_index(tmp_path, name, save):
    tensors = network('w')
    index = parts(tmp_path, tensors, save, name)
    for path in (tmp_path, index):
        assert build_teacher('auto', path, **SMALL).card['file'] == index.name
        read = read_checkpoint(path)
        assert read.keys() == tensors.keys()
        assert all(torch.equal(read[key], tensors[key]) for key in tensors)
    assert 'in 2 files' in inspect_file(tmp_path).text()
    part = next(tmp_path.glob('*-00001-of-*'))
    with pytest.raises(CheckpointError, match=f'a part of the weights: name {index}'):
        read_checkpoint(part)
    with pytest.raises(CheckpointError, match='sha256 pins a single file'):
        build_teacher('mae', tmp_path, **SMALL, sha256='abcdef')
    part.unlink()
    with pytest.raises(CheckpointError, match=f'names {part.name}, which is not there'):
        read_checkpoint(tmp_path)


@pytest.mark.parametrize(
    'places',
    [{}, [], {'a': '../model.safetensors'}, {'a': 5}, {'a': 'model.safetensors.index.json'}],
)
def test_a_malformed_index_is_refused(tmp_path, places):
    index = tmp_path / 'model.safetensors.index.json'
    index.write_text(json.dumps(dict(weight_map=places)))
    save_file({'a': torch.zeros(1)}, tmp_path.parent / 'model.safetensors')
    with pytest.raises(CheckpointError, match=r'index\.json (is no index|names .*files beside it)'):
        read_checkpoint(tmp_path)


POINTER = b'version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n'


@pytest.mark.parametrize('suffix', ['.pth', '.safetensors', '.bin'])
@pytest.mark.parametrize(
    ('data', 'said'),
    [
        (POINTER, 'is a Git LFS pointer, not the weights: git lfs pull'),
        (b'', 'is empty'),
        (b'<!DOCTYPE html><html>', 'is a web page'),
    ],
)
def test_files_that_are_no_weights_are_told_apart(tmp_path, suffix, data, said):
    (tmp_path / f'file{suffix}').write_bytes(data)
    with pytest.raises(CheckpointError, match=f'file{suffix} {said}'):
        read_checkpoint(tmp_path / f'file{suffix}')


def test_numbers_of_numpy_beside_weights_are_read(tmp_path):
    numbers = dict(
        best=np.float64(83.5), epoch=np.int64(3), loss=np.float32(0.25), done=np.bool_(True)
    )
    arguments = argparse.Namespace(lr=np.float64(0.1))
    torch.save(dict(model=network('w'), args=arguments, **numbers), tmp_path / 'file.pth')
    content = read_checkpoint(tmp_path / 'file.pth')
    assert {key: content[key] for key in numbers} == numbers
    assert content['args'].lr == 0.1
    assert build_teacher('auto', tmp_path / 'file.pth', **SMALL).card['family'] == 'mae'
    # NumPy 1 wrote another module's name.
    with (
        zipfile.ZipFile(tmp_path / 'file.pth') as new,
        zipfile.ZipFile(tmp_path / 'old.pth', 'w') as old,
    ):
        for name in new.namelist():
            data = new.read(name)
            renamed = data.replace(b'numpy._core.multiarray', b'numpy.core.multiarray')
            assert (renamed != data) == name.endswith('data.pkl')
            old.writestr(name, renamed)
    assert read_checkpoint(tmp_path / 'old.pth')['best'] == 83.5


class Writes:
    """Unpickled by an unguarded reader it would write a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), 'w')


@pytest.mark.parametrize(
    ('make', 'named'),
    [
        (lambda path: Writes(path), 'open'),
        (lambda path: np.array([1.0]), '_reconstruct'),
        (lambda path: [np.float64(1), Writes(path)], 'open'),
    ],
)
def test_everything_else_stays_refused(tmp_path, make, named):
    torch.save(dict(model=network(), extra=make(tmp_path / 'mark')), tmp_path / 'file.pth')
    with pytest.raises(CheckpointError, match=f'{named}.*save its tensors alone'):
        read_checkpoint(tmp_path / 'file.pth')
    assert not (tmp_path / 'mark').exists()


@pytest.mark.parametrize(
    ('change', 'said'),
    [
        (lambda tensor: tensor.int(), 'of wrong kind, whole or real numbers'),
        (lambda tensor: torch.quantize_per_tensor(tensor, 0.1, 0, torch.qint8), 'qint8'),
        (lambda tensor: tensor * float('nan'), 'with NaN or infinity'),
        (lambda tensor: tensor / 0, 'with NaN or infinity'),
    ],
)
def test_tensors_that_no_network_can_use_are_told_with_the_file(tmp_path, change, said):
    name = 'blocks.0.attn.qkv.weight'
    path = tmp_path / 'odd.pth'
    whole = network('w')
    torch.save({'model': whole | {name: change(whole[name] + 1)}}, path)
    problem = inspect_file(path).problem
    assert said in problem and name in problem and str(path) in problem


def test_heads_are_those_of_the_architecture_or_unknown(tmp_path):
    assert [assumed_heads(dict(embed_dim=width)) for width in (768, 1024, 1280, 96)] == [
        *(12, 16, 16),
        None,
    ]
    torch.save(dict(model=network('w', embed_dim=96, num_heads=3)), tmp_path / 'file.pth')
    report = inspect_file(tmp_path / 'file.pth')
    assert report.problem is None
    assert 'number of heads unknown, files do not say' in report.text()
    card = convert(tmp_path / 'file.pth', tmp_path / 'plain.safetensors')
    assert 'num_heads' not in card['architecture'] and card['heads'] == 'not told by the file'


@pytest.mark.parametrize(
    ('change', 'said'),
    [
        (lambda card: card.pop('architecture'), 'states no architecture'),
        (lambda card: card.update(architecture=[]), 'states no architecture'),
        (lambda card: card['architecture'].update(num_heads='two'), 'no network of architecture'),
        (lambda card: card['architecture'].update(num_heads=0), 'no network of architecture'),
        (lambda card: card['architecture'].update(num_heads=7), 'no network of architecture'),
        (lambda card: card['architecture'].update(depth=10**9), 'depth 1000000000 in the card, 4'),
        (lambda card: card['architecture'].update(odd=1), 'no network of architecture'),
        (lambda card: card['architecture'].update(type='BaseDataPreprocessor'), 'no student'),
        (lambda card: card['architecture'].update(type='NoSuch'), "type 'NoSuch' is unknown"),
        (lambda card: card['architecture'].update(type=5), 'no network of architecture'),
    ],
)
def test_hand_made_cards_are_one_line(tmp_path, change, said):
    path = save_student(tmp_path, MaskedViT('sample_tiny'), dict(name='toy_tiny'))
    card = json.loads((tmp_path / 'student.json').read_text())
    change(card)
    (tmp_path / 'student.json').write_text(json.dumps(card))
    with pytest.raises(CheckpointError) as error:
        load_student(path)
    assert said in str(error.value) and '\n' not in str(error.value)
