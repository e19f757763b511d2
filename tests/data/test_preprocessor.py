import pytest
import torch
from mmengine.dataset import default_collate, pseudo_collate
from mmengine.registry import MODELS

from comad.data.preprocessor import ImageDataPreprocessor

MEAN = torch.tensor([0.485, 0.456, 0.406]).double().view(3, 1, 1)
STD = torch.tensor([0.229, 0.224, 0.225]).double().view(3, 1, 1)


def images(count, size=8):
    return [torch.randint(0, 256, (3, size, size), dtype=torch.uint8) for _ in range(count)]


def expected(batch):
    return (torch.stack(list(batch)).double() / 255 - MEAN) / STD


@pytest.mark.parametrize('collate', [pseudo_collate, default_collate])
def test_single_views_become_a_normalised_batch(collate):
    batch = images(4)
    data = collate([dict(inputs=image, labels=7 - i) for i, image in enumerate(batch)])
    result = ImageDataPreprocessor()(data, training=True)
    assert result['inputs'].dtype == torch.float32
    torch.testing.assert_close(result['inputs'].double(), expected(batch), rtol=0, atol=2e-6)
    assert result['labels'].dtype == torch.int64
    assert result['labels'].tolist() == [7, 6, 5, 4]


@pytest.mark.parametrize('collate', [pseudo_collate, default_collate])
@pytest.mark.parametrize('count', [1, 2, 3])
def test_several_views_become_a_list_of_batches(collate, count):
    globals_, locals_ = images(2 * count), images(count, size=4)
    items = [
        dict(inputs=[globals_[2 * i], globals_[2 * i + 1], locals_[i]], labels=i)
        for i in range(count)
    ]
    result = ImageDataPreprocessor()(collate(items))['inputs']
    assert [tuple(view.shape) for view in result] == [
        (count, 3, 8, 8), (count, 3, 8, 8), (count, 3, 4, 4),
    ]  # fmt: skip
    for view, batch in zip(result, (globals_[::2], globals_[1::2], locals_), strict=True):
        torch.testing.assert_close(view.double(), expected(batch), rtol=0, atol=2e-6)


def test_flip_happens_in_training_only_and_per_image():
    process = ImageDataPreprocessor(mean=(0, 0, 0), std=(1, 1, 1), flip_prob=0.5)
    batch = torch.stack(images(200))
    data = dict(inputs=batch, labels=torch.zeros(200))
    assert torch.equal(process(data)['inputs'], batch.float())
    flipped = process(data, training=True)['inputs']
    kept = (flipped == batch).flatten(1).all(1)
    assert torch.equal(flipped[~kept], batch[~kept].flip(-1).float())
    assert 70 < kept.sum() < 130


def test_own_statistics_are_in_units_of_0_to_255():
    process = MODELS.build(dict(type='ImageDataPreprocessor', mean=[10, 20, 30], std=[2, 4, 5]))
    image = torch.tensor([12, 28, 25], dtype=torch.uint8).view(3, 1, 1)
    assert process(dict(inputs=[image]))['inputs'].flatten().tolist() == [1.0, 2.0, -1.0]
    assert 'labels' not in process(dict(inputs=[image]))


def test_statistics_are_no_part_of_a_checkpoint():
    assert ImageDataPreprocessor().state_dict() == {}


@pytest.mark.parametrize(
    ('options', 'line'),
    [
        (dict(flip_prob=2), 'flip_prob=2: expected a probability'),
        (dict(mean=(0, 0)), 'three values'),
        (dict(std=(1, 0, 1)), 'std above 0'),
    ],
)
def test_bad_options_give_one_line(options, line):
    with pytest.raises(ValueError, match=line):
        ImageDataPreprocessor(**options)


def test_floats_are_refused():
    with pytest.raises(TypeError, match='images are torch.float32: expected uint8'):
        ImageDataPreprocessor()(dict(inputs=[torch.rand(3, 4, 4)]))
