"""What a build writes beside the CSVs: further formats, and the tables in docs/results.md."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from backbones.files import write_text
from comad.leaderboard.json_table import to_json
from comad.leaderboard.latex import to_latex
from comad.leaderboard.markdown import to_markdown
from comad.leaderboard.results_page import (
    PAGE,
    STUDY,
    leaderboard_block,
    replace_block,
    rewrite,
    study_block,
)
from comad.leaderboard.study import read_table
from comad.leaderboard.tables import Row

Tables = Mapping[str, Sequence[Row]]
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


def update_page(tables: Tables) -> list[Path]:
    """Put tables and study between their markers in docs/results.md; return the file if it changed.

    Raises:
        ValueError: If docs/results.md, where there is one, lacks a marker; it is then left alone.
    """
    return [PAGE] if PAGE.is_file() and rewrite(PAGE, page_blocks(tables)) else []


def stale_readme(tables: Tables) -> str:
    """Return why docs/results.md does not hold these tables and the study; '' if it does.

    Without a docs/results.md there is nothing to hold them.
    """
    if not PAGE.is_file():
        return ''
    text = PAGE.read_text(encoding='utf-8')
    for name, body in page_blocks(tables).items():
        try:
            if replace_block(text, name, body) != text:
                return f'{PAGE}: the table between the {name} markers is another one'
        except ValueError as error:
            return str(error)
    return ''


def page_blocks(tables: Tables) -> dict[str, str]:
    """Return what stands between each pair of markers of docs/results.md."""
    return {'leaderboard': leaderboard_block(tables), 'study': study_block(read_table(STUDY))}
