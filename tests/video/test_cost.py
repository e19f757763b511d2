"""What a step on video costs, by parts and by hand."""

import pytest

import comad.engine.register  # noqa: F401
from comad.engine.options import RunOptions
from comad.engine.run_config import load_run_config
from comad.recipes.cost import build_model, cost_of
from comad.recipes.text import cost_text
from comad.runs.place import FILES


def blocks(tokens, width, depth):
    """GFLOP of so many ViT blocks, all products but none else."""
    return depth * (2 * 12 * tokens * width**2 + 4 * tokens**2 * width) / 1e9


def cost(**changes):
    leaf = FILES / 'pretrain_configs/amd_video_small.py'
    options = RunOptions(str(leaf), track='sample', cfg_options=changes)
    config = load_run_config(options, check=False)._cfg_dict.to_dict()
    return cost_of(config, build_model(config), 2)


def test_parts_of_a_step_are_those_of_the_formula():
    found = cost()
    # 2 slots: the student sees 7 places of each, the teacher 16, the decoder all 64.
    parts = found.step_gflop
    assert parts['backbone'] == pytest.approx(blocks(14, 64, 4), abs=1e-3)
    assert parts['teacher_networks'] == pytest.approx(blocks(32, 128, 4), abs=1e-3)
    assert parts['generators'] == pytest.approx(2 * blocks(32, 128, 2), abs=1e-3)
    ends = 2 * (14 * 64 * 64 + 114 * 64 * 384) / 1e9
    assert parts['decoder'] == pytest.approx(blocks(128, 64, 1) + ends, abs=1e-3)
    assert parts['rest'] == pytest.approx(2 * 384 * (14 * 64 + 32 * 128) / 1e9, abs=1e-3)
    assert found.trained_gflop == pytest.approx(sum(parts.values()), abs=5e-3)
    trained = sum(parts.values()) - parts['teacher_networks'] - parts['backward']
    assert 1.6 * trained < parts['backward'] < 2 * trained


def test_samples_of_a_video_cost_as_many_steps():
    one, four = cost(), cost(**{'train_dataloader.dataset.views.samples': 4})
    assert (one.unit, one.samples, four.samples) == ('video', 1, 4)
    assert four.trained_gflop == pytest.approx(4 * one.trained_gflop, rel=2e-3)
    assert four.images == one.images
    # Two GPUs at 1 TFLOP/s.
    needed = 2000 / four.trained_gflop
    assert four.decodes_needed(2, 1.0) == pytest.approx(needed)
    assert 'videos of 4 clips' in cost_text(four, 2, 1.0, 25.0)
