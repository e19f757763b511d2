"""``--data``: a student that is gone is told with the command that makes it again."""

import shlex

import pytest
from PIL import Image

from comad.commands import pretrain, train
from comad.engine.options import ConfigError, RunOptions, run_options
from comad.engine.paths import check_paths
from comad.engine.run_config import load_run_config
from comad.runs.place import FILES, get_track

LINEAR, STUDENT = 'cls_configs/linear_comad_tiny.py', 'mae_on_my_photos_tiny'
RUN = f'work_dirs/sample/pretrain/{STUDENT}'


@pytest.fixture
def photos(tmp_path, monkeypatch):
    """A home with images of two classes, whose folder has a blank in its name."""
    monkeypatch.chdir(tmp_path)
    for number in range(8):
        path = tmp_path / f'my photos/{"ab"[number % 2]}/{number}.png'
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new('RGB', (8, 8)).save(path)
    return tmp_path / 'my photos'


def hint(**options):
    cfg = load_run_config(RunOptions(str(FILES / LINEAR), track='sample', **options), check=False)
    for loader in () if 'data' in options else ('train', 'val', 'test'):
        cfg[f'{loader}_dataloader'].dataset.root = '.'
    with pytest.raises(ConfigError) as caught:
        check_paths(cfg, get_track('sample'))
    return str(caught.value).partition('; pretrain it with: ')[2]


def run_of(command):
    """The run that a hint starts, as its tool and the training behind it read the words."""
    tool, method, *options = shlex.split(command)
    assert tool == 'tools/pretrain.sh'
    options = run_options(train.parse_args([pretrain.find_method(method), *options]))
    return load_run_config(options, check=False), options


def test_the_command_for_a_lost_student_names_the_place_of_its_data(photos):
    command = hint(data=str(photos), student=f'{STUDENT}:1')
    assert command.endswith(f"mae --sample --seed 1 --data '{photos}'")
    cfg, _ = run_of(command)
    assert cfg.work_dir == f'{RUN}/seed1' and cfg.run.student == STUDENT


def test_where_other_data_are_read_a_pretraining_of_the_student_tells_the_place(photos, tmp_path):
    assert hint(student=STUDENT) == (
        'tools/pretrain.sh mae --sample --data PATH, PATH being where the data my_photos are'
    )
    started = tmp_path / RUN / 'seed1/20260101_000000/vis_data'
    started.mkdir(parents=True)
    made = run_of(f"tools/pretrain.sh mae --sample --seed 1 --data '{photos}'")[0]
    made.dump(started / 'config.py')
    command = hint(student=STUDENT)
    assert command == f"tools/pretrain.sh mae --sample --data '{photos}'"
    (tmp_path / RUN / 'seed0').mkdir()
    (tmp_path / RUN / 'seed0/finished').touch()  # of which the student alone was lost
    assert run_of(hint(student=STUDENT))[1].overwrite
    photos.rename(tmp_path / 'elsewhere')
    assert 'PATH being where' in hint(student=STUDENT)
