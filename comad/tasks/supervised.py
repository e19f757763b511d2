"""Distillation of a classifier with labels: the training is the evaluation.

What is the method's own (its terms and weights, its teacher) is part of the student, as a
pretraining is; fields are those of the recipe, which all methods share.
"""

from backbones.staged_table import entry_of, evaluation_view
from comad.tasks.fields import no_weight_decay, number, testing, train_crop, training
from comad.tasks.protocol import Field, ProtocolReader
from comad.tasks.task import IMAGENET, Metric, Task

# Of ``model``: the recipe. Everything else is the method.
RECIPE = (
    *('backbone', 'data_preprocessor', 'num_classes'),
    *('mixup', 'label_smoothing', 'label_weight', 'ema_decay'),
)
SCHEDULE = 'TimmSchedule'


def read(protocol: ProtocolReader) -> dict[str, Field]:
    """Fields of a training from scratch with its augmentation."""
    views = 'train_dataloader.dataset.views'
    model = protocol.get('model', {})
    protocol.told |= {f'model.{key}' for key in (*model, 'type') if key not in RECIPE}
    trained = training(protocol)
    if protocol.tell('optim_wrapper.optimizer.nesterov'):
        trained['optimizer'] = f'{trained["optimizer"]}, Nesterov'
    if decay := protocol.tell('model.ema_decay'):
        trained['weight_averaging'] = f'EMA {number(decay)}'
    return {
        'resolution': protocol.get('val_dataloader.dataset.views.size'),
        **trained,
        **_rates(protocol, trained),
        'no_weight_decay': no_weight_decay(protocol),
        'drop_path': protocol.tell('model.backbone.drop_path_rate', "the network's own"),
        **train_crop(protocol),
        'auto_augment': protocol.tell(f'{views}.auto_augment', 'none'),
        'mixup': protocol.tell('model.mixup.mixup_alpha', 0.0),
        'cutmix': protocol.tell('model.mixup.cutmix_alpha', 0.0),
        'mixing': _mixing(protocol),
        'label_smoothing': protocol.tell('model.label_smoothing', 0.1),
        'random_erasing': protocol.tell(f'{views}.re_prob', 0.0),
        **testing(protocol),
        'test_crop': _test_crop(protocol),
        'selection': 'last epoch',
    }


def _mixing(protocol: ProtocolReader) -> str:
    """``per batch, probability 1, cutmix in 0.5 of them``, or ``none``."""
    if not protocol.get('model.mixup'):
        return 'none'
    path = 'model.mixup'
    share = number(protocol.tell(f'{path}.switch_prob', 0.5))
    probability = number(protocol.tell(f'{path}.prob', 1.0))
    mode = protocol.tell(f'{path}.mode', 'batch')
    return f'per {mode}, probability {probability}, cutmix in {share} of them'


def _test_crop(protocol: ProtocolReader) -> str:
    """Whether a test sees each network's images as OFA-KD's timm does; the view says how."""
    arch = protocol.get('model.backbone.arch', '')
    own = evaluation_view(arch) if entry_of(arch) else {}
    path = f'{protocol.tested}_dataloader.dataset.views'
    same = own and all(protocol.get(f'{path}.{key}') == value for key, value in own.items())
    return "timm's for the network" if same else "not timm's for the network"


def _rates(protocol: ProtocolReader, trained: dict[str, Field]) -> dict[str, Field]:
    """Warm-up and schedule of timm's rates, which are set once per epoch."""
    path = protocol.first('param_scheduler', SCHEDULE)
    if (warm_up := protocol.tell(f'{path}.warm_up')) is None:
        return {}
    protocol.tell(f'{path}.type')
    start, floor = (protocol.tell(f'{path}.{key}', 0.0) for key in ('warm_up_rate', 'floor'))
    if every := protocol.tell(f'{path}.step_every'):
        schedule = f'x 0.1 every {every} epochs, set per epoch'
    else:
        schedule = f'cosine over all epochs to {number(floor)}, set per epoch'
    return {'warm_up': f'{warm_up} epochs from {number(start)}', 'schedule': schedule}


CIFAR100 = Task(
    kind='cifar100',
    folder='distill',
    table='distillation',
    family='supervised distillation',
    dataset='cifar-100',
    split='val',
    metrics={'top1_student': Metric('top1')},
    read=read,
    place=60,
)
TASKS = (
    CIFAR100,
    Task(
        kind='imagenet',
        **{**IMAGENET, 'folder': 'distill', 'table': CIFAR100.table, 'family': CIFAR100.family},
        metrics=CIFAR100.metrics,
        read=read,
        place=61,
    ),
)
