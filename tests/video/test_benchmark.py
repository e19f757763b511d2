"""The measurement of readers of clips, and the step of AMD beside the straightforward one."""

import argparse
import json
import sys

import pytest
import torch

from comad.benchmark import clips, data
from comad.benchmark.reference import largest_difference, straightforward
from comad.benchmark.workload import Workload, build, wrap
from comad.data.video import load_pyav
from comad.engine.options import RunOptions
from comad.engine.run_config import load_run_config

import comad.engine.register  # noqa: F401  isort:skip


def parse(*arguments):
    parser = argparse.ArgumentParser()
    data.add_arguments(parser)
    return parser.parse_args(list(map(str, arguments)))


@pytest.fixture
def short(monkeypatch):
    monkeypatch.setattr(clips, 'FRAMES', 70)
    monkeypatch.setattr(clips, 'VIDEOS', 2)


def test_readers_read_the_same_videos(short, tmp_path):
    readers, _ = clips.prepare(tmp_path, 3)
    assert len({path.read_bytes() for path in tmp_path.glob('*.mp4')}) == 2
    shown = {}
    for name, reader in readers.items():
        assert len(reader.dataset) == 3
        torch.manual_seed(0)
        shown[name] = reader.dataset[2]['inputs'].float()
        assert shown[name].shape == (4, 3, 16, 224, 224)
    for clip in shown.values():
        assert (clip - shown['mp4, opencv']).abs().mean() < 6


def test_a_run_prints_clips_and_says_which_reader_is_missing(short, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, 'av', None)
    load_pyav.cache_clear()
    file = tmp_path / 'figures.json'
    assert data.run(parse('--clips', '--images', 2, '--rounds', 1, '--json', file)) == 0
    shown, result = capsys.readouterr().out, json.loads(file.read_text())
    assert 'clips/s per core' in shown and '1 rounds of 2 videos' in shown
    assert 'PyAV is missing' in shown
    assert [way['way'] for way in result['ways']] == ['mp4, opencv', 'folders of frames']
    assert result['conditions']['missing'] and result['conditions']['threads'] == 1
    with pytest.raises(ValueError, match='--clips takes no --workers'):
        data.run(parse('--clips', '--workers', 1))


def test_the_straightforward_step_computes_the_same_on_all_cubes():
    cfg = load_run_config(RunOptions('pretrain_configs/amd_video_small.py', track='sample'), False)
    ours = build(cfg, torch.device('cpu'), 'float32', 3)
    model = straightforward(ours.model)
    theirs = Workload(model, wrap(cfg, model, 'float32'), ours.batch, 3)
    lengths = []
    for workload in (ours, theirs):
        for network in (workload.model.backbone, workload.model.teacher):
            network.blocks[0].mlp.register_forward_hook(
                lambda module, inputs, output: lengths.append(inputs[0].shape[1])
            )
    # Not zero: both have really been computed, in another order.
    assert 0 < largest_difference(ours, theirs) < 1e-5
    cubes = ours.model.backbone.num_patches
    assert set(lengths[: len(lengths) // 2]) == {cubes}
    assert max(lengths[len(lengths) // 2 :]) <= cubes // 4
    weight = model.teacher.blocks[0].mlp.fc1.weight
    weight.data *= 1.5
    with pytest.raises(ValueError, match='computes another token of the teacher'):
        largest_difference(ours, theirs)
