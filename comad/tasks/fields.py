"""The effective protocol of a resolved config, one short text or number per field.

Fields have the same form as in results/published_protocols.csv, so that both can be compared.
Counts of iterations are optimizer steps, rates those after scaling.
"""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from mmengine.registry import MODELS

from backbones.architectures import card_name
from comad.evaluation.layer_decay import DEFAULTS
from comad.tasks.protocol import (
    accumulation,
    batch_size,
    learning_rate,
    length,
    lookup,
    pipeline_entry,
    precision,
    scale_schedule,
)

Field = str | int | float
Config = Mapping[str, Any]
FEATURES = {
    'cls': 'cls after norm',
    'mean': 'mean of normed patch tokens',
    'cls4': 'cls of the last 4 blocks, normed',
    'cls_mean': 'cls and mean of normed patch tokens',
}


def number(value: float) -> str:
    """A number without trailing zeros: 0.0 -> '0', 2e-05 -> '2e-05'."""
    return f'{value:.6g}'


def network(config: Config) -> str:
    """``ViT-T/16, 3 heads``."""
    return card_name(config['model']['backbone'])


def optimizer(config: Config) -> str:
    """``AdamW, betas 0.9 0.999`` or ``SGD, momentum 0.9``."""
    options = config['optim_wrapper']['optimizer']
    name = {'Lars': 'LARS'}.get(options['type'], options['type'])
    if 'betas' in options:
        return f'{name}, betas {" ".join(number(b) for b in options["betas"])}'
    return f'{name}, momentum {number(options.get("momentum", 0))}'


def no_weight_decay(config: Config) -> str:
    """What the optimizer's constructor exempts from weight decay, in a fixed order."""
    rules = DEFAULTS | dict(lookup(config, 'optim_wrapper.paramwise_cfg') or {})
    names = {
        'norm': 'norm_decay_mult',
        'bias': 'bias_decay_mult',
        'position': 'pos_embed_decay_mult',
        'cls': 'cls_token_decay_mult',
    }
    return ', '.join(name for name, key in names.items() if rules[key] == 0) or 'nothing'


def warm_up(config: Config) -> str:
    """``10 epochs``, ``1500 iterations from 1e-06``, or ``none``."""
    for entry in _schedulers(config):
        if entry['type'] == 'LinearLR':
            if entry.get('by_epoch', True):
                return f'{entry["end"]} epochs'
            return f'{entry["end"]} iterations from {number(entry["start_factor"])}'
    return 'none'


def schedule(config: Config) -> str:
    """What follows the warm-up: ``cosine to 1e-06``, ``linear to 0``, ``x 0.1 at ...``."""
    for entry in _schedulers(config):
        kind = entry['type']
        if kind == 'MultiStepLR':
            steps = ', '.join(str(step) for step in entry['milestones'])
            return f'x {number(entry["gamma"])} at {steps}'
        if kind in ('CosineAnnealingLR', 'PolyLR'):
            floor = entry.get('eta_min', 0.0) or entry.get('eta_min_ratio', 0.0) * learning_rate(
                config, 1
            )
            name = 'cosine' if kind == 'CosineAnnealingLR' else f'poly {number(entry["power"])}'
            return f'{name} to {number(floor)}'
    return 'constant'


def _schedulers(config: Config) -> list[dict[str, Any]]:
    return [
        scale_schedule(entry, 1 / accumulation(config))
        for entry in lookup(config, 'param_scheduler') or ()
    ]


def training(config: Config, processes: int) -> dict[str, Field]:
    """What every training states."""
    return {
        'length': length(config, processes),
        'batch': batch_size(config, processes),
        'optimizer': optimizer(config),
        'learning_rate': learning_rate(config, processes),
        'weight_decay': config['optim_wrapper']['optimizer'].get('weight_decay', 0.0),
        'warm_up': warm_up(config),
        'schedule': schedule(config),
        'precision': precision(config, processes),
        'weight_averaging': _weight_averaging(config),
    }


def _weight_averaging(config: Config) -> str:
    hooks = [*(lookup(config, 'custom_hooks') or ())]
    return 'EMA' if any(hook.get('type') == 'EMAHook' for hook in hooks) else 'none'


def fine_tuning(config: Config) -> dict[str, Field]:
    """What a training of the backbone states beyond that."""
    return {
        'layer_decay': lookup(config, 'optim_wrapper.paramwise_cfg.decay_rate') or 1.0,
        'no_weight_decay': no_weight_decay(config),
        'drop_path': lookup(config, 'model.backbone.drop_path_rate') or 0.0,
    }


def crop(views: Config) -> str:
    """``224 px, area 0.08-1, bicubic``; MAE's crop without retries adds ``single try``."""
    low, high = views.get('scale', (0.08, 1.0))
    text = f'{views["size"]} px, area {number(low)}-{number(high)}'
    text += f', {views.get("interpolation", "bicubic")}'
    return text + (', single try' if views.get('single_try') else '')


def test_view(config: Config) -> str:
    """``224 px of 256, bicubic``."""
    views = lookup(config, 'test_dataloader.dataset.views')
    return f'{views["size"]} px of {views["resize"]}, {views["interpolation"]}'


def features(pools: Any) -> str:
    """The features of one or several pools."""
    return '; '.join(FEATURES[pool] for pool in pools)


def linear(config: Config, processes: int) -> dict[str, Field]:
    """Linear probes."""
    model, views = config['model'], config['train_dataloader']['dataset']['views']
    norm = model.get('batch_norm', True)
    rates = model.get('rates')
    head = 'BatchNorm without affine, linear, trunc normal 0.01' if norm else 'linear, normal 0.01'
    if rates:
        head += f'; {len(rates)} rates'
    return {
        'network': network(config),
        'feature': features(model.get('pools', ('cls', 'mean'))),
        'head': head,
        **training(config, processes),
        'train_crop': crop(views),
        'flip': views.get('flip', 0.5),
        'test_view': test_view(config),
        'selection': 'best rate on validation' if rates else 'last checkpoint',
    }


def knn(config: Config, processes: int) -> dict[str, Field]:
    """k-NN."""
    loop = config['test_cfg']
    return {
        'network': network(config),
        'feature': features(loop.get('pools', ('cls', 'mean'))),
        'similarity': 'cosine',
        'neighbours': ' '.join(str(k) for k in loop['neighbours']),
        'reported': f'k = {loop["report_k"]}',
        'temperature': loop['temperature'],
        'bank_view': '{size} px of {resize}, {interpolation}'.format(
            **loop['bank_dataloader']['dataset']['views']
        ),
        'test_view': test_view(config),
    }


def lowshot(config: Config, processes: int) -> dict[str, Field]:
    """Logistic regression on few labels."""
    loop = config['test_cfg']
    bank = loop['bank_dataloader']['dataset']
    subset = bank['subset']
    labels = subset.get('list') or f'{100 * subset["share"]:g} % per class'
    return {
        'network': network(config),
        'feature': features(loop.get('pools', ('cls', 'mean'))),
        'labels': labels,
        'classifier': 'logistic regression, L2, C ' + ' '.join(map(number, loop['strengths'])),
        'selection': 'C on a fifth of the labelled images',
        'bank_view': '{size} px of {resize}, {interpolation}'.format(**bank['views']),
        'test_view': test_view(config),
    }


def finetune(config: Config, processes: int) -> dict[str, Field]:
    """ImageNet fine-tuning."""
    model, views = config['model'], config['train_dataloader']['dataset']['views']
    mixup = model.get('mixup') or {}
    pool = model.get('pool', 'mean')
    return {
        'network': network(config),
        'feature': 'mean of patch tokens, own norm' if pool == 'mean' else FEATURES[pool],
        'head': f'linear, trunc normal {number(model.get("head_std", 2e-5))}',
        **training(config, processes),
        **fine_tuning(config),
        'train_crop': crop(views),
        'flip': views.get('flip', 0.5),
        'auto_augment': views.get('auto_augment') or 'none',
        'mixup': mixup.get('mixup_alpha', 0.0),
        'cutmix': mixup.get('cutmix_alpha', 0.0),
        'label_smoothing': model.get('label_smoothing', 0.0),
        'random_erasing': views.get('re_prob', 0.0),
        'test_view': test_view(config),
        'selection': 'last checkpoint',
    }


def _scale_jitter(config: Config) -> str:
    for entry in lookup(config, 'train_dataloader.dataset.pipeline'):
        if entry['type'] == 'RandomResize':
            return '-'.join(number(ratio) for ratio in entry['ratio_range'])
    return 'none'


def _yes(value: Any) -> str:
    return 'yes' if value else 'no'


def _blocks(indices: Any) -> str:
    return ' '.join(str(i) for i in indices)


def segmentation(config: Config, processes: int) -> dict[str, Field]:
    """ADE20K."""
    model, pipeline = config['model'], 'train_dataloader.dataset.pipeline'
    backbone, head, test = model['backbone'], model['decode_head'], model['test_cfg']
    aux, neck = model.get('auxiliary_head'), model.get('neck')
    transforms = [entry['type'] for entry in lookup(config, pipeline)]
    adapters = 'none'
    if neck:
        width = neck.get('out_channels') or neck['in_channels']
        adapters = f'deconvolutions and pooling to 4 strides, {width} wide'
    frozen = backbone.get('frozen')
    return {
        'network': network(config),
        **training(config, processes),
        **({} if frozen else fine_tuning(config)),
        'crop': pipeline_entry(pipeline, 'RandomCrop', 'crop_size')(config, 1),
        'resize': pipeline_entry(pipeline, 'RandomResize', 'scale')(config, 1),
        'resize_ratio': _scale_jitter(config),
        'flip': pipeline_entry(pipeline, 'RandomFlip', 'prob')(config, 1) or 0,
        'photometric': _yes('PhotoMetricDistortion' in transforms),
        'backbone': 'frozen' if frozen else 'trained',
        'maps': _blocks(backbone['out_indices']),
        'map_norm': _yes(backbone.get('out_norm')),
        'relative_positions': _yes(backbone.get('rel_pos')),
        'layer_scale': _yes(backbone.get('layer_scale')),
        'adapters': adapters,
        'head': f'{head["type"]} {head["channels"]} wide',
        'auxiliary_head': f'{aux["type"]} {aux["channels"]} wide' if aux else 'none',
        'test_mode': _test_mode(test),
        'selection': 'last checkpoint',
    }


def _test_mode(test: Config) -> str:
    if test['mode'] != 'slide':
        return f'{test["mode"]}, single scale'
    return f'slide {test["crop_size"][0]}/{test["stride"][0]}, single scale'


def detection(config: Config, processes: int) -> dict[str, Field]:
    """COCO."""
    model, pipeline = config['model'], 'train_dataloader.dataset.pipeline'
    backbone, neck, roi = model['backbone'], model['neck'], model['roi_head']
    window = backbone.get('window_size', 0)
    box = roi['bbox_head']
    return {
        'network': network(config),
        **training(config, processes),
        **fine_tuning(config),
        'image_size': pipeline_entry(pipeline, 'RandomCrop', 'crop_size')(config, 1),
        'scale_jitter': _scale_jitter(config),
        'flip': pipeline_entry(pipeline, 'RandomFlip', 'prob')(config, 1) or 0,
        'windows': f'{window}, global {_blocks(backbone["global_blocks"])}' if window else 'none',
        'relative_positions': _yes(backbone.get('rel_pos')),
        'class_token': _yes(backbone.get('with_cls', True)),
        'map_norm': _yes(backbone.get('out_norm')),
        'pyramid': f'{neck["type"]} {neck["out_channels"]} wide',
        'rpn_convolutions': model['rpn_head'].get('num_convs', 1),
        'box_head': f'{box["type"]}, {(box.get("norm_cfg") or {}).get("type", "no norm")}',
        'mask_head_norm': (roi['mask_head'].get('norm_cfg') or {}).get('type', 'none'),
        'test_size': pipeline_entry('val_dataloader.dataset.pipeline', 'Resize', 'scale')(
            config, 1
        ),
        'selection': 'last checkpoint',
    }


def pretraining(config: Config, processes: int) -> dict[str, Field]:
    """Pretraining: the recipe, and every plain argument of the method."""
    views = config['train_dataloader']['dataset']['views']
    method = MODELS.get(config['model']['type'])
    defaults = {
        name: parameter.default
        for name, parameter in inspect.signature(method).parameters.items()
        if parameter.default is not parameter.empty
    }
    arguments = {
        key: str(value)
        for key, value in (defaults | dict(config['model'])).items()
        if key not in ('type', 'backbone', 'data_preprocessor', 'teachers')
    }
    taught = [_teacher(t) for t in config['model'].get('teachers') or ()]
    return {
        'network': network(config),
        'method': config['model']['type'],
        **({'teachers': ', '.join(taught)} if taught else {}),
        **training(config, processes),
        'no_weight_decay': no_weight_decay(config),
        'drop_path': lookup(config, 'model.backbone.drop_path_rate') or 0.0,
        'train_crop': crop(views),
        'views': views['type'],
        **arguments,
    }


def _teacher(options: Mapping[str, Any]) -> str:
    """Family of a pretraining's teacher, with its role and its masks where it has them."""
    details = [options['role']] if 'role' in options else []
    if 'mask_ratio' in options:
        details.append(f'masked {options["mask_ratio"]:g}')
    return f'{options["family"]} ({", ".join(details)})' if details else options['family']


READERS: dict[str, Callable[[Config, int], dict[str, Field]]] = {
    'pretrain': pretraining,
    'linear': linear,
    'knn': knn,
    'lowshot': lowshot,
    'finetune': finetune,
    'upernet': segmentation,
    'seg_linear': segmentation,
    'mask_rcnn': detection,
}
