"""Whatever goes wrong is one line with key and value, exit status 2 or 3, or a fault of ours."""

import shutil

import numpy as np
import pytest
from PIL import Image

from comad.engine import launch as launching
from comad.engine.failures import place_of, raised_on_purpose
from comad.engine.launch import launch
from comad.engine.options import ConfigError, RunOptions, _count
from comad.engine.preemption import check_launcher, is_first_process
from comad.engine.run_config import load_run_config, parse_config
from comad.runs.place import FILES

MAE = str(FILES / 'pretrain_configs/mae_tiny.py')
LINEAR = str(FILES / 'cls_configs/linear_comad_tiny.py')
LOADERS = ('train_dataloader', 'val_dataloader')
SMALL = {'train_dataloader.batch_size': 8, 'param_scheduler': [], 'train_cfg.max_epochs': 1}


@pytest.fixture
def images(tmp_path, monkeypatch):
    """20 and 4 images in two classes; the run is where the test is."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv('COMAD_TRACEBACK', raising=False)
    generator = np.random.default_rng(0)
    for split, count in (('train', 10), ('val', 2)):
        for label in 'ab':
            (folder := tmp_path / 'im' / split / label).mkdir(parents=True)
            for number in range(count):
                pixels = generator.integers(0, 256, (40, 40, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f'{number}.png')
    return tmp_path / 'im'


def start(config, images, test=False, **changes):
    where = {f'{key}.dataset.root': str(images) for key in LOADERS} | {
        f'{key}.num_workers': 0 for key in LOADERS
    }
    if config == MAE:
        where = {k: v for k, v in where.items() if k.startswith('train')}
        where['default_hooks.online_probe'] = None
    options = SMALL | where | changes
    student = None if config == MAE else 'scratch_tiny'
    return launch(
        RunOptions(config, track='sample', student=student, work_dir='w', cfg_options=options),
        test=test,
    )


CASES = {
    'patches': (MAE, {'train_dataloader.dataset.views.size': 100}, 'views.size=100', '96 and 104'),
    'probe': (
        MAE,
        {'default_hooks.online_probe': dict(type='OnlineProbeHook', bank=30, queries=5, k=3)},
        'has 20 images; expected 35 or more',
        'default_hooks.online_probe=None',
    ),
    'no heads': (
        MAE,
        {'model.backbone.num_heads': 0},
        'model.backbone (MaskedViT) with --cfg-options model.backbone.num_heads=0',
        'ZeroDivisionError',
    ),
    'one class': (LINEAR, {'model.num_classes': 1}, 'model.num_classes is 1', '2 classes'),
    'top 5 of 2': (LINEAR, {'model.num_classes': 2}, 'topk=(1, 5) of 2', 'topk=(1,)'),
    'a batch of one': (
        LINEAR,
        {
            'model.num_classes': 2,
            'val_evaluator.topk': (1,),
            'train_dataloader.batch_size': 19,
            'train_dataloader.drop_last': False,
        },
        'batch_size=19 leaves a last batch of 1',
        'train_dataloader.drop_last=True',
    ),
    'a typing error': (MAE, {'optim_wrapper.optimizer.lrr': 1}, 'optimizer.lrr=1', 'lr'),
    'no data': (
        MAE,
        {'train_dataloader.dataset.root': 'nowhere'},
        'missing data: nowhere, seen from ',
        'set train_dataloader.dataset.root',
    ),
    'thrown away': (MAE, {'randomness.seed': 5}, 'randomness.seed=5', '--seed makes it 0'),
    'of the run': (MAE, {'resume': True}, 'resume=True', '--resume'),
    'a list': (MAE, {'param_scheduler.5.end': 3}, 'param_scheduler.5.end=3', 'Index 5'),
    'more than there is': (
        MAE,
        {'train_dataloader.batch_size': 21},
        'batch_size=21 is more than the 20 images',
        'drop_last=False',
    ),
    'a text in a list': (
        MAE,
        {'param_scheduler': ["{'type': 'StepLR'}"]},
        'param_scheduler.0=',
        'expected a dictionary',
    ),
    'a hook as text': (MAE, {'custom_hooks': ['dict(a=1)']}, 'custom_hooks.0=', 'dictionary'),
    'no list': (MAE, {'custom_hooks': 5}, 'custom_hooks=5', 'expected a list of dictionaries'),
    'clipped': (MAE, {'optim_wrapper.clip_grad': 1.0}, 'clip_grad=1.0', 'expected a dictionary'),
    'maybe': (
        MAE,
        {'randomness.deterministic': 'maybe'},
        "randomness.deterministic='maybe'",
        'True or False',
    ),
    'epochs in words': (
        LINEAR,
        {'train_cfg.max_epochs': 'two'},
        "max_epochs='two'",
        'whole number',
    ),
    'always validated': (LINEAR, {'train_cfg.val_interval': 0}, 'val_interval=0', '1 or more'),
    'a teacher': (MAE, {'model.teachers': ['mae']}, "model.teachers.0='mae'", 'family'),
}


@pytest.mark.parametrize('case', CASES)
def test_a_mistake_is_one_line_before_the_first_step(images, capsys, case):
    config, changes, *said = CASES[case]
    assert start(config, images, **changes) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith('error')]
    assert len(lines) == 1 and all(part in lines[0] for part in said), lines
    assert not list(images.parent.glob('w/*.pth'))


def test_validation_data_are_looked_at_before_the_training(images, capsys):
    shutil.rmtree(images / 'val/b')
    (images / 'val/b').mkdir()
    changes = {'model.num_classes': 2, 'val_evaluator.topk': (1,)}
    assert start(LINEAR, images, **changes) == 2
    said = capsys.readouterr().err
    assert 'val_dataloader.dataset (ImageNetFolder)' in said and 'val/b' in said


def test_a_pretraining_cannot_be_tested(images, capsys):
    assert start(MAE, images, test=True) == 2
    assert 'has no test: a pretraining is judged by transfers' in capsys.readouterr().err


def test_an_address_is_no_checkpoint(capsys):
    assert launch(RunOptions(LINEAR), checkpoint='https://example.org/x.pth', test=True) == 2
    assert 'download it' in capsys.readouterr().err


def test_a_loader_without_workers_needs_no_other_change(images):
    whole = {'train_dataloader.num_workers': 0, 'train_dataloader.persistent_workers': True}
    assert start(MAE, images, **whole, **{'train_dataloader.dataset.views.size': 64}) == 0


@pytest.mark.parametrize(
    ('text', 'said'),
    [
        ('a = 1\nb = tru', 'line 2 cannot be read: NameError'),
        ("a = int('x8')", 'line 1 cannot be read: ValueError'),
        ('a = 1 / 0', 'line 1 cannot be read: ZeroDivisionError'),
        ("_base_ = 'mmnosuch::a/b.py'", 'mmnosuch'),
        ("_base_ = './none.py'", 'cannot be read'),
        ('a = (', 'cannot be read: SyntaxError'),
        ('import sys\nsys.exit(0)', 'line 2 cannot be read: SystemExit'),
    ],
)
def test_a_config_that_fails_is_named_with_its_line(tmp_path, text, said):
    (tmp_path / 'broken.py').write_text(text)
    with pytest.raises(ConfigError) as error:
        parse_config(tmp_path / 'broken.py')
    assert said in str(error.value) and '\n' not in str(error.value)
    (tmp_path / 'leaf.py').write_text("_base_ = './broken.py'\n\n\n")
    with pytest.raises(ConfigError, match=r'broken\.py' if 'line' in said else ''):
        parse_config(tmp_path / 'leaf.py')


@pytest.mark.parametrize(
    ('text', 'said'),
    [
        ('', 'model is missing'),
        ('model = None', 'model is missing'),
        ("model = dict(type='MAE')\ndefault_hooks = None", 'default_hooks=None: expected'),
        ("model = dict(type='MAE')\ntrain_dataloader = 5", 'train_dataloader=5: expected a dict'),
    ],
)
def test_a_config_without_what_is_needed_names_it(tmp_path, text, said):
    (tmp_path / 'own.py').write_text(text)
    with pytest.raises(ConfigError) as error:
        load_run_config(RunOptions(str(tmp_path / 'own.py')))
    assert said in str(error.value)


def test_going_on_longer_is_no_beginning():
    with pytest.raises(ConfigError, match='--extend belongs to --resume'):
        load_run_config(RunOptions(MAE, track='sample', extend=True))


class Running:
    """A run that fails in one of its phases."""

    cfg, _train_loop, work_dir, iter = {'train_cfg': None}, None, 'w', 3

    def __init__(self, error, phase):
        self.error, self.phase = error, phase

    def test(self):
        raise self.error


@pytest.mark.parametrize(
    ('phase', 'changes', 'status'),
    [
        ('start', {}, 2),
        ('the first test', {'a': 1}, 3),
        ('the first test', {}, None),
        ('', {'a': 1}, None),
    ],
)
def test_what_a_run_was_given_is_blamed_until_it_has_worked(
    monkeypatch, capsys, phase, changes, status
):
    error = RuntimeError('size of tensor a')
    monkeypatch.delenv('COMAD_TRACEBACK', raising=False)
    monkeypatch.setattr(launching, '_build', lambda *_, **__: Running(error, phase))
    cfg = parse_config(LINEAR)
    cfg.work_dir, cfg.train_cfg = 'w', None
    monkeypatch.setattr(launching, 'load_run_config', lambda _: cfg)
    options = RunOptions('x', track='sample', cfg_options=changes)
    if status is None:
        with pytest.raises(RuntimeError):
            launch(options, test=True)
        return
    assert launch(options, test=True) == status
    said = capsys.readouterr().err
    assert 'size of tensor a' in said and said.count('error: ') == 1
    assert ('--cfg-options a=1' in said) == bool(changes)


def test_our_refusals_are_told_from_accidents():
    def refuse():
        from comad.evaluation.metrics import Accuracy

        Accuracy(topk=())

    for function, expected in ((refuse, True), (lambda: int('x'), False), (lambda: {}[1], False)):
        with pytest.raises((ValueError, KeyError)) as caught:
            function()
        assert raised_on_purpose(caught.value) == expected
    worker = (
        'Caught ValueError in DataLoader worker process 0.\nOriginal Traceback (most recent call '
        f'last):\n  File "{FILES}/comad/data/x.py", line 3, in y\n    raise ValueError(1)\n'
        'ValueError: no image'
    )
    assert raised_on_purpose(ValueError(worker))
    assert not raised_on_purpose(ValueError(worker.replace(str(FILES), '/elsewhere')))


def test_nothing_is_built_outside_of_a_config():
    assert place_of(ValueError('x'), None) == ('', '')


@pytest.mark.parametrize(
    ('name', 'launcher'), [('WORLD_SIZE', 'pytorch'), ('SLURM_STEP_NUM_TASKS', 'slurm')]
)
def test_several_processes_need_a_launcher(monkeypatch, name, launcher):
    monkeypatch.setenv(name, '2')
    monkeypatch.setenv('SLURM_PROCID', '1')
    with pytest.raises(ConfigError, match=f'2 processes .*--launcher {launcher}'):
        check_launcher(None)
    assert not is_first_process()
    check_launcher(launcher)
    assert not is_first_process()
    check_launcher('none')  # each is a run of its own, and speaks for itself
    assert is_first_process()
    monkeypatch.setenv(name, '1')
    check_launcher(None)


def test_seeds_are_whole_numbers():
    assert _count('7') == 7
    for text in ('-1', '1.5', 'x', str(2**32)):
        with pytest.raises(Exception, match='expected a whole number'):
            _count(text)


def test_the_data_of_a_run_are_those_that_its_loaders_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    roots = {f'{key}.dataset.root': str(tmp_path) for key in LOADERS}
    options = RunOptions(LINEAR, student='scratch_tiny', cfg_options=roots)
    assert load_run_config(options).val_dataloader.dataset.root == str(tmp_path)
    del options.cfg_options['val_dataloader.dataset.root']
    with pytest.raises(ConfigError, match=r'missing data: data/imagenet .*val_dataloader'):
        load_run_config(options)
