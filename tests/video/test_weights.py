"""`weights.py` on files of networks on video: inspected, refused, exported, read back."""

import onnxruntime
import pytest
import torch

from backbones import MaskedVideoViT, build_teacher, load_student, save_student
from tests.calls import call
from tests.video import reference

SHAPE = dict(arch='sample_video_small', patch_size=16, img_size=32, frames=4, depth=2)
SIZES = (64, 2, 16, 1)


def write(path, tensors, key='model', **beside):
    torch.save({key: {k: v.float() for k, v in tensors.items()}, **beside}, path)
    return path


def lines_of(done):
    return dict(line.split(maxsplit=1) for line in done.stdout.splitlines())


@pytest.mark.parametrize(
    ('shapes', 'key', 'family', 'network', 'left'),
    [
        (
            reference.pretraining_shapes(*SIZES),
            'model',
            'videomae: cubes',
            'of a pretraining',
            'mask',
        ),
        (
            reference.pretraining_shapes(*SIZES, teacher=48),
            'model',
            "amd_video: AMD's generators",
            'of a pretraining',
            "2 of AMD's maps",
        ),
        (
            reference.finetuned_shapes(64, 2, 7),
            'module',
            'videomae: cubes',
            'of fine-tuned on 7 classes',
            'nothing',
        ),
    ],
)
def test_official_files_are_told_and_fit(tmp_path, shapes, key, family, network, left):
    done = call('weights', 'inspect', write(tmp_path / 'a.pth', reference.draw(shapes), key))
    assert done.returncode == 0, done.stdout + done.stderr
    lines = lines_of(done)
    assert lines['family'].startswith(family) and lines['network'] == network
    assert lines['shape'].startswith('2 blocks 64 wide, cubes of 2 x 16 x 16; 2 heads assumed')
    assert left in done.stdout and lines['verdict'].startswith('complete')


@pytest.mark.parametrize(
    ('change', 'said'),
    [
        (lambda t: t.pop('encoder.blocks.1.attn.v_bias'), 'missing (blocks.1.attn.qkv.bias)'),
        (lambda t: t.pop('encoder.norm.weight'), 'missing (norm.weight)'),
        (lambda t: t.update({'encoder.cls_token': torch.zeros(1)}), 'unexpected (cls_token)'),
        (lambda t: t.update({'encoder.norm.bias': torch.full((64,), float('nan'))}), 'with NaN'),
    ],
)
def test_what_does_not_fit_has_a_verdict_and_status_1(tmp_path, change, said):
    tensors = reference.draw(reference.pretraining_shapes(*SIZES))
    change(tensors)
    done = call('weights', 'inspect', write(tmp_path / 'a.pth', tensors))
    assert done.returncode == 1 and said in done.stdout


def test_other_commands_and_families_are_refused_in_one_line(tmp_path):
    tensors = reference.draw(reference.finetuned_shapes(64, 2, 7))
    tensors.pop('fc_norm.bias')
    path = write(tmp_path / 'a.pth', tensors)
    assert 'has no fc_norm.bias' in call('weights', 'inspect', path).stdout
    done = call('weights', 'convert', path, tmp_path / 'out.safetensors')
    assert done.returncode == 2 and 'nothing to convert' in done.stderr
    images = tmp_path / 'b.pth'
    torch.save({'model': {'cls_token': torch.zeros(1, 1, 8)}}, images)
    done = call('weights', 'inspect', images, '--family', 'videomae')
    assert done.returncode == 2 and 'no cubes are embedded' in done.stderr


@pytest.fixture
def student(tmp_path):
    torch.manual_seed(0)
    network = MaskedVideoViT(**SHAPE)
    with torch.no_grad():
        network.blocks[1].attn.qkv.bias[:64] = 0.5
    return save_student(tmp_path / 'student', network, {'name': 'amd_video_small'})


def test_a_student_goes_out_in_videomaes_layout(student, tmp_path):
    out = tmp_path / 'out'
    done = call('weights', 'export', student.parent, out, '--to', 'videomae')
    assert done.returncode == 0, done.stderr
    content = torch.load(out / 'videomae.pth', weights_only=True)
    shapes = {k: list(v.shape) for k, v in content['model'].items()}
    official = reference.pretraining_shapes(*SIZES)
    assert shapes == {k: v for k, v in official.items() if k.startswith('encoder.')}
    assert call('weights', 'inspect', out / 'videomae.pth').returncode == 0
    teacher = build_teacher('videomae', out / 'videomae.pth', **SHAPE)
    clips = torch.randn(2, 3, 4, 32, 32)
    assert torch.equal(teacher.tokens(clips), load_student(student).eval().tokens(clips))
    assert 'amd_video_small' in (out / 'README.md').read_text()
    done = call('weights', 'export', student, out)
    assert done.returncode == 2 and '--to videomae' in done.stderr


def test_a_student_of_images_has_no_such_layout(tmp_path):
    from backbones import MaskedViT

    path = save_student(tmp_path / 'student', MaskedViT('sample_tiny'), {})
    done = call('weights', 'export', path, tmp_path / 'out', '--to', 'videomae')
    assert done.returncode == 2 and 'is for networks on video' in done.stderr
    assert not (tmp_path / 'out').exists()


def test_onnxruntime_gives_the_cubes_of_clips(student, tmp_path):
    done = call('weights', 'export', student, tmp_path / 'out', '--to', 'onnx')
    assert done.returncode == 0, done.stderr
    session = onnxruntime.InferenceSession(tmp_path / 'out/model.onnx')
    clips = torch.randn(1, 3, 4, 32, 32)
    (found,) = session.run(None, {'images': clips.numpy()})
    expected = load_student(student).eval().tokens(clips).detach()
    torch.testing.assert_close(torch.from_numpy(found), expected, atol=1e-4, rtol=0)
    assert 'RGB clips' in (tmp_path / 'out/README.md').read_text()
