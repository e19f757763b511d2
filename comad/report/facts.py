"""What is known of a row beside its columns, as names and texts."""

from collections.abc import Iterable, Sequence
from statistics import fmean
from typing import Any

from comad.leaderboard.tables import MIN_SEEDS, Row
from comad.runs.record import Record

Facts = list[tuple[str, str]]


def student_facts(row: Row, records: Sequence[Record]) -> Facts:
    """Return why a row has no rank, its student, teachers, cost, seeds, commits and records.

    Args:
        row: The row.
        records: The records it is the mean of.
    """
    facts: Facts = []
    if row.cells['rank'] == '':
        reasons = list(row.details['not_ranked'])
        if row.statistics.n < MIN_SEEDS:
            reasons.insert(0, f'fewer than {MIN_SEEDS} seeds')
        why = '; '.join(reasons) or 'a seed has no figure of this metric'
        facts.append(('why no rank', why))
    if not records:
        return facts
    data = [record.data for record in records]
    student = data[0]['student']
    architecture = sorted((student['architecture'] or {}).items())
    shape = ', '.join(f'{words(name)} {value}' for name, value in architecture)
    facts.append(('architecture', shape or 'unknown'))
    for teacher in student['teachers']:
        digest = str(teacher.get('digest') or '')[:12]
        text = f'{teacher.get("file", "?")}, sha256 {digest or "unknown"}'
        facts.append((f'teacher {teacher.get("family", "?")}', text))
    epochs, pretrained_on = student['epochs'], records[0].student.pretrain_data
    facts.append(('pretraining', f'{epochs:g} epochs of {pretrained_on}' if epochs else 'none'))
    if student['images_seen']:
        facts.append(('pretraining images', f'{student["images_seen"]:,}'))
    facts.append(('licence', student['licence'] or 'unknown'))
    facts.append(('device hours of the transfer', short(row.details['device_hours'])))
    seconds = fmean(d['wall_seconds'] for d in data)
    facts.append(('wall seconds of the transfer', f'{seconds:.0f}'))
    facts.append(('device', ', '.join(sorted({d['environment']['device'] for d in data}))))
    seeds = (f'{d["seeds"]["pretrain"]}/{d["seeds"]["transfer"]}' for d in data)
    facts.append(('seeds (pretraining/transfer)', ', '.join(seeds)))
    facts.append(('commit', '; '.join(commits(records))))
    versions = data[0]['environment']['versions']
    facts.append(('versions', ', '.join(f'{k} {v}' for k, v in sorted(versions.items()))))
    facts.append(('config', '; '.join(sorted({d['config']['path'] for d in data}))))
    digests = {
        'data manifest': {record.manifest for record in records},
        'students sha256': {d['student']['sha256'] for d in data},
        'checkpoints sha256': {d['checkpoint']['sha256'] for d in data},
    }
    for name, found in digests.items():
        known = sorted(str(digest)[:12] for digest in found if digest)
        facts.append((name, ', '.join(known) or 'none'))
    facts.append(('records', '; '.join(record.file for record in records)))
    return facts


def commits(records: Iterable[Record]) -> list[str]:
    """Return the commits that records were made from, marked where the tree had changes."""
    found = set()
    for record in records:
        environment = record.data['environment']
        dirty = ' with changes' if environment['git_dirty'] else ''
        found.add(f'{(environment["git_commit"] or "unknown")[:12]}{dirty}')
    return sorted(found)


def short(value: float | None) -> str:
    """Return a number with three digits, '' for None."""
    if value is None:
        return ''
    return f'{value:.0f}' if abs(value) >= 100 else f'{value:.3g}'


def words(name: Any) -> str:
    """Return a key as words."""
    return str(name).replace('_', ' ')
