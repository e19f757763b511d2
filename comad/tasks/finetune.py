"""Fine-tuning of the whole network on ImageNet."""

from comad.tasks.fields import FEATURES, fine_tuning, number, testing, train_crop, training
from comad.tasks.protocol import Field, ProtocolReader
from comad.tasks.task import IMAGENET, Task, pooled, variant


def read(protocol: ProtocolReader) -> dict[str, Field]:
    """Fields of a fine-tuning with its augmentation."""
    pool = protocol.tell('model.pool', 'mean')
    views = 'train_dataloader.dataset.views'
    return {
        'resolution': protocol.get('val_dataloader.dataset.views.size'),
        'feature': 'mean of patch tokens, own norm' if pool == 'mean' else FEATURES.get(pool, pool),
        'head': f'linear, trunc normal {number(protocol.tell("model.head_std", 2e-5))}',
        **training(protocol),
        **fine_tuning(protocol),
        **train_crop(protocol),
        'auto_augment': protocol.tell(f'{views}.auto_augment', 'none'),
        'mixup': protocol.tell('model.mixup.mixup_alpha', 0.0),
        'cutmix': protocol.tell('model.mixup.cutmix_alpha', 0.0),
        'label_smoothing': protocol.tell('model.label_smoothing', 0.0),
        'random_erasing': protocol.tell(f'{views}.re_prob', 0.0),
        **testing(protocol),
        'selection': 'last checkpoint',
    }


FINETUNE = Task(
    kind='finetune',
    **IMAGENET,
    metrics=pooled('cls', 'mean'),
    read=read,
    place=10,
    seconds=20,
    study={'fine-tuned': ('top1', 'mean')},
)
VARIANTS = ('mae_finetune', 'tinymim_finetune', 'ibot_finetune')
TASKS = (FINETUNE, *(variant(FINETUNE, kind) for kind in VARIANTS))
