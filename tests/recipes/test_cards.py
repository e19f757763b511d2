"""Recipe cards: every leaf's claim agrees with what it runs, and would not if it were changed."""

import json
import subprocess
import sys

import pytest

import comad.engine.register  # noqa: F401
from comad.engine.options import RunOptions
from comad.engine.run_config import load_run_config
from comad.recipes.card import DIFFERENT, recipe_card
from comad.recipes.cost import build_model, cost_of, counted
from comad.recipes.groups import parameter_groups
from comad.tasks.protocol import recipe_processes
from comad.tasks.published import PROTOCOLS, agree, read_protocols
from tests.calls import call
from tests.resolved import leaves, resolved


@pytest.mark.parametrize('leaf', leaves(), ids=lambda path: path.stem)
def test_claim_and_config_agree(leaf):
    config = resolved(leaf)
    kind = config['run']['kind']
    card = recipe_card(config, kind, recipe_processes(config))
    assert card.problems == ()
    assert all(row.reason for row in card.rows if row.status == DIFFERENT)
    assert all(row.effective not in ('', 'None') for row in card.rows if kind != 'pretrain')


@pytest.mark.parametrize('leaf', leaves('cls', 'seg', 'det'), ids=lambda path: path.stem)
def test_sample_cards_claim_nothing(leaf):
    config = resolved(leaf, sample=True)
    card = recipe_card(config, config['run']['kind'], 1, track='sample')
    assert (card.published, card.problems) == ('', ())


@pytest.mark.parametrize(
    ('change', 'problem'),
    [
        (dict(optim_wrapper=dict(optimizer=dict(lr=1e-3))), 'learning_rate: 0.001 instead of'),
        (dict(train_cfg=dict(max_epochs=100)), 'length: 100 epochs instead of 300 epochs'),
        (dict(model=dict(mixup=dict(mixup_alpha=0.8))), 'mixup: 0.8 instead of 0.2'),
        (dict(train_dataloader=dict(batch_size=64)), 'batch: 512 instead of 1024'),
        (dict(protocol=dict(deviations=dict(mixup='x'))), 'mixup: a reason to differ, but it is'),
        (dict(protocol=dict(deviations=dict(tempo='x'))), 'tempo: a reason to differ, but no'),
    ],
)
def test_an_undeclared_difference_is_a_problem(change, problem):
    cfg = load_run_config(RunOptions('cls_configs/finetune_comad_tiny.py'), check=False)
    cfg.merge_from_dict(change)
    card = recipe_card(cfg._cfg_dict.to_dict(), 'finetune', 8)
    assert [p for p in card.problems if p.startswith(problem)]


def test_accumulated_and_auto_scaled_runs_keep_the_claim():
    for leaf in ('cls_configs/finetune_comad_tiny.py', 'seg_configs/upernet_comad_tiny.py'):
        cfg = load_run_config(RunOptions(leaf, accumulate=4), check=False)
        config = cfg._cfg_dict.to_dict()
        assert recipe_processes(config) == 2
        assert recipe_card(config, cfg.run.kind, 2).problems == ()


def test_every_published_protocol_is_claimed_by_a_leaf():
    claimed = {(resolved(leaf).get('protocol') or {}).get('published') for leaf in leaves()}
    assert set(read_protocols()) == claimed - {None}


@pytest.mark.parametrize(
    ('line', 'message'),
    [
        ('mae_linear,batch,1,x', 'mae_linear states batch twice'),
        ('mae_linear,other,1,', 'expected 4 entries'),
    ],
)
def test_a_row_without_source_or_a_second_value_is_refused(tmp_path, line, message):
    path = tmp_path / 'p.csv'
    path.write_text(PROTOCOLS.read_text() + line + '\n')
    with pytest.raises(ValueError, match=message):
        read_protocols(path)


def test_numbers_agree_in_any_spelling():
    assert agree(0.05, '.05') and agree('1e-4', '0.0001') and agree(1.0, '1')
    assert not agree(0.05, '0.06') and not agree('cosine to 0', 'cosine')


def test_cost_of_a_vit_tiny():
    config = resolved('cls_configs/finetune_comad_tiny.py')
    model = build_model(config)
    cost = cost_of(config, model, 8)
    assert cost.parameters['backbone'] + cost.parameters['head'] == 5_717_416
    # By hand: 197 tokens of width 192 through 12 blocks and the patch embedding.
    tokens, width, patches = 197, 192, 196
    block = 2 * tokens * 12 * width**2 + 2 * 2 * tokens**2 * width
    expected = (12 * block + 2 * patches * 768 * width) / 1e9
    assert cost.gflop['backbone'] == pytest.approx(expected, rel=1e-3)
    assert cost.images == 300 * 1_281_167
    assert cost.trained_gflop == pytest.approx(3 * sum(cost.gflop.values()), rel=1e-3)
    assert cost.hours(8, 50) == pytest.approx(cost.images * cost.trained_gflop / 4e5 / 3600)
    assert cost.data_hours(300) == pytest.approx(cost.images / (8 * 12 * 300) / 3600)


@pytest.mark.parametrize('method', ['comad', 'comad_uniform', 'dmt', 'dmt_mean', 'amd', 'ibot'])
def test_shapes_alone_cost_what_a_real_step_does(method):
    config = resolved(f'pretrain_configs/{method}_tiny.py', sample=True)
    _, shapes = counted(config, 1)
    real = cost_of(config, build_model(config), 1)
    assert shapes.parameters == real.parameters and shapes.images == real.images
    if method == 'ibot':  # how many patches it masks is drawn
        assert shapes.trained_gflop == pytest.approx(real.trained_gflop, rel=0.3)
    else:
        assert shapes.step_gflop == real.step_gflop


def test_a_detector_is_counted_from_shapes():
    config = resolved('det_configs/mask_rcnn_comad_tiny.py', sample=True)
    _, shapes = counted(config, 1)
    assert shapes == cost_of(config, build_model(config), 1)
    assert shapes.gflop['rest'] > shapes.gflop['backbone'] > 0


@pytest.mark.parametrize(
    ('method', 'shown'),
    [
        ('hybrid_distill', 'mocov3 (features), mae (relations)'),
        ('amd', 'mae (masked 0.5)'),
        ('comad', 'mae (masked 0.6), mocov3 (masked 0.4), ibot (masked 0.2)'),
    ],
)
def test_teachers_are_shown_with_their_roles_and_masks(method, shown):
    config = resolved(f'pretrain_configs/{method}_tiny.py')
    rows = {row.field: row.effective for row in recipe_card(config, 'pretrain', 8).rows}
    assert rows['teachers'] == shown


# Values by hand: 0.65^13, 0.65^12, 0.65^1; 0.85^13, 0.85^12, 0.85^1.
@pytest.mark.parametrize(
    ('leaf', 'input_scale', 'first_block', 'last_block'),
    [
        ('finetune', 0.1209055, 0.1422418, 0.85),
        ('mae_finetune', 0.003697206, 0.005688009, 0.65),
        ('tinymim_finetune', 0.003697206, 0.005688009, 0.65),
        ('ibot_finetune', 0.003697206, 0.005688009, 0.65),
    ],
)
def test_groups_of_the_fine_tuning_recipes(leaf, input_scale, first_block, last_block):
    config = resolved(f'cls_configs/{leaf}_comad_tiny.py')
    groups = parameter_groups(config, build_model(config))
    table = {(g.layer, g.weight_decay): g for g in groups}
    assert table['input', 0.05].lr_scale == pytest.approx(input_scale, rel=1e-6)
    assert table['block 0', 0.05].lr_scale == pytest.approx(first_block, rel=1e-6)
    assert table['block 11', 0.0].lr_scale == pytest.approx(last_block, rel=1e-6)
    assert table['head', 0.05].parameters == 192_000 and table['head', 0.0].parameters == 1000
    # Class token, positions and the patch embedding's bias; norms and biases of a block.
    assert table['input', 0.0].parameters == 192 + 197 * 192 + 192
    assert table['block 3', 0.0].parameters == 4 * 192 + 3 * 192 + 192 + 768 + 192
    assert sum(g.parameters for g in groups) == sum(
        p.numel() for p in build_model(config).parameters() if p.requires_grad
    )


def test_show_as_json():
    leaf = ['cls_configs/linear_comad_tiny.py', '--student', 'mae_tiny']
    command = [sys.executable, 'tools/show.py', *leaf, '--json']
    result = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr
    shown = json.loads(result.stdout)
    assert shown['student'] == 'mae_tiny' and shown['gpus'] == 8
    rows = {row['field']: row for row in shown['card']['rows']}
    assert rows['learning_rate']['effective'] == '6.4'
    assert shown['groups'][0]['lr_scale'] == 1.0 and 'missing' in shown['missing']


def test_several_configs_are_shown_one_after_the_other():
    leaves = [f'cls_configs/{kind}_comad_tiny.py' for kind in ('knn', 'linear')]
    done = call('show', *leaves)
    assert done.returncode == 0, done.stderr
    titles = [text.splitlines()[0] for text in done.stdout.split('\n\n')]
    assert titles == [f'{leaf}: {leaf[12:-14]}, student comad_tiny' for leaf in leaves]
    done = call('show', 'base_configs/cls_knn.py', leaves[0], '--json')
    assert done.returncode == 2 and 'is no leaf of the suite' in done.stderr
    assert [shown['config'] for shown in json.loads(done.stdout)] == leaves[:1]


@pytest.mark.parametrize(
    ('arguments', 'line'),
    [
        (['nope.py'], 'error: config nope.py does not exist'),
        (['base_configs/cls_knn.py'], 'is no leaf of the suite'),
        (
            ['cls_configs/linear_comad_tiny.py', '--cfg-options', 'model.pools=[tail]'],
            "pools ('tail',) must be one or more of",
        ),
    ],
)
def test_show_refuses_in_one_line(arguments, line):
    done = call('show', *arguments)
    assert done.returncode == 2
    assert line in done.stderr and len(done.stderr.splitlines()) == 1


FLOAT32 = ('float32', 'mixed')
EXEMPT = ('norm, bias, position, cls', 'norm, bias')
ONCE = 'resized once, to 512 px'
# Leaf -> field -> what runs and what the official code does.
OFFICIAL = {
    'cls_configs/ibot_finetune': dict(
        test_view='224 px of 256, bilinear',
        warm_up='20 epochs from 0, full in the last step',
        head='linear, trunc normal 2e-05',
        no_weight_decay='norm, bias, position, cls',
        precision=FLOAT32,
    ),
    'cls_configs/finetune': dict(
        head='linear, trunc normal 0.02',
        warm_up='5 epochs from 0',
        no_weight_decay='norm, bias, position, cls',
        precision=FLOAT32,
    ),
    'cls_configs/mae_finetune': dict(warm_up='5 epochs from 0', precision=FLOAT32),
    'cls_configs/tinymim_finetune': dict(warm_up='5 epochs from 0', precision=FLOAT32),
    'cls_configs/linear': dict(
        batch_norm='statistics of 512 images', warm_up='10 epochs from 0', precision=FLOAT32
    ),
    'seg_configs/upernet': dict(
        schedule='poly 1 to 0, from step 0',
        position_table=ONCE,
        layer_scale=('no', 'yes'),
        no_weight_decay=EXEMPT,
        precision=FLOAT32,
    ),
    'seg_configs/tinymim_upernet': dict(
        position_table=ONCE, no_weight_decay=EXEMPT, precision=FLOAT32, layer_decay='0.8'
    ),
    'seg_configs/ibot_seg_linear': dict(position_table=ONCE, precision=FLOAT32),
    'det_configs/mask_rcnn': dict(
        weight_decay=('0.05', '0.1'),
        no_weight_decay='norm (not channel-first), position',
        schedule='x 0.1 at 163889, 177546',
        resize_filter=('cv2, bilinear, no antialias', 'pillow, bilinear, antialias'),
        head_start=(
            'mask predictor Kaiming normal, box layer Xavier uniform',
            'mask predictor normal 0.001, box layer uniform of std 0.0089',
        ),
    ),
    'det_configs/mae_lite_mask_rcnn': dict(
        weight_decay='0.05',
        no_weight_decay='norm (not channel-first), position',
        schedule='x 0.1 at 163888, 177546',
    ),
    'pretrain_configs/mae_base': dict(warm_up='40 epochs from 0', schedule='cosine to 0'),
    'pretrain_configs/d_mae_lite': dict(warm_up='40 epochs from 0', schedule='cosine to 0'),
}


@pytest.mark.parametrize('leaf', OFFICIAL)
def test_cards_show_the_values_of_the_official_codes(leaf):
    name = leaf + dict(cls='_comad', seg='_comad', det='_comad').get(leaf[:3], '') + '_tiny.py'
    config = resolved(name.replace('mae_base_tiny', 'mae_base'))
    card = recipe_card(config, config['run']['kind'], recipe_processes(config))
    rows = {row.field: row for row in card.rows}
    for field, values in OFFICIAL[leaf].items():
        runs, official = (values, values) if isinstance(values, str) else values
        assert (rows[field].effective, rows[field].published) == (runs, official), field
        assert (rows[field].status == DIFFERENT) == (runs != official)
        assert bool(rows[field].reason) == (runs != official)


def test_a_second_config_of_a_source_is_named():
    stated = read_protocols()['tinymim_upernet']
    assert stated['head'].source.endswith('(ckpt/, beside the weights: 384)')
    assert stated['layer_decay'].source.endswith('(ckpt/, beside the weights: 0.7)')
