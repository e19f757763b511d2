"""The data sets of a run: what they are, whether the model fits them, and what is said of that."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from comad.data.identity import DataIdentity, identify
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
