r"""The tables as text for a terminal, Markdown (GitHub's), LaTeX with booktabs, and JSON.

A LaTeX file is for ``\input``, with ``\usepackage{booktabs}`` before it.
"""

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import starmap
from pathlib import Path
from typing import Any

from pandas import DataFrame, Series

from backbones.files import write_text
from comad.leaderboard.tables import COLUMNS, MEASURED, PUBLISHED, own_columns

Tables = Mapping[str, DataFrame]
MAX_WIDTH = 28
NOT_STATED = 'not stated'
# Of documents, before the value.
HEADINGS = ['rank', 'method', 'student', 'teachers', 'protocol', 'metric']

MARKUP = re.compile(r'[\\|*<>`~$\[\]]|(?<![^\W_])_|_(?![^\W_])')
MARKDOWN = (
    '# Leaderboard\n\n'
    'Made by `python tools/leaderboard.py --format markdown`. Figures in percent, mean ± sd over n '
    'seeds. Ranks exist inside a group of equal task, data, metric and protocol; `=` marks a tie. '
    'Published figures are not ranked.'
)

LATEX = {
    '\\': r'\textbackslash{}',
    '{': r'\{',
    '}': r'\}',
    '~': r'\textasciitilde{}',
    '^': r'\textasciicircum{}',
    '<': r'\textless{}',
    '>': r'\textgreater{}',
    '|': r'\textbar{}',
    # Not \\textquotedbl, which the default font encoding lacks.
    '"': "''",
    '±': r'$\pm$',
    '×': r'$\times$',
    '–': '--',
    **{character: f'\\{character}' for character in '&%$#_'},
}
# Teachers and protocols are broken into lines; with the others they fill a page's width.
LATEX_COLUMNS = 'lllp{2.6cm}p{3.2cm}lrr'
CAPTION = (
    r'{}. Percent, mean $\pm$ sd over $n$ seeds. Ranks hold inside a group of equal task, data, '
    r'metric and protocol; $=$ marks a tie. Numbered rows are published figures, not ranked.'
)

NUMBERS = frozenset(
    ('rank', 'params_m', 'pretrain_epochs', 'pretrain_gflop_per_image', 'pretrain_hours')
    + ('protocol_version', 'heads', 'resolution', 'value', 'sd', 'n')
)
LISTS = frozenset(('teachers', 'records'))


def format_table(title: str, table: DataFrame) -> str:
    """Return a compact table for a terminal: measured rows by group, published ones after them.

    ``value`` is the mean in percent with its sd over n seeds; a shared rank is marked ``=``.
    """
    if table.empty:
        return f'{title}: no rows yet'
    shown = table.assign(
        rank=_ranks(table).replace('', '-'),
        value=joined(table['value'], ' +- ', table['sd']),
        evidence=table['evidence'].mask(table['kind'] == MEASURED, MEASURED),
        **{name: _stated(table, name) for name in ('student', 'protocol')},
    )
    headings = ['rank', 'method', 'student', 'protocol', 'pool', 'metric', 'value', 'n']
    headings += [*own_columns(table), 'evidence']
    shown = shown[headings].map(_clip)
    widths = [max(len(name), *map(len, shown[name])) for name in headings]
    rows = [headings, ['-' * width for width in widths], *shown.to_numpy().tolist()]
    lines = ['  '.join(map(str.ljust, row, widths)).rstrip() for row in rows]
    apart = [False, False, *(table['section'].diff().fillna(0) != 0)]
    return '\n'.join([title, *('\n' * new + line for new, line in zip(apart, lines, strict=True))])


def documented(table: DataFrame, escaped: Callable[[str], str]) -> DataFrame:
    """Return the rows as documents show them, texts in their markup.

    Columns: ``HEADINGS``; ``source`` of published rows, with the kind of evidence; the table's own
    columns; as in the table ``value``, ``sd``, ``n`` and ``section``.
    """
    texts = DataFrame(
        {
            'rank': _ranks(table),
            'method': table['method'],
            'student': _stated(table, 'student'),
            'teachers': table['teachers'],
            'protocol': joined(_stated(table, 'protocol'), ' v', table['protocol_version']),
            'metric': joined(table['metric'], ' (', table['pool'], ')'),
            'source': joined(table['source'], ' (', table['evidence'], ')'),
            **{name: table[name] for name in own_columns(table)},
        }
    )
    return texts.map(escaped).join(table[['value', 'sd', 'n', 'section']])


def joined(left: Series, between: str, right: Series, end: str = '') -> Series:
    """Return two columns of text as one; the left one alone where the right one is blank."""
    return left + (between + right + end).where(right != '', '')


def to_markdown(tables: Tables) -> str:
    """Return all tables as one document; equal rows give equal text."""
    parts = [MARKDOWN]
    for name, table in tables.items():
        parts.append(f'## {name.capitalize()}')
        shown = documented(table, escape)
        shown['value'] = joined(shown['value'], ' ± ', shown['sd'])
        shown = shown.rename(columns={'source': 'source (evidence)'})
        measured = shown['section'] >= 0
        if table.empty:
            parts.append('No rows yet.')
        if measured.any():
            columns = [*HEADINGS, 'value', 'n', *own_columns(table)]
            parts.append(markdown_table(shown.loc[measured, columns]))
        if not measured.all():
            columns = [*HEADINGS[1:], 'value', 'source (evidence)']
            parts += ['Published:', markdown_table(shown.loc[~measured, columns])]
    return '\n\n'.join(parts) + '\n'


def markdown_table(table: DataFrame) -> str:
    """Return a table; entries are marked up already, blank ones stay blank."""
    rows = [list(table), ['---'] * table.shape[1], *table.to_numpy().tolist()]
    return '\n'.join('| ' + ' | '.join(row) + ' |' for row in rows)


def escape(text: str) -> str:
    """Return plain text as Markdown that shows it, on one line and inside one cell."""
    text = ' '.join(text.split()).replace('&', '&amp;')
    return MARKUP.sub(lambda found: '\\' + found[0], text)


def to_latex(tables: Tables) -> str:
    """Return one ``table`` per leaderboard; equal rows give equal text."""
    head = '% Made by python tools/leaderboard.py --format latex; needs \\usepackage{booktabs}.\n'
    return head + '\n'.join(starmap(_latex, tables.items()))


def escape_latex(text: str) -> str:
    """Return plain text as LaTeX that shows it; letters beyond ASCII stay, as UTF-8."""
    return ''.join(LATEX.get(character, character) for character in ' '.join(text.split()))


def _latex(name: str, table: DataFrame) -> str:
    shown = documented(table, escape_latex)
    published = shown['section'] < 0
    sources = {source: i for i, source in enumerate(shown.loc[published, 'source'].unique(), 1)}
    marks = {source: f'~[{i}]' for source, i in sources.items()}
    shown['method'] += [marks.get(source, '') for source in shown['source']]
    spread = '$' + shown['value'] + r' \pm ' + shown['sd'] + '$'
    shown['value'] = spread.where(shown['sd'] != '', shown['value'])
    own = own_columns(table)
    for column in own:
        shown[column] = shown[column].str.replace('-', '$-$')
    # Groups of measured rows stand apart by a space, published rows by a rule.
    apart = shown['section'].ne(shown['section'].shift())
    entries = [*HEADINGS, 'value', 'n', *own]
    headings = [*(name.capitalize() for name in entries)]
    headings[entries.index('n')] = '$n$'
    body = []
    for number, row in enumerate(shown[entries].to_numpy().tolist()):
        if apart.iat[number]:
            body.append(r'\midrule' if not number or published.iat[number] else r'\addlinespace')
        body.append(_latex_row(row))
    if not body:
        body = [r'\midrule', rf'\multicolumn{{{len(entries)}}}{{l}}{{no rows yet}} \\']
    lines = [
        r'\begin{table}',
        r'  \centering',
        rf'  \caption{{{CAPTION.format(name.capitalize())}}}',
        rf'  \label{{tab:leaderboard-{name}}}',
        r'  \footnotesize',
        rf'  \begin{{tabular}}{{{LATEX_COLUMNS}{"l" * len(own)}}}',
        r'    \toprule',
        f'    {_latex_row(headings)}',
        *(f'    {line}' for line in body),
        r'    \bottomrule',
        r'  \end{tabular}',
    ]
    if sources:
        listed = '; '.join(f'[{i}]~{source}' for source, i in sources.items())
        lines += [r'  \par\smallskip', rf'  {{\scriptsize Sources: {listed}.\par}}']
    return '\n'.join([*lines, r'\end{table}', ''])


def _latex_row(entries: Sequence[str]) -> str:
    return ' & '.join(entries) + r' \\'


def to_json(tables: Tables) -> str:
    """Return the tables by name as lists of rows; equal rows give equal text.

    A row has its cells under the columns' names: a number, a text, a list (teachers, records) or
    null for a blank one; a number that a source states in words, such as several head counts,
    stays a text. Beside them ``details``, what a measured row carries and the CSV has no column
    for.
    """
    content = {
        name: [
            {column: _typed(column, value) for column, value in row.items()}
            for row in table[[*COLUMNS, *own_columns(table), 'details']].to_dict('records')
        ]
        for name, table in tables.items()
    }
    return json.dumps(content, indent=1, allow_nan=False, ensure_ascii=False) + '\n'


def _typed(column: str, value: Any) -> Any:
    if column == 'details':  # in no agreed order
        return json.loads(json.dumps(value, sort_keys=True))
    if column in LISTS:
        return value.split('; ') if value else []
    if column in NUMBERS:
        for kind in (int, float):
            try:
                return kind(value)
            except ValueError:
                continue
    return value or None


FORMATS: dict[str, tuple[str, Callable[[Tables], str]]] = {
    'markdown': ('leaderboard.md', to_markdown),
    'latex': ('leaderboard.tex', to_latex),
    'json': ('leaderboard.json', to_json),
}


def write_formats(names: Iterable[str], tables: Tables, folder: Path) -> list[Path]:
    """Write the tables in each format of ``FORMATS`` that is named; return the files."""
    paths = []
    for name in dict.fromkeys(names):
        if name in FORMATS:
            file, render = FORMATS[name]
            write_text(folder / file, render(tables))
            paths.append(folder / file)
    return paths


def _ranks(table: DataFrame) -> Series:
    return table['rank'].mask(table['tie'].astype(bool), table['rank'] + '=')


def _stated(table: DataFrame, column: str) -> Series:
    return table[column].mask((table['kind'] == PUBLISHED) & (table[column] == ''), NOT_STATED)


def _clip(text: str) -> str:
    return text if len(text) <= MAX_WIDTH else text[: MAX_WIDTH - 3] + '...'
