"""The prediction figure: right rows and colours, one clear line for samples without predictions."""

import numpy as np
import pytest
import torch
from mmengine.structures import BaseDataElement, InstanceData, PixelData
from PIL import Image

from comad.engine.hooks import PredictionFigureHook
from comad.tasks.task import FIGURE
from comad.visualization import draw_predictions, draw_rows
from comad.visualization.predictions import class_color, predict

NAMES = ('background', *'0123456789')


@pytest.fixture
def image(tmp_path):
    path = tmp_path / 'scene.png'
    Image.fromarray(np.full((64, 64, 3), 90, np.uint8)).save(path)
    return str(path)


def maps(image, predicted):
    """A scene whose truth is digit 0 (label 1) in the middle and a rim that is not scored."""
    truth = torch.zeros(1, 64, 64, dtype=torch.long)
    truth[:, 16:48, 16:48] = 255
    truth[:, 20:44, 20:44] = 1
    found = torch.zeros_like(truth)
    found[:, 20:44, 20:44] = predicted
    sample = BaseDataElement(metainfo=dict(img_path=image))
    sample.gt_sem_seg, sample.pred_sem_seg = PixelData(data=truth), PixelData(data=found)
    return sample


def pixels_of(path, label):
    picture = np.asarray(Image.open(path).convert('RGB')).astype(float) / 255
    return int((np.abs(picture - class_color(label)).max(-1) < 0.02).sum())


def test_maps_are_drawn_in_the_colours_of_their_classes(image, tmp_path):
    right = draw_rows([maps(image, 1)], NAMES, tmp_path / 'right.png', 'caption')
    wrong = draw_rows([maps(image, 3)], NAMES, tmp_path / 'wrong.png', 'caption')
    # Truth and prediction against truth alone; the legend adds a small patch to both.
    assert pixels_of(right, 0) > 1.7 * pixels_of(wrong, 0) > 0
    assert pixels_of(wrong, 2) > 0.7 * pixels_of(wrong, 0)
    assert pixels_of(right, 2) == 0


def test_every_sample_is_a_row(image, tmp_path):
    heights = [
        Image.open(draw_rows([maps(image, 1)] * n, NAMES, tmp_path / f'{n}.png')).height
        for n in (1, 3)
    ]
    assert heights[1] > 1.8 * heights[0]


def instances(image, scores):
    boxes = torch.tensor([[8.0, 8, 30, 40], [34, 20, 60, 50]])
    masks = torch.zeros(2, 64, 64, dtype=torch.bool)
    masks[0, 8:40, 8:30] = True
    masks[1, 20:50, 34:60] = True
    common = dict(bboxes=boxes, labels=torch.tensor([4, 7]), masks=masks)
    sample = BaseDataElement(metainfo=dict(img_path=image))
    sample.gt_instances = InstanceData(**common)
    sample.pred_instances = InstanceData(**common, scores=torch.tensor(scores))
    return sample


def test_unsure_instances_are_not_drawn(image, tmp_path):
    sure = draw_rows([instances(image, [0.9, 0.8])], NAMES[1:], tmp_path / 'sure.png')
    unsure = draw_rows([instances(image, [0.9, 0.1])], NAMES[1:], tmp_path / 'unsure.png')
    assert pixels_of(sure, 7) > 1.2 * pixels_of(unsure, 7)
    none = draw_rows([instances(image, [0.1, 0.1])], NAMES[1:], tmp_path / 'none.png')
    assert pixels_of(sure, 4) > 1.2 * pixels_of(none, 4)


def test_samples_without_predictions_are_refused(image, tmp_path):
    sample = BaseDataElement(metainfo=dict(img_path=image))
    with pytest.raises(ValueError, match='no pred_sem_seg and no pred_instances'):
        draw_rows([sample], NAMES, tmp_path / 'figure.png')
    assert not (tmp_path / 'figure.png').exists()


class Segmentor(torch.nn.Module):
    """Predicts digit 2 wherever the truth is digit 0."""

    def test_step(self, batch):
        assert not self.training
        return batch['data_samples']


class Scenes:
    metainfo = dict(classes=NAMES)

    def __init__(self, image):
        self.image, self.asked = image, []

    def __len__(self):
        return 9

    def __getitem__(self, index):
        self.asked.append(index)
        return dict(inputs=torch.zeros(3, 64, 64), data_samples=maps(self.image, 3))


def test_images_are_spread_over_the_data_set_and_the_mode_is_restored(image, tmp_path):
    scenes, model = Scenes(image), Segmentor().train()
    path = draw_predictions(model, scenes, tmp_path / FIGURE, images=3)
    assert scenes.asked == [0, 4, 8]
    assert model.training
    assert pixels_of(path, 2) > 0
    assert list(tmp_path.glob('.*')) == []


def test_logits_are_not_kept_for_the_figure(image):
    class Logits(Segmentor):
        def test_step(self, batch):
            for sample in batch['data_samples']:
                sample.seg_logits = PixelData(data=torch.zeros(len(NAMES), 64, 64))
            return batch['data_samples']

    samples = predict(Logits(), Scenes(image), [0, 1])
    assert [sorted(sample.keys()) for sample in samples] == [['gt_sem_seg', 'pred_sem_seg']] * 2


def test_no_rows_are_refused():
    with pytest.raises(ValueError, match='at least one row'):
        PredictionFigureHook(images=0)
