"""Configs: names, overlays, work dirs, unknown keys and missing paths, before torch is imported."""

import ast
import json
import os
import subprocess
import sys
from dataclasses import replace
from functools import partial

import pytest
from mmengine.config import Config
from mmengine.runner import Runner

from comad.commands.train import parse_args
from comad.engine.launch import _refuse
from comad.engine.options import ConfigError, RunOptions
from comad.engine.paths import SAMPLE_ROOTS, check_paths
from comad.engine.run_config import (
    config_digest,
    load_run_config,
    parse_config,
    parse_leaf_name,
    replace_values,
)
from comad.engine.tracks import track_value
from comad.runs.place import CALLER, FILES, HOME, get_track
from tests.resolved import leaves, resolved_config


def load(path: str, **options):
    """A resolved config as if all data, teachers and students were there."""
    return load_run_config(RunOptions(path, **options), check=False)


@pytest.mark.parametrize(
    ('name', 'expected'),
    [
        ('pretrain_configs/comad_tiny.py', ('pretrain', 'comad', 'tiny')),
        ('pretrain_configs/comad_only_mae_tiny.py', ('pretrain', 'comad_only_mae', 'tiny')),
        ('seg_configs/upernet_mae_tiny.py', ('upernet', 'mae', 'tiny')),
        ('det_configs/mask_rcnn_hybrid_distill_tiny.py', ('mask_rcnn', 'hybrid_distill', 'tiny')),
        # The longest kind that fits.
        ('det_configs/mask_rcnn_1x_mae_tiny.py', ('mask_rcnn_1x', 'mae', 'tiny')),
        ('det_configs/mae_lite_mask_rcnn_mae_tiny.py', ('mae_lite_mask_rcnn', 'mae', 'tiny')),
        ('seg_configs/ibot_seg_linear_mae_tiny.py', ('ibot_seg_linear', 'mae', 'tiny')),
    ],
)
def test_leaf_names(name, expected):
    leaf = parse_leaf_name(name)
    assert (leaf.kind, leaf.method, leaf.arch) == expected


def test_wrong_leaf_names():
    assert parse_leaf_name('elsewhere/anything.py') is None
    with pytest.raises(ConfigError, match='led by one of linear'):
        parse_leaf_name('cls_configs/comad_tiny.py')
    with pytest.raises(ConfigError, match='arch is one of tiny'):
        parse_leaf_name('pretrain_configs/comad_giant.py')


@pytest.mark.parametrize('sample', [False, True])
@pytest.mark.parametrize('path', leaves(), ids=lambda path: path.stem)
def test_every_leaf_resolves_and_agrees_with_its_name(path, sample):
    leaf = parse_leaf_name(path)
    cfg = resolved_config(path, sample)
    root = 'work_dirs/sample' if sample else 'work_dirs'
    # Students lie together, whatever made them.
    folder = 'pretrain' if leaf.folder == 'distill' else leaf.kind
    assert cfg.work_dir == f'{root}/{folder}/{leaf.student}/seed0'
    assert cfg.run.student == leaf.student and cfg.randomness.seed == 0
    assert cfg.model.backbone.arch == ('sample_' if sample else '') + leaf.arch
    if leaf.folder not in ('pretrain', 'distill'):
        assert cfg.model.backbone.init_cfg.student == leaf.student
        assert cfg.model.backbone.init_cfg.root == f'{root}/pretrain'
        assert cfg.protocol.name and cfg.protocol.version
    roots = []
    replace_values(cfg, lambda key, value: roots.append(value) or value)
    data = [v for v in roots if isinstance(v, str) and v.startswith('data/')]
    assert data and all(v.startswith(SAMPLE_ROOTS) == sample for v in data)
    assert path.read_text().lstrip().startswith('"""') and cfg.run.source == path.read_text()


def test_another_student_moves_the_run():
    leaf = 'cls_configs/linear_comad_tiny.py'
    cfg = load(leaf, track='sample', student='mae_base:2', seed=4)
    assert cfg.work_dir == 'work_dirs/sample/linear/mae_base/pretrain2_seed4'
    assert cfg.randomness.seed == cfg.run.seed == 4 and cfg.run.pretrain_seed == 2
    assert cfg.model.backbone.init_cfg.seed == 2 and cfg.model.backbone.arch == 'sample_base'
    assert load(leaf, seed=3).work_dir == 'work_dirs/linear/comad_tiny/seed3'


@pytest.mark.parametrize(
    ('path', 'student'),
    [(path, 'mae_tiny:1') for path in leaves('cls', 'seg', 'det')]
    + [(FILES / 'cls_configs/knn_comad_tiny.py', s) for s in ('scratch_tiny', 'dmt_mean_small')],
    ids=lambda value: getattr(value, 'stem', value),
)
def test_the_source_of_another_student_is_the_leaf_that_would_name_it(tmp_path, path, student):
    name = student.split(':')[0]
    source = load(str(path), student=student).run.source
    docstring = ast.get_docstring(ast.parse(source))
    assert f'of {name}: {path.relative_to(FILES)} --student {name}' in docstring
    assert 'comad' not in source.replace(path.name, '').lower()
    own = tmp_path / path.parent.name / path.name.replace('comad_tiny', name)
    own.parent.mkdir()
    own.write_text(source.replace("'../", f"'{FILES}/"))
    init_cfg = parse_config(own).model.backbone.init_cfg
    assert init_cfg.to_dict() == dict(type='StudentWeights', student=name)


def test_its_own_student_by_name_leaves_the_source_alone():
    leaf = 'cls_configs/knn_comad_tiny.py'
    assert load(leaf, student='comad_tiny:3').run.source == (FILES / leaf).read_text()


def test_the_digest_ignores_where_and_how_often():
    path = 'cls_configs/linear_comad_tiny.py'
    first = load(path, seed=0)
    second = load(path, seed=5, work_dir='elsewhere')
    third = load(path, cfg_options={'train_dataloader.batch_size': 3})
    assert config_digest(first) == config_digest(second) != config_digest(third)


def test_the_overlay_only_changes_data_sizes_and_lengths():
    """The sample must run the same code: no type may differ between the two configs."""
    for path in leaves():
        full, sample = resolved_config(path), resolved_config(path, sample=True)
        assert full.model.type == sample.model.type, path.name
        networks = {'distill_configs': 'StagedClassifier', 'video_configs': 'MaskedVideoViT'}
        network = 'MaskedVideoViT' if 'video' in path.stem else 'MaskedViT'
        network = networks.get(path.parent.name, network)
        assert full.model.backbone.type == sample.model.backbone.type == network
        if 'optim_wrapper' in full:
            assert full.optim_wrapper.get('constructor') == sample.optim_wrapper.get('constructor')
            assert full.optim_wrapper.optimizer.type == sample.optim_wrapper.optimizer.type


@pytest.mark.parametrize(
    ('text', 'key'),
    [
        ('trian_cfg = dict()', 'trian_cfg'),
        ('optim_wrapper = dict(clip_grd=dict(max_norm=1))', 'optim_wrapper.clip_grd'),
        ('auto_scale_lr = dict(base_batchsize=4)', 'auto_scale_lr.base_batchsize'),
    ],
)
def test_a_key_that_nothing_reads_is_named(tmp_path, text, key):
    leaf = tmp_path / 'cls_configs' / 'linear_comad_tiny.py'
    leaf.parent.mkdir()
    base = FILES / 'cls_configs' / 'linear_comad_tiny.py'
    leaf.write_text(f'_base_ = {str(base)!r}\nsize = 3\nlog_level = str(size)\n{text}\n')
    with pytest.raises(ConfigError, match=f'nothing reads the config key {key!r}'):
        load_run_config(RunOptions(str(leaf)))


def test_yaml_is_read_and_its_unknown_keys_are_named(tmp_path):
    config = tmp_path / 'own.yaml'
    base = f'_base_: [{FILES}/pretrain_configs/mae_tiny.py]\n'
    config.write_text(base + 'train_cfg:\n  max_epochs: 77\n')
    assert load(str(config)).train_cfg.max_epochs == 77
    config.write_text(base + 'train_cgf: 1\n')
    with pytest.raises(ConfigError, match="nothing reads the config key 'train_cgf'"):
        load(str(config))


@pytest.mark.parametrize('tool', ['train', 'test', 'show', 'sweep', 'leaderboard', 'weights'])
def test_help_takes_nothing_slow(tmp_path, tool):
    code = (
        'import sys, runpy; sys.argv = sys.argv[1:]\n'
        'try: runpy.run_path(sys.argv[0], run_name="__main__")\n'
        'finally: print("taken", *{"torch", "mmengine", "numpy"} & set(sys.modules))'
    )
    command = [sys.executable, '-c', code, str(FILES / 'tools' / f'{tool}.py'), '--help']
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0 and 'examples:' in done.stdout
    assert done.stdout.splitlines()[-1] == 'taken'


OPTIONS_ALONE = [
    ('train.py', ['pretrain_configs/none_tiny.py'], 'does not exist'),
    ('train.py', ['linear_comda_tiny'], 'did you mean linear_comad_tiny or'),
    ('show.py', ['pretrain_configs/mae_tny.py'], 'did you mean mae_tiny or'),
    (
        'test.py',
        ['linear_comad_tiny', '--student', 'mae_tny:1'],
        'mae_tny:1 (did you mean mae_tiny',
    ),
    ('pretrain.py', ['mocov'], "no method 'mocov' (did you mean mocov3 or"),
    (
        'distill.py',
        ['fbt', 'cifar100', 'swin_tiny', 'resnet19'],
        "'resnet19' (did you mean resnet18",
    ),
    (
        'train.py',
        ['cls_configs/linear_comad_tiny.py', '--student', 'comad'],
        '?): expected <method>',
    ),
    (
        'show.py',
        ['cls_configs/linear_comad_tiny.py', '--student', 'comad'],
        '?): expected <method>',
    ),
    ('train.py', ['pretrain_configs/comad_tiny.py', '--resume', 'a.pth'], 'no such checkpoint'),
    ('train.py', ['pretrain_configs/comad_tiny.py', '--replay', 'nan_step1'], 'does not exist'),
    ('test.py', ['cls_configs/linear_comad_tiny.py', 'a.pth'], 'a.pth does not exist'),
    ('weights.py', ['inspect', 'a.pth'], 'a.pth does not exist'),
]
CONFIG = [
    ('train.py', ['pretrain_configs/comad_tiny.py'], 'missing data: data/imagenet'),
    (
        'train.py',
        ['det_configs/mask_rcnn_comad_tiny.py', '--cfg-options', 'optim_wrapper.clip_grd.norm=1'],
        "config key 'optim_wrapper.clip_grd.norm'",
    ),
    ('train.py', ['comad_tiny', '--cfg-options', 'modle.tau=1'], "'modle.tau' (did you mean model"),
    ('train.py', ['comad_tiny', '--teachers', 'dinov4=x'], 'called dinov4 (did you mean dinov'),
    ('train.py', ['comad_tiny', '--student-arch', 'resnet81'], 'no such network (did you mean res'),
]


REFUSALS = [(*case, set()) for case in OPTIONS_ALONE] + [
    (*case, {'mmengine', 'numpy'}) for case in CONFIG
]
# One process for all, in this order: a command's answer, and the slow packages taken until then.
ANSWERS = """
import contextlib, importlib, io, json, sys
for tool, arguments in json.load(sys.stdin):
    main = importlib.import_module('comad.commands.' + tool.removesuffix('.py')).main
    with contextlib.redirect_stderr(io.StringIO()) as said:
        code = main(arguments)
    taken = {'torch', 'mmengine', 'numpy'} & set(sys.modules)
    print(json.dumps([code, said.getvalue(), sorted(taken)]))
"""


@pytest.fixture(scope='module')
def refusals(tmp_path_factory):
    """What each of the refused commands answered, and what they all left in their folder."""
    folder = tmp_path_factory.mktemp('nothing')
    commands = [
        (tool, [str(FILES / a) if a.endswith('_tiny.py') else a for a in arguments])
        for tool, arguments, _, _ in REFUSALS
    ]
    done = subprocess.run(
        [sys.executable, '-c', ANSWERS],
        input=json.dumps(commands),
        capture_output=True,
        text=True,
        cwd=folder,
        env={**os.environ, HOME: '.', CALLER: '.'},
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()], list(folder.iterdir())


@pytest.mark.parametrize('number', range(len(REFUSALS)))
def test_refusals_are_one_line_without_torch(refusals, number):
    _, _, message, allowed = REFUSALS[number]
    answers, left = refusals
    code, said, taken = answers[number]
    assert code == 2
    assert message in said and said.count('\n') == 1, said
    assert set(taken) <= allowed and left == []


@pytest.mark.parametrize(
    ('word', 'said'),
    [('lr', 'lr: expected KEY=VALUE'), ('=3', '=3: expected KEY=VALUE'), ('a=[1,2', 'in [1,2')],
)
def test_options_that_are_no_key_and_value_are_refused(capsys, word, said):
    with pytest.raises(SystemExit):
        parse_args(['x.py', '--cfg-options', word])
    assert said in capsys.readouterr().err.splitlines()[-1]


def test_values_of_options_are_read_as_mmengine_reads_them():
    words = ['a.b=1', 'c=[1,(2,x)]', 'd=None', 'e=1e-4', 'f=true', 'g=k=v']
    given = parse_args(['x.py', '--cfg-options', *words[:2], '--cfg-options', *words[2:]])
    expected = {'a.b': 1, 'c': [1, (2, 'x')], 'd': None, 'e': 1e-4, 'f': True, 'g': 'k=v'}
    assert given.cfg_options == expected


def test_the_sample_replaces_teachers_and_forgets_their_pins():
    model = dict(
        teachers=[
            dict(
                family='mae',
                checkpoint='teachers/mae_pretrain_vit_base.pth',
                arch='base',
                md5='8cad7c',
            )
        ]
    )
    (teacher,) = replace_values(model, partial(track_value, get_track('sample')))['teachers']
    folder = 'work_dirs/sample/pretrain/mae_base/seed0'
    assert teacher['checkpoint'] == f'{folder}/mae_pretrain_vit_base.pth'
    assert teacher['arch'] == 'sample_base' and teacher['md5'] is None


@pytest.mark.parametrize(
    ('path', 'length', 'named'),
    [
        ('pretrain_configs/comad_tiny.py', dict(max_epochs=1), 'max_epochs=1 leaves no epoch'),
        ('seg_configs/upernet_comad_tiny.py', dict(max_iters=20), 'max_iters=20 leaves no iter'),
    ],
)
def test_a_training_that_ends_with_its_warm_up_is_one_line(path, length, named):
    changes = {f'train_cfg.{key}': value for key, value in length.items()}
    options = RunOptions(path, track='sample', cfg_options=changes)
    with pytest.raises(ConfigError, match=named) as caught:
        load_run_config(options, check=False)
    assert str(caught.value).startswith(path) and '\n' not in str(caught.value)
    longer = {key: value + 100 for key, value in changes.items()}
    load_run_config(RunOptions(path, track='sample', cfg_options=longer), check=False)


HOOKS = 'step_seed throughput preemption bad_images loss_check plain_checkpoint timer checkpoint'


@pytest.mark.parametrize('name', [*HOOKS.split(), 'online_probe', 'student_export'])
def test_hooks_can_be_switched_off(name):
    changes = {f'default_hooks.{name}': None}
    options = RunOptions('pretrain_configs/mae_tiny.py', track='sample', cfg_options=changes)
    hooks = load_run_config(options, check=False).default_hooks
    Runner.register_default_hooks(runner := Registered(), hooks)  # it asserts on other Nones
    assert len(runner.hooks) > 10 and None not in runner.hooks
    left = [hook['type'] for hook in runner.hooks]
    there = load_run_config(replace(options, cfg_options={}), check=False).default_hooks[name]
    assert there.type not in left


class Registered:
    """Stands in for a Runner, and keeps the configs of its hooks."""

    def __init__(self):
        self.hooks = []

    def register_hook(self, hook):
        self.hooks.append(hook)


@pytest.mark.parametrize(
    ('name', 'said'), [('wall_time', 'every other hook can'), ('loss_chek', 'expected one of bad')]
)
def test_a_hook_that_cannot_be_switched_off_is_named(name, said):
    options = RunOptions(
        'pretrain_configs/mae_tiny.py', cfg_options={f'default_hooks.{name}': None}
    )
    with pytest.raises(ConfigError, match=f'default_hooks.{name}=None: .*{said}'):
        load_run_config(options, check=False)


@pytest.mark.parametrize('error', [AssertionError(), KeyError('backbone'), ValueError(' ')])
def test_a_refusal_is_never_a_bare_name(capsys, error):
    try:
        raise error
    except (AssertionError, KeyError, ValueError) as caught:
        assert _refuse(caught) == 2
    line = capsys.readouterr().err.splitlines()[0]
    assert type(error).__name__ in line and 'test_run_config.py, line' in line
    assert line.endswith('raise error')


@pytest.mark.parametrize(
    ('file', 'sample', 'end'),
    [
        (
            'teachers/none.pth',
            False,
            'see docs/data.md; or add --sample to run on the embedded sample',
        ),
        ('none.pth', True, 'the mae file none.pth; a weight file is expected there'),
        ('work_dirs/sample/pretrain/mae_base/seed0/none.pth', True, 'tools/pretrain.sh mae_base'),
    ],
)
def test_a_missing_teacher_is_told_wherever_it_was_to_lie(file, sample, end):
    cfg = Config({'model': {'teachers': [{'family': 'mae', 'checkpoint': file}]}})
    with pytest.raises(ConfigError, match='missing teacher: the mae file') as caught:
        check_paths(cfg, get_track('sample' if sample else 'full'))
    assert end in str(caught.value)


@pytest.mark.parametrize(
    ('file', 'end'),
    [
        ('none.safetensors', 'a student.safetensors with its student.json is expected there'),
        (
            'work_dirs/sample/pretrain/dmt_tiny/seed0/student.safetensors',
            'tools/pretrain.sh dmt_tiny',
        ),
    ],
)
def test_missing_weights_to_start_from_are_told(file, end):
    start = {'type': 'StudentWeights', 'checkpoint': file}
    cfg = Config({'model': {'backbone': {'init_cfg': start}}})
    with pytest.raises(ConfigError, match=f'missing weights to start from: {file}') as caught:
        check_paths(cfg, get_track('sample'))
    assert end in str(caught.value)
