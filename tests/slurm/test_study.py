"""Cells of a study as jobs of a real Slurm: it keeps their order and holds back what cannot be."""

import pytest

from comad.sweep import slurm
from comad.sweep.runner import Sweep
from comad.sweep.step import Step

pytestmark = pytest.mark.slurm


def cell(name, *needs):
    command = ('python', 'tools/train.py', 'config.py', '--work-dir', name)
    return Step(name, command, (f'{name}/ready0',), needs, part='knn')


@pytest.fixture
def sweep(site, monkeypatch):
    """Three cells, the second of which needs the first; one is done that may finish and has run."""
    monkeypatch.setattr(slurm, 'FILES', site.root)
    for name, value in (site.cluster.variables | site.settings).items():
        monkeypatch.setenv(name, value)

    def proven(step):
        return (site.root / step.name / 'finish').exists()

    cells = [cell('first'), cell('second', 'first'), cell('other')]
    return Sweep('study', cells, site.root, 'state', resume=True, adopts=proven)


def test_slurm_keeps_the_order_and_a_second_start_submits_what_is_missing(site, sweep):
    for name in ('first', 'second', 'other'):
        (site.root / name).mkdir()
    (site.root / 'first' / 'outcome').write_text('3')
    jobs = slurm.submit(sweep, 'cpu')
    assert list(jobs) == ['first', 'second', 'other']
    site.wait_until(jobs['first'], 'FAILED')
    site.wait_until(jobs['second'], 'CANCELLED')
    site.wait_until(jobs['other'], 'RUNNING')
    site.cluster.wait_for((site.root / 'other' / 'ready0').exists)
    assert slurm.states_of_jobs(sweep) == {
        'first': 'failed',
        'second': 'waiting',
        'other': 'running',
    }
    (site.root / 'other' / 'finish').touch()
    site.wait_until(jobs['other'], 'COMPLETED')
    (site.root / 'first' / 'outcome').unlink()
    again = slurm.submit(sweep, 'cpu')
    assert list(again) == ['first', 'second']
    site.cluster.wait_for((site.root / 'first' / 'ready0').exists)
    assert site.cluster.job(again['second'])['Dependency'].startswith(f'afterok:{again["first"]}')
    assert slurm.submit(sweep, 'cpu') == {}
    for name in ('first', 'second'):
        (site.root / name / 'finish').touch()
    site.wait_until(again['second'], 'COMPLETED')
    assert set(slurm.states_of_jobs(sweep).values()) == {'done'}
    assert (site.root / sweep.log(sweep.by_name['second'])).is_file()
