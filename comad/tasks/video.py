"""Evaluations on Kinetics-400 and Something-Something V2: fine-tuning, linear probe, k-NN.

The last two are those of images, see `comad.tasks.linear` and `comad.tasks.knn`, with clips in the
place of crops.
"""

from collections.abc import Callable

from comad.tasks.fields import fine_tuning, number, training
from comad.tasks.knn import votes
from comad.tasks.linear import probe
from comad.tasks.protocol import Field, ProtocolReader
from comad.tasks.task import Metric, Task, variant

MEAN = {'top1_mean': Metric('top1', 'mean'), 'top5_mean': Metric('top5', 'mean')}
FINETUNE = {
    'top1_mean': Metric('top1'),
    'top5_mean': Metric('top5'),
    'top1_frozen': Metric('top1_frozen_frame'),
}


def read_finetune(protocol: ProtocolReader) -> dict[str, Field]:
    """Fields of a fine-tuning on clips, and of its test on several views."""
    views = 'train_dataloader.dataset.views'
    return {
        **_size(protocol),
        'feature': 'mean of cube tokens, own norm',
        'head': f'linear, trunc normal {number(0.02 * protocol.tell("model.head_scale", 0.001))}',
        **training(protocol),
        **fine_tuning(protocol),
        **_training_clips(protocol),
        'auto_augment': protocol.tell(f'{views}.auto_augment', 'none'),
        'mixup': protocol.tell('model.mixup.mixup_alpha', 0.0),
        'cutmix': protocol.tell('model.mixup.cutmix_alpha', 0.0),
        'label_smoothing': protocol.tell('model.label_smoothing', 0.0),
        'random_erasing': protocol.tell(f'{views}.re_prob', 0.0),
        **_tested_clips(protocol),
        'score': 'mean of softmax over views',
        'selection': 'last checkpoint',
    }


def read_linear(protocol: ProtocolReader) -> dict[str, Field]:
    """Fields of a probe on clips, tested on the views of a fine-tuning."""
    return {
        **_size(protocol),
        **probe(protocol),
        **training(protocol),
        **_training_clips(protocol),
        **_tested_clips(protocol),
        'score': 'mean of features over views',
    }


def read_knn(protocol: ProtocolReader) -> dict[str, Field]:
    """Fields of the votes, the bank and the queries."""
    bank = 'test_cfg.bank_dataloader.dataset'
    return {
        **_size(protocol),
        **votes(protocol),
        'bank_data': protocol.data(bank),
        'bank_sampling': sampling(protocol, f'{bank}.sampling'),
        'bank_views': _views(protocol, bank),
        **_tested_clips(protocol),
        'score': 'mean of features over views',
    }


def sampling(protocol: ProtocolReader, path: str) -> Field:
    """``linspace, stride 4``; segments have no stride."""
    if (kind := protocol.tell(f'{path}.type')) is None:
        return None
    protocol.tell(f'{path}.frames')
    stride = protocol.tell(f'{path}.stride', 1)
    return kind if kind.startswith('segment') else f'{kind}, stride {stride}'


def _size(protocol: ProtocolReader) -> dict[str, Field]:
    test = f'{protocol.tested}_dataloader.dataset'
    return {
        'resolution': protocol.tell(f'{test}.views.size', 224 if protocol.get(test) else None),
        'frames': protocol.tell(f'{test}.sampling.frames', 16),
    }


def _training_clips(protocol: ProtocolReader) -> dict[str, Field]:
    train = 'train_dataloader.dataset'
    views = f'{train}.views'
    scale = protocol.tell(f'{views}.scale', (0.08, 1.0))
    return {
        'train_sampling': sampling(protocol, f'{train}.sampling'),
        'samples_per_video': protocol.tell(f'{views}.samples', 1),
        'train_crop': f'{protocol.tell(f"{views}.size", 224)} px, area '
        f'{"-".join(map(number, scale))}, bilinear',
        'flip': protocol.tell(f'{views}.flip', 0.5),
    }


def _tested_clips(protocol: ProtocolReader) -> dict[str, Field]:
    test = f'{protocol.tested}_dataloader.dataset'
    return {
        'test_data': protocol.data(test),
        'test_sampling': sampling(protocol, f'{test}.sampling'),
        'views': _views(protocol, test),
    }


def _views(protocol: ProtocolReader, data: str) -> str:
    clips = protocol.tell(f'{data}.sampling.clips', 1)
    return f'{clips} clips x {protocol.tell(f"{data}.views.crops", 3)} crops'


def _tasks(name: str, dataset: str, place: int) -> tuple[Task, ...]:
    """Fine-tuning, also by ViT-B's recipe, linear probe and k-NN on one set."""

    def task(
        kind: str, metrics: dict[str, Metric], read: Callable, after: int, tested: str = 'val'
    ) -> Task:
        return Task(
            kind=f'{name}_{kind}',
            folder='video',
            table='video',
            family='video classification',
            dataset=dataset,
            split='val',
            metrics=metrics,
            read=read,
            place=place + after,
            tested=tested,
        )

    finetune = task('finetune', FINETUNE, read_finetune, 0)
    return (
        finetune,
        variant(finetune, f'{name}_finetune_base'),
        task('linear', MEAN, read_linear, 1),
        task('knn', MEAN, read_knn, 2, 'test'),
    )


TASKS = (*_tasks('k400', 'kinetics-400', 200), *_tasks('ssv2', 'ssv2', 210))
