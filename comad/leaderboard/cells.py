"""CSV files as DataFrames of text, and back: every cell as it stands in the file."""

import io
from collections.abc import Sequence
from pathlib import Path

import pandas
from pandas import DataFrame


def read_cells(path: str | Path) -> DataFrame:
    """Return a CSV's cells as text, '' for blank ones, by the number of the line they end in.

    The cells that a row lacks are NaN; of a row that is too long all but the first one are. An
    empty file has no columns.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is no CSV.
    """
    try:
        # Line ends are the parser's to see: a cell may hold some.
        text = Path(path).read_bytes().decode()
        if not text.strip():
            return DataFrame()
        # The header as a row among others: a first row that is too long would otherwise make
        # pandas take the first column for an index.
        rows = pandas.read_csv(
            io.StringIO(text, newline=''),
            header=None,
            dtype=str,
            keep_default_na=False,
            skip_blank_lines=False,
            engine='python',
            on_bad_lines=lambda row: row[:1],
        )
    except ValueError as error:
        raise ValueError(f'{path}: {error}') from None
    rows.index += 1 + rows.fillna('').agg(''.join, axis=1).str.count('\n').cumsum()
    header, cells = rows.iloc[0], rows.iloc[1:].dropna(how='all')
    return cells.set_axis([str(name) for name in header], axis=1)


def to_csv(table: DataFrame, columns: Sequence[str]) -> str:
    """Return the columns as CSV text; equal rows give equal bytes."""
    return table.to_csv(columns=list(columns), index=False, lineterminator='\n')
