"""Published figures: every row has source and evidence, bad rows are refused by line."""

import csv

import pytest

from comad.leaderboard.published import COLUMNS, read_published


def write(path, *rows):
    with path.open('w', newline='') as stream:
        writer = csv.DictWriter(stream, COLUMNS, restval='')
        writer.writeheader()
        writer.writerows(rows)
    return path


GOOD = {
    'method': 'M',
    'task': 'classification',
    'dataset': 'imagenet-1k',
    'metric': 'top1',
    'value': '70.1',
    'source': 'a paper, table 1',
    'evidence': 'secondary',
}


def test_the_projects_figures_are_all_accepted():
    accepted, refused = read_published()
    assert refused == []
    assert len(accepted) == 158
    assert {*accepted['task']} >= {'classification', 'segmentation'}


@pytest.mark.parametrize(
    ('change', 'reason'),
    [
        ({'source': ''}, 'source is blank'),
        ({'evidence': ' '}, 'evidence is blank'),
        ({'evidence': 'rumour'}, "evidence 'rumour' is none of"),
        ({'metric': 'top9'}, "unknown metric 'top9'"),
        ({'value': 'nan'}, "value 'nan' is no percentage"),
        ({'value': '701'}, "value '701' is no percentage"),
    ],
)
def test_a_bad_row_is_refused_and_the_others_stay(tmp_path, change, reason):
    path = write(tmp_path / 'p.csv', GOOD, {**GOOD, **change}, GOOD)
    accepted, refused = read_published(path)
    assert list(accepted.index) == [2, 4]
    assert len(refused) == 1 and 'line 3' in refused[0] and reason in refused[0]


def test_a_short_row_is_refused(tmp_path):
    path = write(tmp_path / 'p.csv', GOOD)
    path.write_text(path.read_text() + 'M,ViT\n')
    assert 'line 3: not 17 entries' in read_published(path).refused[0]


@pytest.mark.parametrize('lines', [[','.join('M' * 18)], ['', ','.join('M' * 20)]])
def test_a_long_row_is_refused_and_shifts_no_other(tmp_path, lines):
    path = write(tmp_path / 'p.csv', GOOD, {**GOOD, 'note': 'of two\nlines'})
    header, *rows = path.read_text().splitlines()
    path.write_text('\n'.join([header, *lines, *rows]) + '\n')
    accepted, refused = read_published(path)
    assert refused == [f'{path}, line {1 + len(lines)}: not 17 entries']
    assert list(accepted['method']) == ['M', 'M'] and accepted['note'].iat[1] == 'of two\nlines'
    assert list(accepted.index) == [2 + len(lines), 4 + len(lines)]


def test_other_columns_are_an_error(tmp_path):
    path = tmp_path / 'p.csv'
    path.write_text('method,value\nM,1\n')
    with pytest.raises(ValueError, match='columns are'):
        read_published(path)
