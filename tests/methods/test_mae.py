import math

import pytest
import torch

from comad.methods.mae import patchify, pixel_loss, random_masking
from comad.methods.parts.positions import sincos_positions


def test_patchify_order_is_row_column_channel():
    image = torch.arange(3 * 4 * 6, dtype=torch.float32).reshape(1, 3, 4, 6)
    patches = patchify(image, 2)
    assert patches.shape == (1, 6, 12)
    for row in range(2):
        for column in range(3):
            block = image[0, :, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2]
            expected = [float(block[c, y, x]) for y in range(2) for x in range(2) for c in range(3)]
            assert patches[0, 3 * row + column].tolist() == expected


def test_masking_follows_the_official_conventions():
    noise = torch.tensor([[0.9, 0.1, 0.5, 0.2, 0.7, 0.3, 0.8, 0.4]])
    keep, mask, restore = random_masking(noise, 0.75)
    assert keep.tolist() == [[1, 3]]
    assert mask.tolist() == [[1, 0, 1, 0, 1, 1, 1, 1]]
    shuffled = torch.tensor([10, 11, 12, 13, 14, 15, 16, 17])[noise.argsort()[0]]
    assert shuffled[restore[0]].tolist() == list(range(10, 18))
    assert random_masking(torch.rand(2, 196), 0.75)[0].shape == (2, 49)


@pytest.mark.parametrize('norm', [True, False])
def test_pixel_loss_equals_a_float64_loop(norm):
    images, prediction = torch.randn(2, 3, 8, 8), torch.randn(2, 4, 48)
    mask = torch.tensor([[1.0, 0, 1, 1], [0, 0, 1, 0]])
    errors = []
    for b in range(2):
        for i in range(4):
            if not mask[b, i]:
                continue
            y, x = 4 * (i // 2), 4 * (i % 2)
            patch = images[b, :, y : y + 4, x : x + 4].double().permute(1, 2, 0).flatten().tolist()
            if norm:
                mean = sum(patch) / 48
                variance = sum((v - mean) ** 2 for v in patch) / 47
                patch = [(v - mean) / math.sqrt(variance + 1e-6) for v in patch]
            pairs = zip(patch, prediction[b, i].tolist(), strict=True)
            errors.append(sum((a - p) ** 2 for a, p in pairs) / 48)
    loss = pixel_loss(images, prediction, mask, 4, norm)
    assert float(loss) == pytest.approx(sum(errors) / len(errors), rel=1e-5)


def test_positions_encode_the_column_first_as_in_mae():
    table = sincos_positions(16, 3, first='w')[0]
    assert (table[0] == 0).all()
    for row in range(3):
        for column in range(3):
            expected = []
            for value in (column, row):
                angles = [value / 10000 ** (i / 4) for i in range(4)]
                expected += [math.sin(a) for a in angles] + [math.cos(a) for a in angles]
            assert table[1 + 3 * row + column].tolist() == pytest.approx(expected, abs=1e-6)


def test_mocov3_positions_are_the_transposed_grid():
    mae, moco = (sincos_positions(32, 14, first)[0, 1:].reshape(14, 14, 32) for first in 'wh')
    assert torch.allclose(moco, mae.transpose(0, 1))
    assert not torch.allclose(moco, mae)


def test_a_step_trains_all_but_the_positions(build, images):
    model = build('MAE', decoder=dict(arch='sample_tiny'))
    positions = model.backbone.pos_embed.clone()
    assert torch.equal(positions, sincos_positions(32, 4, 'w'))
    model(images)['loss_pixel'].backward()
    without = [name for name, p in model.named_parameters() if p.grad is None]
    assert without == ['backbone.pos_embed']


def test_decoder_puts_every_token_at_its_place(build, images):
    decoder = build('MAE', decoder=dict(arch='sample_tiny')).decoder.eval()
    tokens = torch.randn(2, 5, 32)
    keep = torch.stack([torch.randperm(16)[:4] for _ in range(2)])
    order = torch.tensor([2, 0, 3, 1])
    shuffled = torch.cat([tokens[:, :1], tokens[:, 1:][:, order]], dim=1)
    out, again = decoder(tokens, keep), decoder(shuffled, keep[:, order])
    assert out.shape == (2, 16, 192)
    assert torch.allclose(out, again, atol=1e-5)
    moved = decoder(tokens, keep.roll(1, dims=1))
    assert not torch.allclose(out, moved, atol=1e-3)


def test_official_checkpoint_has_the_official_names(build, official_names):
    model = build('MAE', dict(arch='sample_base'), decoder=dict(arch='sample_tiny'))
    name, content = model.official_checkpoint()
    assert name == 'mae_pretrain_vit_base.pth'
    assert list(content) == ['model']
    assert set(content['model']) == official_names


@pytest.mark.parametrize('ratio', [-0.5, 0, 0.999, 1.0, 1.5])
def test_a_ratio_that_keeps_or_removes_nothing_is_refused(build, ratio):
    with pytest.raises(ValueError, match=rf'mask_ratio={ratio}: expected a share between 0 and 1'):
        build('MAE', mask_ratio=ratio)


def test_unknown_decoder_is_named(build):
    with pytest.raises(ValueError, match='sample_tiny'):
        build('MAE', decoder=dict(arch='huge'))
