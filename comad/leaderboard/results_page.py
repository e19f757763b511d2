"""The tables in docs/results.md that are made from results/, between markers."""

from collections.abc import Mapping
from decimal import ROUND_HALF_UP, Decimal
from functools import partial
from pathlib import Path

from pandas import DataFrame, concat

from backbones.files import write_text
from comad.leaderboard.outputs import Tables, documented, escape, joined, markdown_table
from comad.leaderboard.paired import DASH, groups_block, paired_block
from comad.leaderboard.sample_check import SAMPLE_CHECK_CSV, check_block
from comad.leaderboard.study import COMPLEMENTARY_CSV, STUDY_CSV, budget_of, read_table
from comad.leaderboard.tables import MIN_SEEDS, Statistics, is_tie
from comad.runs.place import equal_method
from comad.tasks.task import TASKS

PAGE = Path('docs/results.md')
# Task, metric and pool of the study's rows -> heading.
STUDY_COLUMNS = {
    (task.kind, *column): heading
    for task in TASKS.values()
    for heading, column in task.study.items()
}
# Heading -> column of the study and the unit its figure is rounded to.
STUDY_COSTS = {
    'GFLOP / image': ('pretrain_gflop_per_image', '0.01'),
    'TFLOP': ('pretrain_tflop', '0.1'),
    's': ('pretrain_seconds', '1'),
}
DECIDING = 'linear, mean'
# Whose differences from the others are shown.
REFERENCE = 'comad_tiny'
EARLIER = '†'
NOTHING_MEASURED = 'Nothing has been measured at full scale yet.'


def update_page(tables: Tables) -> list[Path]:
    """Put every table between its markers in the page; return the page if it changed.

    Raises:
        ValueError: If docs/results.md, where there is one, lacks a marker; it is then left alone.
    """
    return [PAGE] if PAGE.is_file() and rewrite(PAGE, page_blocks(tables)) else []


def stale_page(tables: Tables) -> str:
    """Return why docs/results.md does not hold these tables, check and study; '' if it does.

    Without a docs/results.md there is nothing to hold them.
    """
    if not PAGE.is_file():
        return ''
    text = PAGE.read_text(encoding='utf-8')
    try:
        for name, body in page_blocks(tables).items():
            if replace_block(text, name, body) != text:
                return f'{PAGE}: the table between the {name} markers is another one'
    except ValueError as error:
        return str(error)
    return ''


def page_blocks(tables: Tables) -> dict[str, str]:
    """Return what stands between each pair of markers of docs/results.md.

    Raises:
        ValueError: A table of results/ cannot be read.
    """
    blocks = {'leaderboard': leaderboard_block(tables)}
    for name, path, make in (
        ('check', SAMPLE_CHECK_CSV, check_block),
        ('study', STUDY_CSV, lambda path: study_block(read_table(path))),
        ('paired', STUDY_CSV, _paired),
        ('complementary', COMPLEMENTARY_CSV, lambda path: groups_block(path, 'linear')),
    ):
        try:
            blocks[name] = make(path)
        except (LookupError, TypeError, ValueError, ArithmeticError) as error:
            why = ' '.join(str(error).split())
            raise ValueError(f'{path}: cannot be shown on {PAGE}: {why}; see verify') from None
    return blocks


def _paired(path: Path) -> str:
    """CoMAD against the others: at the methods' own lengths, then at each equal compute."""
    study, (method, _, size) = read_table(path), REFERENCE.rpartition('_')
    budgets = sorted({budget_of(student) for student in study['student']} - {0})
    references = [REFERENCE, *(f'{equal_method(method, budget)}_{size}' for budget in budgets)]
    return '\n\n'.join(paired_block(study, name, STUDY_COLUMNS) for name in references)


def rewrite(path: Path, blocks: Mapping[str, str]) -> bool:
    """Put each block between its markers; return whether the file changed.

    It is written atomically, and only if its text changes.

    Raises:
        ValueError: If a marker is missing, doubled or on the wrong side; nothing is written.
    """
    old = path.read_text(encoding='utf-8')
    new = old
    for name, body in blocks.items():
        new = replace_block(new, name, body, path)
    if new == old:
        return False
    write_text(path, new)
    return True


def replace_block(text: str, name: str, body: str, where: object = PAGE) -> str:
    """Return the text with ``body`` between ``<!-- name:begin -->`` and ``<!-- name:end -->``."""
    markers = [f'<!-- {name}:{side} -->' for side in ('begin', 'end')]
    for marker in markers:
        if (count := text.count(marker)) != 1:
            raise ValueError(f'{where} holds {marker} {count} times; needed once, or --no-docs')
    begin, end = (text.index(marker) for marker in markers)
    if end < begin:
        raise ValueError(f'{where} holds {markers[1]} before {markers[0]}')
    return f'{text[: begin + len(markers[0])]}\n{body}\n{text[end:]}'


def leaderboard_block(tables: Tables) -> str:
    """Return the full-scale tables, compact: one line per row of equal source, all its metrics."""
    measured, published = [], []
    for name, table in tables.items():
        shown = documented(table, escape)
        own = shown['section'] >= 0
        shown = shown.assign(
            value=joined(shown['value'], ' ± ', shown['sd']),
            figures=shown['metric'] + ' ' + shown['value'],
        )
        measured.append(shown[own])
        if own.all():
            continue
        shown = shown[~own]
        shared = shown.groupby(['method', 'student', 'protocol', 'source'], sort=False)['figures']
        lines = shared.agg(', '.join).reset_index().rename(columns={'source': 'source (evidence)'})
        columns = ['method', 'student', 'protocol', 'figures', 'source (evidence)']
        published += [
            f'<details><summary>Published figures, {name}: {len(shown)}, in percent, '
            f'never ranked</summary>',
            markdown_table(lines[columns]),
            '</details>',
        ]
    columns = ['rank', 'method', 'student', 'protocol', 'metric', 'value', 'n']
    rows = concat(measured)[columns]
    return '\n\n'.join([NOTHING_MEASURED if rows.empty else markdown_table(rows), *published])


def study_block(study: DataFrame) -> str:
    """Return the study as one line per student; those of one network size and budget together.

    Bold is a figure that no other of its column, size and budget ties with, over rows with n of 3
    or more that were measured under one protocol. A student without a figure has a dash, a task
    without any no column. The last columns are the cost of one pretraining, teachers included.
    """
    if study.empty:
        return 'The study has not been run yet.'
    key = ['task', 'metric', 'pool']
    rows = study.drop_duplicates(['student', *key], keep='last', ignore_index=True)
    version = rows['protocol_version'].replace('', '0').astype(int)
    rows = rows.assign(
        heading=[STUDY_COLUMNS.get(names) for names in rows[key].itertuples(index=False)],
        size=[f'{budget_of(name)} {name.rpartition("_")[2]}' for name in rows['student']],
        under=rows['protocol'] + ' ' + version.astype(str),
    )
    # Figures are compared under the newest protocol that any student was measured under.
    newest = version.groupby([rows[name] for name in key]).transform('idxmax')
    earlier = rows['under'] != rows['under'].to_numpy()[newest]
    bold = _ahead(rows[~earlier])
    rows['entry'] = [
        study_figure(row, line in bold) + (EARLIER if earlier[line] else '')
        for line, row in rows.iterrows()
    ]
    students = rows.drop_duplicates('student').set_index('student')[['size']]
    deciding = rows[rows['heading'] == DECIDING].set_index('student')['mean'].astype(float)
    students['best'] = -deciding.reindex(students.index, fill_value=0)
    students['many'] = -students.groupby('size')['size'].transform('count')
    order = students.sort_values(['many', 'size', 'best', 'student']).index
    shown = rows.dropna(subset='heading')
    entries = shown.pivot(index='student', columns='heading', values='entry').reindex(order)
    known = rows.mask(rows == '').groupby('student').first().reindex(order)
    lines = {
        'student': [f'`{student}`' for student in order],
        'teachers': known['teachers'].str.replace(';', ','),
        **{name: entries[name] for name in STUDY_COLUMNS.values() if name in entries},
        **{
            name: known[cost].map(partial(_round, unit=unit), na_action='ignore')
            for name, (cost, unit) in STUDY_COSTS.items()
        },
    }
    text = markdown_table(DataFrame(lines, index=order, dtype=object).fillna(DASH))
    if earlier[shown.index].any():
        text += f'\n\n{EARLIER} under an earlier version of the protocol: not to be compared.'
    return text


def study_figure(cells: Mapping[str, str], bold: bool = False) -> str:
    """Return mean, sd and n of a row as the page shows them."""
    sd = _round(cells['sd'], '0.1')
    text = _round(cells['mean'], '0.1') + (f' ± {sd}' if sd else '')
    text = f'**{text}**' if bold else text
    return f'{text} ({cells["n"]})' if cells['n'] else text


def _ahead(rows: DataFrame) -> set[int]:
    """The lines that are ahead of all others of their column, size and budget beyond a tie."""
    few = (rows['sd'] == '') | (rows['n'].replace('', '0').astype(int) < MIN_SEEDS)
    ahead = set()
    for _, column in rows[~few].groupby(['size', 'heading']):
        figures = {
            line: Statistics(float(row['mean']), float(row['sd']), int(row['n']))
            for line, row in column.iterrows()
        }
        first, *others = sorted(figures, key=lambda line: -figures[line].mean)
        if others and not any(is_tie(figures[first], figures[line]) for line in others):
            ahead.add(first)
    return ahead


def _round(text: str, unit: str) -> str:
    """A decimal text rounded as by hand: 2.15 to 2.2, which no binary float would do."""
    return str(Decimal(text).quantize(Decimal(unit), ROUND_HALF_UP)) if text else ''
