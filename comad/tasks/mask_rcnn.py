"""Detection and instance segmentation of COCO: Mask R-CNN on a plain ViT."""

from comad.tasks.fields import fine_tuning, flip, kind_and_width, scale_jitter, size, training, yes
from comad.tasks.protocol import Field, ProtocolReader
from comad.tasks.task import Metric, Task, variant

# What mmdet's heads begin with where no config says otherwise.
MMDET_START = 'mask predictor Kaiming normal, box layer Xavier uniform'


def read(protocol: ProtocolReader) -> dict[str, Field]:
    """Fields of a training with large-scale jittering, and of the detector's parts."""
    pipeline, backbone, roi = (
        'train_dataloader.dataset.pipeline',
        'model.backbone',
        'model.roi_head',
    )
    tested = f'{protocol.tested}_dataloader.dataset'
    crop = size(protocol.tell(f'{protocol.first(pipeline, "RandomCrop")}.crop_size', 'none'))
    resize = protocol.first(f'{tested}.pipeline', 'Resize')
    test_size = size(protocol.tell(f'{resize}.scale'))
    return {
        'resolution': test_size,
        **training(protocol),
        **fine_tuning(protocol),
        'image_size': crop,
        'scale_jitter': scale_jitter(protocol, pipeline),
        'resize_filter': _resize_filter(protocol, pipeline),
        'flip': flip(protocol, pipeline),
        'windows': _windows(protocol, backbone),
        'relative_positions': yes(protocol.tell(f'{backbone}.rel_pos')),
        'class_token': yes(protocol.tell(f'{backbone}.with_cls', True)),
        'map_norm': yes(protocol.tell(f'{backbone}.out_norm')),
        'pyramid': kind_and_width(protocol, 'model.neck', 'out_channels'),
        'rpn_convolutions': protocol.tell('model.rpn_head.num_convs', 1),
        'box_head': f'{protocol.tell(f"{roi}.bbox_head.type", "none")}, '
        + protocol.get(f'{roi}.bbox_head.norm_cfg.type', 'no norm'),
        'mask_head_norm': protocol.get(f'{roi}.mask_head.norm_cfg.type', 'none'),
        'head_start': _head_start(protocol),
        'test_data': protocol.data(tested),
        'test_size': test_size,
        'selection': 'last checkpoint',
    }


def _resize_filter(protocol: ProtocolReader, pipeline: str) -> str:
    """How training images become smaller: ``cv2, bilinear, no antialias``."""
    path = protocol.first(pipeline, 'RandomResize')
    backend = protocol.tell(f'{path}.backend', 'cv2')
    antialias = 'antialias' if backend == 'pillow' else 'no antialias'
    return f'{backend}, {protocol.tell(f"{path}.interpolation", "bilinear")}, {antialias}'


def _head_start(protocol: ProtocolReader) -> str:
    """How box and mask head begin; their ``init_cfg`` is told by a digest."""
    heads = (f'model.roi_head.{name}.init_cfg' for name in ('bbox_head', 'mask_head'))
    return 'its own init_cfg' if any(map(protocol.get, heads)) else MMDET_START


def _windows(protocol: ProtocolReader, backbone: str) -> str:
    if not (window := protocol.tell(f'{backbone}.window_size', 0)):
        return 'none'
    blocks = ' '.join(map(str, protocol.tell(f'{backbone}.global_blocks', ())))
    return f'{window}, global {blocks}'


MASK_RCNN = Task(
    kind='mask_rcnn',
    folder='det',
    table='detection',
    family='detection',
    dataset='coco',
    split='val',
    metrics={
        key: Metric(key, upper=1.0)
        for key in ('bbox_mAP', 'bbox_mAP_50', 'segm_mAP', 'segm_mAP_50')
    },
    read=read,
    place=50,
    seconds=56,
    study={'box AP': ('bbox_mAP', ''), 'mask AP': ('segm_mAP', '')},
    dense=True,
)
TASKS = (MASK_RCNN, variant(MASK_RCNN, 'mae_lite_mask_rcnn'), variant(MASK_RCNN, 'mask_rcnn_1x'))
