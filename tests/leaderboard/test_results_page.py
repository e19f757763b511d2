"""The page of tables: made from results/, between markers, and written only as a whole."""

import re
from pathlib import Path

import pytest
from pandas import DataFrame

from comad.leaderboard.published import read_published
from comad.leaderboard.results_page import (
    NOTHING_MEASURED,
    PAGE,
    leaderboard_block,
    page_blocks,
    replace_block,
    rewrite,
    stale_page,
    study_block,
    study_figure,
)
from comad.leaderboard.study import STUDY_COLUMNS, STUDY_CSV, read_table
from comad.leaderboard.tables import build_leaderboards
from tests.calls import call
from tests.leaderboard.examples import make_record, table_of

ROOT = Path(__file__).resolve().parents[2]
CHECK = ''.join(
    f'<!-- {name}:begin -->\n<!-- {name}:end -->\n' for name in ('check', 'paired', 'complementary')
)
TEXT = 'a\n<!-- study:begin -->\nold\n<!-- study:end -->\nb\n'


def cell(student, mean, sd='1.00', n='3', task='linear', metric='top1', pool='mean', **others):
    named = {'student': student, 'task': task, 'metric': metric, 'pool': pool}
    figures = {'mean': mean, 'sd': sd, 'n': n, 'protocol': 'mae_linear', 'protocol_version': '1'}
    return dict.fromkeys(STUDY_COLUMNS, '') | named | figures | others


def lines(rows):
    return {
        line.split('|')[1].strip(): [entry.strip() for entry in line.split('|')[2:-1]]
        for line in study_block(DataFrame(rows)).splitlines()
        if line.startswith('|')
    }


def test_the_committed_page_holds_the_tables_of_results(tmp_path):
    boards = build_leaderboards('full', None, tmp_path)
    text = PAGE.read_text(encoding='utf-8')
    new = text
    for name, body in page_blocks(boards.tables).items():
        new = replace_block(new, name, body)
    assert new == text, 'run python tools/leaderboard.py'


def test_only_what_is_between_the_markers_changes():
    new = replace_block(TEXT, 'study', 'new\nlines')
    assert new == TEXT.replace('old', 'new\nlines')
    assert replace_block(new, 'study', 'old') == TEXT


@pytest.mark.parametrize(
    ('text', 'reason'),
    [
        ('no marker\n', 'study:begin --> 0 times'),
        ('<!-- study:begin -->\n', 'study:end --> 0 times'),
        (TEXT + TEXT, 'study:begin --> 2 times'),
        ('<!-- study:end -->\n<!-- study:begin -->\n', 'study:end --> before <!-- study:begin'),
    ],
)
def test_a_broken_marker_leaves_the_file_alone(tmp_path, text, reason):
    path = tmp_path / 'README.md'
    path.write_text('<!-- leaderboard:begin -->\n<!-- leaderboard:end -->\n' + text)
    old = path.read_bytes()
    with pytest.raises(ValueError, match=reason) as error:
        rewrite(path, {'leaderboard': 'x', 'study': 'y'})
    assert '\n' not in str(error.value) and path.read_bytes() == old


def test_an_unchanged_file_is_not_written(tmp_path):
    path = tmp_path / 'README.md'
    path.write_text(TEXT)
    before = path.stat()
    assert not rewrite(path, {'study': 'old'})
    assert (path.stat().st_ino, path.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert rewrite(path, {'study': 'new'}) and 'new' in path.read_text()
    assert list(tmp_path.iterdir()) == [path]


def test_one_line_per_student_dashes_and_rounding():
    found = lines(
        [
            cell('b_tiny', '40.00', '2.15'),
            cell(
                'a_tiny',
                '57.64',
                '0.85',
                teachers='mae; ibot',
                pretrain_seconds='80.5',
                pretrain_gflop_per_image='0.245',
                pretrain_tflop='2.972',
            ),
            cell('b_tiny', '50.05', '', '1', 'upernet', 'mIoU', ''),
            cell('c_tiny', '1.00', '', '1', 'lowshot_10pct', 'top1', ''),
        ]
    )
    assert list(found)[2:] == ['`a_tiny`', '`b_tiny`', '`c_tiny`']
    dashes = ['–'] * 3
    first = ['mae, ibot', '**57.6 ± 0.9** (3)', '–']
    assert found['`a_tiny`'] == [*first, '0.25', '3.0', '81']
    assert found['`b_tiny`'] == ['–', '40.0 ± 2.2 (3)', '50.1 (1)', *dashes]
    assert found['`c_tiny`'] == ['–', '–', '–', *dashes]
    # Tasks that no student has a figure of have no column.
    assert lines([cell('c_tiny', '1.00', task='lowshot_10pct')])['`c_tiny`'] == ['–', *dashes]


def test_an_earlier_protocol_is_marked_and_out_of_the_comparison():
    rows = [
        cell('a_tiny', '90.00'),
        cell('b_tiny', '50.00', protocol_version='2'),
        cell('c_tiny', '40.00', protocol_version='2'),
    ]
    found = lines(rows)
    figures = {student: entries[1] for student, entries in found.items()}
    assert figures['`a_tiny`'] == '90.0 ± 1.0 (3)†'
    assert figures['`b_tiny`'] == '**50.0 ± 1.0** (3)'
    assert figures['`c_tiny`'] == '40.0 ± 1.0 (3)'
    assert study_block(DataFrame(rows)).endswith(
        '† under an earlier version of the protocol: not to be compared.'
    )
    assert '†' not in study_block(DataFrame(rows[1:]))


@pytest.mark.parametrize(
    ('second', 'bold'),
    [
        (cell('b_tiny', '48.36'), True),  # 2 sqrt(1/3 + 1/3) = 1.633
        (cell('b_tiny', '48.37'), False),
        (cell('b_tiny', '40.00', protocol_version='2'), False),
        (cell('b_tiny', '40.00', n='2'), False),  # nothing that may be compared is left
    ],
)
def test_bold_is_no_tie(second, bold):
    rows = [cell('a_tiny', '50.00'), second]
    assert ('**' in lines(rows)['`a_tiny`'][1]) == bold
    assert '**' not in lines(rows)['`b_tiny`'][1]


def test_a_third_row_with_a_wide_spread_ties_too():
    rows = [cell('a_tiny', '50.00'), cell('b_tiny', '48.00'), cell('c_tiny', '47.00', '5.00')]
    assert '**' not in study_block(DataFrame(rows))


def test_a_row_of_few_seeds_is_neither_bold_nor_in_the_way():
    rows = [cell('a_tiny', '50.00'), cell('b_tiny', '40.00'), cell('c_tiny', '90.00', '', '1')]
    found = lines(rows)
    assert found['`a_tiny`'][1].startswith('**') and found['`c_tiny`'][1] == '90.0 (1)'


def test_other_sizes_and_budgets_stand_apart():
    students = ('a_tiny', 'b_tiny', 'c_tiny', 'a_equal4_tiny', 'b_equal4_tiny', 'm_base')
    rows = [cell(s, f'{50 + 10 * i}.00') for i, s in enumerate(students)]
    found = lines(rows)
    expected = ['c_tiny', 'b_tiny', 'a_tiny', 'b_equal4_tiny', 'a_equal4_tiny', 'm_base']
    assert list(found)[2:] == [f'`{student}`' for student in expected]
    bold = [student for student, entries in found.items() if '**' in entries[1]]
    assert bold == ['`c_tiny`', '`b_equal4_tiny`']


def test_the_leaderboard_says_what_is_measured():
    records = [make_record({'top1_mean': 50.0 + p}, 'linear', 'comad_tiny', p, p) for p in range(3)]
    empty = leaderboard_block({'classification': table_of('classification', [])})
    assert empty == NOTHING_MEASURED
    text = leaderboard_block({'classification': table_of('classification', records)})
    assert NOTHING_MEASURED not in text
    assert '| 1 | comad | ViT-Tiny/16 | mae_linear v1 | top1 (mean) | 51.00 ± 1.00 | 3 |' in text


def test_figures_of_one_source_share_a_line():
    rows = table_of('detection', [], read_published().accepted)
    text = leaderboard_block({'detection': rows})
    assert text.count('| CoMAD |') == 1 and 'bbox_mAP 44.5, segm_mAP 40.5' in text


def build(folder, *options):
    return call('leaderboard', '--quiet', *options, cwd=folder)


def test_the_command_rewrites_only_at_full_scale_and_by_default(tmp_path):
    (tmp_path / 'results').mkdir()
    header = (ROOT / 'results' / 'published.csv').read_text().partition('\n')[0]
    (tmp_path / 'results' / 'published.csv').write_text(header + '\n')
    page = tmp_path / PAGE
    page.parent.mkdir()
    text = f'<!-- leaderboard:begin -->\n<!-- leaderboard:end -->\n{CHECK}{TEXT}'
    page.write_text(text)
    for options in (['--sample'], ['--out', 'elsewhere'], ['--no-docs']):
        assert build(tmp_path, *options).returncode == 0
        assert page.read_text() == text
    assert build(tmp_path).returncode == 0
    assert NOTHING_MEASURED in page.read_text() and 'old' not in page.read_text()
    page.write_text('nothing\n')
    done = build(tmp_path)
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1
    assert 'docs/results.md holds <!-- leaderboard:begin --> 0 times' in done.stderr
    assert (tmp_path / 'results' / 'leaderboard_detection.csv').is_file()


def test_verify_names_a_page_of_other_tables(tmp_path, monkeypatch, capsys):
    from comad.commands.leaderboard import main

    monkeypatch.chdir(tmp_path)
    (tmp_path / 'results').mkdir()
    header = (ROOT / 'results' / 'published.csv').read_text().partition('\n')[0]
    (tmp_path / 'results' / 'published.csv').write_text(header + '\n')
    page = tmp_path / PAGE
    page.parent.mkdir()
    page.write_text(f'<!-- leaderboard:begin -->\n<!-- leaderboard:end -->\n{CHECK}{TEXT}')
    assert main(['--quiet']) == 0 and main(['verify']) == 0
    assert 'docs/results.md: its tables are up to date' in capsys.readouterr().out
    page.write_text(page.read_text().replace(NOTHING_MEASURED, 'CoMAD: 99.9'))
    assert main(['verify']) == 1
    assert 'the table between the leaderboard markers' in capsys.readouterr().err
    page.unlink()
    assert main(['verify']) == 0


def test_the_table_of_methods_tells_the_studys_figures():
    studied = {
        row['student']: row
        for row in read_table(STUDY_CSV).to_dict('records')
        if (row['task'], row['metric'], row['pool']) == ('linear', 'top1', 'mean')
    }
    text = Path('README.md').read_text(encoding='utf-8').split('## Methods')[1].split('\n## ')[0]
    shown = set()
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.split('|')]
        if len(cells) < 4 or '`' not in cells[-3]:
            continue
        named = cells[-3].replace('`', '').split(', ')
        students = [name for name in named if name.endswith('_tiny')]
        figures = [study_figure(studied[s]).split(' (')[0] for s in students if s in studied]
        if page := re.search(r'\]\((docs/\w+\.md)', cells[-2]):  # a table of its own
            assert not figures and '../results/sample_' in Path(page[1]).read_text('utf-8'), line
        else:
            assert cells[-2] == (', '.join(figures) or 'not yet measured'), line
        shown |= {*students}
    assert {'comad_tiny', 'mae_tiny', 'dmt_tiny', 'hybrid_distill_tiny', 'amd_tiny'} <= shown


@pytest.mark.parametrize('damage', ['', 'cell,metric\nx,y\n', 'cell,difference\n<<<<<<< HEAD\n'])
def test_a_damaged_table_is_named(tmp_path, monkeypatch, damage):
    path = tmp_path / 'sample_complementary.csv'
    path.write_text(damage)
    monkeypatch.setattr('comad.leaderboard.results_page.COMPLEMENTARY_CSV', path)
    boards = build_leaderboards('full', None, tmp_path)
    with pytest.raises(ValueError, match=r'sample_complementary\.csv: cannot be shown'):
        page_blocks(boards.tables)
    assert str(path) in stale_page(boards.tables)
