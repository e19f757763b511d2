"""Differences within seeds as the page shows them, against figures taken by hand."""

import statistics

from pandas import DataFrame

from comad.leaderboard.paired import groups_block, paired_block

HEADINGS = {('linear', 'top1', 'mean'): 'linear, mean', ('upernet', 'mIoU', ''): 'mIoU'}
T = {2: 12.71, 3: 4.30}  # two-sided 95 % quantiles of Student's t, by n


def row(student, seeds, values, task='linear', metric='top1', pool='mean', version='3'):
    return {
        **dict(student=student, task=task, metric=metric, pool=pool),
        **dict(protocol='mae_linear', protocol_version=version),
        'seeds': '; '.join(seeds),
        'values': '; '.join(f'{value:.2f}' for value in values),
    }


def entries(*rows, reference='a_tiny'):
    text = paired_block(DataFrame(rows), reference, HEADINGS)
    table = [line.strip('| ').split(' | ') for line in text.splitlines()]
    return table[0], {line[0]: line[1:] for line in table[2:]}


def test_differences_are_paired_by_the_seed_of_the_transfer():
    head, found = entries(
        row('a_tiny', ['0/0', '1/1', '2/2'], [50, 60, 70]),
        row('b_tiny', ['1/1', '0/0', '2/2'], [59, 48, 67]),
        row('scratch_tiny', ['0/0', '0/1'], [20, 31]),  # drawn anew by the seed of the transfer
    )
    assert head == ['`a_tiny` against', 'linear, mean']
    bound = T[3] * statistics.stdev([50 - 48, 60 - 59, 70 - 67]) / 3**0.5
    assert bound > 2.0 and found['`b_tiny`'] == [f'+2.0 ± {bound:.1f}'], 'zero lies within'
    bound = T[2] * statistics.stdev([30, 29]) / 2**0.5
    assert bound < 29.5 and found['`scratch_tiny`'] == [f'**+29.5 ± {bound:.1f}**']


def test_other_sizes_budgets_and_protocols_are_left_out():
    seeds = ['0/0', '1/1']
    _, found = entries(
        row('a_tiny', seeds, [50, 51]),
        row('b_base', seeds, [80, 81]),
        row('b_equal2_tiny', seeds, [60, 61]),
        row('c_tiny', seeds, [40, 41], version='2'),
        row('d_tiny', ['0/0'], [40]),
        row('d_tiny', seeds, [20, 21], task='upernet', metric='mIoU', pool=''),
    )
    assert found == {'`d_tiny`': ['–']}, 'one seed has no noise'
    alone = DataFrame([row('a_tiny', seeds, [50, 51])])
    assert 'not been compared' in paired_block(alone, 'a_tiny', HEADINGS)


def test_students_of_equal_compute_have_a_reference_of_their_own():
    seeds = ['0/0', '1/1']
    head, found = entries(
        row('a_tiny', seeds, [50, 51]),
        row('a_equal2_tiny', seeds, [60, 62]),
        row('b_equal2_tiny', seeds, [55, 57]),
        row('b_equal4_tiny', seeds, [70, 71]),
        row('b_tiny', seeds, [40, 41]),
        reference='a_equal2_tiny',
    )
    assert head[0] == '`a_equal2_tiny` against'
    assert found == {'`b_equal2_tiny`': ['**+5.0 ± 0.0**']}


def test_cells_of_a_group_stand_behind_their_default(tmp_path):
    path = tmp_path / 'cells.csv'
    assert 'not been run' in groups_block(path, 'linear')
    path.write_text(
        'cell,difference,metric,mean,sd,n,paired_difference,paired_sd,paired_n,noise_bound,'
        'beyond_noise,values,missing\n'
        'a_tiny,the default,top1_mean,50.00,1.00,3,,,0,,,,\n'
        'b_tiny,uniform,top1_mean,45.00,1.00,3,-5.00,0.50,3,1.24,yes,,\n'
        'c_tiny,agreement,top1_mean,,,0,,,0,,,,3 of 3 seeds\n'
        'a_tiny,the default,top1_cls,40.00,1.00,3,,,0,,,,\n'
        'b_tiny,uniform,top1_cls,40.50,1.00,3,+0.50,0.50,3,1.24,no,,\n'
    )
    lines = groups_block(path, 'linear').splitlines()
    assert lines[0] == '| student | difference | linear, mean | linear, cls |'
    assert lines[2] == '| `a_tiny` | the default | 50.00 ± 1.00 (3) | 40.00 ± 1.00 (3) |'
    shown = '45.00 ± 1.00 (3), **-5.00 ± 1.24** | 40.50 ± 1.00 (3), +0.50 ± 1.24 |'
    assert lines[3] == f'| `b_tiny` | uniform | {shown}'
    assert lines[4] == '| `c_tiny` | agreement | – | – |'
