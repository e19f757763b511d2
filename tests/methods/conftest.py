"""Small networks and teacher files in the official layouts."""

from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.logging import MessageHub
from mmengine.registry import MODELS

import comad.methods  # noqa: F401

# 4x4 patches, two blocks: every step of a test takes milliseconds.
TINY = dict(type='MaskedViT', arch='sample_tiny', img_size=32, embed_dim=32, depth=2)


@pytest.fixture
def official_names() -> set[str]:
    """Tensor names of the tiny ViT by the rule of the three official files."""
    block = [
        f'{part}.{kind}'
        for part in ('norm1', 'attn.qkv', 'attn.proj', 'norm2', 'mlp.fc1', 'mlp.fc2')
        for kind in ('weight', 'bias')
    ]
    names = {'cls_token', 'pos_embed', 'norm.weight', 'norm.bias'}
    names |= {'patch_embed.proj.weight', 'patch_embed.proj.bias'}
    return names | {f'blocks.{i}.{name}' for i in range(TINY['depth']) for name in block}


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def fresh_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    """No training in progress: a runner of an earlier test leaves its iteration in the hub."""
    monkeypatch.setattr(MessageHub, '_instance_dict', OrderedDict())


@pytest.fixture
def images() -> torch.Tensor:
    return torch.randn(6, 3, 32, 32)


@pytest.fixture
def build() -> Callable[..., Any]:
    """Build a method on the tiny backbone; options of the backbone go into ``backbone``."""

    def make(kind: str, backbone: dict | None = None, **options: Any) -> Any:
        return MODELS.build(dict(type=kind, backbone={**TINY, **(backbone or {})}, **options))

    return make


@pytest.fixture
def teacher_files(build: Callable[..., Any], tmp_path: Path) -> dict[str, str]:
    """Family -> file written by the method's own ``official_checkpoint``."""
    small = dict(decoder=dict(arch='sample_tiny'))
    methods = {
        'mae': build('MAE', **small),
        'mocov3': build('MoCoV3', head=dict(hidden_dim=32, out_dim=16)),
        'ibot': build(
            'IBOT', dict(use_mask_token=True), head=dict(out_dim=16, hidden_dim=32, bottleneck=8)
        ),
    }
    files = {}
    for family, method in methods.items():
        name, content = method.official_checkpoint()
        files[family] = str(tmp_path / f'{family}_{name}')
        torch.save(content, files[family])
    return files


@pytest.fixture
def teachers(teacher_files: dict[str, str]) -> list[dict[str, Any]]:
    """CoMAD's three teachers with its default mask ratios."""
    shape = {k: v for k, v in TINY.items() if k != 'type'}
    ratios = dict(mae=0.6, mocov3=0.4, ibot=0.2)
    return [
        dict(family=family, checkpoint=teacher_files[family], mask_ratio=ratio, **shape)
        for family, ratio in ratios.items()
    ]


@pytest.fixture
def build_comad(
    build: Callable[..., Any], teachers: list[dict[str, Any]], images: torch.Tensor
) -> Callable[..., Any]:
    """A fitted CoMAD; ``teachers`` and every other option can be replaced."""

    def make(backbone: dict | None = None, **options: Any) -> Any:
        options = {'teachers': teachers, 'decoder': dict(arch='sample_tiny'), **options}
        model = build('CoMAD', backbone, **options)
        model.fit([images.repeat(3, 1, 1, 1) + 0.3 * torch.randn(18, 3, 32, 32)])
        return model.train()

    return make
