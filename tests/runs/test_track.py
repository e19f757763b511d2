"""Tracks are folders: their names, what track.py may hold, and that they never mix."""

import pytest

from comad.runs.place import FILES, get_track, pretrain_dir, results_folder
from comad.runs.record import RecordError
from comad.runs.track import FULL, load_track, track_names
from comad.tasks.task import TASKS
from tests.leaderboard.examples import changed, make_record


def made(root, name, text=None):
    folder = root / 'base_configs' / 'tracks' / name
    folder.mkdir(parents=True)
    if text is not None:
        (folder / 'track.py').write_text(text)
    return root


def test_a_folder_is_a_track(tmp_path):
    made(tmp_path, 'flowers', '"""Flowers."""\ndata = {"imagenet-1k": "flowers"}\n')
    made(tmp_path, 'bare')
    made(tmp_path, '__pycache__')
    assert track_names(tmp_path) == ('full', 'bare', 'flowers')
    track = load_track('flowers', tmp_path)
    assert track.data == {'imagenet-1k': 'flowers'} and track.option == ' --track flowers'
    assert (load_track('bare', tmp_path).title, track.stand_ins) == ('the track bare', False)


@pytest.mark.parametrize(
    ('name', 'text', 'reason'),
    [
        ('nix', None, "no track 'nix'; one of full, .*flowers"),
        ('pretrain', '', 'a track cannot be called so'),
        (
            'flowers',
            'epochs = 3\n',
            "nothing reads 'epochs'; known: data, stand_ins, students, tasks, title",
        ),
        ('flowers', 'title = open("x").read()\n', 'expected NAME = literal'),
        ('flowers', 'title = (\n', 'expected NAME = literal'),
    ],
)
def test_what_is_no_track_is_refused_in_one_line(tmp_path, name, text, reason):
    made(tmp_path, 'flowers' if text is None else name, text)
    with pytest.raises(ValueError, match=reason) as refused:
        load_track(name, tmp_path)
    assert '\n' not in str(refused.value)


def test_every_track_has_places_of_its_own():
    names = track_names(FILES)
    assert {'full', 'sample', 'overnight', 'cifar100'} <= set(names)
    for place in (results_folder, lambda name: pretrain_dir(name, 'mae_tiny', 0)):
        assert len({place(name) for name in names}) == len(names)
    for name in names:
        track = get_track(name)
        assert set(track.tasks) <= set(TASKS)
        assert set(track.data) <= {task.dataset for task in TASKS.values()}


def test_a_record_names_its_track_unless_it_is_one_of_two():
    record = make_record({'top1_mean': 1.0})
    assert (record.track, changed(record, sample=True).track) == (FULL, 'sample')
    other = changed(record, track='overnight')
    assert other.track == 'overnight' and str(other.pretrain_dir).startswith('work_dirs/overnight/')
    for name, sample in (('full', False), ('sample', False), ('overnight', True), ('A b', False)):
        with pytest.raises(RecordError):
            changed(record, track=name, sample=sample)
