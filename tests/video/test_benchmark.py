"""The measurement of readers of clips, and the step of AMD beside the straightforward one."""

import argparse
import json
import sys

import pytest
import torch

from comad.benchmark import clips, data
from comad.data.video import load_pyav


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
