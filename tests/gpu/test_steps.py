"""Every method's step and a training in the Runner on a GPU, at the sample's sizes."""

import time
from pathlib import Path

import pytest
import torch

from comad.benchmark.measure import compile_model, load_step
from comad.benchmark.suite.parts import Case
from comad.benchmark.suite.training import train
from comad.benchmark.workload import build
from comad.data.preprocessor import ImageDataPreprocessor
from comad.engine.models import prepare_compiling
from comad.engine.options import RunOptions

pytestmark = pytest.mark.gpu

ROOT = Path(__file__).resolve().parents[2]
PRETRAININGS = sorted(
    path.stem
    for path in (ROOT / 'pretrain_configs').glob('*.py')
    if not path.stem.startswith(('comad_only', 'comad_no', 'comad_uniform'))
)
TRANSFERS = (
    'cls_configs/linear_comad_tiny.py',
    'cls_configs/finetune_comad_tiny.py',
    'seg_configs/upernet_comad_tiny.py',
    'det_configs/mask_rcnn_comad_tiny.py',
    'video_configs/ssv2_finetune_amd_video_small.py',
    'distill_configs/imagenet_fbt_swin_tiny_resnet18.py',
)


def losses_of(config: str, precision: str, compiled: bool = False) -> list[dict[str, float]]:
    """All that two steps put into the log."""
    cfg = load_step(RunOptions(config, track='sample'))
    work = build(cfg, torch.device('cuda'), precision, 8)
    if compiled:
        prepare_compiling()
        compile_model(work.model)
    torch.manual_seed(0)
    return [{name: float(value) for name, value in work.step().items()} for _ in range(2)]


@pytest.mark.parametrize('name', PRETRAININGS)
def test_a_pretraining_steps_in_bfloat16_as_in_float32(name):
    exact, rounded = (
        losses_of(f'pretrain_configs/{name}.py', precision) for precision in ('float32', 'bfloat16')
    )
    assert exact[0].keys() == rounded[0].keys() and 'loss' in exact[0]
    # The first step; in the second the weights have parted.
    assert rounded[0]['loss'] == pytest.approx(exact[0]['loss'], rel=0.03)
    assert all(value == value for step in (*exact, *rounded) for value in step.values())


@pytest.mark.parametrize('config', TRANSFERS)
def test_a_transfer_steps_in_bfloat16_as_in_float32(config):
    exact, rounded = (losses_of(config, precision) for precision in ('float32', 'bfloat16'))
    assert rounded[0]['loss'] == pytest.approx(exact[0]['loss'], rel=0.05)


def test_compiled_comad_computes_the_same():
    plain, compiled = (
        losses_of('pretrain_configs/comad_tiny.py', 'float32', compiled)
        for compiled in (False, True)
    )
    assert compiled[0]['loss'] == pytest.approx(plain[0]['loss'], rel=1e-4)
    assert compiled[1]['loss'] == pytest.approx(plain[1]['loss'], rel=1e-3)


def test_comad_trains_in_the_runner(tmp_path):
    case = Case(torch.device('cuda'), True, time.monotonic() + 600, {}, print)
    found = train(case, 'pretrain_configs/comad_tiny.py', tmp_path, files=True)
    assert found['images_per_second'] and found['batch'] == 64


def test_a_copy_on_its_own_stream_is_the_batch():
    preprocessor = ImageDataPreprocessor().cuda()
    batches = torch.randint(0, 256, (6, 64, 3, 64, 64), dtype=torch.uint8).pin_memory()
    large = torch.randn(4096, 4096, device='cuda')
    for images in batches:
        large @ large  # what the copy runs beside
        found = preprocessor({'inputs': images}, training=True)['inputs']
        wanted = (images.float() - preprocessor.mean.cpu()) / preprocessor.std.cpu()
        assert torch.allclose(found.cpu(), wanted, atol=1e-5)
