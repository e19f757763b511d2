"""Decomposed relative positions against the formula written as loops, and how they are loaded."""

import pytest
import torch

from backbones import CheckpointError, MaskedViT, load_student, save_student
from backbones.checkpoints import write_safetensors
from backbones.files import sha256_of
from backbones.relative_positions import attend, distances
from comad.evaluation.layer_decay import LayerWiseDecayConstructor

WINDOWS = dict(
    arch='sample_tiny', out_indices=(3,), window_size=3, global_blocks=(1, 3), with_cls=False
)


def with_tables(std=0.5, **options):
    """A network whose tables are random instead of zero."""
    vit = MaskedViT(**{**WINDOWS, 'rel_pos_grid': 8, **options}, rel_pos=True).eval()
    for name in sorted(vit.new_parameters()):
        torch.nn.init.normal_(vit.get_parameter(name), std=std)
    return vit


def by_loops(attention, x, height, width):
    """Attention of one image (T, D), one logit at a time, in double precision."""
    x, heads, dim = x.double(), attention.num_heads, attention.head_dim
    rows, columns = attention.rel_pos_h.double(), attention.rel_pos_w.double()
    packed = x @ attention.qkv.weight.double().T + attention.qkv.bias.double()
    q, k, v = packed.reshape(-1, 3, heads, dim).unbind(1)
    out = torch.zeros(len(x), heads, dim, dtype=torch.double)
    for head in range(heads):
        for query in range(len(x)):
            i, j = divmod(query, width)
            logits = []
            for key in range(len(x)):
                k_i, k_j = divmod(key, width)
                logit = q[query, head] @ k[key, head] / dim**0.5
                logit = logit + q[query, head] @ rows[i - k_i + height - 1]
                logits.append(logit + q[query, head] @ columns[j - k_j + width - 1])
            out[query, head] = torch.stack(logits).softmax(0) @ v[:, head]
    weight, bias = attention.proj.weight.double(), attention.proj.bias.double()
    return out.flatten(1) @ weight.T + bias


@torch.no_grad()
def test_attention_equals_the_formula_written_as_loops():
    attention = with_tables().blocks[0].attn
    x = torch.randn(2, 9, 64)
    expected = torch.stack([by_loops(attention, image, 3, 3) for image in x])
    torch.testing.assert_close(attend(attention, x, (3, 3)).double(), expected, atol=1e-5, rtol=0)


@torch.no_grad()
def test_a_window_block_pads_as_without_tables():
    """8 x 7 tokens in windows of 3: nine windows of a 9 x 9 grid padded with zeros."""
    vit = with_tables()
    block, (height, width) = vit.blocks[2], (8, 7)
    x = torch.randn(1, height * width, 64)
    padded = torch.zeros(9, 9, 64)
    padded[:height, :width] = block.norm1(x).view(height, width, 64)
    out = torch.zeros(9, 9, 64)
    for top in range(0, 9, 3):
        for left in range(0, 9, 3):
            window = padded[top : top + 3, left : left + 3].reshape(9, 64)
            result = by_loops(block.attn, window, 3, 3)
            out[top : top + 3, left : left + 3] = result.view(3, 3, 64).float()
    expected = x + out[:height, :width].reshape(1, -1, 64)
    expected = expected + block.mlp(block.norm2(expected))
    torch.testing.assert_close(vit.run(x, 2, 3, (height, width)), expected, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_a_global_block_uses_the_whole_grid():
    vit = with_tables()
    block = vit.blocks[3]
    assert tuple(block.attn.rel_pos_h.shape) == (15, 32)
    x = torch.randn(1, 64, 64)
    expected = x + by_loops(block.attn, block.norm1(x)[0], 8, 8).float()
    expected = expected + block.mlp(block.norm2(expected))
    torch.testing.assert_close(vit.run(x, 3, 4, (8, 8)), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize('window', [0, 3, 4])
@torch.no_grad()
def test_zero_tables_change_nothing(window):
    plain = MaskedViT(**{**WINDOWS, 'window_size': window}).eval()
    vit = MaskedViT(**{**WINDOWS, 'window_size': window}, rel_pos=True).eval()
    vit.load_state_dict(plain.state_dict(), strict=False)
    images = torch.randn(2, 3, 64, 48)
    torch.testing.assert_close(vit(images)[0], plain(images)[0], atol=1e-5, rtol=1e-5)


def test_table_sizes_follow_windows_and_grid():
    vit = MaskedViT(**WINDOWS, rel_pos=True)
    sizes = [tuple(block.attn.rel_pos_w.shape) for block in vit.blocks]
    assert sizes == [(5, 32), (127, 32), (5, 32), (127, 32)]
    assert not any(vit.get_parameter(name).any() for name in vit.new_parameters())
    full = MaskedViT('tiny', out_indices=(11,), with_cls=False, rel_pos=True, rel_pos_grid=40)
    assert tuple(full.blocks[5].attn.rel_pos_h.shape) == (79, 64)


def test_a_table_of_another_size_is_interpolated_linearly():
    """127 entries on a ramp, needed for 4 tokens: still a ramp, centred as before."""
    ramp = torch.arange(-63.0, 64.0)[:, None]
    found = distances(ramp, 4)[..., 0]
    steps = torch.arange(4.0)
    expected = (steps[:, None] - steps[None, :]) * 127 / 7
    torch.testing.assert_close(found, expected)
    assert torch.equal(distances(ramp, 64)[..., 0], torch.arange(64.0)[:, None] - torch.arange(64))


def test_tables_are_trained_like_their_block():
    vit = with_tables(std=0.02)
    vit(torch.randn(1, 3, 64, 64))[0].square().mean().backward()
    assert all(vit.get_parameter(name).grad is not None for name in vit.new_parameters())
    model = torch.nn.Module()
    model.backbone = vit
    constructor = LayerWiseDecayConstructor(
        dict(optimizer=dict(type='AdamW', lr=1.0, weight_decay=0.05)), dict(decay_rate=0.5)
    )
    for group in constructor.groups(model):
        if any(p is vit.blocks[2].attn.rel_pos_h for p in group['params']):
            # Detectron2 exempts norms and pos_embed, and nothing else.
            assert (group['lr_scale'], group['weight_decay']) == (0.25, 0.05)
            break
    else:
        pytest.fail('the table of block 2 is in no group')


def test_students_have_no_tables_and_nothing_else_may_be_missing(tmp_path):
    card = dict(name='toy_tiny', track='sample')
    path = save_student(tmp_path / 'plain', MaskedViT('sample_tiny'), card)
    options = dict(WINDOWS, rel_pos=True, rel_pos_grid=8)
    options['init_cfg'] = dict(checkpoint=str(path), track='sample')
    vit = MaskedViT(**options)
    vit.init_weights()
    plain = load_student(path).state_dict()
    assert set(vit.state_dict()) - set(plain) == vit.new_parameters()
    assert len(vit.new_parameters()) == 8
    assert all(torch.equal(vit.state_dict()[name], tensor) for name, tensor in plain.items())

    again = save_student(tmp_path / 'again', vit, card)
    assert sha256_of(again) == sha256_of(path)

    tensors = dict(plain)
    del tensors['blocks.0.attn.qkv.weight']
    digest = write_safetensors(path, tensors)
    text = path.with_name('student.json').read_text()
    path.with_name('student.json').write_text(text.replace(sha256_of(again), digest))
    with pytest.raises(CheckpointError, match=r'1 tensors missing \(blocks.0.attn.qkv.weight\)'):
        MaskedViT(**options).init_weights()


@pytest.mark.parametrize(
    ('options', 'message'),
    [(dict(with_cls=True), 'with_cls=False'), (dict(rel_pos_grid=0), 'rel_pos_grid 0')],
)
def test_wrong_arguments_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        MaskedViT(**{'arch': 'sample_tiny', 'with_cls': False, **options}, rel_pos=True)


def test_the_grid_is_needed():
    vit = MaskedViT('sample_tiny', with_cls=False, rel_pos=True)
    with pytest.raises(ValueError, match='need the token grid'):
        vit.run(torch.zeros(1, 64, 64))
