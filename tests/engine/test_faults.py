"""Faults of data and machine: listed, bounded, and told in one line."""

import gc
import multiprocessing
import re
import shutil
import types

import numpy as np
import pytest
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.registry import MODELS, DefaultScope
from PIL import Image

import comad.engine.register  # noqa: F401
from comad.data.faults import CheckedImages, UnreadableData, check_end, list_bad_image
from comad.data.imagenet import ImageNetFolder
from comad.data.pack import write_shards
from comad.engine import launch
from comad.engine.failures import RunStopped, explain
from comad.engine.launch import _stop
from comad.engine.preemption import LOST
from comad.engine.runner import BenchmarkRunner
from tests.engine.toy import ToyModel, run, toy_config

VIEWS = dict(type='CenterCrop', size=32, resize=32)


@MODELS.register_module(force=True)
class PixelModel(ToyModel):
    def forward(self, inputs, labels=None, mode='loss'):
        return super().forward(inputs / 255, labels, mode)


@pytest.fixture
def images(tmp_path):
    """Two classes of ten images: 3.JPEG of class a is cut off, 7.JPEG of class b is text."""
    generator = np.random.default_rng(0)
    for name in 'ab':
        folder = tmp_path / 'images' / 'train' / name
        folder.mkdir(parents=True)
        for number in range(10):
            pixels = generator.integers(0, 255, (48, 48, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / f'{number}.JPEG', quality=90)
    cut = tmp_path / 'images/train/a/3.JPEG'
    cut.write_bytes(cut.read_bytes()[:-500])
    (tmp_path / 'images/train/b/7.JPEG').write_text('<html>not found</html>')
    return tmp_path / 'images'


def folder(images):
    return ImageNetFolder(images, views=VIEWS)


def training(images, work_dir, share, *, workers=2, **changes):
    config = toy_config(work_dir, epochs=1, **changes)
    config.default_hooks.bad_images = dict(type='BadImagesHook', max_bad_share=share, interval=1)
    config.train_dataloader.update(
        dataset=dict(type='mmengine.ImageNetFolder', root=str(images), views=VIEWS),
        num_workers=workers,
    )
    config.train_dataloader.dataset.views.update(size=64, resize=64)
    config.model.type = 'mmengine.PixelModel'
    return config


def test_bad_images_are_replaced_by_the_next_and_listed_once(images, tmp_path):
    whole = folder(images)
    checked = CheckedImages(whole, tmp_path / 'bad_images.txt', max_bad_share=0.1)
    for _ in range(2):
        for bad, good in ((3, 4), (17, 18)):
            assert (checked[bad]['inputs'] == whole[good]['inputs']).all()
    lines = (tmp_path / 'bad_images.txt').read_text().splitlines()
    assert [line.split('\t')[0] for line in lines] == [
        str(images / 'train/a/3.JPEG'),
        str(images / 'train/b/7.JPEG'),
    ]
    assert 'truncated' in lines[0] and "no image, it begins with b'<html>no'" in lines[1]
    assert checked.metainfo == whole.metainfo and len(checked) == 20


def test_more_than_the_share_stops_with_count_share_limit_and_file(images, tmp_path):
    listing = tmp_path / 'bad_images.txt'
    checked = CheckedImages(folder(images), listing, max_bad_share=0.001)
    checked[3]  # one may always be bad
    with pytest.raises(UnreadableData) as error:
        checked[17]
    for part in ('2 of 20', '10 %', '0.1 %', str(listing)):
        assert part in str(error.value)
    with pytest.raises(UnreadableData, match=r'3\.JPEG.*nothing is left out'):
        CheckedImages(folder(images))[3]


def test_shards_name_the_member(images, tmp_path):
    (images / 'train/b/7.JPEG').unlink()
    write_shards(images, tmp_path / 'shards', 'train')
    checked = CheckedImages(ImageNetFolder(tmp_path / 'shards'), tmp_path / 'bad.txt', 0.1)
    assert checked[3]['labels'] == 0
    assert '.tar: ' in (tmp_path / 'bad.txt').read_text()


def test_a_vanished_folder_is_no_bad_image(images, tmp_path):
    checked = CheckedImages(folder(images), tmp_path / 'bad.txt', max_bad_share=1.0)
    shutil.rmtree(images)
    with pytest.raises(UnreadableData, match='is gone: is the disk still there'):
        checked[0]
    assert not (tmp_path / 'bad.txt').exists()


def test_mistakes_of_the_code_are_not_taken_for_bad_images(images, tmp_path):
    dataset = folder(images)
    dataset.views = None
    with pytest.raises(TypeError):
        CheckedImages(dataset, tmp_path / 'bad.txt', max_bad_share=1.0)[0]


def test_cut_images_of_mm_data_sets_are_found_whatever_opencv_makes_of_them(images, tmp_path):
    from mmseg.datasets import BaseSegDataset
    from mmseg.utils import register_all_modules

    register_all_modules(init_default_scope=False)
    options = dict(img_suffix='.JPEG', metainfo=dict(classes=('a',)))
    pipeline = [dict(type='LoadImageFromFile'), dict(type='PackSegInputs')]
    with DefaultScope.overwrite_default_scope('mmseg'):
        dataset = BaseSegDataset(
            data_root=str(images),
            data_prefix=dict(img_path='train/a'),
            pipeline=pipeline,
            **options,
        )
    checked = CheckedImages(dataset, tmp_path / 'bad.txt', max_bad_share=0.1)
    assert (checked[3]['inputs'] == dataset[4]['inputs']).all()
    assert (tmp_path / 'bad.txt').read_text().endswith('the image is cut off\n')


def test_the_end_of_an_image_is_found_behind_a_thumbnail_and_before_padding(tmp_path):
    path = tmp_path / 'a.jpg'
    pixels = Image.fromarray(np.full((32, 32, 3), 99, np.uint8))
    pixels.save(path)
    data = path.read_bytes()
    thumbnail = b'\xff\xe1\x00\x08' + b'\xff\xd8\xff\xda\xff\xd9'
    path.write_bytes(data[:2] + thumbnail + data[2:] + bytes(9))
    check_end(path)
    for bad in (data[:2] + thumbnail + data[2:-30], b''):
        path.write_bytes(bad)
        with pytest.raises(OSError, match='cut off|empty'):
            check_end(path)
    pixels.save(tmp_path / 'a.png')
    check_end(tmp_path / 'a.png')
    (tmp_path / 'a.png').write_bytes((tmp_path / 'a.png').read_bytes()[:-20])
    with pytest.raises(OSError, match='cut off'):
        check_end(tmp_path / 'a.png')


def test_a_list_takes_any_name_once(tmp_path):
    listing = tmp_path / 'bad.txt'
    for name in ('a\nb', 'a\nb', 'ü\udcff', 'c\u2028d'):
        count = list_bad_image(listing, name, 'x\ty')
    assert count == 3 and len(listing.read_bytes().splitlines()) == 3


def test_a_training_with_workers_replaces_warns_and_goes_on(images, tmp_path):
    runner = run(training(images, tmp_path / 'run', 0.2, experiment_name='replace'))
    assert runner.iter == 5
    assert len((tmp_path / 'run/bad_images.txt').read_text().splitlines()) == 2
    log = next((tmp_path / 'run').glob('*/*.log')).read_text()
    assert log.count('unreadable image, replaced') == 2
    # A new run counts anew.
    for name in ('a/3', 'b/7'):
        shutil.copy(images / 'train/a/0.JPEG', images / f'train/{name}.JPEG')
    run(training(images, tmp_path / 'run', 0.2, experiment_name='replace_2'))
    assert not (tmp_path / 'run/bad_images.txt').exists()


def test_a_training_stops_in_one_line_from_a_worker(images, tmp_path):
    with pytest.raises(UnreadableData) as error:
        run(training(images, tmp_path / 'run', 0.0, experiment_name='stop'))
    line = explain(error.value, None)
    assert 'JPEG' in line and 'Traceback' not in line and '\n' not in line
    assert line.endswith('nothing is left out or replaced')


class KillHook(Hook):
    """Kills the data workers of this process before the first step."""

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        for process in multiprocessing.active_children():
            process.kill()


def test_a_killed_worker_is_explained(images, tmp_path, capsys):
    runner = BenchmarkRunner.from_cfg(training(images, tmp_path / 'run', 1.0))
    runner.register_hook(KillHook())
    with pytest.raises(RuntimeError) as error:
        runner.train()
    capsys.readouterr()
    assert _stop(error.value, runner) == LOST
    said = capsys.readouterr().err
    assert said.count('\n') == 1
    assert re.match(r'error: data worker [\d, ]+ ended unexpectedly.*num_workers', said)
    del error, runner
    gc.collect()  # torch tells of a loader's lost workers at any moment while the loader is there


class FakeRunner:
    work_dir = 'work_dirs/x'
    _train_loop = types.SimpleNamespace(iter=7)
    cfg = dict(
        train_cfg={}, train_dataloader=dict(batch_size=6), optim_wrapper=dict(accumulative_counts=2)
    )

    def __init__(self):
        self.cfg = Config(self.cfg)


@pytest.mark.parametrize(
    ('error', 'parts'),
    [
        (
            RuntimeError('CUDA out of memory. Tried to allocate 2.00 GiB'),
            ('step 7', 'batch 6', 'train_dataloader.batch_size=3 --accumulate 4'),
        ),
        (
            RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"),
            ('out of memory', '--accumulate'),
        ),
        (MemoryError(), ('out of memory',)),
        (
            RuntimeError(
                'DataLoader worker (pid 71) is killed by signal: Bus error. It is possible that '
                "dataloader's workers are out of shared memory."
            ),
            ('/dev/shm',),
        ),
        (
            RuntimeError('DataLoader worker (pid(s) 71, 72) exited unexpectedly'),
            ('worker 71, 72', 'num_workers'),
        ),
        (OSError(28, 'No space left on device', 'w/epoch_1.pth'), ('free space', 'work_dirs/x')),
        (OSError(5, 'Input/output error', 'data/x'), ('is the disk still there',)),
        (OSError(24, 'Too many open files'), ('ulimit',)),
        (RuntimeError('[/x/gloo/pair.cc:534] Connection closed by peer'), ('another process',)),
        (RunStopped('because'), ('because',)),
    ],
)
def test_known_failures_become_one_line(error, parts):
    line = explain(error, FakeRunner())
    assert '\n' not in line
    for part in parts:
        assert part in line


@pytest.mark.parametrize(
    'error',
    [RuntimeError('mat1 and mat2 shapes'), TypeError('x'), KeyError(1)],
)
def test_unknown_failures_keep_their_traceback(error):
    assert explain(error, FakeRunner()) is None


class Failing:
    """A run that fails at its end with the error it is made of."""

    cfg, _train_loop, work_dir = {'train_cfg': None}, None, 'w'

    def __init__(self, error):
        self.error = error

    def test(self):
        raise self.error


@pytest.mark.parametrize(
    ('error', 'traceback', 'shown'),
    [(MemoryError(), '', False), (MemoryError(), '1', True), (ZeroDivisionError(), '', True)],
)
def test_launch_ends_with_a_line_or_a_traceback(monkeypatch, capsys, error, traceback, shown):
    monkeypatch.setattr(launch, '_build', lambda *_, **__: Failing(error))
    monkeypatch.setattr(launch, 'load_run_config', lambda _: Config(dict(work_dir='w')))
    monkeypatch.setenv(launch.TRACEBACK, traceback)
    if shown:  # the interpreter shows it and ends with 1
        with pytest.raises(type(error)) as raised:
            launch.launch(launch.RunOptions('x'))
        assert raised.value is error
    else:
        assert launch.launch(launch.RunOptions('x')) == 3
        assert capsys.readouterr().err.startswith('error: out of memory')
