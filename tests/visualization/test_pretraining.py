"""Figures of a pretraining: which panel a curve goes to, what the colours mean."""

from types import SimpleNamespace

import pytest
import torch
from PIL import Image

from comad.engine.hooks.pretrain_figures import STATE, PretrainFigureHook
from comad.methods.parts.attention import AttentionSummary, Statistics
from comad.methods.parts.diagnostics import Explanation
from comad.visualization.attention import draw_attention
from comad.visualization.pretraining import draw_curves, draw_explanation, feature_colors, panels


def test_curves_are_grouped_by_their_names():
    names = (
        'loss loss_map share_a share_b agreement_a gate_entropy target_rank probe_knn_mean other '
        'attention_distance_b4_h1 attention_distance_b4_h2 attention_nmi_b4'
    )
    found = panels(dict.fromkeys([*names.split(), 'key_std'], [[1, 0.5]]))
    assert [group for _, group in found] == [
        ['loss', 'loss_map'],
        ['share_a', 'share_b'],
        ['agreement_a'],
        ['gate_entropy'],
        ['target_rank'],
        ['attention_distance_b4_h1', 'attention_distance_b4_h2'],
        ['attention_nmi_b4'],
        ['probe_knn_mean'],
        ['other', 'key_std'],
    ]


def test_curves_make_a_figure_whole_or_not_at_all(tmp_path):
    path = draw_curves({'loss': [[1, 2.0], [2, 1.0]]}, tmp_path / 'deep' / 'curves.png')
    with Image.open(path) as image:
        image.verify()
    assert [p.name for p in path.parent.iterdir()] == ['curves.png']
    with pytest.raises(ValueError, match='no curves'):
        draw_curves({}, path)


def test_equal_features_have_equal_colours_in_all_maps_and_absent_ones_are_white():
    maps = {'a': torch.randn(2, 9, 8), 'b': torch.randn(2, 9, 8)}
    maps['b'][1, 4] = maps['a'][0, 2]
    maps['a'][1, 3] = 0
    colors = feature_colors(maps)
    assert torch.allclose(torch.tensor(colors['a'][0, 2]), torch.tensor(colors['b'][1, 4]))
    assert (colors['a'][1, 3] == 1).all()
    assert all(c.min() >= 0 and c.max() <= 1 and c.shape == (2, 9, 3) for c in colors.values())


def test_constant_features_do_not_break_the_picture(tmp_path):
    seen = torch.rand(1, 16) < 0.5
    explanation = Explanation(
        {'student': seen, 't': seen}, {'t': seen.float()}, {'flat': torch.ones(1, 16, 8)}
    )
    images = torch.randint(0, 256, (1, 3, 32, 32), dtype=torch.uint8)
    path = draw_explanation(images, explanation, tmp_path / 'picture.png')
    with Image.open(path) as image:
        assert image.size[0] > image.size[1]


def test_sums_stay_exact_through_a_checkpoint():
    """Points are means of what the steps gave, whether or not a checkpoint came in between."""
    runner = SimpleNamespace(iter=0, max_iters=10, _resume=True)
    hook, losses, checkpoint = PretrainFigureHook(points=2), torch.rand(5), {}
    hook.before_save_checkpoint(runner, checkpoint)
    assert checkpoint[STATE] == {'curves': {}, 'sums': {}}
    for step, loss in enumerate(losses):
        runner.iter = step
        if step == 3:
            hook.before_save_checkpoint(runner, checkpoint)
            hook = PretrainFigureHook(points=2)
            hook.after_load_checkpoint(runner, checkpoint)
        hook.after_train_iter(runner, step, outputs=dict(loss=loss, step=step))
    assert all(type(n) is float for held in checkpoint[STATE]['sums'].values() for n in held)
    assert hook.curves == {'loss': [[5, sum(losses.tolist()) / 5]], 'step': [[5, 2.0]]}


def test_attention_of_networks_of_different_depths_makes_one_picture(tmp_path):
    networks = {
        name: Statistics(4 * torch.rand(depth, heads), torch.rand(depth, heads))
        for name, depth, heads in (('student', 12, 3), ('mae (relations)', 24, 16))
    }
    images = torch.zeros(4, 3, 8, 8, dtype=torch.uint8)
    path = draw_attention(images, AttentionSummary(networks), tmp_path / 'attention.png', 'run')
    with Image.open(path) as image:
        assert image.size[0] > image.size[1] > 100
