"""tools/weights.py: what it says about files, what it writes, how it refuses."""

import json
import sys
from functools import partial

import onnxruntime
import pytest
import timm
import torch

from backbones import FAMILIES as TABLE
from backbones import CheckpointError, MaskedViT, build_teacher, load_student, save_student
from comad.commands.weights import parse_args
from comad.methods.parts.positions import sincos_positions
from comad.weights import export_onnx, export_timm
from tests.calls import call

tool = partial(call, 'weights')


def mae_file(path, **changes):
    torch.manual_seed(0)
    tensors = MaskedViT('sample_base').state_dict()
    tensors['pos_embed'] = sincos_positions(128, 8, 'w')
    for name in ('mask_token', 'decoder_embed.weight', 'decoder_pred.weight'):
        tensors[name] = torch.zeros(1)
    torch.save(dict(model={**tensors, **changes}), path)
    return path


def test_inspect_tells_what_is_used_and_why(tmp_path):
    done = tool('inspect', mae_file(tmp_path / 'mae.pth'))
    assert done.returncode == 0, done.stderr
    lines = dict(line.split(maxsplit=1) for line in done.stdout.splitlines())
    assert lines['family'].startswith('mae: fixed positions whose first half encodes the column')
    assert lines['shape'].startswith('4 blocks 128 wide, patch 8, 64 px; 4 heads assumed')
    assert lines['used'].startswith('54 tensors, 0.83 M')
    assert "left out   1 of mask token of pretraining, 2 of MAE's decoder" in done.stdout
    assert lines['verdict'].startswith('complete')


def test_a_student_is_told_from_its_card(tmp_path):
    """Alone its file looks like DINO's, whose licence and heads are not its own."""
    shape = dict(MaskedViT('sample_tiny').architecture(), embed_dim=128, num_heads=8)
    teachers = [dict(family='mae', file='mae.pth', licence='CC-BY-NC 4.0')]
    facts = dict(name='comad_tiny', method='comad', arch='tiny', params_m=None, track='sample')
    card = dict(facts, architecture=None, teachers=teachers, licence='CC-BY-NC 4.0', seed=3)
    file = save_student(tmp_path, MaskedViT(**shape), card)
    for path in (file, tmp_path):
        done = tool('inspect', path)
        assert done.returncode == 0, done.stderr
        lines = dict(line.split(maxsplit=1) for line in done.stdout.splitlines())
        assert lines['student'] == (
            'comad_tiny by its card student.json: method comad, seed 3, track sample'
        )
        assert (
            'num_heads 8' in lines['shape'] and lines['teachers'] == 'mae (mae.pth, CC-BY-NC 4.0)'
        )
        assert lines['licence'] == 'CC-BY-NC 4.0' and lines['verdict'].startswith('complete')
        assert not {'family', 'positions'} & lines.keys()
    done = tool('convert', file, tmp_path / 'out.safetensors')
    assert done.returncode == 2 and 'is a student, whose file is read as it is' in done.stderr
    (tmp_path / 'student.json').write_text(
        json.dumps(json.loads((tmp_path / 'student.json').read_text()) | {'sha256': '0'})
    )
    done = tool('inspect', file)
    assert done.returncode == 1 and 'its card says 0' in done.stdout


def test_a_licence_is_the_official_one_only_where_no_pretraining_has_left_the_file(tmp_path):
    path = mae_file(tmp_path / 'mae.pth')
    assert 'CC-BY-NC 4.0, if these are the official weights' in tool('inspect', path).stdout
    save_student(tmp_path, MaskedViT('sample_base'), dict(licence='no teacher weights involved'))
    licence = f'no teacher weights involved, by {tmp_path / "student.json"}'
    assert f'licence    {licence}\n' in tool('inspect', path).stdout
    assert tool('convert', path, tmp_path / 'plain/mae.safetensors').returncode == 0
    plain = json.loads((tmp_path / 'plain/mae.json').read_text())
    assert plain['licence'] == 'no teacher weights involved'


def test_an_incomplete_file_has_a_verdict_and_status_1(tmp_path):
    path = mae_file(tmp_path / 'mae.pth', **{'fc_norm.weight': torch.ones(128)})
    done = tool('inspect', path, '--family', 'mae')
    assert done.returncode == 1
    assert 'verdict' in done.stdout and '1 tensors unexpected (fc_norm.weight)' in done.stdout


def test_converted_and_original_give_the_same_bits(tmp_path):
    source, target = mae_file(tmp_path / 'mae.pth'), tmp_path / 'plain.safetensors'
    done = tool('convert', source, target)
    assert done.returncode == 0, done.stderr
    images = torch.randn(2, 3, 64, 64)
    one = build_teacher('mae', source, 'sample_base').tokens(images)
    for family in ('mae', 'auto'):
        assert torch.equal(build_teacher(family, target, 'sample_base').tokens(images), one)
    card = json.loads((tmp_path / 'plain.json').read_text())
    assert card['family'] == 'mae' and card['source'] == 'mae.pth'
    assert card['architecture']['num_heads'] == 4


def test_the_card_of_a_converted_file_tells_its_family(tmp_path):
    torch.save(dict(state_dict=MaskedViT('sample_base').state_dict()), tmp_path / 'ibot.pth')
    assert tool('convert', tmp_path / 'ibot.pth', tmp_path / 'plain.safetensors').returncode == 0
    done = tool('inspect', tmp_path / 'plain.safetensors')
    assert 'family     ibot: by its card plain.json' in done.stdout
    assert 'other sizes by bicubic_offset' in done.stdout


@pytest.mark.parametrize(
    ('name', 'make', 'said'),
    [
        ('none.pth', None, 'does not exist'),
        ('text.pth', lambda p: p.write_text('hello'), 'is not a PyTorch checkpoint'),
        ('folder', lambda p: p.mkdir(), 'is a directory with none of'),
        ('empty.pth', lambda p: torch.save({}, p), 'its family cannot be told'),
        (
            'odd.pth',
            lambda p: torch.save({'cls_token': torch.tensor(1.0), 0: torch.ones(1)}, p),
            'no pos_embed',
        ),
        ('list.pth', lambda p: torch.save([1], p), 'holds a list'),
    ],
)
def test_refusals_are_one_line(tmp_path, name, make, said):
    path = tmp_path / name
    if make:
        make(path)
    for arguments in (('inspect', path), ('convert', path, tmp_path / 'out.safetensors')):
        done = tool(*arguments)
        assert done.returncode == 2 and done.stdout == ''
        assert done.stderr.startswith('error: ') and done.stderr.count('\n') == 1
        assert name in done.stderr and said in done.stderr
    assert not (tmp_path / 'out.safetensors').exists()


def test_a_run_that_does_not_come_with_the_sample_is_one_line_with_those_that_do():
    done = tool('place', 'comad_tiny')
    assert (done.returncode, done.stdout, done.stderr.count('\n')) == (2, '', 1)
    assert done.stderr.startswith('error: no teacher comad_tiny comes with the track sample; there')
    assert 'mae_base (did' not in done.stderr and 'Errno' not in done.stderr
    assert 'mae_bas (did you mean mae_base or' in tool('place', 'mae_bas').stderr


def test_wrong_names_are_refused(tmp_path):
    path = mae_file(tmp_path / 'mae.pth')
    assert 'called *.safetensors' in tool('convert', path, tmp_path / 'out.pth').stderr
    assert "choose from 'auto', 'mae'" in tool('inspect', path, '--family', 'clip').stderr


def test_a_new_family_is_known_to_the_tool(monkeypatch):
    monkeypatch.setitem(TABLE, 'new', TABLE['mae'])
    for family in ('auto', *TABLE):
        assert parse_args(['inspect', 'x.pth', '--family', family]).family == family


@pytest.mark.parametrize('arch', ['tiny', 'sample_tiny'])
def test_plain_timm_loads_an_exported_student(tmp_path, arch):
    torch.manual_seed(0)
    backbone = MaskedViT(arch)
    teachers = [dict(family='mae', file='mae.pth', licence='CC-BY-NC 4.0')]
    card = dict(method='comad', sample=arch != 'tiny', teachers=teachers)
    save_student(tmp_path / 'student', backbone, card)
    out = tmp_path / 'out'
    done = tool('export', tmp_path / 'student', out, '--to', 'timm')
    assert done.returncode == 0, done.stderr
    config = json.loads((out / 'config.json').read_text())
    side = config['pretrained_cfg']['input_size'][-1]
    if arch == 'tiny':
        assert config['model_args'] == {}
    model = timm.create_model(
        'vit_tiny_patch16_224',
        num_classes=0,
        checkpoint_path=str(out / 'model.safetensors'),
        **config['model_args'],
    )
    images = torch.randn(2, 3, side, side)
    expected = load_student(tmp_path / 'student/student.safetensors').eval().tokens(images)
    assert torch.equal(model.eval().forward_features(images), expected)
    page = (out / 'README.md').read_text()
    assert 'CC-BY-NC 4.0' in page and ('embedded sample' in page) == (arch != 'tiny')


def test_onnxruntime_gives_the_students_features(tmp_path):
    save_student(tmp_path / 'student', MaskedViT('sample_tiny'), dict(name='comad_tiny'))
    done = tool('export', tmp_path / 'student', tmp_path / 'out', '--to', 'onnx')
    assert done.returncode == 0, done.stderr
    session = onnxruntime.InferenceSession(tmp_path / 'out/model.onnx')
    backbone = load_student(tmp_path / 'student/student.safetensors').eval()
    for size in ((1, 3, 64, 64), (5, 3, 64, 64), (2, 3, 96, 72)):
        images = torch.randn(size)
        (tokens,) = session.run(None, {'images': images.numpy()})
        torch.testing.assert_close(
            torch.from_numpy(tokens), backbone.tokens(images).detach(), atol=1e-4, rtol=0
        )
    assert 'comad_tiny' in (tmp_path / 'out/README.md').read_text()
    assert 'largest difference' in done.stdout and done.stdout.count('\n') == 1


def test_missing_packages_are_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, 'onnxruntime', None)
    with pytest.raises(CheckpointError, match=r'onnxruntime is missing: .*\[onnx\]'):
        export_onnx(tmp_path, tmp_path)


def test_a_broken_student_is_not_exported(tmp_path):
    save_student(tmp_path, MaskedViT('sample_tiny'), {})
    (tmp_path / 'student.json').write_text('{}')
    done = tool('export', tmp_path, tmp_path / 'out')
    assert done.returncode == 2 and 'student.json' not in done.stdout
    assert done.stderr.count('\n') == 1 and not (tmp_path / 'out').exists()


@pytest.mark.parametrize('target', ['timm', 'onnx'])
def test_a_refused_export_leaves_no_file_and_replaces_none(tmp_path, monkeypatch, target):
    save_student(tmp_path / 'student', MaskedViT('sample_tiny'), dict(name='comad_tiny'))
    out = tmp_path / 'out'
    out.mkdir()
    (out / 'README.md').write_text('of an earlier export')
    write = {'timm': export_timm, 'onnx': export_onnx}[target]
    if target == 'timm':
        monkeypatch.setattr(torch, 'equal', lambda first, second: False)
    else:
        monkeypatch.setattr('comad.weights.export.ONNX_TOLERANCE', -1.0)
    with pytest.raises(CheckpointError, match='other features|differs from'):
        write(tmp_path / 'student', out)
    assert [path.name for path in out.iterdir()] == ['README.md']
    assert (out / 'README.md').read_text() == 'of an earlier export'
    assert sorted(path.name for path in tmp_path.iterdir()) == ['out', 'student']
