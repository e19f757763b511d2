"""Images per second, data wait and utilisation of a training whose clock the test turns."""

import json
import time
from pathlib import Path

import pytest

from backbones.checkpoints import read_checkpoint
from comad.engine.hooks import ThroughputHook
from comad.engine.hooks.throughput import PEAKS, known_peak
from tests.engine.resume_toy import RestlessImages, RestlessModel, resume_config, train

READ, COMPUTE = 0.01, 0.06  # seconds per image and per step: 4 images in 0.1 s, 40 % of it reading


@pytest.fixture
def clock(monkeypatch):
    """A clock that only reading images and computing move."""
    now = [100.0]
    monkeypatch.setattr(time, 'perf_counter', lambda: now[0])
    read, compute = RestlessImages.__getitem__, RestlessModel.forward

    def slow_read(self, index):
        now[0] += READ
        return read(self, index)

    def slow_forward(self, *args, **options):
        now[0] += COMPUTE if self.training else 5.0
        return compute(self, *args, **options)

    monkeypatch.setattr(RestlessImages, '__getitem__', slow_read)
    monkeypatch.setattr(RestlessModel, 'forward', slow_forward)
    return now


def config(folder, **options):
    given = options.pop('throughput', {})
    made = resume_config(
        folder,
        by_epoch=False,
        sampler='InfiniteSampler',
        log_processor=dict(type='BenchmarkLogProcessor', by_epoch=False),
        log_level='INFO',
        **options,
    )
    made.default_hooks.throughput = dict(type='ThroughputHook', **given)
    made.default_hooks.runtime_info = dict(type='DeferredInfoHook')
    return made


def scalars(runner):
    path = Path(runner.log_dir) / 'vis_data' / 'scalars.json'
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    return [line for line in lines if 'loss' in line]


def log_of(runner):
    return next(Path(runner.log_dir).glob('*.log')).read_text()


@pytest.mark.parametrize('accumulate', [1, 3])
def test_every_line_tells_pace_and_wait(tmp_path, clock, accumulate):
    made = config(tmp_path, validate=True, accumulate=accumulate)
    made.train_cfg.val_interval = 6  # its seconds are no training
    runner, _ = train(made)
    lines = scalars(runner)
    assert len(lines) == 9  # every second of 18 steps
    # The first window has no wait for its first batch.
    assert lines[0]['images_per_second'] == pytest.approx(8 / 0.16)
    for line in lines[1:]:
        assert line['images_per_second'] == pytest.approx(40)
        assert line['data_wait'] == pytest.approx(40)
        assert 'mfu' not in line  # nobody knows this device's peak
    assert log_of(runner).count('images/s: 40.0  data wait: 40.0 %') == 8


def test_utilisation_is_of_the_stated_peak(tmp_path, clock, monkeypatch):
    monkeypatch.setattr(RestlessModel, 'gflop_per_image', lambda self: 5.0, raising=False)
    runner, _ = train(config(tmp_path, throughput=dict(peak_tflops=0.8)))
    # 40 images/s x 5 GFLOP are 0.2 of 0.8 TFLOP/s.
    assert [line['mfu'] for line in scalars(runner)[1:]] == pytest.approx([25] * 8)
    assert 'MFU: 25.0 %' in log_of(runner)


def test_a_warning_is_rare_and_never_of_the_first_window(tmp_path, clock):
    runner, _ = train(config(tmp_path / 'a', throughput=dict(max_data_wait=0.39, quiet=3)))
    lines = log_of(runner).splitlines()
    steps = [i for i, line in enumerate(lines) if 'Iter(train)' in line]
    warned = [sum(s < i for s in steps) for i, line in enumerate(lines) if 'waiting for' in line]
    assert warned == [1, 5]  # in the second window, and after three silent ones
    assert 'step 4: 40 % of the time' in log_of(runner) and 'num_workers' in log_of(runner)
    runner, _ = train(config(tmp_path / 'b', throughput=dict(max_data_wait=0.41)))
    assert 'waiting for data' not in log_of(runner)


def test_figures_stay_out_of_checkpoints(tmp_path, clock):
    train(config(tmp_path), stop=10)
    resumed, observed = train(config(tmp_path, resume=True))
    assert sorted(observed.losses) == list(range(8, 18))
    hub = read_checkpoint(tmp_path / 'iter_16.pth')['message_hub']
    assert 'train/loss' in hub['log_scalars'] and 'train/loss' in hub['resumed_keys']
    assert not any('images_per' in name for name in [*hub['log_scalars'], *hub['resumed_keys']])
    assert 'is not defined in message_hub' not in log_of(resumed)
    assert scalars(resumed)[-1]['images_per_second'] == pytest.approx(40)


@pytest.mark.parametrize(
    ('name', 'peak'),
    [
        ('NVIDIA A100-SXM4-80GB', 312.0),
        ('NVIDIA H100 80GB HBM3', 989.5),
        ('NVIDIA H100 PCIe', 756.5),
        ('NVIDIA H100 NVL', 835.5),
        ('NVIDIA H200', 989.5),
        ('NVIDIA L40S', 362.05),
        ('NVIDIA L40', None),
        ('Tesla V100-PCIE-16GB', None),  # no bfloat16
        ('NVIDIA GeForce RTX 4090 Laptop GPU', None),
    ],
)
def test_peaks_of_devices(name, peak):
    assert known_peak(name) == peak


def test_every_peak_cites_its_document():
    for name, (peak, document) in PEAKS.items():
        assert document.startswith(name.split()[0]) and 'data sheet' in document, name
        assert 'sparsity' not in document or f'{2 * peak:,.0f} with' in document, name


@pytest.mark.parametrize('options', [dict(max_data_wait=1.1), dict(quiet=0), dict(peak_tflops=0)])
def test_wrong_settings_are_named(options):
    ((name, value),) = options.items()
    with pytest.raises(ValueError, match=f'ThroughputHook {name}={value}: expected'):
        ThroughputHook(**options)
