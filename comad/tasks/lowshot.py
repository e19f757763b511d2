"""ImageNet with 1 % and 10 % of the labels: logistic regression on frozen features."""

from comad.tasks.fields import features, number, testing, view
from comad.tasks.protocol import Field, ProtocolReader
from comad.tasks.task import IMAGENET, Task, pooled

STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)


def read(protocol: ProtocolReader) -> dict[str, Field]:
    """Fields of the classifier, the labelled images and the tested ones."""
    bank = 'test_cfg.bank_dataloader.dataset'
    strengths = ' '.join(map(number, protocol.tell('test_cfg.strengths', STRENGTHS)))
    return {
        'resolution': protocol.get('test_dataloader.dataset.views.size'),
        'feature': features(protocol, 'test_cfg.pools'),
        'labels': _labels(protocol, f'{bank}.subset'),
        'classifier': f'logistic regression, L2, C {strengths}',
        'selection': 'C on a fifth of the labelled images',
        'bank_data': protocol.data(bank),
        'bank_view': view(protocol, f'{bank}.views'),
        **testing(protocol),
    }


def _labels(protocol: ProtocolReader, path: str) -> str:
    """``1 % per class``, or the file that lists the images."""
    if (listed := protocol.tell(f'{path}.list')) is not None:
        return listed
    share = protocol.tell(f'{path}.share', 1.0)
    return f'{number(100 * share)} % per class'


TASKS = tuple(
    Task(
        kind=f'lowshot_{share}pct',
        **IMAGENET,
        metrics=pooled('cls', 'mean'),
        read=read,
        tested='test',
        place=30,
        overlay_part='lowshot',
    )
    for share in (1, 10)
)
