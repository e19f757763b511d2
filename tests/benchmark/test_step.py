"""The step benchmark on sample sizes: parts, the reference's losses, stock models."""

import copy
import json

import pytest
import torch

from comad.benchmark.measure import How, load_step, measure
from comad.benchmark.reference import largest_difference, straightforward
from comad.benchmark.stock import divide, timm_vit
from comad.benchmark.workload import Workload, build, wrap
from comad.commands.benchmark import main
from comad.engine.run_config import RunOptions, load_run_config

import comad.engine.register  # noqa: F401  isort:skip

FBT = 'distill_configs/imagenet_fbt_swin_tiny_resnet18.py'
COMAD = 'pretrain_configs/comad_tiny.py'
CPU = torch.device('cpu')


@pytest.fixture(scope='module')
def comad():
    """CoMAD at sample size and its straightforward form."""
    cfg = load_run_config(RunOptions(COMAD, track='sample'), check=False)
    ours = build(cfg, CPU, 'float32', 4)
    model = straightforward(ours.model)
    return ours, Workload(model, wrap(cfg, model, 'float32'), ours.batch, 4)


def test_the_reference_computes_the_same_tokens_and_losses(comad):
    # Not zero: both have really been computed, in another order.
    assert 0 < largest_difference(*comad) < 1e-5


def test_another_function_is_noticed(comad):
    ours, reference = comad
    weight = reference.model.teacher_networks[0].blocks[0].mlp.fc1.weight
    kept = weight.clone()
    weight.data *= 1.5
    try:
        with pytest.raises(ValueError, match='computes another token of teacher mae'):
            largest_difference(ours, reference)
    finally:
        weight.data.copy_(kept)


def test_the_reference_runs_on_all_tokens(comad):
    """What is dropped in ours is computed there: nothing is saved by mistake."""
    lengths = []
    for workload in comad:
        network = workload.model.teacher_networks[0]
        handle = network.blocks[0].mlp.register_forward_hook(
            lambda module, inputs, output: lengths.append(inputs[0].shape[1])
        )
        with torch.no_grad():
            data = workload.model.data_preprocessor(workload.batch, True)
            workload.model(**data, mode='loss')
        handle.remove()
    assert lengths == [1 + round(0.4 * 64), 65]


def test_figures_and_conditions(capsys, tmp_path):
    path = tmp_path / 'deep' / 'step.json'
    options = ['--sample', '--batch', '4', '--rounds', '1', '--threads', '1', '--json', str(path)]
    assert main(['step', COMAD, *options, '--compare', 'reference']) == 0
    text = capsys.readouterr().out
    for words in ('images/s', 'teacher mocov3', 'decoder', 'utilisation', 'the teachers alone'):
        assert words in text
    assert 'times faster than the reference, float32' in text
    found = json.loads(path.read_text())
    assert found['batch'] == 4 and found['precision'] == 'float32'
    assert set(found['seconds_per_step']) == {'step', 'teachers alone', 'reference'}
    parts = found['parts_ms']
    assert list(parts)[:2] == ['data', 'teacher mae'] and list(parts)[-1] == 'optimizer'
    assert all(value > 0 for value in parts.values())
    assert found['conditions']['threads'] == 1 and found['conditions']['versions']['torch']


@pytest.mark.parametrize(
    'config',
    [
        'cls_configs/finetune_comad_tiny.py',
        'seg_configs/upernet_comad_tiny.py',
        'det_configs/mask_rcnn_comad_tiny.py',
    ],
)
def test_transfers_are_compared_with_stock_parts(config, capsys):
    options = ['--sample', '--batch', '2', '--rounds', '1', '--threads', '1']
    assert main(['step', config, *options, '--compare', 'reference']) == 0
    text = capsys.readouterr().out
    assert "timm's V" in text and 'times faster than the reference' in text
    assert 'student' in text


def test_a_step_in_bfloat16_is_compared_in_float32_first(capsys):
    """Teachers cast their weights in their first step, for good."""
    options = ['--sample', '--batch', '4', '--rounds', '1', '--threads', '1']
    assert main(['step', COMAD, *options, '--precision', 'bfloat16', '--compare', 'reference']) == 0
    assert 'tokens and losses agree in float32 to' in capsys.readouterr().out


def test_stock_parts_have_as_many_groups_of_parameters():
    parameters = [torch.nn.Parameter(torch.zeros(n)) for n in range(1, 8)]
    optimizer = torch.optim.AdamW(parameters, lr=0.5)
    divide(optimizer, [2, 1, 3])
    assert [[len(p) for p in group['params']] for group in optimizer.param_groups] == [
        [1, 2],
        [3],
        [4, 5, 6, 7],
    ]
    assert {group['lr'] for group in optimizer.param_groups} == {0.5}
    sum(p.sum() for p in parameters).backward()
    optimizer.step()
    assert all(p.abs().max() > 0 for p in parameters)


def test_a_distillation_is_compared_with_another_method(capsys, tmp_path):
    path = tmp_path / 'step.json'
    options = ['--sample', '--batch', '4', '--rounds', '2', '--threads', '1', '--json', str(path)]
    assert main(['step', FBT, *options, '--compare', 'kd']) == 0
    text = capsys.readouterr().out
    assert 'times the time of kd' in text and 'imagenet_kd_swin_tiny_resnet18; ' in text
    found = json.loads(path.read_text())
    assert set(found['seconds_per_step']) == {'step', 'kd'}
    assert found['gflop_per_image'] > found['gflop_per_image kd'] > 0
    own, others = set(found['parts_ms']), set(found['parts_ms kd'])
    assert own - others == {'teacher Swin-T, tail', 'between'}
    assert {'student', 'teacher Swin-T', 'backward', 'losses and rest'} <= others <= own


def test_figures_are_kept_round_by_round():
    """What measures for long may be ended before it is done."""
    kept, options = [], RunOptions(COMAD, track='sample')
    how = How(4, 'float32', rounds=2, steps=1)
    done = measure(
        options, load_step(options), CPU, how, keep=lambda found: kept.append(copy.deepcopy(found))
    )
    assert [len(found['seconds_per_step']['step']) for found in kept] == [1, 2]
    assert kept[-1]['seconds_per_step'] == done['seconds_per_step']
    assert kept[0]['gflop_per_image'] > 0 and 'parts_ms' not in kept[0] and done['parts_ms']


@pytest.mark.parametrize(('arch', 'size'), [('tiny', 512), ('sample_tiny', 128)])
def test_the_stock_network_takes_images_of_the_task(arch, size):
    """Dense tasks have larger ones than the pretraining, which names the architecture's own."""
    network = timm_vit(arch, size, num_classes=0, depth=1)
    with torch.no_grad():
        assert network(torch.zeros(1, 3, size, size)).shape == (1, network.embed_dim)


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['step', 'none.py'], 'does not exist'),
        (['step', 'cls_configs/knn_comad_tiny.py'], 'trains nothing'),
        (['step', 'pretrain_configs/mae_tiny.py', '--batch', '0'], '--batch 0'),
        (['step', 'pretrain_configs/mae_tiny.py', '--threads', '-1'], '--threads -1'),
        (['step', COMAD, '--sample', '--compare', 'kd'], '--compare kd: expected reference'),
        (
            ['step', 'cls_configs/linear_comad_tiny.py', '--sample', '--compare', 'reference'],
            'LinearProbe: there is no stock form to compare with',
        ),
        (['step', FBT, '--sample', '--compare', 'fbt'], 'that is what is measured'),
        (['step', FBT, '--sample', '--compare', 'reference'], "no method 'reference'; one of"),
        (
            ['step', 'seg_configs/upernet_comad_tiny.py', '--sample', '--batch', '1'],
            '--batch 1: a batch norm of this model sees one value per image',
        ),
    ],
)
def test_what_cannot_be_measured_is_one_line(arguments, message, capsys):
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert message in error and error.count('\n') == 1
