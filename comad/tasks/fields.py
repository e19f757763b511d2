"""Fields that several tasks share: one vocabulary for run records and recipe cards.

A field is a short text or a number, in the form of results/published_protocols.csv; iterations are
optimizer steps, rates those after scaling. What no field tells completely enters one of two digests
(`ProtocolReader.others`), so that equal fields mean equal protocols. Nothing here imports torch.
"""

from typing import Any

from backbones.architectures import card_name
from comad.tasks.protocol import Config, Field, ProtocolReader

# What classes and constructors take where a config is silent; tests compare them with the code.
VIEW_DEFAULTS: dict[str, dict[str, Any]] = {
    'SingleView': dict(scale=(0.2, 1.0), flip=0.5, interpolation='bicubic'),
    'TimmTrain': dict(scale=(0.08, 1.0), flip=0.5, interpolation='bicubic'),
    'TwoViews': dict(scale=(0.08, 1.0), flip=0.5, interpolation='bilinear'),
    'MultiCrop': dict(scale=(0.32, 1.0), flip=0.5, interpolation='bicubic'),
}
OPTIMIZER_DEFAULTS: dict[str, dict[str, Any]] = {
    'SGD': dict(momentum=0.0, weight_decay=0.0),
    'Lars': dict(momentum=0.9, weight_decay=0.0),
    'Adam': dict(betas=(0.9, 0.999), weight_decay=0.0),
    'AdamW': dict(betas=(0.9, 0.999), weight_decay=0.01),
}
DECAY_DEFAULTS: dict[str, float | None] = dict(
    decay_rate=1.0,
    norm_decay_mult=0.0,
    channel_norm_decay_mult=None,  # as all norms
    bias_decay_mult=0.0,
    pos_embed_decay_mult=0.0,
    cls_token_decay_mult=0.0,
    mask_token_decay_mult=1.0,
)
DECAY_NAMES = dict(
    norm='norm', bias='bias', pos_embed='position', cls_token='cls', mask_token='mask token'
)
FEATURES = {
    'cls': 'cls after norm',
    'mean': 'mean of normed patch tokens',
    'cls4': 'cls of the last 4 blocks, normed',
    'cls_mean': 'cls and mean of normed patch tokens',
}


def number(value: float) -> str:
    """A number without trailing zeros: 0.0 -> '0', 2e-05 -> '2e-05'."""
    return f'{value:.6g}'


def yes(value: Any) -> str:
    """``yes`` or ``no``."""
    return 'yes' if value else 'no'


def size(value: Any) -> Field:
    """An image size in pixels: ``224``, or ``1333x800`` if not square."""
    if isinstance(value, (list, tuple)) and len(value) == 2:
        return value[0] if value[0] == value[1] else f'{value[0]}x{value[1]}'
    return value


def network(config: Config) -> str:
    """``ViT-T/16, 3 heads``: the network under evaluation, which is no part of the protocol."""
    return card_name(config['model']['backbone'])


def features(protocol: ProtocolReader, path: str) -> str:
    """The features of the pools that stand at ``path``."""
    return '; '.join(FEATURES.get(pool, pool) for pool in protocol.tell(path, ('cls', 'mean')))


def training(protocol: ProtocolReader) -> dict[str, Field]:
    """What every training states."""
    wrapper = 'optim_wrapper.optimizer'
    kind = protocol.get(f'{wrapper}.type')
    defaults = OPTIMIZER_DEFAULTS.get(kind, {})
    decay = protocol.tell(f'{wrapper}.weight_decay', defaults.get('weight_decay'))
    clipped = protocol.tell('optim_wrapper.clip_grad.max_norm')
    each = ' per tensor' if protocol.tell('optim_wrapper.clip_grad.per_tensor') else ''
    return {
        'train_data': protocol.data('train_dataloader.dataset'),
        'length': _length(protocol),
        'batch': batch_size(protocol),
        'optimizer': kind and _optimizer(protocol, kind, defaults),
        'learning_rate': learning_rate(protocol),
        'weight_decay': decay,
        'warm_up': _warm_up(protocol),
        'schedule': _schedule(protocol),
        'gradient_clipping': f'norm {number(clipped)}{each}' if clipped else 'none',
        'precision': _precision(protocol),
        'weight_averaging': _weight_averaging(protocol),
    }


def fine_tuning(protocol: ProtocolReader) -> dict[str, Field]:
    """What a training of the backbone states beyond that."""
    return {
        'layer_decay': protocol.tell('optim_wrapper.paramwise_cfg.decay_rate', 1.0),
        'no_weight_decay': no_weight_decay(protocol),
        'drop_path': protocol.tell('model.backbone.drop_path_rate', 0.0),
    }


def testing(protocol: ProtocolReader) -> dict[str, Field]:
    """The data and the view of a test of whole images: ``224 px of 256, bicubic``."""
    data = f'{protocol.tested}_dataloader.dataset'
    return {'test_data': protocol.data(data), 'test_view': view(protocol, f'{data}.views')}


def view(protocol: ProtocolReader, path: str) -> Field:
    """``224 px of 256, bicubic``."""
    if (edge := protocol.tell(f'{path}.size')) is None:
        return None
    resize = protocol.tell(f'{path}.resize', round(edge / 0.875))
    return f'{edge} px of {resize}, {protocol.tell(f"{path}.interpolation", "bicubic")}'


def train_crop(protocol: ProtocolReader) -> dict[str, Field]:
    """``224 px, area 0.08-1, bicubic``, with ``single try`` for MAE's crop; and the mirroring."""
    path = 'train_dataloader.dataset.views'
    defaults = VIEW_DEFAULTS.get(protocol.get(f'{path}.type'), VIEW_DEFAULTS['SingleView'])
    edge, area = (
        protocol.tell(f'{path}.size', 224),
        protocol.tell(f'{path}.scale', defaults['scale']),
    )
    text = f'{edge} px, area {"-".join(map(number, area))}'
    text += f', {protocol.tell(f"{path}.interpolation", defaults["interpolation"])}'
    text += ', single try' if protocol.tell(f'{path}.single_try') else ''
    return {'train_crop': text, 'flip': protocol.tell(f'{path}.flip', defaults['flip'])}


def flip(protocol: ProtocolReader, pipeline: str) -> float:
    """Probability of a mirror image."""
    return protocol.tell(f'{protocol.first(pipeline, "RandomFlip")}.prob', 0)


def scale_jitter(protocol: ProtocolReader, pipeline: str) -> str:
    """``0.5-2``, or ``none``."""
    ratios = protocol.tell(f'{protocol.first(pipeline, "RandomResize")}.ratio_range')
    return '-'.join(map(number, ratios)) if ratios else 'none'


def kind_and_width(protocol: ProtocolReader, part: str, width: str) -> str:
    """``UPerHead 192 wide``; ``none`` where the model has no such part."""
    if not protocol.get(part):
        return 'none'
    return f'{protocol.tell(f"{part}.type")} {protocol.tell(f"{part}.{width}")} wide'


def batch_size(protocol: ProtocolReader) -> int | None:
    """Images per optimizer step: per process x processes x accumulation."""
    if (per_process := protocol.get('train_dataloader.batch_size')) is None:
        return None
    return per_process * protocol.processes * protocol.get('optim_wrapper.accumulative_counts', 1)


def learning_rate(protocol: ProtocolReader) -> float | None:
    """The peak learning rate, after --auto-scale-lr where it is on."""
    rate = protocol.tell('optim_wrapper.optimizer.lr')
    if rate is None or not protocol.get('auto_scale_lr.enable'):
        return rate
    return rate * batch_size(protocol) / protocol.get('auto_scale_lr.base_batch_size')


def no_weight_decay(protocol: ProtocolReader) -> Field:
    """What is exempt from weight decay, in a fixed order; None for a constructor of others."""
    defaults: dict[str, float | None]
    constructor = protocol.get('optim_wrapper.constructor', 'DefaultOptimWrapperConstructor')
    if constructor == 'LayerWiseDecayConstructor':
        defaults = DECAY_DEFAULTS
    elif constructor == 'DefaultOptimWrapperConstructor':
        defaults = dict.fromkeys(DECAY_DEFAULTS, 1.0)
    else:
        return None
    exempt = []
    for key, name in DECAY_NAMES.items():
        if key == 'cls_token' and protocol.get('model.backbone.with_cls') is False:
            continue
        path = f'optim_wrapper.paramwise_cfg.{key}_decay_mult'
        factor = protocol.get(path, defaults[f'{key}_decay_mult'])
        if factor in (0, 1):
            protocol.tell(path)
        exempt += [name] if factor == 0 else []
    path = 'optim_wrapper.paramwise_cfg.channel_norm_decay_mult'
    if protocol.get(path) == 1 and exempt[:1] == ['norm']:
        protocol.tell(path)
        exempt[0] = 'norm (not channel-first)'
    return ', '.join(exempt) or 'nothing'


def _length(protocol: ProtocolReader) -> Field:
    """``90 epochs`` or ``160000 iterations``."""
    if (iterations := protocol.tell('train_cfg.max_iters')) is not None:
        return (
            f'{round(iterations / protocol.get("optim_wrapper.accumulative_counts", 1))} iterations'
        )
    epochs = protocol.tell('train_cfg.max_epochs')
    return None if epochs is None else f'{epochs} epochs'


def _optimizer(protocol: ProtocolReader, kind: str, defaults: Config) -> str:
    """``AdamW, betas 0.9 0.999`` or ``SGD, momentum 0.9``."""
    protocol.tell('optim_wrapper.optimizer.type')
    name = {'Lars': 'LARS'}.get(kind, kind)
    if betas := protocol.tell('optim_wrapper.optimizer.betas', defaults.get('betas')):
        return f'{name}, betas {" ".join(map(number, betas))}'
    momentum = protocol.tell('optim_wrapper.optimizer.momentum', defaults.get('momentum', 0))
    return f'{name}, momentum {number(momentum)}'


def _warm_up(protocol: ProtocolReader) -> str:
    """``10 epochs from 0``, ``20 epochs from 0, full in the last step``, or ``none``."""
    path, kind = protocol.first('param_scheduler', 'WarmUpLR'), 'WarmUpLR'
    if not protocol.get(path):
        path, kind = protocol.first('param_scheduler', 'LinearLR'), 'LinearLR'
    if (end := protocol.tell(f'{path}.end')) is None:
        return 'none'
    start, linspace = {'WarmUpLR': (0.0, False), 'LinearLR': (1 / 3, True)}[kind]
    start = protocol.tell(f'{path}.start_factor', start)
    unit = 'epochs' if protocol.get(f'{path}.by_epoch', True) else 'iterations'
    text = f'{end} {unit} from {number(start)}'
    return text + ', full in the last step' * protocol.tell(f'{path}.linspace', linspace)


def _schedule(protocol: ProtocolReader) -> str:
    """``cosine to 1e-06``, ``poly 1 to 0, from step 0``, ``x 0.1 at ...``."""
    for position, entry in enumerate(protocol.config['param_scheduler']):
        path, kind = f'param_scheduler.{position}', entry.get('type')
        if kind == 'MultiStepLR':
            steps = ', '.join(str(step) for step in protocol.tell(f'{path}.milestones', ()))
            return f'x {number(protocol.tell(f"{path}.gamma", 0.1))} at {steps}'
        if kind in ('CosineAnnealingLR', 'PolyLR'):
            ratio = protocol.tell(f'{path}.eta_min_ratio', 0.0)
            floor = protocol.get(f'{path}.eta_min') or ratio * (learning_rate(protocol) or 0.0)
            if kind == 'CosineAnnealingLR':
                return f'cosine to {number(floor)}'
            power, begin = protocol.tell(f'{path}.power', 1), protocol.tell(f'{path}.begin', 0)
            return f'poly {number(power)} to {number(floor)}, from step {begin}'
        if kind not in ('WarmUpLR', 'LinearLR'):
            return str(kind)
    return 'constant'


def _precision(protocol: ProtocolReader) -> str | None:
    """Precision of the training's forward pass; None for a wrapper of others."""
    kind = protocol.get('optim_wrapper.type', 'OptimWrapper')
    if kind == 'OptimWrapper':
        protocol.told |= {'optim_wrapper.type', 'optim_wrapper.dtype'}
        return 'float32'
    default = {'AmpOptimWrapper': 'float16', 'AutocastOptimWrapper': 'bfloat16'}.get(kind)
    if kind == 'AutocastOptimWrapper':  # the other also scales the loss
        protocol.tell('optim_wrapper.type')
    return default and str(protocol.tell('optim_wrapper.dtype', default))


def _weight_averaging(protocol: ProtocolReader) -> str:
    hooks = protocol.get('custom_hooks', ())
    return 'EMA' if any(hook.get('type') == 'EMAHook' for hook in hooks) else 'none'
