"""Mutated options of every leaf, up to where the run would be built."""

import contextlib
import copy
import io
import os
import random
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any
from unittest.mock import patch

from mmengine.runner import Runner

from comad.commands import train
from comad.engine import config_keys, paths, run_config
from comad.runs.place import CALLER, HOME
from tests.fuzz.outcome import Kind
from tests.resolved import leaves, resolved

VALUES = (
    *('None', 'True', '0', '-1', '1.5', '1e30', 'nan', 'inf', '', 'x', '1e-4x', '[]', '{}'),
    *("{'type':'NoSuch'}", "[{'a':1}]", '(1,2)', "('a',)", '../x', 'a=b', "'", '[1,', '$HOME'),
)
OPTIONS = (
    *('--seed=-1', '--seed=99999999999', '--seed=x', '--accumulate=0', '--accumulate=1.5'),
    *('--resume=/nowhere', '--student=x', '--student=mae_tiny:9', '--student=mae_huge', '--amp'),
    *('--compute-of=x', '--auto-scale-lr', '--work-dir=file', '--launcher=x', '--nothing'),
)
ALLOWED = (0, 2, 3)


class Built(BaseException):
    """Everything before the Runner has been passed."""


class Options(Kind):
    """``--cfg-options`` and others of `tools/train.py`."""

    name = 'options'

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.leaves = [str(path) for path in leaves()]
        # What a run looks for on disk, empty.
        for place in (
            *('imagenet/train', 'imagenet/val', 'coco', 'ade/ADEChallengeData2016'),
            *('coco/annotations',),
        ):
            (folder / 'data/sample' / place).mkdir(parents=True, exist_ok=True)
        pretrained = folder / 'work_dirs/sample/pretrain'
        for path, teacher in paths.SAMPLE_TEACHERS.items():
            self._touch(pretrained / teacher / 'seed0' / Path(path).name)
        for leaf in self.leaves:
            name = run_config.parse_leaf_name(leaf)
            self._touch(pretrained / name.student / 'seed0/student.safetensors')
        (folder / 'file').touch()
        # A config is parsed once, which takes most of a case's time.
        self.parse, self.used = cache(run_config.parse_config), cache(config_keys.names_used)

    @staticmethod
    def _touch(path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()

    def prepare(self, draw: random.Random, case: Path) -> tuple[str, Callable[[], None]]:
        leaf = draw.choice(self.leaves)
        keys = sorted(set(_keys(resolved(leaf, True))))
        changes = []
        for _ in range(draw.choice([1, 1, 1, 2])):
            key = draw.choice(keys)
            way = draw.choice(['value', 'value', 'value', 'typing', 'below', 'beside'])
            if way == 'typing':
                place = draw.randrange(len(key))
                key = key[:place] + draw.choice('xyz._0') + key[place + 1 :]
            elif way != 'value':
                key = f'{key}.x' if way == 'below' else f'{key.rpartition(".")[0]}.x'.lstrip('.')
            changes.append(f'{key}={draw.choice(VALUES)}')
        options = [draw.choice(OPTIONS)] if draw.random() < 0.15 else []
        arguments = [
            leaf,
            '--sample',
            f'--work-dir={case}/run',
            *options,
            '--cfg-options',
            *changes,
        ]

        def attempt() -> None:
            error = io.StringIO()
            with self._at_home(), contextlib.redirect_stderr(error):
                try:
                    status = train.main(arguments)
                except Built:
                    status = 0
                except SystemExit as stop:
                    status = stop.code
            self._judge(status, error.getvalue())

        return f'{Path(leaf).name} {" ".join([*options, *changes])}', attempt

    @staticmethod
    def _judge(status: Any, text: str) -> None:
        lines = [line for line in text.splitlines() if not line.startswith('(COMAD_TRACEBACK')]
        if status not in ALLOWED:
            raise AssertionError(f'exit status {status}: {text}')
        if status == 0:
            return
        told = [line for line in lines if 'error: ' in line]
        usage = lines and lines[0].startswith('usage:')
        if len(told) != 1 or (len(lines) != 1 and not usage):
            raise AssertionError(f'not one line: {text!r}')
        raise ValueError(told[0].partition('error: ')[2])

    def names(self, text: str, case: Path) -> bool:
        """Any words: what is wrong is among the options, however it is told."""
        return ' ' in text

    @contextlib.contextmanager
    def _at_home(self) -> Iterator[None]:
        """In the folder with the empty data, and no Runner built."""
        here = os.getcwd()
        os.chdir(self.folder)
        try:
            with (
                patch.dict(os.environ, {HOME: str(self.folder), CALLER: str(self.folder)}),
                patch.object(Runner, 'from_cfg', side_effect=Built),
                patch.object(run_config, 'parse_config', lambda p: copy.deepcopy(self.parse(p))),
                patch.object(config_keys, 'names_used', self.used),
            ):
                yield
        finally:
            os.chdir(here)


def _keys(node: Any, key: str = '') -> Iterator[str]:
    if key:
        yield key
    if isinstance(node, dict):
        for name, value in node.items():
            yield from _keys(value, f'{key}.{name}' if key else str(name))
    elif isinstance(node, (list, tuple)):
        for number, value in enumerate(node):
            yield from _keys(value, f'{key}.{number}')
