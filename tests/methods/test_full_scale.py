"""CoMAD at its published size: three ViT-B/16 teachers from official layouts, one real step."""

import pytest
import torch
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS

import comad.engine.register  # noqa: F401
from backbones import MaskedViT
from comad.engine.run_config import parse_config


def write_teachers(folder):
    """Files as the official code writes them, with random weights; returns family -> path."""
    contents = {
        'mae': lambda state: dict(model=state),
        'mocov3': lambda state: dict(
            state_dict={f'module.base_encoder.{name}': value for name, value in state.items()}
        ),
        'ibot': lambda state: dict(state_dict=state),
    }
    paths = {}
    for family, content in contents.items():
        paths[family] = folder / f'{family}.pth'
        torch.save(content(MaskedViT('base').state_dict()), paths[family])
    return paths


@pytest.mark.slow
def test_one_step_with_three_vit_b_teachers(tmp_path):
    cfg = parse_config('pretrain_configs/comad_tiny.py')
    paths = write_teachers(tmp_path)
    for teacher in cfg.model.teachers:
        teacher.checkpoint = str(paths[teacher.family])
    model = MODELS.build(cfg.model).train()
    assert [network.embed_dim for network in model.teacher_networks] == [768] * 3
    images = torch.randint(0, 256, (2, 3, 224, 224), dtype=torch.uint8)
    batch = model.data_preprocessor(dict(inputs=list(images), labels=[0, 1]), training=True)
    model.fit(iter([batch['inputs']]))

    wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    before = {name: p.detach().clone() for name, p in model.backbone.named_parameters()}
    losses = model.train_step(dict(inputs=list(images), labels=[0, 1]), wrapper)

    assert set(losses) >= {'loss', 'loss_token', 'loss_map'}
    assert all(torch.isfinite(losses[key]) for key in ('loss', 'loss_token', 'loss_map'))
    assert all(network.unchanged() for network in model.teacher_networks)
    assert {p.dtype for p in model.teacher_networks.parameters()} == {torch.bfloat16}
    for name, parameter in model.backbone.named_parameters():
        if parameter.requires_grad:
            assert not torch.equal(parameter, before[name]), name
