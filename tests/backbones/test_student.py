"""Student files: complete match of tensors and architecture, or one clear line."""

import json

import pytest
import torch
import torch.nn.functional as F

from backbones import CheckpointError, MaskedViT, load_student, save_student
from backbones.checkpoints import write_safetensors
from backbones.files import sha256_of


@pytest.fixture
def student(tmp_path):
    backbone = MaskedViT('sample_tiny', use_mask_token=True)
    path = save_student(tmp_path / 'seed0', backbone, dict(name='toy_tiny', track='sample'))
    return backbone, path


def initialise(path, **options):
    init_cfg = dict(
        type='StudentWeights', checkpoint=str(path), track=options.pop('track', 'sample')
    )
    backbone = MaskedViT(**{'arch': 'sample_tiny', **options}, init_cfg=init_cfg)
    backbone.init_weights()
    return backbone


def edit_card(path, **changes):
    card = path.with_name('student.json')
    card.write_text(json.dumps({**json.loads(card.read_text()), **changes}))


def test_round_trip_is_exact_and_drops_the_mask_token(student):
    backbone, path = student
    loaded = load_student(path)
    assert loaded.loaded and 'mask_token' not in loaded.state_dict()
    for name, tensor in loaded.state_dict().items():
        assert torch.equal(tensor, backbone.state_dict()[name]), name


def test_initialisation_fills_every_tensor_after_construction(student):
    backbone, path = student
    loaded = initialise(path, out_indices=(0, 1, 2, 3))
    assert loaded.loaded
    for name, tensor in loaded.state_dict().items():
        assert torch.equal(tensor, backbone.state_dict()[name]), name


def test_head_count_is_compared_through_the_card(student):
    with pytest.raises(CheckpointError, match='num_heads 2 in the card, 4 in the config'):
        initialise(student[1], num_heads=4)


def test_a_sample_student_is_refused_at_full_scale(student):
    with pytest.raises(
        CheckpointError, match="on the track 'sample' and is refused by a run on 'full'"
    ):
        initialise(student[1], track='full')


def test_a_changed_file_is_refused(student):
    path = student[1]
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match='its card says'):
        initialise(path)


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (lambda t: t.pop('norm.weight'), r'1 tensors missing \(norm.weight\)'),
        (lambda t: t.update(extra=torch.zeros(1)), r'1 tensors unexpected \(extra\)'),
        (
            lambda t: t.update({'norm.bias': torch.zeros(3)}),
            r'norm.bias is \(3,\), the network has',
        ),
    ],
)
def test_partial_weights_are_refused(student, change, message):
    backbone, path = student
    tensors = {k: v.clone() for k, v in backbone.state_dict().items() if k != 'mask_token'}
    change(tensors)
    edit_card(path, sha256=write_safetensors(path, tensors))
    target = MaskedViT('sample_tiny', init_cfg=dict(checkpoint=str(path), track='sample'))
    before = {k: v.clone() for k, v in target.state_dict().items()}
    with pytest.raises(CheckpointError, match=message):
        target.init_weights()
    assert all(torch.equal(before[k], v) for k, v in target.state_dict().items())


def test_truncated_file_and_missing_card(student):
    path = student[1]
    path.write_bytes(path.read_bytes()[:1000])
    edit_card(path, sha256=sha256_of(path))
    with pytest.raises(CheckpointError, match='not a readable safetensors file'):
        initialise(path)
    path.with_name('student.json').unlink()
    with pytest.raises(CheckpointError, match='student.json is missing'):
        initialise(path)


def test_missing_student_names_the_command():
    init_cfg = dict(type='StudentWeights', student='nobody_tiny', track='sample')
    with pytest.raises(CheckpointError, match='tools/pretrain.sh nobody --track sample'):
        MaskedViT('sample_tiny', init_cfg=init_cfg).init_weights()


def test_a_position_table_is_resized_once_and_then_trained_in_that_size(student):
    """As BEiT and MAE do for segmentation: the same start as resizing in every pass, then freer."""
    backbone, path = student
    images = torch.randn(2, 3, 128, 128)
    once = initialise(path, pos_size=128, with_cls=False, out_indices=(3,))
    always = initialise(path, with_cls=False, out_indices=(3,))
    assert once.pos_embed.shape == (1, 1 + 16 * 16, 64)
    table = backbone.pos_embed[:, 1:].reshape(1, 8, 8, 64).permute(0, 3, 1, 2)
    wanted = F.interpolate(table, size=(16, 16), mode='bicubic', align_corners=False)
    assert torch.equal(once.pos_embed[0, 1:], wanted.flatten(2)[0].T)
    assert torch.equal(once.pos_embed[:, 0], backbone.pos_embed[:, 0])
    first, second = once(images)[0], always(images)[0]
    assert torch.allclose(first, second, atol=1e-6)
    first.square().sum().backward()
    # One value per place of the large grid, where the small table shares them among several.
    assert (once.pos_embed.grad[0, 1:].abs().sum(1) > 0).all()
    assert once.architecture() == always.architecture()
    assert load_student(path, pos_size=128).pos_embed.shape == once.pos_embed.shape


def test_positions_for_images_that_are_no_multiple_of_the_patch_are_refused():
    with pytest.raises(ValueError, match='image size 60x60 is not a multiple of the patch size 8'):
        MaskedViT('sample_tiny', pos_size=60)
