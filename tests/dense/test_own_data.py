"""COCO and ADE20K folders as people have them: read right, or refused in one line at the start."""

import json
import shutil

import numpy as np
import pytest
import torch
from mmengine.registry import METRICS, DefaultScope
from PIL import Image

import comad.engine.register  # noqa: F401
from comad.data.coco import read_whole
from comad.data.decode import ORIENTATION
from comad.data.faults import CheckedImages, UnreadableData
from comad.data.sample.scenes import CLASSES
from comad.data.sample.write import SampleSizes, write_sample
from tests.resolved import resolved_config


@pytest.fixture(scope='module')
def sample(tmp_path_factory):
    root = tmp_path_factory.mktemp('dense') / 'sample'
    write_sample(root, 3, SampleSizes(10, 10, 12, 6))
    return root


@pytest.fixture
def coco(sample, tmp_path):
    return shutil.copytree(sample / 'coco', tmp_path / 'coco')


@pytest.fixture
def ade(sample, tmp_path):
    return shutil.copytree(sample / 'ade/ADEChallengeData2016', tmp_path / 'ade')


CONFIGS = {
    'coco': resolved_config('det_configs/mask_rcnn_comad_tiny.py', True),
    'ade': resolved_config('seg_configs/upernet_comad_tiny.py', True),
}


def build(root, split='train', **changes):
    """The data set of the sample's config, of another folder."""
    cfg = CONFIGS[root.name]
    config = cfg[f'{split}_dataloader'].dataset.to_dict()
    # Serialising collects garbage, a second of a process that has loaded this much.
    config |= dict(data_root=str(root), indices=None, serialize_data=False) | changes
    listing = dict(listing=root / 'bad.txt', max_bad_share=0.2) if split == 'train' else {}
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        return CheckedImages(config, **listing)


def annotations(root, split='train'):
    return root / f'annotations/instances_{split}2017.json'


def edit(root, change, split='train'):
    path = annotations(root, split)
    content = json.loads(path.read_bytes())
    change(content)
    path.write_text(json.dumps(content))
    return content


def every(key, value, entries='annotations', step=1):
    """Set a key of every entry; None takes it out."""

    def change(content):
        for number, entry in list(enumerate(content[entries]))[::step]:
            if value is None:
                del entry[key]
            else:
                entry[key] = value(number, entry)

    return change


def score(root, content, split='val'):
    """mAP of predictions that are the annotations."""
    with DefaultScope.overwrite_default_scope('mmdet'):
        metric = METRICS.build(
            dict(type='ColumnCocoMetric', ann_file=str(annotations(root, split)), metric='bbox')
        )
    metric.dataset_meta = dict(classes=CLASSES)
    for image in content['images']:
        own = [a for a in content['annotations'] if a['image_id'] == image['id']]
        boxes = np.array([a['bbox'] for a in own], dtype=float).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        found = dict(
            bboxes=torch.tensor(boxes),
            scores=torch.ones(len(own)),
            labels=torch.tensor([a['category_id'] - 1 for a in own]),
        )
        entry = dict(img_id=image['id'], ori_shape=(64, 64), pred_instances=found)
        metric.process({}, [entry])
    return metric.evaluate(len(content['images']))['coco/bbox_mAP']


@pytest.mark.parametrize(
    'change',
    [
        every('id', lambda number, entry: number),
        every('id', lambda number, entry: 7),
        every('iscrowd', None),
        every('area', None),
        lambda content: content['annotations'].append({'id': 0, 'image_id': 'orphan'}),
    ],
    ids=['ids from 0', 'equal ids', 'no iscrowd', 'no area', 'orphan'],
)
def test_what_has_one_right_value_gets_it(coco, change):
    whole = score(coco, json.loads(annotations(coco, 'val').read_bytes()))
    instances = [build(coco).get_data_info(n)['instances'] for n in range(12)]
    for split in ('train', 'val'):
        content = edit(coco, change, split)
    assert score(coco, content) == whole == 1.0
    assert [build(coco).get_data_info(n)['instances'] for n in range(12)] == instances


def test_the_area_is_that_of_the_mask(coco):
    before = {a['id']: a['area'] for a in read_whole(annotations(coco), True)['annotations']}
    edit(coco, every('area', None))
    after = {a['id']: a['area'] for a in read_whole(annotations(coco), True)['annotations']}
    assert after == pytest.approx(before, abs=1)


def classes(content):
    for entry in content['categories']:
        entry['name'] = f'thing {entry["id"]}'


@pytest.mark.parametrize(
    ('change', 'line'),
    [
        (every('segmentation', lambda n, entry: [], step=3), 'segmentation: neither polygons nor'),
        (every('segmentation', None), 'annotations cannot be used, annotation'),
        (every('segmentation', lambda n, entry: [entry['bbox']]), 'three points or more'),
        (every('segmentation', lambda n, entry: dict(size=[9, 9], counts='x')), 'size [9, 9]'),
        (every('bbox', lambda n, entry: [0, 0, float('nan'), 1]), 'is not [x, y, width, height]'),
        (every('category_id', lambda n, entry: 99), 'category_id 99 is none of the file'),
        (every('width', None, 'images'), 'width None and height 64, expected pixels'),
        (every('id', lambda n, entry: 7, 'images'), '11 of 12 images cannot be used, image 7: no'),
        (every('id', lambda n, entry: str(n) if n else 5, 'images'), 'ids are numbers and texts'),
        (every('file_name', lambda n, entry: f'train2017/{n}.jpg', 'images'),
         'none of 12 files is where it is expected'),
        (classes, 'its categories are thing 1, thing 2, thing 3, thing 4 and 6 more; the classes'),
        (lambda content: content.update(annotations=[]), 'no images with annotations are left'),
        (every('bbox', lambda n, entry: [9, 9, -3, 4]), 'bbox [9, 9, -3, 4] is not [x, y, width'),
        (every('segmentation', lambda n, entry: dict(size=[64, 64], counts='abc')),
         "run lengths as a text that is not COCO's"),
        (every('iscrowd', lambda n, entry: 1), 'no annotation is left to learn from: crowds'),
        (every('bbox', lambda n, entry: [9, 9, 0.5, 4]), 'boxes of less than a pixel'),
        (every('name', lambda n, entry: 'x', 'categories'), 'category 2: no id and name of its'),
        (lambda content: content.pop('images'), "no list of objects under 'images'"),
    ],
)  # fmt: skip
def test_other_annotations_are_one_line(coco, change, line):
    edit(coco, change)
    with pytest.raises(ValueError) as error:
        build(coco)
    assert line in str(error.value) and '\n' not in str(error.value)
    assert str(coco) in str(error.value)


def test_labels_follow_the_order_of_the_classes(coco):
    names = ('bricks', 'zigzag')
    kept = build(coco, metainfo=dict(classes=names)).dataset
    content = json.loads(annotations(coco).read_bytes())
    found = {(label['bbox_label'], *label['bbox'][:2]) for n in range(len(kept))
             for label in kept.get_data_info(n)['instances']}  # fmt: skip
    wanted = {(names.index(name), *a['bbox'][:2]) for a in content['annotations']
              if (name := CLASSES[a['category_id'] - 1]) in names}  # fmt: skip
    assert found == wanted and {label for label, *_ in found} == {0, 1}


def test_an_image_annotated_as_it_is_shown_is_told(coco):
    content = json.loads(annotations(coco, 'val').read_bytes())
    path = coco / 'val2017' / content['images'][0]['file_name']
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    Image.new('RGB', (48, 64)).save(path, exif=exif)
    content['images'][0].update(width=64, height=48)
    for entry in content['annotations']:
        entry['segmentation'] = [[0, 0, 9, 0, 9, 9]]
    annotations(coco, 'val').write_text(json.dumps(content))
    with pytest.raises(UnreadableData) as error:
        build(coco, 'val')
    assert str(error.value).startswith(
        f'{path}: 48x64 px, annotated as 64x48; its EXIF orientation 6 is not applied'
    )


def labels_of(root, split):
    return sorted((root / f'annotations/{split}').iterdir())


LABELS = {
    'colours': (np.ones((64, 64, 3), np.uint8), 'mode RGB, expected class indices in one channel'),
    'another size': (np.ones((48, 64), np.uint8), '64x48 px, its image 64x64'),
    '16 bits': (np.full((64, 64), 300, np.uint16), 'holds 300, expected class indices up to 255'),
}


@pytest.mark.parametrize('kind', LABELS)
def test_label_maps_that_do_not_fit_are_told_at_the_start_of_an_evaluation(ade, kind):
    pixels, line = LABELS[kind]
    path = labels_of(ade, 'validation')[3]
    Image.fromarray(pixels).save(path)
    with pytest.raises(UnreadableData) as error:
        build(ade, 'val')
    assert str(error.value) == f'{path}: {line}; nothing is left out or replaced'


@pytest.mark.parametrize('kind', LABELS)
def test_label_maps_that_do_not_fit_are_replaced_and_listed_in_training(ade, kind):
    pixels, line = LABELS[kind]
    paths = labels_of(ade, 'training')
    for path in paths[:2]:
        Image.fromarray(pixels).save(path)
    dataset = build(ade)
    assert dataset[0]['data_samples'].seg_map_path == str(paths[2])
    assert f'{paths[0]}: {line}' in (ade / 'bad.txt').read_text()
    for path in paths[2:]:
        Image.fromarray(pixels).save(path)
    with pytest.raises(UnreadableData, match='3 of 12 training images') as error:
        dataset[0]
    assert str(error.value).endswith(f'{paths[2]}: {line}')


def test_a_class_that_the_data_set_has_not_is_told(ade):
    path = labels_of(ade, 'validation')[0]
    Image.fromarray(np.full((64, 64), 12, np.uint8)).save(path)
    with pytest.raises(UnreadableData, match=r'holds class 11, the data set has 11, counted from'):
        build(ade, 'val')[0]
    # 255 before and after: not scored.
    Image.fromarray(np.full((64, 64), 255, np.uint8)).save(path)
    build(ade, 'val')[0]


def test_no_labels_at_all_and_no_images_are_told_at_the_start(ade):
    shutil.rmtree(ade / 'annotations/training')
    with pytest.raises(ValueError, match='none of 12 files is where it is expected'):
        build(ade)
    for serialize in (True, False):
        with pytest.raises(ValueError, match='no images with annotations are left'):
            build(ade, img_suffix='.jpeg', serialize_data=serialize)


def test_an_image_too_thin_to_be_scaled_is_told_by_its_file(ade):
    image = sorted((ade / 'images/validation').iterdir())[0]
    Image.new('RGB', (1, 2000)).save(image)
    Image.new('L', (1, 2000)).save(labels_of(ade, 'validation')[0])
    with pytest.raises(UnreadableData) as error:
        build(ade, 'val')[0]
    assert str(error.value).startswith(f'{image}: OpenCV cannot process it, which resize answers')
