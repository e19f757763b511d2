"""Tables that are kept without their records must agree with themselves."""

import csv
import io

import pytest

from comad.leaderboard.cells import to_csv
from comad.leaderboard.kept import check_ablations, check_study
from comad.leaderboard.study import ABLATION_COLUMNS, STUDY_COLUMNS, ablation_rows, study_rows
from tests.leaderboard.examples import make_record

FIGURES = {'comad_tiny': (44.9, 40.0, 45.6), 'mae_tiny': (50.234, 46.447, 46.504)}
RECORDS = [
    make_record({'top1_cls': value}, 'linear', student, seed, seed)
    for student, values in FIGURES.items()
    for seed, value in enumerate(values)
]
STUDY = to_csv(study_rows(RECORDS), STUDY_COLUMNS)
ABLATIONS = to_csv(
    ablation_rows(RECORDS, 'comad_tiny', {'mae_tiny': 'MAE'}, 'linear', 3), ABLATION_COLUMNS
)


@pytest.mark.parametrize(
    ('old', 'new', 'reason'),
    [
        ('44.90; 40.00; 45.60', '44.90; 41.00; 45.60', 'mean is 43.50, its values give 43.83'),
        ('43.50,3.05,3', '43.52,3.05,3', 'mean is 43.52, its values give 43.50'),
        ('43.50,3.05,3', '43.50,3.08,3', 'sd is 3.08, its values give 3.05'),
        ('43.50,3.05,3', '43.50,3.05,4', 'n is 4, its values are 3'),
        ('0/0; 1/1; 2/2,44.90', '0/0; 1/1; 1/1,44.90', 'a seed is there twice'),
        ('0/0; 1/1; 2/2,44.90', '0/0; 1/1,44.90', 'do not belong together'),
        ('comad_tiny,1,mae,linear,top1', 'comad_tiny,1,mae,linear,top9', "'top9'"),
        ('43.50,3.05,3', 'much,3.05,3', 'values cannot be read'),
    ],
)
def test_a_study_that_does_not_agree_with_itself(tmp_path, old, new, reason):
    assert STUDY.count(old) == 1
    path = tmp_path / 'study.csv'
    path.write_text(STUDY)
    assert check_study(path) == (2, [])
    path.write_text(STUDY.replace(old, new))
    rows, problems = check_study(path)
    assert rows == 2 and any(reason in line for line in problems)
    assert all('study.csv, row 1 (comad_tiny, linear' in line for line in problems)


def test_a_row_of_the_study_that_is_there_twice(tmp_path):
    lines = STUDY.splitlines(keepends=True)
    (tmp_path / 's.csv').write_text(''.join([*lines, lines[1]]))
    rows, problems = check_study(tmp_path / 's.csv')
    assert rows == len(lines) and len(problems) == 1 and 'is there twice' in problems[0]
    (tmp_path / 's.csv').write_text('a,b\n1,2\n')
    assert 'unknown column' in check_study(tmp_path / 's.csv')[1][0]


@pytest.mark.parametrize(
    ('column', 'value', 'reason'),
    [
        ('mean', '47.80', 'mean is 47.80'),
        ('paired_difference', '-2.30', 'paired_difference is -2.30'),
        ('paired_sd', '1.45', 'paired_sd is 1.45'),
        ('paired_n', '2', 'paired_n is 2'),
        ('noise_bound', '3.60', 'noise_bound is 3.60'),
        ('beyond_noise', 'yes', "beyond_noise is 'yes'"),
        ('values', '0: 50.23; 1: 46.45', 'n is 3, its values are 2'),
        ('values', 'many', 'values cannot be read'),
        ('missing', '1 of 3 seeds', '3 values and 1 of 3 seeds'),
    ],
)
def test_an_ablation_that_does_not_agree_with_itself(tmp_path, column, value, reason):
    path = tmp_path / 'a.csv'
    path.write_text(ABLATIONS)
    assert check_ablations(path) == (2, [])
    rows = list(csv.DictReader(io.StringIO(ABLATIONS)))
    rows[1][column] = value
    with path.open('w', newline='') as stream:
        writer = csv.DictWriter(stream, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    found, problems = check_ablations(path)
    assert found == len(rows) and any(reason in line for line in problems)
    assert all('row 2 (mae_tiny, top1_cls)' in line for line in problems)


def test_a_table_of_two_pairs_compares_with_the_default_above(tmp_path):
    path = tmp_path / 'a.csv'
    header, *rows = ABLATIONS.splitlines(keepends=True)
    other = rows[0].replace('0: ', '0: 1')  # another default, with other values
    path.write_text(''.join([header, *rows, other]))
    assert not [line for line in check_ablations(path)[1] if 'row 2' in line]


def test_without_the_default_nothing_is_paired(tmp_path):
    path = tmp_path / 'a.csv'
    header, _, *rows = ABLATIONS.splitlines(keepends=True)
    path.write_text(''.join([header, *rows]))
    assert check_ablations(path)[0] == len(rows) == 1
    assert 'paired_n is 3, its values are 0' in check_ablations(path)[1][0]
