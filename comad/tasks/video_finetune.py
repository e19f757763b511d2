"""Fine-tuning of the whole network on Kinetics-400 and Something-Something V2."""

from comad.tasks.fields import fine_tuning, number, training
from comad.tasks.protocol import Field, ProtocolReader
from comad.tasks.task import Metric, Task, variant

METRICS = {
    'top1_mean': Metric('top1'),
    'top5_mean': Metric('top5'),
    'top1_frozen': Metric('top1_frozen_frame'),
}


def read(protocol: ProtocolReader) -> dict[str, Field]:
    """Fields of a fine-tuning on clips, and of its test on several views."""
    train, test = (f'{part}_dataloader.dataset' for part in ('train', protocol.tested))
    views = f'{train}.views'
    scale = protocol.tell(f'{views}.scale', (0.08, 1.0))
    return {
        'resolution': protocol.tell(f'{test}.views.size', 224 if protocol.get(test) else None),
        'frames': protocol.tell(f'{test}.sampling.frames', 16),
        'feature': 'mean of cube tokens, own norm',
        'head': f'linear, trunc normal {number(0.02 * protocol.tell("model.head_scale", 0.001))}',
        **training(protocol),
        **fine_tuning(protocol),
        'train_sampling': sampling(protocol, f'{train}.sampling'),
        'samples_per_video': protocol.tell(f'{views}.samples', 1),
        'train_crop': f'{protocol.tell(f"{views}.size", 224)} px, area '
        f'{"-".join(map(number, scale))}, bilinear',
        'flip': protocol.tell(f'{views}.flip', 0.5),
        'auto_augment': protocol.tell(f'{views}.auto_augment', 'none'),
        'mixup': protocol.tell('model.mixup.mixup_alpha', 0.0),
        'cutmix': protocol.tell('model.mixup.cutmix_alpha', 0.0),
        'label_smoothing': protocol.tell('model.label_smoothing', 0.0),
        'random_erasing': protocol.tell(f'{views}.re_prob', 0.0),
        'test_data': protocol.data(test),
        'test_sampling': sampling(protocol, f'{test}.sampling'),
        'views': f'{protocol.tell(f"{test}.sampling.clips", 1)} clips x '
        f'{protocol.tell(f"{test}.views.crops", 3)} crops',
        'score': 'mean of softmax over views',
        'selection': 'last checkpoint',
    }


def sampling(protocol: ProtocolReader, path: str) -> Field:
    """``linspace, stride 4``; segments have no stride."""
    if (kind := protocol.tell(f'{path}.type')) is None:
        return None
    protocol.tell(f'{path}.frames')
    stride = protocol.tell(f'{path}.stride', 1)
    return kind if kind.startswith('segment') else f'{kind}, stride {stride}'


def _task(kind: str, dataset: str, place: int) -> Task:
    return Task(
        kind=kind,
        folder='video',
        table='video',
        family='video classification',
        dataset=dataset,
        split='val',
        metrics=METRICS,
        read=read,
        place=place,
    )


K400 = _task('k400_finetune', 'kinetics-400', 200)
SSV2 = _task('ssv2_finetune', 'ssv2', 210)
# ViT-B has recipes of its own.
TASKS = (K400, SSV2, variant(K400, 'k400_finetune_base'), variant(SSV2, 'ssv2_finetune_base'))
