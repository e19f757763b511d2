"""Two runs side by side: what differs is said, what is equal is not, noise by the seeds."""

import hashlib
import json
import shutil
from pathlib import Path

import msgspec
import pytest

from comad.leaderboard.compare import compare_curves, compare_runs, run_curves
from comad.leaderboard.find_run import UnknownName, find_run
from comad.leaderboard.side_by_side import draw_curves, format_runs
from comad.runs.record import write_record
from tests.calls import call
from tests.leaderboard.examples import make_card, make_config, make_record


@pytest.fixture(autouse=True)
def checkout(tmp_path, monkeypatch):
    """An empty folder as the present one, outside of any git checkout."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv('GIT_CEILING_DIRECTORIES', str(tmp_path.parent))
    return tmp_path


def run(value, student='comad_tiny', seed=0, loss=None, change=None, card=None, there=True):
    """A record below results/records and, if it is there, its folder with config and scalars."""
    config = make_config('linear', student, seed, seed)
    config['work_dir'] = f'work_dirs/linear/{student}/seed{seed}'
    config['randomness'] = {'seed': seed}
    for path, entry in (change or {}).items():
        *parents, last = path.split('.')
        node = config
        for parent in parents:
            node = node[parent]
        node[last] = entry
    record = make_record({'top1_mean': value}, 'linear', student, seed, seed, config, card or None)
    write_record('results/records', record)
    if there:
        folder = Path(config['work_dir'])
        scalars = folder / '20260101_000000' / 'vis_data' / 'scalars.json'
        scalars.parent.mkdir(parents=True, exist_ok=True)
        text = ''.join(f'{key} = {entry!r}\n' for key, entry in config.items())
        (folder / 'resolved_linear.py').write_text(text)
        # MMEngine's dump is of the last start, which may have been another one.
        (folder / f'linear_{student}.py').write_text('of_another_start = True\n')
        losses = enumerate(loss or (3.0, 2.0), start=1)
        entries = [{'loss': x, 'iter': 10 * step, 'step': 10 * step} for step, x in losses]
        lines = [*entries, {'top1_mean': value, 'step': 1}]
        scalars.write_text(''.join(json.dumps(line) + '\n' for line in lines))
    return record


def compare(first, second, folders=None):
    return compare_runs(find_run(first, folders), find_run(second, folders))


def keys(entries):
    return [entry.key for entry in entries]


def test_a_run_is_equal_to_itself():
    run(50.0)
    found = compare('linear_comad_tiny_p0_s0', 'work_dirs/linear/comad_tiny/seed0')
    assert found.equal and found.config == found.expected == found.protocol == []
    (metric,) = found.metrics
    assert (metric.difference, metric.beyond_noise) == (0, False)
    assert format_runs(found).endswith('\nequal')


def test_seeds_differ_as_expected_and_the_config_does_not():
    run(50.0, seed=0)
    run(51.0, seed=1)
    found = compare('linear_comad_tiny_p0_s0.json', 'results/records/linear_comad_tiny_p1_s1.json')
    assert found.config == found.protocol == []
    ours = ['randomness.seed', 'run.pretrain_seed', 'run.seed', 'work_dir']
    assert [key for key in keys(found.expected) if key != 'run.digest'] == ours
    assert keys(found.student) == ['student.sha256']
    assert not found.equal


def test_one_changed_key_is_the_one_that_is_named():
    run(50.0)
    run(50.0, 'other_tiny', change={'model.backbone.drop_path': 0.1})
    found = compare('linear_comad_tiny_p0_s0', 'linear_other_tiny_p0_s0')
    ours = {entry.key: (entry.a, entry.b) for entry in found.config}
    assert ours['model.backbone.drop_path'] == (None, 0.1)
    own = {'run.config', 'run.method', 'run.student', 'model.backbone.drop_path'}
    assert set(ours) == own
    assert keys(found.protocol) == ['protocol.fields.other_settings']
    assert '  model.backbone.drop_path: (none) -> 0.1' in format_runs(found).splitlines()


def test_other_protocols_are_said_first_and_never_judged():
    for seed in range(3):
        run(50.0 + seed, seed=seed)
        run(80.0 + seed, 'mae_tiny', seed, change={'train_cfg.max_epochs': 10})
    found = compare('linear_comad_tiny', 'linear_mae_tiny')
    assert keys(found.protocol) == ['protocol.fields.length']
    assert found.metrics[0].beyond_noise is None
    text = format_runs(found)
    assert 'not comparable' in text.partition('\nconfig')[0]
    assert 'protocol.fields.length: 90 epochs -> 10 epochs' in text
    assert 'beyond noise' not in text


def test_rows_are_judged_by_the_rule_of_ties():
    for seed, value in enumerate((50.0, 51.0, 52.0)):
        run(value, seed=seed)
        run(value + 1.6, 'mae_tiny', seed)
        run(value + 1.7, 'ibot_tiny', seed)
    # 2 sqrt(1 / 3 + 1 / 3) = 1.633
    near, far = (compare('linear_comad_tiny', f'linear_{m}_tiny') for m in ('mae', 'ibot'))
    assert near.metrics[0].noise == pytest.approx(1.633, abs=1e-3)
    assert (near.metrics[0].beyond_noise, far.metrics[0].beyond_noise) == (False, True)
    assert near.metrics[0].basis == '3 and 3 seeds'
    assert '52.60 +- 1.00 (n = 3), +1.60: within noise' in format_runs(near)


def test_configs_and_curves_of_rows_are_of_a_seed_both_have():
    for seed in (0, 2):
        run(50.0 + seed, seed=seed)
    run(60.0, 'mae_tiny', 2)
    found = compare('linear_comad_tiny', 'linear_mae_tiny')
    assert 'comad_tiny_p2_s2.json and linear_mae_tiny_p2_s2.json' in found.curves_note
    assert 'randomness.seed' not in keys(found.expected)


def test_single_runs_have_no_noise_of_their_own():
    run(50.0)
    run(60.0, 'mae_tiny')
    first = compare('linear_comad_tiny_p0_s0', 'linear_mae_tiny_p0_s0').metrics[0]
    assert (first.noise, first.beyond_noise) == (None, None) and 'one run each' in first.basis
    for seed in (1, 2):
        run(50.0 + seed, seed=seed)
        run(60.0 + 2 * seed, 'mae_tiny', seed)
    second = compare('linear_comad_tiny_p0_s0', 'linear_mae_tiny_p0_s0').metrics[0]
    # sd 1 and 2, n = 1 each: 2 sqrt(1 + 4) = 4.472
    assert second.noise == pytest.approx(4.472, abs=1e-3) and second.beyond_noise
    assert second.basis == 'one run each, sd of the 3 and 3 seeds of their rows'
    third = compare('linear_comad_tiny', 'linear_mae_tiny_p0_s0').metrics[0]
    # Means 51 of three seeds and 60 of one: 2 sqrt(1 / 3 + 4) = 4.163
    assert third.noise == pytest.approx(4.163, abs=1e-3) and third.difference == 9
    assert third.basis == 'one run of linear_mae_tiny_p0_s0, sd of the 3 seeds of its row'


def test_seeds_of_another_pretraining_lend_no_spread():
    run(50.0)
    for seed in (1, 2):
        run(70.0 + seed, seed=seed, card=make_card('comad_tiny', seed, config_digest='another'))
    metric = compare('linear_comad_tiny_p0_s0', 'linear_comad_tiny_p1_s1').metrics[0]
    assert metric.noise is None and 'one run of linear_comad_tiny_p0_s0' in metric.basis
    notes = compare('linear_comad_tiny', 'linear_comad_tiny').notes
    assert any('differ from linear_comad_tiny_p0_s0.json in more than seeds' in n for n in notes)


def test_equal_figures_with_other_losses_are_not_equal():
    run(50.0)
    other = run(50.0, 'mae_tiny', loss=(3.0, 2.0 + 2**-51))
    found = compare('linear_comad_tiny_p0_s0', 'linear_mae_tiny_p0_s0')
    loss, top1 = found.curves
    assert (loss.equal_until, loss.first_difference, top1.first_difference) == (10, 20, None)
    assert other.metrics == {'top1_mean': 50.0}


def test_two_checkouts_and_nothing_but_a_loss_differs(checkout):
    run(50.0)
    shutil.copytree(checkout, checkout / 'other', ignore=shutil.ignore_patterns('other'))
    name = 'results/records/linear_comad_tiny_p0_s0.json'
    assert compare(name, f'other/{name}').equal
    (scalars,) = Path('other').rglob('scalars.json')
    scalars.write_text(scalars.read_text().replace('"loss": 2.0', '"loss": 2.5'))
    found = compare(name, f'other/{name}')
    assert not found.equal and found.config == found.student == found.protocol == []


def test_without_folders_the_records_are_compared_and_it_says_so():
    run(50.0, change={'run.source': 'lr = 1\nepochs = 2\n'}, there=False)
    run(50.0, seed=1, change={'run.source': 'lr = 3\nepochs = 2\n'}, there=False)
    found = compare('linear_comad_tiny_p0_s0', 'linear_comad_tiny_p1_s1')
    assert 'no resolved config of linear_comad_tiny_p0_s0 and' in found.config_source
    assert keys(found.config) == ['config.source'] and found.curves is None
    text = format_runs(found)
    assert '-lr = 1' in text and '+lr = 3' in text and 'epochs = 2' not in text
    assert 'no scalars of linear_comad_tiny_p0_s0 and linear_comad_tiny_p1_s1' in text


def test_a_pretraining_has_config_and_curves_alone():
    for seed, rate in ((0, 0.1), (1, 0.2)):
        folder = Path(f'work_dirs/pretrain/comad_tiny/seed{seed}/20260101_000000/vis_data')
        folder.mkdir(parents=True)
        (folder / 'config.py').write_text(f'lr = {rate}\n')
    found = compare(*(f'work_dirs/pretrain/comad_tiny/seed{seed}' for seed in (0, 1)))
    assert keys(found.config) == ['lr'] and found.metrics == []
    with pytest.raises(UnknownName, match='work_dirs is no run'):
        compare('work_dirs', 'work_dirs')


def test_a_run_without_a_record_is_not_equal_to_one_with():
    record = run(50.0)
    found = compare('linear_comad_tiny_p0_s0', 'linear_comad_tiny_p0_s0')
    start = Path(record.config.work_dir) / '20260101_000000' / 'vis_data'
    start.joinpath('config.py').write_text(
        start.parents[1].joinpath('resolved_linear.py').read_text()
    )
    Path('results/records/linear_comad_tiny_p0_s0.json').rename('kept.json')
    other = compare('kept.json', record.config.work_dir)
    assert found.equal and not other.equal and other.config == []


def test_a_record_that_tables_refuse_is_shown_with_a_note():
    data = msgspec.to_builtins(run(50.0))
    data['metrics']['top1_mean'] = 99.0
    Path('edited.json').write_text(json.dumps(data))
    found = compare('linear_comad_tiny_p0_s0', 'edited.json')
    assert found.metrics[0].difference == pytest.approx(49.0)
    assert any('the tables refuse edited (the digest does not match' in n for n in found.notes)


def test_the_config_beside_a_run_has_to_be_the_one_its_record_names():
    data = msgspec.to_builtins(run(50.0))
    content = Path('work_dirs/linear/comad_tiny/seed0/resolved_linear.py').read_bytes()
    for digest, others in ((hashlib.sha256(content).hexdigest(), 0), ('0' * 64, 1)):
        data['config']['resolved_sha256'] = digest
        Path('results/records/other.json').write_text(json.dumps(data))
        found = compare('results/records/other.json', 'results/records/other.json')
        notes = [note for note in found.notes if 'not the config that its record names' in note]
        assert len(set(notes)) == others


def test_unknown_names_get_near_ones():
    run(50.0)
    with pytest.raises(
        UnknownName, match='linear_comad_tin is no record.*mean linear_comad_tiny or '
    ):
        compare('linear_comad_tin', 'linear_comad_tiny')
    Path('broken.json').write_text('{}')
    with pytest.raises(ValueError, match='broken.json is no run record: schema None is not 4'):
        compare('broken.json', 'linear_comad_tiny')


@pytest.mark.parametrize(
    ('section', 'value', 'reason'),
    [
        ('student', 5, 'Expected object, got int - at \\$.student'),
        ('metrics', {'top1_mean': 'much'}, 'Expected float, got str - at \\$.metrics'),
        ('seeds', {'pretrain': 0}, 'Object missing required field transfer - at \\$.seeds'),
        ('config', {}, 'Object missing required field path - at \\$.config'),
        ('task', None, 'Expected str, got null - at \\$.task'),
        ('schema', 3, 'schema 3 is not 4: made by an earlier version; run it again'),
    ],
)
def test_a_record_that_cannot_be_shown_is_one_line(section, value, reason):
    data = {**msgspec.to_builtins(run(50.0)), section: value}
    Path('broken.json').write_text(json.dumps(data))
    with pytest.raises(ValueError, match=f'broken.json is no run record: {reason}'):
        compare('broken.json', 'linear_comad_tiny_p0_s0')


def test_the_command_tells_by_its_exit_code():
    run(50.0)
    run(51.0, seed=1)

    def diff(*names):
        done = call('leaderboard', 'diff', *names)
        return done.returncode, done.stdout, done.stderr

    assert diff('linear_comad_tiny_p0_s0', 'linear_comad_tiny_p0_s0')[0] == 0
    code, text, _ = diff('linear_comad_tiny_p0_s0', 'linear_comad_tiny_p1_s1', '--json')
    assert code == 1 and json.loads(text)['metrics'][0]['difference'] == 1
    code, text, error = diff('linear_comad_tiny_p0_s0', 'nothing')
    assert (code, text, len(error.splitlines())) == (2, '', 1)
    code, _, _ = diff('linear_comad_tiny_p0_s0', 'linear_comad_tiny_p1_s1', '--figure', 'f.svg')
    assert code == 1 and 'top1_mean' in Path('f.svg').read_text()


def write_log(folder, start, entries, tail=''):
    path = folder / start / 'vis_data' / 'scalars.json'
    path.parent.mkdir(parents=True)
    path.write_text(''.join(json.dumps(entry) + '\n' for entry in entries) + tail)


def loss(step, value, **others):
    return {'loss': value, 'lr': 0.1, 'time': 1.5, 'iter': step, 'step': step, **others}


def test_losses_of_training_and_metrics_of_validation(tmp_path):
    others = {'grad_norm': 3.0, 'decode.loss_ce': 0.5, 'epoch': 1}
    validation = {'top1_mean': 40.0, 'time': 0.2, 'data_time': 0.1, 'step': 1}
    write_log(tmp_path, '20260101_000000', [loss(10, 2.0, **others), validation])
    assert run_curves(tmp_path) == {
        'decode.loss_ce': {10: 0.5},
        'loss': {10: 2.0},
        'top1_mean': {1: 40.0},
    }
    assert run_curves(tmp_path / 'nowhere') == {}


def test_a_resumed_run_is_one_curve(tmp_path):
    # Killed in the middle of a line at 40, resumed from 20; then begun anew and shorter.
    first = [loss(s, v) for s, v in ((10, 4.0), (20, 3.0), (30, 2.0))]
    write_log(tmp_path, '20260101_000000', first, '{"loss": 1.0, "iter": 4')
    write_log(tmp_path, '20260102_000000', [loss(30, 2.5), loss(40, 1.5)])
    assert run_curves(tmp_path) == {'loss': {10: 4.0, 20: 3.0, 30: 2.5, 40: 1.5}}
    write_log(tmp_path, '20260103_000000', [loss(10, 9.0)])
    assert run_curves(tmp_path) == {'loss': {10: 9.0}}


def test_where_two_curves_part():
    first = {'loss': {10: 4.0, 20: 3.0, 30: 2.0, 40: 1.0}, 'top1': {1: 50.0}, 'bad': {1: 2.0}}
    last_bit = 3.0 + 2**-51
    second = {'loss': {10: 4.0, 20: last_bit, 30: 2.5, 50: 0.5}, 'top1': {1: 50.0}}
    found = {entry.name: entry for entry in compare_curves(first, second)}
    parted = found['loss']
    assert (parted.equal_until, parted.first_difference) == (10, 20)
    assert (parted.largest_gap, parted.largest_gap_at) == (0.5, 30)
    assert parted.final == (1.0, 0.5) and parted.steps == (4, 4)
    assert (found['top1'].first_difference, found['top1'].equal_until) == (None, 1)
    assert found['bad'].first_difference == 1 and found['bad'].final == (2.0, None)


def test_nan_is_equal_to_nan_and_a_missing_step_is_a_difference():
    nan = float('nan')
    (same,) = compare_curves({'loss': {1: nan}}, {'loss': {1: nan}})
    assert same.first_difference is None and same.largest_gap is None
    (shorter,) = compare_curves({'loss': {1: 2.0, 2: 1.0}}, {'loss': {1: 2.0}})
    assert (shorter.equal_until, shorter.first_difference) == (1, 2)


def test_figures_are_the_same_bytes_again_and_name_both_runs(tmp_path):
    curves = {'loss': {1: 2.0, 2: 1.0}, 'top1': {1: 5.0}}
    for name in ('a.svg', 'b.svg'):
        draw_curves(curves, {'loss': {1: 3.0}}, ('here', 'there'), tmp_path / name)
    text = (tmp_path / 'a.svg').read_text()
    assert text == (tmp_path / 'b.svg').read_text() and '<dc:date>' not in text
    draw_curves(curves, {}, ('here', 'there'), tmp_path / 'new' / 'c.png')
    assert (tmp_path / 'new' / 'c.png').read_bytes().startswith(b'\x89PNG')
    with pytest.raises(ValueError, match='c.jpg: figures are drawn as .svg'):
        draw_curves(curves, {}, ('a', 'b'), tmp_path / 'c.jpg')
    with pytest.raises(ValueError, match='nothing to draw'):
        draw_curves({}, {}, ('a', 'b'), tmp_path / 'd.svg')
