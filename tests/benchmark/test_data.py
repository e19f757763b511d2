"""The measurement of data: its images, its ways of reading, its figures."""

import argparse
import hashlib
import io
import json
import subprocess
import sys

import pytest
import torch

from comad.benchmark import data
from comad.benchmark.data_images import HIGH, LOW, draw_image, write_images
from comad.data.imagenet import ImageNetFolder


def parse(*arguments):
    parser = argparse.ArgumentParser()
    data.add_arguments(parser)
    return parser.parse_args(list(map(str, arguments)))


@pytest.fixture(scope='module')
def images(tmp_path_factory):
    root = tmp_path_factory.mktemp('images')
    return root, write_images(root, 12)


def test_generated_images_are_of_imagenets_size_and_the_same_each_time(images):
    root, made = images
    files = sorted((root / 'train').rglob('*.JPEG'))
    assert len(files) == 12 == made.images
    mean = sum(path.stat().st_size for path in files) / 12
    assert mean == made.mean_bytes and LOW < mean < HIGH
    assert draw_image(3).tobytes() == draw_image(3).tobytes() != draw_image(4).tobytes()
    assert draw_image(3).size == (500, 375)
    assert len({hashlib.sha256(path.read_bytes()).digest() for path in files}) == 12


def test_ways_read_the_same_crops_in_the_comparison(images, tmp_path):
    readers, known = data.prepare(
        tmp_path, parse('--compare', 'imagefolder', '--root', images[0], '--images', 4)
    )
    assert list(readers) == [
        'ImageFolder, Pillow',
        'class folders, pillow',
        'class folders, opencv',
        'shards, short side 256, pillow',
        'shards, short side 256, opencv',
    ]
    assert known['images'] == 4 and LOW < 1000 * known['mean_kb'] < HIGH
    shown = {}
    for name, reader in readers.items():
        torch.manual_seed(1)
        item = reader.dataset[2]
        shown[name] = item['inputs'] if isinstance(item, dict) else item[0]
        assert shown[name].shape == (3, 224, 224) and shown[name].dtype == torch.uint8
    assert torch.equal(shown['ImageFolder, Pillow'], shown['class folders, pillow'])
    # Of other edges than the folders', the shards' images give other crops.
    for place in ('class folders', 'shards, short side 256'):
        pair = [shown[f'{place}, {decode}'].float() for decode in ('pillow', 'opencv')]
        assert (pair[0] - pair[1]).abs().mean() < 0.1


def test_ratios_are_taken_within_a_round():
    # The second round is ten times slower for both: the ratio is 4 and 2, not a mix.
    seconds = {'rival': [4.0, 20.0, 3.0], 'ours': [1.0, 10.0, 1.0]}
    readers = {name: data.Reader(None, 1000.0) for name in seconds}
    rival, ours = data.summarize(seconds, 100, readers, 'rival')
    assert (rival['ratio'], rival['ratio_min'], rival['ratio_max']) == (1, 1, 1)
    assert (ours['ratio'], ours['ratio_min'], ours['ratio_max']) == (3, 2, 4)
    assert (ours['images_per_second'], ours['slowest'], ours['fastest']) == (100, 10, 100)
    assert 'ratio' not in data.summarize(seconds, 100, readers, None)[0]


def test_every_way_reads_every_image_in_every_round():
    class Counted(torch.utils.data.Dataset):
        def __init__(self):
            self.read = []

        def __getitem__(self, index):
            self.read.append(index)

    readers = {name: data.Reader(Counted(), 1.0) for name in 'ab'}
    seconds = data.measure(readers, images=5, rounds=3, workers=0)
    assert {name: len(times) for name, times in seconds.items()} == {'a': 3, 'b': 3}
    read = [reader.dataset.read for reader in readers.values()]
    assert read[0] == read[1]
    # One round warms up.
    assert [sorted(read[0][start : start + 5]) for start in range(0, 20, 5)] == [[*range(5)]] * 4


@pytest.mark.parametrize('workers', [0, 1])
def test_a_run_prints_a_table_and_writes_json(images, tmp_path, capsys, workers):
    file = tmp_path / 'figures.json'
    threads = torch.get_num_threads()
    arguments = ['--images', 3, '--rounds', 1, '--json', file, '--workers', workers]
    assert data.run(parse('--root', images[0], *arguments)) == 0
    shown, result = capsys.readouterr().out, json.loads(file.read_text())
    assert len(result['ways']) == 4 and 'ratio' not in result['ways'][0]
    unit = 'images/s, 1 workers' if workers else 'images/s per core'
    assert unit in shown and 'shards, short side 256, opencv' in shown and 'libjpeg-turbo' in shown
    known = result['conditions']
    assert (known['threads'], known['workers'], known['rounds']) == (1, workers, 1)
    assert torch.get_num_threads() == threads
    assert len(ImageNetFolder(images[0])) == 12


@pytest.mark.parametrize(
    ('arguments', 'line'),
    [
        (['--images', 0], '--images 0: expected 1 or more'),
        (['--rounds', 0], '--rounds 0: expected 1 or more'),
        (['--workers', -1], '--workers -1: expected 0 or more'),
        (['--images', 13, '--root', 'ROOT'], 'holds 12 images, --images 13'),
    ],
)
def test_bad_options_are_refused_in_one_line(images, arguments, line):
    arguments = [images[0] if one == 'ROOT' else one for one in arguments]
    with pytest.raises(ValueError, match=line) as error:
        data.run(parse(*arguments))
    assert '\n' not in str(error.value)


def test_help_is_fast_because_nothing_heavy_is_imported():
    code = (
        'import argparse, sys; from comad.benchmark import data; '
        'data.add_arguments(argparse.ArgumentParser()); '
        "print({'torch', 'cv2', 'PIL', 'numpy'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
    assert io.StringIO(done.stdout).readline() == 'set()\n', done.stderr
