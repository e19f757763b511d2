"""What a pretraining leaves besides the student: online probe, figures, TensorBoard."""

import re
from pathlib import Path

import pytest
import torch
from mmengine.hooks import Hook
from PIL import Image

from tests.methods.small_run import PROBE, run, small_config, write_images
from tests.programs import run_group

MAE = dict(type='MAE', decoder=dict(arch='sample_tiny'))
FIGURES = dict(probe=PROBE, figure=dict(type='PretrainFigureHook', images=2, points=6, resize=32))


@pytest.fixture
def comad(teachers):
    options = dict(n_fit=16, diagnostics_every=2, decoder=dict(arch='sample_tiny'))
    return dict(type='CoMAD', teachers=teachers, **options)


class Stop(Exception):
    """Ends a run before a chosen step."""


class StopHook(Hook):
    priority = 'HIGHEST'

    def __init__(self, step):
        self.step = step

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if runner.iter == self.step:
            raise Stop


def stopped(config, step):
    import comad.engine.register  # noqa: F401
    from comad.engine.runner import BenchmarkRunner

    runner = BenchmarkRunner.from_cfg(config)
    runner.register_hook(StopHook(step))
    with pytest.raises(Stop):
        runner.train()


def scalars(folder):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder / 'tensorboard'))
    events.Reload()
    return {
        tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in events.Tags()['scalars']
    }


def log_of(folder):
    return '\n'.join(path.read_text() for path in sorted(folder.glob('*/*.log')))


def test_a_run_leaves_probe_curves_and_pictures(tmp_path, comad):
    runner = run(small_config(tmp_path, 'run', comad, hooks=FIGURES))
    history = runner.message_hub.get_info('online_probe')
    assert [entry['epoch'] for entry in history] == [2, 3]
    assert all(0 <= entry['probe_knn_mean'] <= 100 for entry in history)
    shown = scalars(tmp_path / 'run')
    names = {'loss', 'loss_token', 'loss_map', 'gate_entropy', 'target_rank', 'student_rank'}
    names |= {f'{kind}_{name}' for kind in ('share', 'agreement') for name in ('mae', 'ibot')}
    assert names | {'probe_knn_cls', 'probe_knn_mean'} <= set(shown)
    assert [step for step, _ in shown['probe_knn_mean']] == [12, 18]
    lines = re.findall(r'Online probe after epoch \d+: 5-NN top-1 .*', log_of(tmp_path / 'run'))
    assert len(lines) == 2 and '11 training images against 20' in lines[0]
    for name in ('diagnostics.png', 'consensus.png'):
        with Image.open(tmp_path / 'run' / name) as image:
            assert min(image.size) > 100
        assert (tmp_path / 'run' / name).stat().st_size < 1_000_000
    hook = next(h for h in runner.hooks if type(h).__name__ == 'PretrainFigureHook')
    assert [step for step, _ in hook.curves['loss']] == [3, 6, 9, 12, 15, 18]
    # Ranks are looked at every other step: still one point where one was taken.
    assert len(hook.curves['target_rank']) == 6


@pytest.mark.slow
def test_probe_and_figures_change_nothing_in_the_training(tmp_path, comad):
    plain = run(small_config(tmp_path, 'plain', comad))
    watched = run(small_config(tmp_path, 'watched', comad, hooks=FIGURES))
    for name, tensor in plain.model.state_dict().items():
        assert torch.equal(tensor, watched.model.state_dict()[name]), name
    assert watched.model.training and watched.model.backbone.training


@pytest.mark.slow
def test_a_resumed_run_equals_the_whole_one_and_goes_on_in_its_records(tmp_path, comad):
    def config(name, **changes):
        every_step = dict(type='SafeCheckpointHook', by_epoch=False, interval=1, max_keep_ckpts=2)
        hooks = {**FIGURES, 'checkpoint': every_step}
        return small_config(tmp_path, name, comad, hooks=hooks, **changes)

    whole = run(config('whole'))
    stopped(config('part'), step=14)
    resumed = run(config('part', resume=True))
    for name, tensor in whole.model.state_dict().items():
        assert torch.equal(tensor, resumed.model.state_dict()[name]), name
    curves = [
        next(h for h in r.hooks if type(h).__name__ == 'PretrainFigureHook').curves
        for r in (whole, resumed)
    ]
    for name in ('loss', 'loss_map', 'share_mae'):
        assert curves[0][name] == curves[1][name]
    history = [r.message_hub.get_info('online_probe') for r in (whole, resumed)]
    assert history[0] == history[1]
    assert len(list((tmp_path / 'part').glob('*/vis_data'))) == 2
    assert max(step for step, _ in scalars(tmp_path / 'part')['loss']) == 18


def test_seconds_of_the_probe_are_no_training_seconds(tmp_path, monkeypatch):
    import time

    import comad.engine.register  # noqa: F401
    from comad.engine.hooks.online_probe import OnlineProbeHook
    from comad.engine.runner import BenchmarkRunner

    original = OnlineProbeHook.probe
    monkeypatch.setattr(
        OnlineProbeHook, 'probe', lambda self, runner: time.sleep(1) or original(self, runner)
    )
    config = small_config(tmp_path, 'run', MAE, hooks=dict(probe={**PROBE, 'interval': 1}))
    runner = BenchmarkRunner.from_cfg(config)
    start = time.perf_counter()
    runner.train()
    elapsed = time.perf_counter() - start
    # Steps follow on two of the three probes; the clock would count those.
    assert 0 < runner.message_hub.get_info('train_seconds') <= elapsed - 3


def test_a_student_that_tells_colours_apart_is_seen(tmp_path):
    """Mean colour decides the class; even a random network's mean token holds it."""
    runner = run(small_config(tmp_path, 'run', MAE, hooks=dict(probe=PROBE)))
    assert runner.message_hub.get_info('online_probe')[-1]['probe_knn_mean'] > 90


def test_a_figure_that_fails_costs_a_line_only(tmp_path, comad, monkeypatch):
    from comad.methods import CoMAD

    def fail(self, images):
        raise ValueError('no picture today')

    monkeypatch.setattr(CoMAD, 'explain', fail)
    run(small_config(tmp_path, 'run', comad, hooks=FIGURES))
    assert (tmp_path / 'run/diagnostics.png').is_file()
    assert not (tmp_path / 'run/consensus.png').exists()
    assert log_of(tmp_path / 'run').count('own figure was not drawn: ValueError') == 1


def test_a_method_without_explanation_draws_curves_only(tmp_path):
    run(small_config(tmp_path, 'run', MAE, hooks=FIGURES))
    assert (tmp_path / 'run/diagnostics.png').is_file()
    assert not (tmp_path / 'run/consensus.png').exists()


@pytest.fixture
def every_method(comad, teachers):
    whole = [{k: v for k, v in teacher.items() if k != 'mask_ratio'} for teacher in teachers]
    mae, mocov3 = whole[0], whole[1]
    decoder = dict(arch='sample_tiny')
    pair = [{**mocov3, 'role': 'features'}, {**mae, 'role': 'relations'}]
    return {
        'comad': comad,
        'dmt': dict(type='DMT', teachers=whole, n_fit=16),
        'dmt_mean': dict(type='DMT', teachers=whole, heads='mean', n_fit=16),
        'hybrid_distill': dict(type='HybridDistill', teachers=pair, diagnostics_every=2),
        'amd': dict(type='AMD', teachers=[{**mae, 'mask_ratio': 0.5}], decoder=decoder),
        'd_mae_lite': dict(type='DMAELite', teachers=[mae], decoder=decoder),
    }


@pytest.mark.slow
def test_two_processes_train_one_student_and_share_the_probe(tmp_path, every_method):
    """Parameters and what is fitted before the training are equal on both, for all methods."""
    write_images(tmp_path / 'images')
    torch.save(every_method, tmp_path / 'models.pt')
    said = run_group(tmp_path / 'log', 2, 'tests.methods.small_run', tmp_path, module=True)
    for name in every_method:
        lines = [line for line in said.splitlines() if line.startswith(f'{name}: rank')]
        first, second = (line.split(': ', 2)[2] for line in sorted(lines))
        assert first == second, name
        assert len(list(Path(tmp_path / name).glob('tensorboard/events*'))) == 1


@pytest.mark.parametrize(
    ('options', 'named'),
    [
        (dict(bank=4, k=5), 'k=5'),
        (dict(interval=0), 'interval=0'),
        (dict(bank=40, queries=20), 'has 48 images; expected 60'),
        (dict(pools=('max',)), 'max'),
    ],
)
def test_bad_options_are_named(tmp_path, options, named):
    with pytest.raises(ValueError, match=named):
        run(small_config(tmp_path, 'run', MAE, hooks=dict(probe={**PROBE, **options})))
