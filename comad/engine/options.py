"""What the command line says of a run; nothing here imports torch or MMEngine."""

import argparse
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any


class ConfigError(ValueError):
    """A config, option or path that no run can start with; the message is one line."""


@dataclass(frozen=True)
class RunOptions:
    """Command-line options shared by train.py and test.py."""

    config: str
    sample: bool = False
    seed: int = 0
    student: str | None = None
    work_dir: str | None = None
    resume: str | None = None
    amp: bool = False
    auto_scale_lr: bool = False
    accumulate: int = 1
    launcher: str = 'none'
    tta: bool = False
    compute_of: str | None = None
    cfg_options: dict[str, Any] = field(default_factory=dict)


def command_of(options: dict[str, Any]) -> str:
    """The train.py command with these options (`RunOptions` as a dictionary), without --resume."""
    words = ['python', 'tools/train.py', str(options.get('config', 'CONFIG'))]
    for name in ('sample', 'amp', 'auto_scale_lr'):
        words += ['--' + name.replace('_', '-')] if options.get(name) else []
    defaults = dict(seed=0, student=None, work_dir=None, accumulate=1, compute_of=None)
    for name, default in defaults.items():
        value = options.get(name, default)
        words += ['--' + name.replace('_', '-'), str(value)] if value != default else []
    if changes := options.get('cfg_options'):
        words.append('--cfg-options')
        words += [f'{key}={value}'.replace(' ', '') for key, value in changes.items()]
    return shlex.join(words)


class KeyValues(argparse.Action):
    """KEY=VALUE words as a dictionary, values read by MMEngine's own `DictAction`.

    MMEngine is imported only where such an option is given: it takes longer than any ``--help``.
    """

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[Any] | None,
        option_string: str | None = None,
    ) -> None:
        for word in values or ():
            if not word.partition('=')[0] or '=' not in word:
                parser.error(f'{option_string} {word}: expected KEY=VALUE')
        from mmengine.config import DictAction

        try:
            DictAction(self.option_strings, self.dest, nargs='+')(parser, namespace, values)
        except AssertionError as error:  # brackets that do not match
            parser.error(f'{option_string}: {error}')
