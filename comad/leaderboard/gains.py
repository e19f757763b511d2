"""What a distilled student gains over the same student trained alone in the same run set."""

from statistics import fmean

from pandas import DataFrame

# The method that trains a student with labels alone.
ALONE = 'plain'


def paired_gains(found: DataFrame, group: tuple[str, ...]) -> dict[str, str]:
    """Return the gain of each row that has one, by the row's records: ``+3.21 (3 seeds)``.

    The mean of the differences between runs of one seed, under one protocol on one data set; seeds
    that only one of the two has are left out.

    Args:
        found: `comad.leaderboard.tables.figures` of one table.
        group: Names of what has to be equal.
    """
    gains: dict[str, str] = {}
    reported = found[~found['value'].isna()].to_dict('records')
    alone = {}
    for line in reported:
        student = line['record'].student
        if student.method == ALONE:
            alone[(*(line[key] for key in group), student.arch, line['pretrain'])] = line['value']
    rows: dict[tuple, list[dict]] = {}
    for line in reported:
        rows.setdefault((*(line[key] for key in group), line['row']), []).append(line)
    for lines in rows.values():
        student = lines[0]['record'].student
        if student.method == ALONE:
            continue
        pairs = [
            (line['value'], alone.get((*(line[k] for k in group), student.arch, line['pretrain'])))
            for line in lines
        ]
        differences = [value - base for value, base in pairs if base is not None]
        if differences:
            word = 'seed' if len(differences) == 1 else 'seeds'
            gain = f'{fmean(differences):+.2f} ({len(differences)} {word})'
            gains['; '.join(line['file'] for line in lines)] = gain
    return gains
