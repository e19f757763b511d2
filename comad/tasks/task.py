"""The tasks of the suite: data, metrics, protocol fields and the table a task's rows go to.

A new task is one entry in TASKS and its configs.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from comad.tasks import protocol
from comad.tasks.protocol import Field, Reader

SAMPLE = 'sample'


@dataclass(frozen=True)
class Metric:
    """A figure that an evaluation reports, and how a table shows it.

    Args:
        name: Name in the table, the one published figures use.
        pool: Which pooled feature it belongs to, '' where there is no choice.
        upper: Largest possible value as the evaluation reports it; 1 for fractions.
        higher_is_better: Direction of the ranking.
    """

    name: str
    pool: str = ''
    upper: float = 100.0
    higher_is_better: bool = True

    def percent(self, value: float) -> float:
        """Return a reported value in percent."""
        return value * 100.0 / self.upper


@dataclass(frozen=True)
class Task:
    """One kind of evaluation.

    Args:
        kind: First part of its configs' names and of its records' names.
        family: What published tables call the task.
        table: Name of the leaderboard its rows go to.
        dataset: Full-scale dataset; on the embedded sample every task's is ``sample``.
        split: Evaluated split.
        metrics: Key an evaluation reports -> metric.
        protocol_fields: Name -> reader; a row with an unknown field is never ranked.
    """

    kind: str
    family: str
    table: str
    dataset: str
    split: str
    metrics: Mapping[str, Metric]
    protocol_fields: Mapping[str, Reader]

    @property
    def pools(self) -> tuple[str, ...]:
        """The pools that the task distinguishes."""
        return tuple(dict.fromkeys(m.pool for m in self.metrics.values() if m.pool))

    def dataset_name(self, sample: bool) -> str:
        """Return the dataset's name in records."""
        return SAMPLE if sample else self.dataset

    def read_protocol(self, config: Mapping[str, Any], world_size: int = 1) -> dict[str, Field]:
        """Return all protocol fields of a resolved config, None for one that it does not tell."""
        return {n: read(config, world_size) for n, read in self.protocol_fields.items()}


_TRAINING: dict[str, Reader] = {
    'length': protocol.length,
    'batch_size': protocol.batch_size,
    'optimizer': protocol.part('optim_wrapper.optimizer', 'lr', 'weight_decay'),
    'learning_rate': protocol.learning_rate,
    'weight_decay': lambda config, _: protocol.lookup(
        config, 'optim_wrapper.optimizer.weight_decay'
    ),
    'parameter_groups': protocol.parameter_groups,
    'schedule': protocol.schedule,
    'gradient_clipping': protocol.gradient_clipping,
    'precision': protocol.precision,
    'hooks': protocol.extra_hooks,
    'train_data': protocol.part('train_dataloader.dataset'),
    'test_data': protocol.part('val_dataloader.dataset'),
    'backbone': protocol.part('model.backbone'),
    'model': protocol.model_without_backbone,
}
_POOLED = {f'top1_{pool}': Metric('top1', pool) for pool in ('cls', 'mean')}
_IMAGENET = {
    'family': 'classification',
    'table': 'classification',
    'dataset': 'imagenet-1k',
    'split': 'val',
    'metrics': _POOLED,
}
_TRAIN_PIPELINE = 'train_dataloader.dataset.pipeline'
_VIEW_SIZE = 'val_dataloader.dataset.views.size'

TASKS: dict[str, Task] = {
    task.kind: task
    for task in (
        Task(
            kind='linear',
            protocol_fields={'resolution': protocol.square(_VIEW_SIZE), **_TRAINING},
            **_IMAGENET,
        ),
        Task(
            kind='finetune',
            protocol_fields={'resolution': protocol.square(_VIEW_SIZE), **_TRAINING},
            **_IMAGENET,
        ),
        Task(
            kind='knn',
            protocol_fields={
                'resolution': protocol.square('test_dataloader.dataset.views.size'),
                'neighbours': lambda config, _: protocol.lookup(config, 'test_cfg.report_k'),
                'temperature': lambda config, _: protocol.lookup(config, 'test_cfg.temperature'),
                'bank_data': protocol.part('test_cfg.bank_dataloader.dataset'),
                'test_data': protocol.part('test_dataloader.dataset'),
                'backbone': protocol.part('model.backbone'),
                'model': protocol.model_without_backbone,
            },
            **_IMAGENET,
        ),
        *(
            Task(
                kind=f'lowshot_{share}pct',
                protocol_fields={
                    'resolution': protocol.square('test_dataloader.dataset.views.size'),
                    'classifier': protocol.part('test_cfg', 'bank_dataloader'),
                    'bank_data': protocol.part('test_cfg.bank_dataloader.dataset'),
                    'test_data': protocol.part('test_dataloader.dataset'),
                    'backbone': protocol.part('model.backbone'),
                    'model': protocol.model_without_backbone,
                },
                **_IMAGENET,
            )
            for share in (1, 10)
        ),
        Task(
            kind='ibot_linear',
            protocol_fields={'resolution': protocol.square(_VIEW_SIZE), **_TRAINING},
            **{
                **_IMAGENET,
                'metrics': {f'top1_{p}': Metric('top1', p) for p in ('cls4', 'cls_mean')},
            },
        ),
        Task(
            kind='upernet',
            family='segmentation',
            table='segmentation',
            dataset='ade20k',
            split='val',
            metrics={'mIoU': Metric('mIoU')},
            protocol_fields={
                'resolution': protocol.pipeline_entry(_TRAIN_PIPELINE, 'RandomCrop', 'crop_size'),
                **_TRAINING,
            },
        ),
        Task(
            kind='mask_rcnn',
            family='detection',
            table='detection',
            dataset='coco',
            split='val',
            metrics={
                key: Metric(key, upper=1.0)
                for key in ('bbox_mAP', 'bbox_mAP_50', 'segm_mAP', 'segm_mAP_50')
            },
            protocol_fields={
                'resolution': protocol.first_of(
                    protocol.pipeline_entry('val_dataloader.dataset.pipeline', 'Resize', 'scale'),
                    protocol.pipeline_entry(_TRAIN_PIPELINE, 'RandomCrop', 'crop_size'),
                ),
                **_TRAINING,
            },
        ),
    )
}
# Other papers' protocols for the same task, and segmentation at several scales: rows of the same
# table that are never ranked against each other.
VARIANTS = {
    'linear': ('mocov3_linear',),
    'finetune': ('mae_finetune', 'tinymim_finetune', 'ibot_finetune'),
    'upernet': ('tinymim_upernet', 'ibot_seg_linear'),
    'mask_rcnn': ('mae_lite_mask_rcnn', 'mask_rcnn_1x'),
}
TASKS |= {
    kind: replace(TASKS[main], kind=kind) for main, kinds in VARIANTS.items() for kind in kinds
}
MULTI_SCALE = '_ms'
TASKS |= {
    kind + MULTI_SCALE: replace(
        TASKS[kind],
        kind=kind + MULTI_SCALE,
        protocol_fields={
            **TASKS[kind].protocol_fields,
            'test_data': protocol.part('test_dataloader.dataset'),
            'test_mode': protocol.test_mode,
        },
    )
    for kind in ('upernet', *VARIANTS['upernet'])
}
TABLES = tuple(dict.fromkeys(task.table for task in TASKS.values()))


def get_task(kind: str) -> Task:
    """Return the task of that kind.

    Raises:
        KeyError: If there is none; the message lists the kinds.
    """
    if kind not in TASKS:
        raise KeyError(f'no task is called {kind!r}; there are {", ".join(TASKS)}')
    return TASKS[kind]
