"""k-NN on ImageNet: nothing is trained."""

from comad.tasks.fields import features, testing, view
from comad.tasks.protocol import Field, ProtocolReader
from comad.tasks.task import IMAGENET, Task, pooled


def read(protocol: ProtocolReader) -> dict[str, Field]:
    """Fields of the votes, the bank and the queries."""
    bank = 'test_cfg.bank_dataloader.dataset'
    return {
        'resolution': protocol.get('test_dataloader.dataset.views.size'),
        **votes(protocol),
        'bank_data': protocol.data(bank),
        'bank_view': view(protocol, f'{bank}.views'),
        **testing(protocol),
    }


def votes(protocol: ProtocolReader) -> dict[str, Field]:
    """Fields of the votes, whatever the features are of."""
    neighbours = protocol.tell('test_cfg.neighbours', (10, 20, 100, 200))
    return {
        'feature': features(protocol, 'test_cfg.pools'),
        'similarity': 'cosine',
        'neighbours': ' '.join(map(str, neighbours)),
        'reported': f'k = {protocol.tell("test_cfg.report_k", 20)}',
        'temperature': protocol.tell('test_cfg.temperature', 0.07),
    }


KNN = Task(
    kind='knn',
    **IMAGENET,
    metrics=pooled('cls', 'mean'),
    read=read,
    tested='test',
    place=20,
    seconds=11,
    study={'k-NN, mean': ('top1', 'mean'), 'k-NN, cls': ('top1', 'cls')},
)
TASKS = (KNN,)
