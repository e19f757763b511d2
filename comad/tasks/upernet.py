"""Semantic segmentation of ADE20K: UperNet, linear heads, and tests at several scales."""

from comad.tasks.fields import fine_tuning, flip, kind_and_width, scale_jitter, size, training, yes
from comad.tasks.protocol import Field, ProtocolReader
from comad.tasks.task import MULTI_SCALE, Metric, Task, variant


def read(protocol: ProtocolReader) -> dict[str, Field]:
    """Fields of a training in iterations on crops, and of the sliding test."""
    pipeline, backbone, head = (
        'train_dataloader.dataset.pipeline',
        'model.backbone',
        'model.decode_head',
    )
    kinds = [entry.get('type') for entry in protocol.get(pipeline, ())]
    crop = size(protocol.tell(f'{protocol.first(pipeline, "RandomCrop")}.crop_size'))
    resize = size(protocol.tell(f'{protocol.first(pipeline, "RandomResize")}.scale', 'none'))
    return {
        'resolution': crop,
        **training(protocol),
        **fine_tuning(protocol),
        'crop': crop,
        'resize': resize,
        'resize_ratio': scale_jitter(protocol, pipeline),
        'flip': flip(protocol, pipeline),
        'photometric': yes('PhotoMetricDistortion' in kinds),
        'backbone': 'frozen' if protocol.tell(f'{backbone}.frozen') else 'trained',
        'maps': ' '.join(map(str, protocol.tell(f'{backbone}.out_indices', ('last',)))),
        'map_norm': yes(protocol.tell(f'{backbone}.out_norm')),
        'relative_positions': yes(protocol.tell(f'{backbone}.rel_pos')),
        'position_table': _position_table(protocol),
        'layer_scale': yes(protocol.get(f'{backbone}.layer_scale')),
        'adapters': _adapters(protocol),
        'head': kind_and_width(protocol, head, 'channels'),
        'auxiliary_head': kind_and_width(protocol, 'model.auxiliary_head', 'channels'),
        'test_data': protocol.data(f'{protocol.tested}_dataloader.dataset'),
        'test_mode': test_mode(protocol),
        'selection': 'last checkpoint',
    }


def _position_table(protocol: ProtocolReader) -> str:
    """``resized once, to 512 px``, or ``resized in every pass``."""
    edge = protocol.tell('model.backbone.pos_size')
    return f'resized once, to {edge} px' if edge else 'resized in every pass'


def _adapters(protocol: ProtocolReader) -> str:
    """What makes maps of several strides of those of one."""
    if not protocol.get('model.neck'):
        return 'none'
    width = protocol.tell('model.neck.out_channels')
    wide = f'{width} wide' if width else 'as wide as the network'
    if (kind := protocol.get('model.neck.type')) == 'MultiLevelPyramid':
        kind = 'deconvolutions and pooling to 4 strides'
    return f'{kind}, {wide}'


def test_mode(protocol: ProtocolReader) -> str:
    """``slide 512/341, single scale``, or ``..., scales 0.5-1.75 + flip`` of the validation's."""
    mode = protocol.tell('model.test_cfg.mode', 'whole')
    if mode == 'slide':
        window, stride = (protocol.tell(f'model.test_cfg.{k}') for k in ('crop_size', 'stride'))
        mode = f'slide {size(window)}/{size(stride)}'
    pipeline = f'{protocol.tested}_dataloader.dataset.pipeline'
    choices = protocol.get(f'{protocol.first(pipeline, "TestTimeAug")}.transforms')
    if not choices:
        return f'{mode}, single scale'
    steps = [step for several in choices for step in several]
    sizes = _edges(steps)
    single = _edges(protocol.get('val_dataloader.dataset.pipeline', ()))
    flips = any(step['type'] == 'RandomFlip' and step.get('prob') for step in steps)
    ratios = f'{min(sizes) / single[0]:g}-{max(sizes) / single[0]:g}' if sizes and single else '?'
    return f'{mode}, scales {ratios}' + (' + flip' if flips else '')


def _edges(steps: list[dict]) -> list[int]:
    """The shorter side of every Resize, px."""
    return [min(step['scale']) for step in steps if step.get('type') == 'Resize']


UPERNET = Task(
    kind='upernet',
    folder='seg',
    table='segmentation',
    family='segmentation',
    dataset='ade20k',
    split='val',
    metrics={'mIoU': Metric('mIoU')},
    read=read,
    place=40,
    seconds=52,
    study={'UperNet mIoU': ('mIoU', '')},
    dense=True,
)
ONE_SCALE = (
    UPERNET,
    variant(UPERNET, 'tinymim_upernet'),
    # No part of UperNet's overlay fits a linear head.
    variant(UPERNET, 'ibot_seg_linear', overlay_part='ibot_seg_linear'),
)
TASKS = (
    *ONE_SCALE,
    *(variant(task, task.kind + MULTI_SCALE, tested='test') for task in ONE_SCALE),
)
