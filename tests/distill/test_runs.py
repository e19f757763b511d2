"""Distillations as users start them: names, recipes, runs, records, tables, exports, transfers."""

import csv
import json
from itertools import product

import pytest
import timm
import torch

from backbones import StagedClassifier, load_student, save_student
from backbones.staged_table import NETWORKS
from comad.commands import distill, made_first
from comad.data.cifar_files import MEAN, STD
from comad.data.sample.write import SampleSizes, write_sample
from comad.engine.distillation import command_of, parse_pair, recipe_leaf
from comad.engine.options import ConfigError, RunOptions
from comad.engine.run_config import config_digest, load_run_config
from comad.leaderboard.tables import build_leaderboards
from comad.runs.place import FILES
from comad.runs.record import read_records
from comad.sweep.step import Step
from comad.tasks.task import TASKS
from comad.weights import export_timm
from tests.calls import call
from tests.resolved import leaves

CNN = 'distill_configs/cifar100_fbt_swin_tiny_resnet18.py'
IMAGENET = 'distill_configs/imagenet_fbt_swin_tiny_resnet18.py'
AVERAGED = 'distill_configs/imagenet_fbt_convnext_tiny_deit_tiny.py'
TOKEN = 'distill_configs/cifar100_fbt_convnext_tiny_deit_tiny.py'
SIZES = SampleSizes(imagenet_train=48, imagenet_val=10, scenes_train=8, scenes_val=4)
SHORT = ('train_cfg.max_epochs=2', 'train_cfg.val_interval=2', 'train_dataloader.batch_size=16')


def config(leaf=CNN, **options):
    return load_run_config(RunOptions(str(FILES / leaf), **options), check=False)


@pytest.mark.parametrize('leaf', leaves('distill'), ids=lambda path: path.stem)
def test_a_leaf_is_what_its_name_puts_in(leaf):
    """Another pair through the other way round comes back to the same resolved config."""
    data, _, rest = leaf.stem.partition('_')
    own = config(leaf)
    other = 'kd_vit_small_resnet50' if 'resnet' in rest else 'kd_resnet50_swin_pico'
    swapped = config(leaf, student=other)
    assert swapped.model.type == 'KD' and config_digest(swapped) != config_digest(own)
    assert (own.run.student, own.run.method) == (leaf.stem, 'fbt')
    assert swapped.run.student == f'{data}_{other}'
    assert own.work_dir == f'work_dirs/pretrain/{leaf.stem}/seed0'
    table = {k: v for k, v in own.model.items() if k not in ('type', 'teachers', 'backbone')}
    assert {k: v for k, v in swapped.model.items() if k in table} == table


def test_settings_of_a_pair_follow_its_name():
    ofa = config(student='ofa_swin_tiny_resnet18').model
    assert (ofa.type, ofa.ofa_weight) == ('OFA', 0.1)
    assert 'ofa_weight' not in config(TOKEN, student='ofa_convnext_tiny_deit_tiny').model
    assert config(IMAGENET, student='fbt_deit_tiny_resnet18').model.eps == 1.5
    (teacher,) = config(student='kd_vit_small_mobilenetv2').model.teachers
    assert teacher.checkpoint == 'teachers/vit_small_patch16_224_cifar100.pth'
    (teacher,) = config(student='kd_resnet50_resnet18').model.teachers
    assert teacher.checkpoint == (
        'work_dirs/pretrain/cifar100_plain_resnet50/seed0/student.safetensors'
    )
    views = config(student='kd_vit_small_mobilenetv2').val_dataloader.dataset.views
    assert (views.resize, views.interpolation) == (256, 'bicubic')
    assert 'teachers' not in config(student='plain_resnet18').model


@pytest.mark.parametrize(
    ('options', 'line'),
    [
        (dict(student='kd_swin_tiny_deit_tiny'), 'a recipe for cnn students; use .*deit_tiny.py'),
        (
            dict(student='kx_swin_tiny_resnet18'),
            r"no method 'kx' \(did you mean kd\?\); one of: plain, kd, dkd",
        ),
        (dict(student='kd_base_resnet18'), 'kd_base_resnet18: expected <method>_<teacher>'),
        (dict(student='kd_swin_tiny_resnet18:1'), 'expected <method>_<teacher>_<student>'),
        (dict(student='kd_vit_small_resnet50', track='sample'), 'resnet50.* has no stand-in'),
    ],
)
def test_names_that_are_none(options, line):
    with pytest.raises(ConfigError, match=line):
        config(**options)


def test_a_leaf_that_trains_something_else_is_refused(tmp_path):
    folder = tmp_path / 'distill_configs'
    folder.mkdir()
    text = (FILES / CNN).read_text().replace("'../base", f"'{FILES}/base")
    (folder / 'cifar100_ofa_swin_tiny_resnet18.py').write_text(text)
    with pytest.raises(ConfigError, match='is named after ofa_swin_tiny_resnet18 but trains fbt_s'):
        config(folder / 'cifar100_ofa_swin_tiny_resnet18.py')


def test_methods_of_one_student_share_one_protocol():
    runs = [
        config(student=f'{name}_resnet18') for name in ('plain', 'kd_swin_tiny', 'crd_vit_small')
    ]
    fields = [
        TASKS['cifar100'].read_protocol(run._cfg_dict.to_dict(), 8) for run in (config(), *runs)
    ]
    assert all(found == fields[0] for found in fields) and None not in fields[0].values()
    assert fields[0]['schedule'] == 'cosine over all epochs to 0.001, set per epoch'
    changed = config(cfg_options={'model.label_smoothing': 0.0})._cfg_dict.to_dict()
    assert TASKS['cifar100'].read_protocol(changed, 8)['label_smoothing'] == 0.0
    changed = config(cfg_options={'model.label_weight': 0.5})._cfg_dict.to_dict()
    assert TASKS['cifar100'].read_protocol(changed, 8) != fields[0]


def test_images_are_normalised_as_the_exports_say():
    found = config().model.data_preprocessor
    assert found.mean == tuple(round(255 * value, 4) for value in MEAN)
    assert found.std == tuple(round(255 * value, 4) for value in STD)


def test_the_command_names_the_recipe(capsys):
    assert distill.find_run(['fbt', 'cifar100', 'swin_tiny', 'resnet18']) == [CNN]
    assert distill.find_run(['plain', 'cifar100', 'swin_pico']) == [
        *(TOKEN, '--student', 'plain_swin_pico')
    ]
    assert recipe_leaf('imagenet', 'mobilenetv2').endswith('imagenet_fbt_swin_tiny_resnet18.py')
    for words, line in (
        (
            ['fbt', 'cifar10', 'swin_tiny', 'resnet18'],
            "no data 'cifar10' (did you mean cifar100?); one of: cifar100",
        ),
        (['fbt', 'cifar100', 'resnet18'], '1 networks after cifar100; fbt wants TEACHER STUDENT'),
        (
            ['fbt', 'cifar100', 'swin', 'resnet18'],
            "no network 'swin' (did you mean swin_tiny or swin_pico or swin_nano?); one of: res",
        ),
        (['fbd'], "no method 'fbd' (did you mean fbt?); one of: plain kd"),
    ):
        assert distill.main(words) == 2
        assert line in capsys.readouterr().err
    assert command_of('cifar100_fbt_swin_tiny_resnet18') == (
        'tools/distill.sh fbt cifar100 swin_tiny resnet18'
    )
    assert command_of('imagenet_plain_swin_pico') == 'tools/distill.sh plain imagenet swin_pico'
    assert command_of('comad_tiny') is None
    assert parse_pair('kd_swin_tiny', 'resnet18').name == 'kd_swin_tiny'


def test_the_page_lists_all_networks_and_methods():
    text = (FILES / 'docs/distillation.md').read_text()
    networks = text.partition('## Networks')[2]
    for family, name in (('cnn', '(CNN)'), ('token', '(token)')):
        listed = networks.partition(f'` {name}')[0].rpartition('`')[2].split()
        assert listed == [arch for arch, entry in NETWORKS.items() if entry.family == family]
    rows = text.partition('| method | file')[2].partition('###')[0].splitlines()[2:]
    files = [row.split('|')[2].strip(' `') for row in rows if row]
    classes = {name.partition('_no_')[0].partition('_detached')[0] for name in distill.methods()}
    assert sorted(files) == sorted(f'{name}.py' for name in classes)


def test_without_data_one_line_says_what_is_missing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = call('train', FILES / CNN, cwd=tmp_path)
    (line,) = done.stderr.splitlines()
    assert done.returncode == 2
    assert line.startswith(
        'error: missing data: data/cifar-100-binary (train.bin, test.bin and fine_label_names.txt'
    )


def test_on_the_sample_the_command_makes_what_is_missing(tmp_path, monkeypatch):
    """Images and the teacher's own run, each only where it is not there."""
    monkeypatch.chdir(tmp_path)
    names = ['fbt', 'cifar100', 'swin_tiny', 'resnet18']

    def made(*options, names=names):
        arguments = [*distill.find_run(names), '--sample', *options]
        return [step.name for step in distill.missing_steps(names, arguments)]

    images, teacher = 'data', 'distil_cifar100_plain_swin_tiny_p0'
    assert made() == [images, teacher]
    assert made(names=['plain', 'cifar100', 'resnet18']) == [images]
    assert made('--print-work-dir') == []
    (tmp_path / 'data/sample/cifar-100-binary').mkdir(parents=True)
    assert made() == [teacher]
    # Neither is it made again, nor in place of a file that is named.
    assert made('--cfg-options', 'model.teachers.0.checkpoint=mine.pth') == []
    run = tmp_path / 'work_dirs/sample/pretrain/cifar100_plain_swin_tiny/seed0'
    run.mkdir(parents=True)
    (run / 'student.safetensors').touch()
    assert made() == []


@pytest.mark.parametrize('sample', [['--sample'], ['--track', 'sample'], ['--track=sample']])
def test_what_cannot_be_made_is_refused_in_one_line(tmp_path, monkeypatch, capsys, sample):
    monkeypatch.chdir(tmp_path)
    assert distill.main(['kd', 'cifar100', 'resnet50', 'resnet18', *sample]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: --sample: 'resnet50' has no stand-in")
    monkeypatch.setattr(distill, 'become', lambda *_: pytest.fail('it was started all the same'))
    step = Step('teacher', ('python', '-c', 'raise SystemExit(3)'), ('student',), seconds=200)
    monkeypatch.setattr(distill, 'missing_steps', lambda *_: [step])
    monkeypatch.setattr(made_first, 'home', lambda: tmp_path)
    assert distill.main(['kd', 'cifar100', 'swin_tiny', 'resnet18', *sample]) == 1
    said = capsys.readouterr().out
    assert said.startswith('made first, about 3 min on one core: teacher\n')
    assert 'FAILED (exit 3)' in said


def test_teachers_of_the_sample_train_longer_than_students():
    teacher = config(student='plain_convnext_tiny', track='sample')
    student = config(TOKEN, student='plain_deit_tiny', track='sample')
    assert teacher.optim_wrapper.optimizer.type == 'AdamW'
    assert 'momentum' not in teacher.optim_wrapper.optimizer
    assert teacher.train_cfg.max_epochs > 3 * student.train_cfg.max_epochs
    assert config(student='plain_convnext_tiny').optim_wrapper.optimizer.type == 'SGD'


@pytest.fixture(scope='module')
def home(tmp_path_factory):
    """A small sample, teachers of random weights and nothing else."""
    folder = tmp_path_factory.mktemp('home')
    write_sample(folder / 'data/sample', seed=3, sizes=SIZES)
    for data, arch in product(('cifar100', 'imagenet'), ('swin_tiny', 'convnext_tiny')):
        torch.manual_seed(1)
        teacher = StagedClassifier(arch=f'sample_{arch}', num_classes=10)
        run = folder / f'work_dirs/sample/pretrain/{data}_plain_{arch}/seed0'
        save_student(run, teacher, {'name': f'{data}_plain_{arch}', 'arch': arch})
    return folder


def train(home, leaf, *arguments, options=SHORT):
    done = call(
        *('train', FILES / leaf, '--sample', *arguments, '--cfg-options', *options), cwd=home
    )
    assert done.returncode == 0, done.stderr
    return done


@pytest.fixture(scope='module')
def trained(home):
    train(home, CNN)
    train(home, CNN, '--student', 'plain_resnet18')
    train(home, TOKEN, '--student', 'kd_convnext_tiny_swin_pico')
    return home


@pytest.mark.slow
def test_a_run_leaves_student_card_record_and_row(trained):
    run = trained / 'work_dirs/sample/pretrain/cifar100_fbt_swin_tiny_resnet18/seed0'
    card = json.loads((run / 'student.json').read_text())
    assert (card['method'], card['arch'], card['track']) == ('fbt', 'resnet18', 'sample')
    assert card['data']['name'] == 'sample' and card['epochs'] == 2
    (teacher,) = card['teachers']
    assert (teacher['family'], teacher['file']) == ('Swin-T', 'student.safetensors')
    records = read_records(trained / 'results/sample/records')
    assert records.refused == [] and len(records.accepted) == 3
    record = next(r for r in records.accepted if r.student.method == 'fbt')
    assert record.student.sha256 == card['sha256'] and record.student.teachers[0].digest
    assert set(record.metrics) == {'top1_student'} and 'top1_fusion' in record.other_metrics
    assert record.seeds.pretrain == record.seeds.transfer == 0
    build_leaderboards('sample', trained / 'results/sample/records', trained / 'out')
    rows = list(csv.DictReader((trained / 'out/leaderboard_distillation.csv').open()))
    shown = {(row['method'], row['student']): row for row in rows}
    fbt, plain = shown['fbt', 'Sample-ResNet-18'], shown['plain', 'Sample-ResNet-18']
    gain = float(fbt['value']) - float(plain['value'])
    assert fbt['gain'] == f'{gain:+.2f} (1 seed)' and plain['gain'] == ''
    assert fbt['teachers'] == 'Swin-T' and plain['teachers'] == ''
    assert shown['kd', 'Sample-Swin-P']['gain'] == ''  # nothing of this student was trained alone
    assert fbt['rank'] == ''


@pytest.mark.slow
def test_a_resumed_run_equals_the_whole_one(trained):
    for leaf, student in (
        (IMAGENET, 'crd_swin_tiny_resnet18'),
        (AVERAGED, 'fbt_convnext_tiny_deit_tiny'),
    ):
        options = (*SHORT, 'default_hooks.checkpoint.interval=1')
        options += ('model.negatives=4',) if 'crd' in student else ()
        found = []
        for name, stops in (
            ('whole', ()),
            ('stopped', ('default_hooks.checkpoint.max_keep_ckpts=9',)),
        ):
            folder = trained / f'{student}_{name}'
            arguments = ['--student', student, '--work-dir', folder]
            train(trained, leaf, *arguments, options=(*options, *stops))
            if stops:
                # Back to the end of the first epoch, as if the second had never been.
                for path in (
                    *folder.glob('epoch_2.*'),
                    folder / 'finished',
                    folder / 'student.json',
                ):
                    path.unlink()
                (folder / 'student.safetensors').unlink()
                train(trained, leaf, *arguments, '--resume', options=(*options, *stops))
            found.append(load_student(folder / 'student.safetensors').state_dict())
        whole, resumed = found
        assert all(torch.equal(whole[name], resumed[name]) for name in whole)
        if 'crd' in student:
            state = torch.load(folder / 'epoch_2.pth', weights_only=False)['state_dict']
            memory = state['contrast.student_memory']
            # Every image was met: entries are unit vectors, which those of the beginning are not.
            assert len(memory) == SIZES.imagenet_train
            assert torch.allclose(memory.norm(dim=1), torch.ones(len(memory)))
        else:
            (record,) = read_records(folder / 'records').accepted
            figures = {*record.metrics, *record.other_metrics}
            assert {'top1_student', 'top1_trained', 'top1_fusion'} <= figures


@pytest.mark.slow
@pytest.mark.parametrize(
    ('student', 'arch'),
    [
        ('cifar100_fbt_swin_tiny_resnet18', 'resnet18'),
        ('cifar100_kd_convnext_tiny_swin_pico', 'swin'),
    ],
)
def test_a_student_goes_on(trained, student, arch, tmp_path):
    """To plain timm with its head, and as the backbone of UperNet and Mask R-CNN."""
    run = trained / f'work_dirs/sample/pretrain/{student}/seed0'
    told = export_timm(run, tmp_path / 'timm')
    assert told['num_classes'] == 10 and told['pretrained_cfg']['mean'] == list(MEAN)
    model = timm.create_model(f'local-dir:{tmp_path / "timm"}', pretrained=True).eval()
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(model(images), load_student(run / 'student.safetensors').eval()(images))
    pytest.importorskip('mmcv')
    for leaf in ('seg_configs/upernet_comad_tiny.py', 'det_configs/mask_rcnn_comad_tiny.py'):
        options = (
            'train_cfg.max_iters=2',
            'train_cfg.val_interval=2',
            'train_dataloader.batch_size=2',
        )
        begin = ('param_scheduler.0.end=1', 'param_scheduler.1.begin=1')
        train(trained, leaf, '--student', student, options=(*options, *begin))
    found = read_records(trained / 'results/sample/records')
    kinds = {r.task for r in found.accepted if r.student.name == student}
    assert {'upernet', 'mask_rcnn'} <= kinds and found.refused == []


def test_a_network_of_one_grid_is_no_dense_backbone():
    options = dict(student='cifar100_kd_convnext_tiny_deit_tiny')
    with pytest.raises(ConfigError, match='DeiT-T has one grid: take a CNN or a Swin'):
        config('seg_configs/upernet_comad_tiny.py', **options)


def test_dense_leaves_take_the_stages_widths():
    student = dict(student='imagenet_fbt_swin_tiny_resnet18')
    upernet = config('seg_configs/upernet_comad_tiny.py', **student).model
    assert upernet.decode_head.in_channels == [64, 128, 256, 512] and 'neck' not in upernet
    assert upernet.auxiliary_head.in_channels == 256
    assert upernet.backbone.out_indices == (0, 1, 2, 3) and upernet.backbone.arch == 'resnet18'
    rcnn = config('det_configs/mask_rcnn_comad_tiny.py', **student)
    assert rcnn.model.neck.type == 'FPN' and rcnn.model.neck.num_outs == 5
    assert rcnn.optim_wrapper.paramwise_cfg.decay_rate == 1.0
