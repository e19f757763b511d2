"""Results per class as tables: classes by students, means over seeds."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from comad.leaderboard.details import known_mean
from comad.report.gallery import Source
from comad.report.panels import NO_FOLDER
from comad.report.sources import PER_CLASS, read_per_class, transfer_folder
from comad.runs.record import Record
from comad.tasks.task import FIGURE, TASKS


@dataclass(frozen=True)
class ClassTable:
    """Figures in percent: class -> one entry per student, None where there is none."""

    title: str
    students: list[str]
    rows: dict[str, list[float | None]]


def class_tables(records: Sequence[Record], root: Path) -> tuple[list[ClassTable], list[str]]:
    """Return a table per task and metric, and one line per run that left no figures per class."""
    found: dict[tuple[str, str], dict[str, list[dict[str, float | None]]]] = {}
    notes = []
    for record in records:
        data = record.data
        if not TASKS[data['task']].dense:
            continue
        name = record.file.removesuffix('.json')
        folder = transfer_folder(root, record)
        metrics = {} if folder is None else read_per_class(folder)
        if not metrics:
            why = NO_FOLDER if folder is None else f'no readable {PER_CLASS} in its folder'
            notes.append(f'{name}: no results per class: {why}')
        for metric, classes in metrics.items():
            own = found.setdefault((data['task'], metric), {})
            own.setdefault(data['student']['name'], []).append(classes)
    order = {kind: number for number, kind in enumerate(TASKS)}
    tables = []
    for (kind, metric), students in sorted(found.items(), key=lambda i: (order[i[0][0]], i[0][1])):
        names = sorted(students)
        classes = dict.fromkeys(c for name in names for seed in students[name] for c in seed)
        rows = {
            c: [known_mean([seed.get(c) for seed in students[n]]) for n in names] for c in classes
        }
        tables.append(ClassTable(f'{kind.replace("_", " ")}, {metric} (%)', names, rows))
    return tables, notes


def picture_sources(records: Sequence[Record], root: Path) -> tuple[list[Source], list[str]]:
    """Return the first seed's picture of every dense task and student, and what is missing."""
    sources, notes = [], []
    seen: set[tuple[str, str]] = set()
    for record in records:
        data = record.data
        key = (data['task'], data['student']['name'])
        if not TASKS[data['task']].dense or key in seen:
            continue
        seen.add(key)
        folder = transfer_folder(root, record)
        caption = f'{key[0].replace("_", " ")}, {key[1]}'
        if folder is not None and (folder / FIGURE).is_file():
            sources.append(Source(caption, folder / FIGURE))
        else:
            why = NO_FOLDER if folder is None else f'no {FIGURE} in its folder'
            notes.append(f'{caption}: no predictions: {why}')
    return sources, notes
