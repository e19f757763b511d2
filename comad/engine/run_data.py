"""The data sets of a run: what they are, whether the model fits them, and what is said of that."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from mmengine.dataset import InfiniteSampler
from mmengine.runner import BaseLoop
from torch.nn import BatchNorm1d

from comad.data.identity import DataIdentity, identify
from comad.engine.models import unwrapped
from comad.runs.environment import git_complaint


def data_of_training(runner: Any) -> tuple[DataIdentity, DataIdentity | None]:
    """What a training reads, and what it validates on."""
    loop = runner.val_loop
    return (
        identify(runner.train_loop.dataloader.dataset),
        None if loop is None else identify(loop.dataloader.dataset),
    )


def data_of_test(runner: Any) -> tuple[DataIdentity | None, DataIdentity]:
    """What a test learns from, if it has a bank of labelled images, and what it tests on."""
    loop = runner.test_loop
    bank = getattr(loop, 'bank_dataloader', None)
    return None if bank is None else identify(bank.dataset), identify(loop.dataloader.dataset)


def check_data(runner: Any) -> None:
    """Compare the data of a run with its model, batch and processes, before the first step.

    Raises:
        ValueError: They do not fit; the message names key and value.
    """
    config = runner.cfg
    loops = [loop for loop in (runner._train_loop, runner._val_loop) if isinstance(loop, BaseLoop)]
    if not isinstance(runner._train_loop, BaseLoop):
        loops = [runner._test_loop]
    if config.get('run'):
        for loop in loops:
            check_classes(config.model, loop.dataloader.dataset)
    check_sizes(unwrapped(runner.model), config)
    evaluator = getattr(getattr(loops[-1], 'evaluator', None), 'metrics', ())
    for metric in evaluator:
        check_metric(metric, identify(loops[-1].dataloader.dataset).classes)
    if isinstance(runner._train_loop, BaseLoop):
        check_batch(unwrapped(runner.model), runner._train_loop.dataloader)


def check_sizes(model: Any, config: Any) -> None:
    """Raise ValueError where views are cut to a size that the student's patches do not fill."""
    student = getattr(model, 'exported', None) or getattr(model, 'backbone', None)
    patch = getattr(student, 'patch_size', None)
    views = (config.get('train_dataloader') or {}).get('dataset', {}).get('views') or {}
    size = views.get('size') if isinstance(views, Mapping) else None
    if isinstance(size, int) and isinstance(patch, int) and size % patch:
        raise ValueError(
            f'train_dataloader.dataset.views.size={size} is not a multiple of the patch size '
            f'{patch}; {size - size % patch} and {size - size % patch + patch} are'
        )


def check_metric(metric: Any, classes: int) -> None:
    """Raise ValueError where a metric looks among more classes than there are."""
    topk = getattr(metric, 'topk', None)
    if topk and classes and max(topk) > classes:
        fitting = tuple(k for k in topk if k <= classes)
        raise ValueError(
            f'topk={tuple(topk)} of {classes} classes means nothing: --cfg-options '
            f'val_evaluator.topk={fitting} test_evaluator.topk={fitting}'
        )


def check_batch(model: Any, loader: Any) -> None:
    """Raise ValueError where no batch is full, or a step of one image would reach a batch norm of
    single numbers.
    """
    if len(loader) == 0 and not isinstance(loader.sampler, InfiniteSampler):
        raise ValueError(
            f'train_dataloader.batch_size={loader.batch_sampler.batch_size} is more than the '
            f'{len(loader.sampler)} images of each process: a smaller one, or '
            'train_dataloader.drop_last=False'
        )
    if not any(isinstance(module, BatchNorm1d) for module in model.modules()):
        return
    batch = loader.batch_sampler.batch_size
    images = len(loader.sampler)
    left = 0 if getattr(loader.batch_sampler, 'drop_last', False) else images % batch
    if batch == 1 or (left == 1 and images > 1):
        which = f'train_dataloader.batch_size={batch}'
        if batch > 1:
            which += f' leaves a last batch of 1 of the {images} images of each process'
        raise ValueError(
            f'{which}: batch norm needs two or more; another batch_size, or '
            'train_dataloader.drop_last=True'
        )


def check_classes(model: Mapping[str, Any], dataset: Any) -> None:
    """Compare the classes of every head with those that the data have.

    Args:
        model: Config of the model.
        dataset: What the run trains on or, without a training, tests on.

    Raises:
        ValueError: They differ; the message names both.
    """
    data = None
    for key, classes in _class_counts(model, 'model'):
        data = data or identify(dataset)
        if classes != data.classes:
            raise ValueError(
                f'{key} is {classes}, but {data.name} ({data.split}) has {data.classes} classes: '
                f'--cfg-options {key}={data.classes}, or other data'
            )


def warn_unranked(runner: Any, what: str, questions: Iterable[str]) -> None:
    """Say once, before a run, what is known to keep its rows from being ranked."""
    if not (reasons := list(questions)):
        return
    if any('git_commit' in reason for reason in reasons) and (complaint := git_complaint()):
        reasons.append(f'git says: {complaint}')
    runner.logger.warning(f'{what} will not be ranked: {"; ".join(reasons)}')


def _class_counts(node: Any, path: str) -> Iterator[tuple[str, int]]:
    if isinstance(node, Mapping):
        for key, value in node.items():
            if key == 'num_classes' and isinstance(value, int):
                yield f'{path}.{key}', value
            elif key != 'backbone':
                yield from _class_counts(value, f'{path}.{key}')
    elif isinstance(node, (list, tuple)):
        for number, value in enumerate(node):
            yield from _class_counts(value, f'{path}.{number}')
