"""Linear probes on ImageNet: a frozen backbone, a linear layer per pooled feature."""

from comad.tasks.fields import features, testing, train_crop, training
from comad.tasks.protocol import Field, ProtocolReader
from comad.tasks.task import IMAGENET, Task, pooled, variant


def read(protocol: ProtocolReader) -> dict[str, Field]:
    """Fields of a probe, with one rate or with several side by side."""
    return {
        'resolution': protocol.get('val_dataloader.dataset.views.size'),
        **probe(protocol),
        **training(protocol),
        **train_crop(protocol),
        **testing(protocol),
    }


def probe(protocol: ProtocolReader) -> dict[str, Field]:
    """Fields of the classifiers, whatever they see."""
    rates = protocol.get('model.rates')
    norm = protocol.tell('model.batch_norm', True)
    head = 'BatchNorm without affine, linear, trunc normal 0.01' if norm else 'linear, normal 0.01'
    return {
        'feature': features(protocol, 'model.pools'),
        'head': f'{head}; {len(rates)} rates' if rates else head,
        'batch_norm': _batch_norm(protocol) if norm else 'none',
        'selection': 'best rate on validation' if rates else 'last checkpoint',
    }


def _batch_norm(protocol: ProtocolReader) -> str:
    """``statistics of 512 images``: as many as are given, or the batch of a process."""
    given = protocol.tell('model.norm_images', 512)
    batch = protocol.get('train_dataloader.batch_size', given)
    return f'statistics of {min(given, batch)} images'


LINEAR = Task(
    kind='linear',
    **IMAGENET,
    metrics=pooled('cls', 'mean'),
    read=read,
    place=0,
    seconds=15,
    study={'linear, mean': ('top1', 'mean'), 'linear, cls': ('top1', 'cls')},
)
TASKS = (
    LINEAR,
    variant(LINEAR, 'ibot_linear', metrics=pooled('cls4', 'cls_mean')),
    variant(LINEAR, 'mocov3_linear'),
)
