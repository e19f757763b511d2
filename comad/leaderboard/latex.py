r"""The tables as LaTeX with booktabs: ``\input`` the file, ``\usepackage{booktabs}`` before."""

from collections.abc import Mapping, Sequence

from comad.leaderboard.shown import HEADINGS, ShownRow, shown_rows
from comad.leaderboard.tables import Row

SPECIAL = {
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
COLUMNS = 'lllp{2.6cm}p{3.2cm}lrr'
CAPTION = (
    r'{}. Percent, mean $\pm$ sd over $n$ seeds. Ranks hold inside a group of equal task, data, '
    r'metric and protocol; $=$ marks a tie. Numbered rows are published figures, not ranked.'
)


def to_latex(tables: Mapping[str, Sequence[Row]]) -> str:
    """Return one ``table`` per leaderboard; equal rows give equal text."""
    head = '% Made by python tools/leaderboard.py --format latex; needs \\usepackage{booktabs}.\n'
    return head + '\n'.join(_table(name, shown_rows(rows)) for name, rows in tables.items())


def escape_latex(text: str) -> str:
    """Return plain text as LaTeX that shows it; letters beyond ASCII stay, as UTF-8."""
    return ''.join(SPECIAL.get(character, character) for character in ' '.join(text.split()))


def _table(name: str, rows: Sequence[ShownRow]) -> str:
    sources = list(dict.fromkeys(row.source for row in rows if row.published))
    headings = [*(heading.capitalize() for heading in HEADINGS), 'Value', '$n$']
    lines = [
        r'\begin{table}',
        r'  \centering',
        rf'  \caption{{{CAPTION.format(name.capitalize())}}}',
        rf'  \label{{tab:leaderboard-{name}}}',
        r'  \footnotesize',
        rf'  \begin{{tabular}}{{{COLUMNS}}}',
        r'    \toprule',
        f'    {_join(headings)}',
    ]
    previous: object = None
    for row in rows:
        if row.section != previous:
            # Groups of measured rows stand apart by a space, published rows by a rule.
            first = previous is None or row.published
            lines.append(r'    \midrule' if first else r'    \addlinespace')
        previous = row.section
        lines.append(f'    {_join(_entries(row, sources))}')
    if not rows:
        lines += [r'    \midrule', rf'    \multicolumn{{{len(headings)}}}{{l}}{{no rows yet}} \\']
    lines += [r'    \bottomrule', r'  \end{tabular}']
    if sources:
        notes = (f'[{i}]~{escape_latex(source)}' for i, source in enumerate(sources, start=1))
        lines += [r'  \par\smallskip', rf'  {{\scriptsize Sources: {"; ".join(notes)}.\par}}']
    return '\n'.join([*lines, r'\end{table}', ''])


def _entries(row: ShownRow, sources: Sequence[str]) -> list[str]:
    entries = [escape_latex(row.entries[heading]) for heading in HEADINGS]
    if row.published:
        entries[HEADINGS.index('method')] += f'~[{sources.index(row.source) + 1}]'
    value = rf'${row.value} \pm {row.sd}$' if row.sd else row.value
    return [*entries, value, row.n]


def _join(entries: Sequence[str]) -> str:
    return ' & '.join(entries) + r' \\'
