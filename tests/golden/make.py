"""Write the golden files anew: ``python -m tests.golden.make records|tables|losses|tasks``.

A refactoring never runs it: whatever it would change here, the refactoring has broken. Run it for a
part whose outcome is meant to change, read the diff line by line, and say in the commit why every
line of it is right.

    records    the run records that the tables are made of (a new schema of records)
    tables     tables, pages and printed lines, made of the stored records (a new column)
    losses     losses and students of twenty steps of every method (a new formula; minutes)
    tasks      the record of every kind of task (a new field, another recipe)
"""

import argparse
import json
import shutil
import tempfile
from pathlib import Path


def records() -> None:
    from tests.golden.records import FILE, make_records

    lines = [json.dumps(record, separators=(',', ':')) + '\n' for record in make_records()]
    FILE.write_text(''.join(lines))


def tables() -> None:
    from tests.golden.tables import FILES, comparable, figure_digests, make_tables

    with tempfile.TemporaryDirectory() as folder:
        made = make_tables(Path(folder))
    shutil.rmtree(FILES, ignore_errors=True)
    for name, text in comparable(made).items():
        path = FILES / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (FILES / 'figures.json').write_text(json.dumps(figure_digests(made), indent=1) + '\n')


def losses() -> None:
    from tests.golden.methods import METHODS, train, write_runs

    with tempfile.TemporaryDirectory() as folder:
        write_runs({name: train(name, Path(folder)) for name in METHODS})


def tasks() -> None:
    from tests.golden.tasks import KINDS, make_fields, write_fields

    write_fields({kind: make_fields(kind) for kind in KINDS})


if __name__ == '__main__':
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parts = dict(records=records, tables=tables, losses=losses, tasks=tasks)
    parser.add_argument('part', nargs='+', choices=parts)
    for part in parser.parse_args().part:
        parts[part]()
