"""What a run of a config takes: operations, decoded images and disk, counted once and kept.

Counting builds the model and passes the shapes of a few images through it; what was counted lies in
``work_dirs/costs.json`` by the config's digest.
"""

import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from backbones.files import read_json, write_json
from comad.tasks.protocol import lookup

FILE = Path('work_dirs/costs.json')
TFLOPS, DECODE_RATE = 50.0, 300.0
# Bytes of a parameter in a checkpoint: its own and those of the optimizer's state.
VALUE, STATES = 4, {'AdamW': 8}


@dataclass(frozen=True)
class Price:
    """What one run takes.

    Attributes:
        tflop: Of all its training steps, or of a test's forward passes; validation left out.
        images: That are read, each as often as it is decoded.
        workers: That one process decodes them with.
        megabytes: Of what it leaves on the disk, mostly its last two checkpoints.
    """

    tflop: float
    images: int
    workers: int
    megabytes: float

    def hours(self, gpus: int, tflops: float, rate: float = DECODE_RATE) -> float:
        """The longer of computing and decoding.

        Args:
            gpus: That compute, each with its workers.
            tflops: TFLOP/s that each sustains.
            rate: Images per second that a worker decodes.
        """
        decoding = self.images / (max(self.workers, 1) * gpus * rate)
        return max(self.tflop / (gpus * tflops), decoding) / 3600


def known_price(digest: str) -> Price | None:
    """What was counted before, by the config's digest."""
    try:
        return Price(**read_json(FILE)[digest])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def price_of(config: Mapping[str, Any]) -> Price:
    """Return what a resolved config takes, counted if it is not known yet."""
    digest = config['run']['digest']
    if (known := known_price(digest)) is not None:
        return known
    counted = _count(config)
    try:
        kept = read_json(FILE)
    except (OSError, ValueError):
        kept = {}
    FILE.parent.mkdir(parents=True, exist_ok=True)
    write_json(FILE, {**kept, digest: asdict(counted)})
    return counted


def _count(config: Mapping[str, Any]) -> Price:
    import comad.engine.register  # noqa: F401
    from comad.recipes.cost import counted, images_of

    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # of the mm* packages about their own heads
        model, cost = counted(config, 1)
    if lookup(config, 'train_cfg') is None:
        loaders = (lookup(config, 'test_cfg.bank_dataloader'), config['test_dataloader'])
        images = sum(images_of(loader['dataset']) for loader in loaders)
        gflop, workers, size = cost.gflop['backbone'], loaders[0]['num_workers'], 1.0
    else:
        from comad.tasks.protocol import recipe_processes

        images = cost.images
        if 'max_iters' in config['train_cfg']:  # counted in batches of all processes
            images *= recipe_processes(config)
        gflop, workers = cost.trained_gflop, config['train_dataloader']['num_workers']
        size = _checkpoint_megabytes(config, model)
    return Price(round(gflop * images / 1000, 3), images, workers, round(size, 1))


def _checkpoint_megabytes(config: Mapping[str, Any], model: Any) -> float:
    """Of the checkpoints that are kept, and of a pretraining's student."""
    state = STATES.get(config['optim_wrapper']['optimizer']['type'], VALUE)
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    held = sum(tensor.numel() for tensor in model.state_dict().values())
    kept = lookup(config, 'default_hooks.checkpoint.max_keep_ckpts') or 1
    student = sum(p.numel() for p in model.backbone.parameters())
    return (kept * (VALUE * held + state * trained) + VALUE * student) / 1e6
