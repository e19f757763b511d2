"""Teachers that come with a track: what lies in the tree, and how runs find it."""

from pathlib import Path

import pytest
import torch
from timm.data.constants import IMAGENET_DEFAULT_MEAN as MEAN
from timm.data.constants import IMAGENET_DEFAULT_STD as STD
from torch.nn.functional import normalize, one_hot

from backbones import save_student
from backbones.architectures import network_config
from backbones.checkpoints import read_checkpoint, write_torch
from backbones.files import read_json, sha256_of
from backbones.networks import build_network, load_student
from backbones.teachers import build_teacher
from backbones.video_files import as_official
from comad.commands.weights import main
from comad.data.sample.scenes import SPLITS, SceneRenderer
from comad.data.sample.videos import render_clip
from comad.engine import shipped
from comad.engine.options import ConfigError, RunOptions
from comad.engine.paths import SAMPLE_TEACHERS, VIDEO_TEACHERS, check_paths, place_shipped
from comad.engine.run_config import load_run_config
from comad.engine.tracks import track_value
from comad.runs.card import make_card
from comad.runs.place import FILES, get_track, pretrain_dir
from comad.runs.track import SAMPLE
from comad.sweep.grid import TEACHERS
from comad.sweep.step import Step
from comad.sweep.teachers import FILES_OF, with_shipped

RUN, FILE, ARCH = 'videomae_video_large', 'videomae_pretrain_vit_large.pth', 'sample_video_large'
TOLD = dict(family='videomae', arch=ARCH, command='train', probe={'ssv2_knn': {'top1': 80.0}})
TRACK = get_track(SAMPLE)


@pytest.fixture
def network(tmp_path, monkeypatch):
    """Of a finished pretraining in a home that is the working directory; nothing is shipped."""
    monkeypatch.setattr(shipped, 'FILES', tmp_path / 'files')
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    network = build_network(ARCH)
    folder = Path('work_dirs/sample/pretrain', RUN, 'seed0')
    write_torch(folder / FILE, {'model': as_official(network.state_dict(), 'encoder.')})
    save_student(
        folder, network, dict(name=RUN, method='videomae', arch='video_large', params_m=0.84)
    )
    return network


def remove(folder):
    for path in folder.iterdir():
        path.unlink()


def test_a_shipped_run_comes_back_in_half_precision(network):
    made = Path('work_dirs/sample/pretrain', RUN, 'seed0')
    folder = shipped.ship(RUN, SAMPLE, FILE, TOLD)
    card = read_json(folder / shipped.CARD)
    assert card['sha256'] == sha256_of(folder / FILE) and 'sha256' not in card['student']
    assert {key: card[key] for key in TOLD} == TOLD
    stored = read_checkpoint(folder / FILE)['model']
    assert {tensor.dtype for tensor in stored.values()} == {torch.float16}
    remove(made)
    shipped.place(RUN, SAMPLE)
    # The student and the file hold the same numbers, and those of the training but for rounding.
    student = load_student(made / 'student.safetensors')
    teacher = build_teacher('videomae', made / FILE, arch=ARCH)
    for name, tensor in network.state_dict().items():
        assert torch.equal(student.state_dict()[name], teacher.state_dict()[name])
        assert torch.equal(student.state_dict()[name], tensor.half().float())
    assert read_json(made / 'student.json')['name'] == RUN


def test_a_run_places_what_it_reads_and_nothing_else(network):
    made = Path('work_dirs/sample/pretrain', RUN, 'seed0')
    leaf = FILES / 'pretrain_configs' / 'amd_video_small.py'
    cfg = load_run_config(RunOptions(str(leaf), track=SAMPLE), check=False)
    cfg.train_dataloader.dataset.root = '.'
    file = Path(cfg.model.teachers[0].checkpoint)
    assert file == made / FILE
    shipped.ship(RUN, SAMPLE, FILE, TOLD)
    trained = b'of a training of its own'
    file.write_bytes(trained)
    place_shipped(cfg, TRACK)
    assert file.read_bytes() == trained
    remove(made)
    check_paths(cfg, TRACK)
    assert not file.exists()
    place_shipped(cfg, TRACK)
    assert sha256_of(file) == shipped.read_shipped(RUN, SAMPLE)[1]['sha256']
    # Another seed and another name are nobody's.
    assert not shipped.is_shipped(made / 'none.pth', TRACK)
    assert not shipped.is_shipped(made.with_name('seed1') / FILE, TRACK)
    cfg.model.teachers[0].checkpoint = str(made.with_name('seed1') / FILE)
    with pytest.raises(ConfigError, match='missing teacher: the videomae file'):
        check_paths(cfg, TRACK)


def test_a_damaged_or_large_file_is_refused(network, monkeypatch, capsys):
    folder = shipped.ship(RUN, SAMPLE, FILE, TOLD)
    content = bytearray((folder / FILE).read_bytes())
    content[-1] ^= 1
    (folder / FILE).write_bytes(content)
    with pytest.raises(ConfigError, match='is damaged: its sha256 is'):
        shipped.place(RUN, SAMPLE)
    with pytest.raises(ConfigError, match='no teacher mae_huge comes with the track sample; there'):
        shipped.place('mae_huge', SAMPLE)
    (folder / shipped.CARD).unlink()
    (folder / shipped.CARD).mkdir()
    with pytest.raises(ConfigError, match=r'card\.json is damaged: is a directory'):
        shipped.place(RUN, SAMPLE)
    (folder / shipped.CARD).rmdir()
    monkeypatch.setattr(shipped, 'MAX_BYTES', 1000)
    with pytest.raises(ConfigError, match='at most 1,000 are shipped'):
        shipped.ship(RUN, SAMPLE, FILE, TOLD)


def test_sweeps_place_what_is_shipped(network):
    train = Step(f'pretrain_{RUN}_p0', ('python', 'tools/train.py'), ('a',), ('data',))
    other = Step('pretrain_mae_tiny_p0', ('python', 'tools/train.py'), ('b',), ('data',))
    assert with_shipped([train, other]) == [train, other]
    shipped.ship(RUN, SAMPLE, FILE, TOLD)
    placed, same = with_shipped([train, other])
    assert same == other and placed.name == train.name and placed.outputs == train.outputs
    assert placed.command == ('python', 'tools/weights.py', 'place', RUN) and not placed.needs
    assert all((shipped.FILES / source).is_file() for source in placed.sources)


def test_the_command_places_or_says_what_there_is(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv('COMAD_HOME', str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert main(['place', 'none']) == 2
    assert 'no teacher none comes with the track sample' in capsys.readouterr().err
    for run in shipped.shipped_runs(SAMPLE):
        assert main(['place', run]) == 0
        assert f'work_dirs/sample/pretrain/{run}/seed0' in capsys.readouterr().out


@pytest.mark.parametrize('run', shipped.shipped_runs(SAMPLE))
def test_what_comes_with_the_sample_is_whole(run):
    """Digest, size, layout, card: all that a reader of an official file asks for."""
    file, card = shipped.read_shipped(run, SAMPLE)
    assert file.name == FILES_OF[run] and file.stat().st_size <= shipped.MAX_BYTES
    assert sorted(path.name for path in file.parent.iterdir()) == sorted((file.name, shipped.CARD))
    teacher = build_teacher(card['family'], file, arch=card['arch'])
    wanted = {k: v for k, v in network_config(card['arch']).items() if k != 'type'}
    assert {k: v for k, v in teacher.architecture().items() if k in wanted} == wanted
    # Configs of the sample look for it in the folder of the run that made it.
    places = {track_value(TRACK, 'checkpoint', name) for name in SAMPLE_TEACHERS | VIDEO_TEACHERS}
    assert str(pretrain_dir(SAMPLE, run, 0) / file.name) in places
    student = make_card(card['student'])
    assert student.name == run and student.seed == 0 and student.track == SAMPLE
    assert student.git_commit and student.data.name == 'sample' and student.data.manifest
    assert card['command'] == f'python tools/train.py pretrain_configs/{run}.py --sample --seed 0'
    for metrics in card['probe'].values():
        assert metrics and all(0 < value <= 100 for value in metrics.values())
    assert card['probe']


def test_the_teacher_of_video_tells_motions_apart():
    """Frozen features of the shipped network against random weights of the same size."""
    file, card = shipped.read_shipped(RUN, SAMPLE)
    teacher = build_teacher(card['family'], file, arch=card['arch'])
    torch.manual_seed(0)
    random = build_network(ARCH).eval()
    clips, motions = zip(*(clip_of(split, n) for split in SPLITS for n in range(80)), strict=True)
    clips, motions = torch.stack(clips), torch.tensor(motions)

    def nearest(network):
        with torch.no_grad():
            features = normalize(network.tokens(clips).mean(1), dim=1)
        bank, queries = features[:80], features[80:]
        return float((motions[:80][(queries @ bank.T).argmax(1)] == motions[80:]).float().mean())

    assert nearest(teacher) > nearest(random) + 0.2


@pytest.fixture(scope='module')
def scenes():
    """Normalised images (1200, 3, 64, 64) of both splits in turn, and the classes of each half."""
    shown = [SceneRenderer(split).single(n).image for split in SPLITS for n in range(600)]
    images = torch.stack([torch.from_numpy(image) for image in shown]).permute(0, 3, 1, 2) / 255
    mean, std = (torch.tensor(x).view(3, 1, 1) for x in (MEAN, STD))
    return (images - mean) / std, torch.arange(600) % 10


def ridge(network, images, classes):
    """Accuracy on the second half of ridge regression on the mean patch tokens of the first."""
    with torch.no_grad():
        features = network.tokens(images)[:, 1:].mean(1)
    seen, new = (
        (half - features[:600].mean(0)) / features[:600].std(0) for half in features.chunk(2)
    )
    left = seen.T @ seen + 10 * torch.eye(seen.shape[1])
    weights = torch.linalg.solve(left, seen.T @ one_hot(classes, 10).float())
    return float(((new @ weights).argmax(1) == classes).float().mean())


@pytest.mark.parametrize('run', TEACHERS)
def test_the_teachers_of_images_tell_patterns_apart(run, scenes):
    """Frozen features of the shipped networks against random weights of the same size."""
    file, card = shipped.read_shipped(run, SAMPLE)
    teacher = build_teacher(card['family'], file, arch=card['arch'])
    torch.manual_seed(0)
    assert ridge(teacher, *scenes) > ridge(build_network(card['arch']).eval(), *scenes) + 0.2


def clip_of(split, number):
    """Four frames of a clip of the sample (3, 4, 64, 64), normalised, and its motion."""
    frames, _, motion = render_clip(split, number)
    clip = torch.from_numpy(frames[2:18:4]).permute(3, 0, 1, 2) / 255
    mean, std = (torch.tensor(x).view(3, 1, 1, 1) for x in (MEAN, STD))
    return (clip - mean) / std, motion
