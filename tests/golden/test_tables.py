"""Tables, pages and printed lines of the fixed records: equal bytes, before and after."""

import difflib
import html
import json

import pytest

from tests.golden.records import file_name
from tests.golden.tables import FILES, comparable, figure_digests, make_tables

GOLDEN = {
    str(path.relative_to(FILES)): path.read_text()
    for path in sorted(FILES.rglob('*.*'))
    if path.name != 'figures.json'
}


@pytest.fixture(scope='module')
def made(tmp_path_factory):
    return make_tables(tmp_path_factory.mktemp('golden'))


@pytest.fixture(scope='module')
def texts(made):
    return comparable(made)


def test_the_commands_write_these_files_and_no_others(texts):
    assert sorted(texts) == sorted(GOLDEN)


@pytest.mark.parametrize('name', GOLDEN)
def test_equal_bytes(texts, name):
    if texts[name] != GOLDEN[name]:
        lines = (text.splitlines(keepends=True) for text in (GOLDEN[name], texts[name]))
        pytest.fail(''.join([*difflib.unified_diff(*lines, 'golden', name, n=1)][:60]))


def test_exit_codes(made):
    refused = {'printed.txt': 1, 'report.txt': 1, 'verified.txt': 1}
    assert made.codes == refused | {f'sample/{name}': 0 for name in refused}


def test_protocol_fields_are_those_of_the_records(made):
    fields = {file_name(r): r['protocol']['fields'] for r in made.records if not r['sample']}
    page = html.unescape(made.texts['report.html'])
    rows = [row for rows in made.rows.values() for row in rows if row['kind'] == 'measured']
    assert len(rows) == 22
    for row in rows:
        wanted = fields[row['records'][0]]
        assert row['details']['protocol'] == wanted
        assert all(str(value) in page for value in wanted.values() if value is not None)


def test_digests_are_those_of_the_records(made):
    digests = {file_name(r): r['digest'] for r in made.records if not r['sample']}
    rows = [row for rows in made.rows.values() for row in rows if row['kind'] == 'measured']
    for row in rows:
        assert row['details']['record_digests'] == [digests[file] for file in row['records']]


def test_figures_of_the_page(made):
    golden = json.loads((FILES / 'figures.json').read_text())
    found = figure_digests(made)
    assert len(found['figures']) == len(golden['figures'])
    if found['matplotlib'] != golden['matplotlib']:
        pytest.skip(f'figures are those of Matplotlib {golden["matplotlib"]}, not {found}')
    assert found == golden
