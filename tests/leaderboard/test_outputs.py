"""Markdown, LaTeX and JSON of the tables: every figure, marked up so that it shows, equal bytes."""

import csv
import json
import random
import re

import pytest
from pandas import DataFrame

from comad.leaderboard.outputs import (
    escape,
    escape_latex,
    format_table,
    to_json,
    to_latex,
    to_markdown,
)
from comad.leaderboard.published import COLUMNS, read_published
from comad.leaderboard.tables import make_leaderboards, to_csv
from comad.report.page import write_report
from comad.runs.record import write_record
from comad.tasks.task import TABLES
from tests.calls import call
from tests.leaderboard.examples import make_record, table_of

HARD = r'a|b & 5% of $x_1$ {#2} ~ ^ \ * <i> "q" [1] `c`'


def seeds(values, student='comad_tiny'):
    return [
        make_record({'top1_mean': value}, 'linear', student, pretrain_seed=p, seed=p)
        for p, value in enumerate(values)
    ]


def hard_row(**changes):
    entries = dict.fromkeys(COLUMNS, '') | {
        'method': HARD,
        'task': 'classification',
        'dataset': 'imagenet-1k',
        'protocol': 'finetune',
        'metric': 'top1',
        'value': '71.5',
        'heads': '6 (last block 12)',
        'source': HARD,
        'evidence': 'abstract',
    }
    return DataFrame([entries | changes])


@pytest.fixture
def tables():
    records = [
        *seeds([60.0, 61.0, 62.0]),
        *seeds([59.0, 60.0, 61.0], 'mae_tiny'),
        *seeds([40.0, 41.0, 42.0], 'ibot_tiny'),
        *seeds([90.0], 'mocov3_tiny'),
    ]
    rows = {name: table_of(name, records, hard_row()) for name in TABLES}
    assert len(rows['classification']) == 5
    return rows


def cells(line):
    """The entries of a Markdown table's line, split where GitHub splits it."""
    return [cell.strip() for cell in re.split(r'(?<!\\)\|', line)[1:-1]]


def test_markdown_has_a_line_per_row_and_marks_ties(tables):
    text = to_markdown(tables)
    lines = [cells(line) for line in text.splitlines() if line.startswith('|')]
    measured, published = lines[:6], lines[6:]
    assert measured[0][-2:] == ['value', 'n']
    shown = {line[1]: (line[0], *line[-2:]) for line in measured[2:]}
    assert shown == {
        'comad': ('1=', '61.00 ± 1.00', '3'),
        'mae': ('1=', '60.00 ± 1.00', '3'),
        'ibot': ('3', '41.00 ± 1.00', '3'),
        'mocov3': ('', '90.00', '1'),
    }
    assert {len(line) for line in measured} == {8} and {len(line) for line in published} == {7}
    (row,) = published[2:]
    assert row[0] == escape(HARD) and row[-2] == '71.5' and row[-1].endswith('(abstract)')
    assert text.count('No rows yet.') == 4


def test_markdown_escapes_what_would_mark_up():
    assert escape('a|b *c* <d> `e` $f$ ~g~') == r'a\|b \*c\* \<d> \`e\` \$f\$ \~g\~'.replace(
        '>', r'\>'
    )
    assert escape('bbox_mAP _x_ R&D') == r'bbox_mAP \_x\_ R&amp;D'
    assert escape('two\nlines') == 'two lines'


def test_latex_is_balanced_and_escaped(tables):
    text = to_latex(tables)
    begun = re.findall(r'\\begin\{(\w+)\}', text)
    assert begun == ['table', 'tabular'] * 5
    open_environments = []
    for side, name in re.findall(r'\\(begin|end)\{(\w+)\}', text):
        if side == 'begin':
            open_environments.append(name)
        else:
            assert open_environments.pop() == name
    assert not open_environments
    plain = re.sub(r'\\[\\{}%$&#_]', '', '\n'.join(text.splitlines()[1:]))
    assert plain.count('{') == plain.count('}') and plain.count('$') % 2 == 0
    assert not re.search(r'[%#_^<>"]', plain) and plain.isascii()
    for rule in ('toprule', 'bottomrule'):
        assert text.count(f'\\{rule}') == 5


def test_latex_rows_fill_the_columns(tables):
    text = to_latex({'classification': tables['classification']})
    columns = re.search(r'\\begin\{tabular\}\{(.*)\}', text)[1]
    number = len(re.sub(r'\{[^}]*\}', '', columns))
    body = text.partition('\\toprule')[2].partition('\\bottomrule')[0]
    rows = [line for line in body.splitlines() if line.endswith('\\\\')]
    assert len(rows) == 6
    assert {len(re.findall(r'(?<!\\)&', row)) + 1 for row in rows} == {number}
    assert any('1= & comad' in row and '$61.00 \\pm 1.00$ & 3' in row for row in rows)
    measured, _, published = body.rpartition('\\midrule')
    assert 'mocov3' in measured and escape_latex(HARD) + '~[1]' in published
    assert f'Sources: [1]~{escape_latex(HARD)} (abstract)' in text


def test_latex_escapes_each_special_character():
    assert escape_latex(r'50% of a_b & {c} #1 $2') == r'50\% of a\_b \& \{c\} \#1 \$2'
    assert escape_latex('\\~^') == r'\textbackslash{}\textasciitilde{}\textasciicircum{}'
    assert escape_latex('1 ± 2 – é') == r'1 $\pm$ 2 -- é'


def test_json_is_typed_and_complete(tables):
    tables['classification'].at[0, 'details'] = {'b': 1, 'a': {'c': (1, 2)}}
    found = json.loads(to_json(tables))
    assert list(found) == list(TABLES)
    assert list(found['classification'][0]['details']) == ['a', 'b']
    first = found['classification'][1]
    assert (first['value'], first['sd'], first['n'], first['rank']) == (61.0, 1.0, 3, 1)
    assert (first['heads'], first['protocol_version'], first['teachers']) == (3, 1, ['mae'])
    assert first['records'] == [f'linear_comad_tiny_p{i}_s{i}.json' for i in range(3)]
    assert first['source'] is None
    assert found['classification'][0]['details'] == {'a': {'c': [1, 2]}, 'b': 1}
    published = found['classification'][-1]
    assert (published['heads'], published['n'], published['records']) == (
        '6 (last block 12)',
        None,
        [],
    )
    assert published['method'] == HARD and published['details'] == {}


def test_a_text_that_looks_like_a_number_stays_one_where_it_is_no_number():
    row = table_of('classification', [], hard_row(method='10', student='3'))
    (found,) = json.loads(to_json({'classification': row}))['classification']
    assert (found['method'], found['student'], found['value']) == ('10', '3', 71.5)


@pytest.mark.parametrize('render', [to_markdown, to_latex, to_json])
def test_equal_rows_give_equal_text_in_any_order(render):
    records = [*seeds([60.0, 61.0, 62.0]), *seeds([59.0, 60.0, 61.0], 'mae_tiny')]
    published = read_published().accepted
    first = render({name: table_of(name, records, published) for name in TABLES})
    for attempt in range(3):
        mixed = random.Random(attempt).sample(records, len(records))
        rows = published.sample(frac=1, random_state=attempt)
        assert render({name: table_of(name, mixed, rows) for name in TABLES}) == first


def test_the_command_writes_what_it_is_asked_for_beside_the_csvs(tmp_path):
    for record in seeds([60.0, 61.0, 62.0]):
        write_record(tmp_path / 'records', record)
    places = ('--records', tmp_path / 'records', '--out', tmp_path / 'out')
    done = call('leaderboard', *places, '--quiet', '--format', 'latex', 'json')
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in (tmp_path / 'out').iterdir()) == [
        'leaderboard.json',
        'leaderboard.tex',
        *(f'leaderboard_{name}.csv' for name in sorted(TABLES)),
    ]
    assert '61.00 \\pm 1.00' in (tmp_path / 'out' / 'leaderboard.tex').read_text()


def test_every_format_shows_what_a_student_gains(tmp_path):
    kinds = {'plain_resnet18': [60.0, 61.0], 'fbt_swin_tiny_resnet18': [63.0, 65.0]}
    kinds['kd_swin_tiny_resnet18'] = [59.0]
    records = [
        make_record({'top1_student': value}, 'cifar100', student, pretrain_seed=p, seed=p)
        for student, values in kinds.items()
        for p, value in enumerate(values)
    ]
    table = table_of('distillation', records)
    wanted = {'plain': '', 'fbt_swin_tiny': '+3.50 (2 seeds)', 'kd_swin_tiny': '-1.00 (1 seed)'}
    read = csv.DictReader(to_csv(table).splitlines())
    assert {row['method']: row['gain'] for row in read} == wanted
    tables = {'distillation': table}
    lines = [cells(line) for line in to_markdown(tables).splitlines() if line.startswith('|')]
    assert lines[0][-1] == 'gain'
    assert {line[1].replace('\\', ''): line[-1] for line in lines[2:]} == wanted
    rows = [line for line in to_latex(tables).splitlines() if line.endswith(r'\\')]
    assert rows[0].endswith(r'$n$ & Gain \\')
    gains = {row.removesuffix(r' \\').split(' & ')[-1] for row in rows[1:]}
    assert gains == {'', '+3.50 (2 seeds)', '$-$1.00 (1 seed)'}
    found = {row['method']: row['gain'] for row in json.loads(to_json(tables))['distillation']}
    assert found == {method: gain or None for method, gain in wanted.items()}
    heading, _, *shown = format_table('distillation', table).splitlines()[1:]
    place = heading.index('gain')
    assert sorted(line[place:].split('  ')[0] for line in shown) == sorted(wanted.values())


def test_the_page_shows_what_a_student_gains(tmp_path):
    students = {'plain_resnet18': 60.0, 'fbt_swin_tiny_resnet18': 63.5}
    for student, value in students.items():
        write_record(tmp_path, make_record({'top1_student': value}, 'cifar100', student))
    page = write_report(make_leaderboards(records=tmp_path), tmp_path / 'page.html').read_text()
    section = page.partition('<section id="distillation"')[2].partition('</section>')[0]
    measured = section.partition('</table>')[0]
    assert '<button type="button">gain</button>' in measured
    assert '<td class="num" data-v="+3.50">+3.50 (1 seed)</td>' in measured
    head = measured.partition('</thead>')[0].count('<th scope="col"')
    assert f'colspan="{head}"' in measured
    for row in re.findall(
        r'<tr(?: class="best")?>(.*?)</tr>', measured.partition('</thead>')[2], re.S
    ):
        assert len(re.findall(r'<t[dh]', row)) == head
    assert (
        '>gain<' not in page.partition('<section id="classification"')[2].partition('</section>')[0]
    )
